"""What a metric may be called and how large it may be, for figures that were typed or read."""

import math
import re
from collections.abc import Iterable, Iterator

from recmodels.run_params import METRICS
from recmodels.typed_values import nearest

_UNBOUNDED = ("averagepopularity", "shannonentropy")  # may be above 1
_KNOWN = tuple(metric.lower() for metric in METRICS)


def name_problem(metric: str) -> str | None:
    """What was expected of the name of a metric, upper and lower case alike; None if there is such a metric."""
    name, _, k = metric.lower().partition("@")
    is_length = re.fullmatch("[1-9][0-9]*", k, re.ASCII) is not None
    if name in _KNOWN and is_length:
        return None
    length = k if is_length else "10"
    return f"expected metric@k{nearest(f'{name}@{length}', [f'{one}@{length}' for one in _KNOWN])}"


def name_problems(metrics: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Metrics with what is wrong with their names: there is none of that name, or it was there in other letters."""
    seen = set[str]()
    for metric in metrics:
        if (problem := name_problem(metric)) is not None:
            yield metric, problem
        if metric.lower() in seen:
            yield metric, "is there twice, in other letters; keep one"
        seen.add(metric.lower())


def range_problem(metric: str, figure: float, hint: str = "; a percentage is divided by 100") -> str | None:
    """What was expected of the value of a metric; None if it can be one.

    Args:
        metric: name, with or without its list length; one that is not known is taken for a share.
        figure: any number.
        hint: for a figure that should be a share.
    """
    if metric.lower().partition("@")[0] in _UNBOUNDED:
        return None if 0 <= figure < math.inf else f"expected a figure of at least 0, got {figure!r}"
    return None if 0 <= figure <= 1 else f"expected a figure from 0 to 1, got {repr(figure)[:20]}{hint}"
