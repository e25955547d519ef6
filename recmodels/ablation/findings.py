"""What a report says in words, made from its figures."""

from collections import Counter
from collections.abc import Sequence

from recmodels.ablation.evidence import ALIKE, BASE, BETTER, CONTROL_OF_ONE_SEED, UNEQUAL, WORSE, Evidence, Line
from recmodels.reporting.notation import figure, signed
from recmodels.reporting.paired import Difference

ALIVE_SHARE = 0.01  # of a transport term of which something is claimed
_TRANSPORT = "ot"
_MOST_NAMES = 6


def paragraph(evidence: Evidence) -> str:
    """How many points differ, whether the control is equal, which terms are dead, what failed."""
    parts = [_extent(evidence), _differences(evidence), *_controls(evidence), _terms(evidence), _missing(evidence)]
    return " ".join(part for part in parts if part)


def _extent(evidence: Evidence) -> str:
    plan = evidence.plan
    n_done = sum(len(line.runs) for line in evidence.lines if line.name == line.point.name)
    points, dataset = _count(len(plan.points), "point"), plan.points[0].resolved.dataset
    return f"{n_done} of {len(plan.runs)} runs of {points} on {dataset} are finished."


def _differences(evidence: Evidence) -> str:
    """Verdicts, those of several seeds before those of one."""
    lines = [line for line in evidence.lines if not line.is_control and evidence.metric in line.differences]
    tested = [line for line in lines if line.adjusted.get(evidence.metric) is not None]
    single = [line for line in lines if line not in tested]
    about = f"test {evidence.metric} against {evidence.base}"
    parts = []
    if tested:
        parts.append(f"By {about}, after Holm's correction over {_count(len(tested), 'test')}, {_verdicts(tested)}.")
    if single:
        parts.append(
            f"{_count(len(single), 'point')} of one seed {_are(single)} not judged: the intervals are for other users "
            f"of that seed alone, and another seed moves the metric too{_spread_of_base(evidence)}."
        )
    return " ".join(parts) or f"No point can be compared with {evidence.base}; --base=POINT names another one."


def _verdicts(lines: Sequence[Line]) -> str:
    found = {verdict: [line.name for line in lines if line.verdict == verdict] for verdict in (BETTER, WORSE, ALIKE)}
    words = [
        f"{len(names)} {verdict}{f' ({_names(names)})' if names and verdict != ALIKE else ''}"
        for verdict, names in found.items()
    ]
    return f"{words[0]}, {words[1]}, {words[2]} from it"


def _controls(evidence: Evidence) -> list[str]:
    controls = [line for line in evidence.lines if line.is_control and evidence.metric in line.differences]
    listed = [point.name for point in evidence.plan.points if point.control_of]
    if not controls and listed:
        return [f"No control has a result that can be compared ({_names(listed)})."]
    if not controls:
        return [f"There is no control; add a point {{control_of: {evidence.base}}}."]
    return [_control(line, line.differences[evidence.metric]) for line in controls]


def _control(line: Line, found: Difference) -> str:
    """The verdict of one, and how far chance alone moves the metric."""
    interval = f"{signed(found.mean)} [{signed(found.low)}, {signed(found.high)}]"
    if line.verdict == CONTROL_OF_ONE_SEED:
        told = "differs by nothing but one seed, so smaller differences of one seed are chance"
    elif line.verdict != UNEQUAL:
        told = "comes out equal"
    else:
        told = "does NOT come out equal, so chance is underestimated and differences of this size mean nothing"
    return f"The control {line.name} of {line.point.control_of or line.name.partition(':')[0]} {told}: {interval}."


def _terms(evidence: Evidence) -> str:
    measured = [line for line in evidence.lines if line.shares]
    if not measured:
        return ""
    dead = Counter(term for line in measured for term in line.dead)
    words = ", ".join(f"{term} at {_count(n, 'point')}" for term, n in dead.most_common())
    parts = [f"Dead terms: {words}." if dead else "No term is dead."]
    transported = [line for line in measured if _TRANSPORT in line.shares]
    faint = [line.name for line in transported if line.shares[_TRANSPORT] < ALIVE_SHARE]
    if faint:
        parts.append(
            f"Transport has less than {ALIVE_SHARE:.0%} of the gradient at {len(faint)} of "
            f"{_count(len(transported), 'point')} with it ({_names(faint)}): they say nothing for or against it."
        )
    return " ".join(parts)


def _missing(evidence: Evidence) -> str:
    names = [line.name for line in evidence.lines if not line.runs]
    return f"Without a result: {_names(names)}." if names else ""


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _are(lines: Sequence[Line]) -> str:
    return "is" if len(lines) == 1 else "are"


def _spread_of_base(evidence: Evidence) -> str:
    """From where to where the seeds of the base reach, if there are several."""
    runs = next((line.runs for line in evidence.lines if line.name == evidence.base), [])
    values = [run.result["test"][evidence.metric] for run in runs]
    return f" (the base's own from {figure(min(values))} to {figure(max(values))})" if len(values) > 1 else ""


def reading(evidence: Evidence) -> str:
    """How figures are to be read."""
    level = f"p below .05 is called {BETTER} or {WORSE}, anything else {ALIKE}, with few seeds no sign of equality"
    return (
        f"Figures are means over the finished seeds, ± the standard deviation (n - 1). Δ is the difference to the "
        f"{BASE} ({evidence.base}), or of a control to its point, paired by user and seed, with a 95 % interval by "
        "bootstrap over seeds and users, not corrected. p is two-sided and, but for controls, corrected by Holm over "
        f"the points; {level}. One seed has an interval for other users of that seed, no p-value and no verdict; with "
        "two seeds the correction is not to be relied on. Shares of the gradient norm (one batch an "
        "epoch) and the marginal error of transport (the largest of an epoch) are means over the epochs up to the best "
        "one, and over seeds."
    )
