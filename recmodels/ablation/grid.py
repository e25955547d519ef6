"""The grid of an ablation file: every combination of some lists of values is a point."""

import json
import math
from collections.abc import Mapping
from itertools import product
from typing import Any

from recmodels.ablation.point_keys import lone_problems

_MOST = 1000


def expand(grid: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The points of a grid.

    Args:
        grid: key to list of values. A name with a mapping of such keys is a grid of its own, whose points begin with
            the name.

    Returns:
        Name, made of `key=value`, to overrides; what is wrong with the grid. Where that keeps points from being made,
        keys and values are checked one by one.
    """
    if not isinstance(grid, dict) or not grid:
        return {}, [f"grid: expected keys with lists of values, such as {{n_layers: [2, 3]}}, got {grid!r}"]
    named = {name: axes for name, axes in grid.items() if isinstance(axes, dict)}
    plain = {key: values for key, values in grid.items() if key not in named}
    points, problems = dict[str, dict[str, Any]](), list[str]()
    for name, axes in [*([("", plain)] if plain else []), *named.items()]:
        where = f"grid {name}".strip()
        found = _axis_problems(axes)
        problems += [f"{where}: {text}" for text in found]
        if found:
            problems += [f"{where}: {text}" for text in _single_problems(axes)]
            continue
        made = _combinations(name, axes)
        alike = [point for point in made if point in points] or [where] * (len(made) < _n_points(axes))
        problems += [f"{text}: two of its points have one name; write one of them under points" for text in alike]
        points |= {} if alike else made
    return points, problems


def _single_problems(axes: Mapping[str, Any]) -> list[str]:
    """What no other value could mend: a key that no model has, a value of a type or out of the bounds of every one."""
    found = list[str]()
    for key, values in axes.items():
        if key.strip():
            found += lone_problems(key, values if isinstance(values, list) else [values])
    return found


def _combinations(name: str, axes: Mapping[str, list[Any]]) -> dict[str, dict[str, Any]]:
    combined = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    texts = [",".join(f"{key}={_text(value)}" for key, value in overrides.items()) for overrides in combined]
    return {f"{name}:{text}" if name else text: one for text, one in zip(texts, combined, strict=True)}


def _axis_problems(axes: Mapping[str, Any]) -> list[str]:
    """What is wrong with keys and lists, whatever the values mean."""
    if not axes:
        return ["no keys; write at least one with a list of values"]
    found = []
    for key, values in axes.items():
        if not key.strip():
            found.append("a key has no name; write one before its colon")
        if not isinstance(values, list) or not values:
            found.append(f"{key}: expected a list of at least one value, got {values!r}")
            continue
        texts = [_text(value) for value in values]
        repeated = dict.fromkeys(text for place, text in enumerate(texts) if text in texts[:place])
        found += [f"{key}: the value {text} is there twice; keep one" for text in repeated]
    n_points = _n_points(axes)
    return found if n_points <= _MOST else [*found, f"makes {n_points} points, expected at most {_MOST}"]


def _n_points(axes: Mapping[str, Any]) -> int:
    return math.prod(len(values) for values in axes.values() if isinstance(values, list))


def _text(value: Any) -> str:
    """A value as part of a name."""
    return value if isinstance(value, str) else json.dumps(value)
