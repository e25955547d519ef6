"""Reading an ablation file: everything wrong with it at once, before the first run."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recmodels.ablation.compact_points import Draft, compact_of, compact_problems, is_trained_as_written, with_sources
from recmodels.ablation.grid import expand
from recmodels.ablation.point_keys import OF_A_POINT, key_problem, more_problems, read_seeds
from recmodels.ablation.points import Point
from recmodels.config import POINT, Resolved, outer_layers, read_layers
from recmodels.data_params import DataParams
from recmodels.experiments.session import DEFAULTS, PARAMS, deciding_values, training_problems
from recmodels.layers import Layer, load_named, merge
from recmodels.params import nearest, raise_all
from recmodels.run_params import LARGEST_SEED, RunParams

CONTROL_STEP = 1000  # between the seeds of a point and those of its control, which more seeds do not reach
_KEYS = ("base", "points", "grid", "seeds")
_FIRST_SEED = 2020
_NOT_GIVEN = {
    "seed": "a point is run with several seeds; write --seeds=N, or seeds: in the file",
    "config_files": "belongs to base, in the file",
}


def load_ablation(path: str, given: Mapping[str, Any], n_seeds: int | None = None) -> tuple[str, list[Point]]:
    """Reads and checks an ablation file.

    Args:
        path: a YAML file, or the name of a shipped one (`ablation/*.yaml`) where there is no such file.
        given: overrides of the command line, the same for all points; they win over base.
        n_seeds: every point is run with so many seeds from its first one on; None leaves them to the file.

    Returns:
        The name of the ablation, and its points.

    Raises:
        ParamError: the file cannot be read, or keys, types, bounds, names, seeds or figures are wrong, or two points
            are the same; all at once.
    """
    problems = list[str]()
    values = load_named(path, "ablation", problems).values
    problems += [
        f"{key}: unknown, expected {', '.join(_KEYS)}{nearest(key, _KEYS)}" for key in values if key not in _KEYS
    ]
    problems += [f"{key}: {text} (from command line)" for key, text in _NOT_GIVEN.items() if key in given]
    drafts, found = _drafts(values)
    problems += found
    shared = {"seeds": values.get("seeds", [_FIRST_SEED])}
    problems += more_problems(shared)
    problems += [f"--{text}" for text in more_problems({} if n_seeds is None else {"seeds": n_seeds})]
    resolved, found = _resolve_all(values.get("base"), drafts, {k: v for k, v in given.items() if k not in _NOT_GIVEN})
    problems += found
    for name, draft in drafts.items():
        in_training = training_problems(resolved[name]) if name in resolved else []
        of_others = [*_control_problems(name, drafts), *compact_problems(name, drafts, resolved)]
        found = [*more_problems(draft.more), *of_others, *in_training]
        problems += [f"point {name}: {text}" for text in found]
    seeds = _all_seeds(drafts, shared, n_seeds)
    raise_all(path, [*problems, *_twins(drafts, resolved), *_seed_problems(drafts, seeds)])
    return Path(path).stem, [_point(name, drafts, resolved, seeds[name]) for name in drafts]


def _drafts(values: Mapping[str, Any]) -> tuple[dict[str, Draft], list[str]]:
    """The points of `points`, then those of `grid`, as far as they can be read."""
    listed, problems = values.get("points", {}), list[str]()
    if not isinstance(listed, dict):
        listed = {}
        problems.append(f"points: expected names with overrides, got {type(values['points']).__name__}")
    drafts = {}
    for name, value in listed.items():
        if not name.strip():
            problems.append("points: a point has no name; write one before its colon")
            continue
        if not isinstance(value, dict):
            problems.append(f"point {name}: expected overrides such as {{n_layers: 3}}, or {{}}, got {value!r}")
            continue
        more = {key: value[key] for key in OF_A_POINT if key in value}
        drafts[name] = Draft({key: value[key] for key in value if key not in OF_A_POINT}, more, False)
    combined, found = expand(values["grid"]) if "grid" in values else ({}, [])
    problems += found + [f"grid: {name} is also a name in points" for name in combined if name in listed]
    drafts |= {name: Draft(overrides, {}, True) for name, overrides in combined.items() if name not in listed}
    if not drafts and not problems:
        problems.append("no points; write points: {NAME: {KEY: VALUE}}, or grid: {KEY: [VALUES]}")
    return drafts, problems


def _resolve_all(
    base: Any, drafts: Mapping[str, Draft], given: Mapping[str, Any]
) -> tuple[dict[str, Resolved], list[str]]:
    """The configurations of the points that have one, and the problems of base and of points; each is told once."""
    if not isinstance(base, dict) or not base:
        return {}, [f"base: expected overrides such as {{model: LightGCN}}, got {base!r}"]
    layers, problems = outer_layers({key: value for key, value in base.items() if key != "seed"})
    if "seed" in base:
        problems.append(f"base: seed: {key_problem('seed', given)}")
    defaults = Layer("defaults", {"dataset": DEFAULTS["dataset"]})
    below = [defaults, *layers[:-1], layers[-1]._replace(name="base"), Layer("command line", dict(given))]
    of_base = read_layers(below, PARAMS)[1]
    known = {_key_of(text) for text in of_base}
    resolved, texts, seen = {}, list[str](), set[str]()
    for name, draft in with_sources(drafts).items():
        wrong = {key: text for key in draft.overrides if (text := key_problem(key, given))}
        own = {key: value for key, value in draft.overrides.items() if key not in wrong}
        found, more = _resolve(below, own)
        told_here = drafts[name].overrides if "compact_of" in draft.more else own
        more = [text for text in more if _key_of(text) in told_here or _key_of(text) not in known | own.keys()]
        told = [text for text in (*(f"{key}: {text}" for key, text in wrong.items()), *more) if text not in seen]
        texts += [f"point {name}: {text}" for text in told]
        seen |= set(told) if draft.is_combined else set()
        if found is not None and not wrong and "control_of" not in draft.more:
            resolved[name] = found
    return resolved, problems + of_base + texts


def _key_of(problem: str) -> str:
    return problem.partition(":")[0].partition(".")[0]


def _resolve(below: list[Layer], own: dict[str, Any]) -> tuple[Resolved | None, list[str]]:
    """A point over base; if it has another model, base's keys that only base's model has are left out."""
    model, chosen = merge(below)[0].get("model"), own.get("model")
    if not isinstance(model, str) or not isinstance(chosen, str):
        return read_layers([*below, Layer(POINT, own)], PARAMS)
    if chosen != model and model in PARAMS and chosen in PARAMS:
        kept = {*PARAMS[chosen].keys(), *RunParams.keys(), *DataParams.keys()}
        foreign = set(PARAMS[model].keys()) - kept
        below = [
            Layer(name, {key: value for key, value in values.items() if key not in foreign}) for name, values in below
        ]
    return read_layers([*below, Layer(POINT, own)], PARAMS)


def _control_problems(name: str, drafts: Mapping[str, Draft]) -> Iterator[str]:
    """What is wrong with a point as a control."""
    overrides, more, _ = drafts[name]
    if "control_of" not in more:
        return
    of = more["control_of"]
    others = [other for other in drafts if other != name and is_trained_as_written(drafts[other])]
    if of not in others:
        yield f"control_of: expected the name of another point that is no control, got {of!r}{nearest(of, others)}"
    superfluous = [*overrides, *(["seeds"] if "seeds" in more else [])]
    if superfluous:
        yield f"control_of: a control has the values of its point; leave out {', '.join(superfluous)}"


def _twins(drafts: Mapping[str, Draft], resolved: Mapping[str, Resolved]) -> Iterator[str]:
    """Points that could only differ by chance: of equal values or, where a mistake hides these, of equal overrides."""
    first: dict[str, str] = {}
    for name, (overrides, more, _) in drafts.items():
        if "control_of" in more:
            continue
        point = resolved.get(name)
        values = [overrides] if point is None else [point.model, deciding_values(point) | {"seed": None}]
        made = [str(more.get(key)) for key in ("compact_of", "prune")]
        other = first.setdefault(json.dumps([values, made], sort_keys=True, default=str), name)
        if other != name and "compact_of" in more:
            yield f"point {name}: is made from {more['compact_of']} as {other} is; leave one out"
        elif other != name:
            yield (
                f"point {name}: has the same values as {other}; leave one out, or make it a control of other seeds "
                f"with control_of: {other}"
            )


def _point(name: str, drafts: Mapping[str, Draft], resolved: Mapping[str, Resolved], seeds: tuple[int, ...]) -> Point:
    """A point of a file without problems."""
    more = drafts[name].more
    of = more.get("control_of")
    reported = {metric.lower(): float(figure) for metric, figure in more.get("reported", {}).items()}
    return Point(name, resolved[of or name], seeds, reported, more.get("note", ""), of, compact_of(drafts[name]))


def _all_seeds(
    drafts: Mapping[str, Draft], shared: Mapping[str, Any], n_seeds: int | None
) -> dict[str, tuple[int, ...]]:
    """The seeds of the points, as far as they can be read."""
    found = dict[str, tuple[int, ...]]()
    if n_seeds is not None and more_problems({"seeds": n_seeds}):
        return found
    for name, draft in drafts.items():
        of = draft.more.get("control_of", draft.more.get("compact_of", name))
        source = {**shared, **drafts[of].more} if isinstance(of, str) and of in drafts else shared
        if more_problems({"seeds": source["seeds"]}):
            continue
        seeds = read_seeds(source["seeds"], _FIRST_SEED, n_seeds)
        if "control_of" in draft.more:
            controls = [other for other in drafts if drafts[other].more.get("control_of") == of]
            seeds = tuple(seed + CONTROL_STEP * (1 + controls.index(name)) for seed in seeds)
        found[name] = seeds
    return found


def _seed_problems(drafts: Mapping[str, Draft], seeds: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Seeds that do not exist, and seeds that a point and its controls have in common."""
    used: dict[str, set[int]] = {}
    for name, own in seeds.items():
        if max(own) > LARGEST_SEED:
            yield f"point {name}: seeds: expected at most {LARGEST_SEED}, got {max(own)}"
        of = drafts[name].more.get("control_of")
        earlier = used.setdefault(str(of or name), set())
        common = sorted(earlier & set(own))
        if common:
            yield f"point {name}: seeds: {common[0]} is also a seed of {of or 'its control'}"
        earlier |= set(own)
