"""What a search may try: the choices and ranges of a space file."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, TypeGuard

from recmodels.params import nearest

if TYPE_CHECKING:
    import optuna

ENQUEUE = "enqueue"
_FIELDS = ("low", "high", "log", "step")
_MOST_STEPS = 10**15  # floats tell no more apart, and the decimals here and in Optuna end at 28 digits


@dataclass(frozen=True)
class Choices:
    """One of a few values, without an order.

    Attributes:
        values: plain data, all different. Lists and mappings are known to Optuna by their JSON text.
    """

    values: tuple[Any, ...]

    def suggest(self, trial: "optuna.Trial", key: str) -> Any:
        """The value that the trial's sampler, or its enqueued setting, chooses."""
        labels = {self.label(value): value for value in self.values}
        return labels[trial.suggest_categorical(key, list(labels))]

    def label(self, value: Any) -> Any:
        """What Optuna stores for a value."""
        return json.dumps(value) if isinstance(value, (list, dict)) else value

    def problem(self, value: Any) -> str | None:
        """Why a value is not one of them; None when it is."""
        if value in self.values:
            return None
        return f"must be one of {', '.join(map(repr, self.values))}, got {value!r}" + nearest(
            value, [choice for choice in self.values if isinstance(choice, str)]
        )

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def corners(self) -> tuple[Any, ...]:
        """The values that stand for all in checks."""
        return self.values

    def as_values(self) -> Any:
        """Plain data, as in the space file."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """All numbers between two bounds, both included; whole ones if the bounds are int.

    Attributes:
        low: smallest, > 0 where `log`.
        high: largest, > low.
        log: whether the logarithm is uniform.
        step: distance of neighbors, divides high - low; None allows every number. Not with `log`.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int)

    @property
    def size(self) -> int | None:
        """How many values there are; None where every number between the bounds is one."""
        step = self.step or (1 if self.is_whole else None)
        return None if step is None else round((self.high - self.low) / step) + 1

    def suggest(self, trial: "optuna.Trial", key: str) -> Any:
        """The number that the trial's sampler, or its enqueued setting, chooses."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)

    def label(self, value: Any) -> Any:
        """What Optuna stores for a value."""
        return value if self.is_whole else float(value)

    def problem(self, value: Any) -> str | None:
        """Why a value is not inside; None when it is."""
        if isinstance(value, bool) or not isinstance(value, int if self.is_whole else (int, float)):
            return f"expected a {'whole ' * self.is_whole}number, got {value!r} ({type(value).__name__})"
        inside = min(max(value, self.low), self.high)
        if inside != value:
            return f"must be from {self.low!r} to {self.high!r}, got {value!r}; the nearest is {inside!r}"
        near = self._on_grid(value)
        if near == value:
            return None
        return f"must be {self.low!r} plus steps of {self.step!r}, got {value!r}; the nearest is {near!r}"

    def corners(self) -> tuple[Any, ...]:
        """The values that stand for all in checks."""
        return self.low, self.high

    def as_values(self) -> Any:
        """Plain data, as in the space file."""
        found = {"low": self.low, "high": self.high, "log": self.log, "step": self.step}
        return {name: value for name, value in found.items() if value not in (None, False)}

    def _on_grid(self, value: float) -> float:
        """The number of the grid that is nearest to one inside the bounds, in decimal arithmetic."""
        if self.step is None:
            return value
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        near = low + round((Decimal(str(value)) - low) / step) * step
        return int(near) if self.is_whole else float(near)


@dataclass(frozen=True)
class Space:
    """A checked space file.

    Attributes:
        searched: flat key to its choices or range, in the order of the file.
        fixed: flat key to the one value of every trial.
        enqueued: settings that are tried first, each some of the searched keys.
    """

    searched: dict[str, Choices | Range]
    fixed: dict[str, Any]
    enqueued: tuple[dict[str, Any], ...] = ()

    @property
    def size(self) -> int | None:
        """How many different settings there are; None where a key has endlessly many values."""
        sizes = [part.size for part in self.searched.values()]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def suggest(self, trial: "optuna.Trial") -> dict[str, Any]:
        """A trial's value of every searched key."""
        return {key: part.suggest(trial, key) for key, part in self.searched.items()}

    def labeled(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """An enqueued setting as Optuna stores it."""
        return {key: self.searched[key].label(value) for key, value in setting.items()}

    def first(self) -> dict[str, Any]:
        """A point of the space: of every key the first corner."""
        return {**self.fixed, **{key: part.corners()[0] for key, part in self.searched.items()}}

    def corners(self, n_keys: int) -> Iterator[dict[str, Any]]:
        """Every way to put that many of the searched keys at one of their corners, as these keys alone."""
        for keys in combinations(self.searched, n_keys):
            for values in product(*(self.searched[key].corners() for key in keys)):
                yield dict(zip(keys, values, strict=True))

    def as_values(self) -> dict[str, Any]:
        """Plain data, as in the space file."""
        searched = {key: part.as_values() for key, part in self.searched.items()}
        return {**searched, **self.fixed, ENQUEUE: list(self.enqueued)}


def read_part(value: Any) -> tuple[Choices | Range | None, list[str]]:
    """The choices or the range of one key as far as they can be read, and what is wrong with them.

    Args:
        value: a list of choices, or a mapping with low, high, and perhaps log and step.

    Returns:
        The part, None where there is nothing to check any further; the problems.
    """
    if isinstance(value, dict):
        found, (low, high, step) = _field_problems(value), (value.get(name) for name in ("low", "high", "step"))
        if not (_is_number(low) and _is_number(high) and (step is None or _is_number(step))):
            return None, found
        part = Range(low, high, log=value.get("log") is True, step=step)
        return (None if found else part), [*found, *_order_problems(part)]
    if not value:
        return None, ["no choices; write at least two values, or one without brackets to fix it"]
    first = [choice for place, choice in enumerate(value) if choice not in value[:place]]
    repeated = [choice for place, choice in enumerate(value) if choice in value[:place]]
    return Choices(tuple(first)), [f"the choice {choice!r} is there twice; keep one" for choice in repeated]


def _field_problems(given: Mapping[str, Any]) -> list[str]:
    """Unknown and missing fields of a range, and values of the wrong type."""
    unknown = [name for name in given if name not in _FIELDS]
    found = [f"unknown field {name!r}, expected {', '.join(_FIELDS)}{nearest(name, _FIELDS)}" for name in unknown]
    numbers = {name: given[name] for name in ("low", "high", "step") if given.get(name) is not None}
    found += [f"no field {name!r}; a range needs low and high" for name in ("low", "high") if name not in numbers]
    wrong = [name for name, value in numbers.items() if not isinstance(value, (int, float)) or isinstance(value, bool)]
    found += [f"{name} expected a number, got {numbers[name]!r} ({type(numbers[name]).__name__})" for name in wrong]
    numbers = {name: value for name, value in numbers.items() if name not in wrong}
    found += [
        f"{name} expected a finite number, got {value!r}" for name, value in numbers.items() if _is_endless(value)
    ]
    log = given.get("log", False)
    if not isinstance(log, bool):
        found.append(f"log expected true or false, got {log!r} ({type(log).__name__})")
    return found


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether a value can be compared with others."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not _is_endless(value)


def _is_endless(number: float) -> bool:
    """Whether a number is infinite or NaN, or a whole one that no float reaches."""
    try:
        return not math.isfinite(number)
    except OverflowError:
        return True


def _order_problems(part: Range) -> list[str]:
    """Bounds in the wrong order, bounds without a logarithm, a grid that misses its end."""
    low, high, log, step = part.low, part.high, part.log, part.step
    found = [] if low < high else [f"low must be below high, got low {low!r} and high {high!r}"]
    if log and low <= 0:
        found.append(f"low must be > 0 where log is true, got {low!r}")
    if log and step is not None:
        found.append(f"log and step exclude each other, got log: true and step: {step!r}; leave one out")
    if step is not None and step <= 0:
        found.append(f"step must be > 0, got {step!r}")
    if found or step is None:
        return found
    width, unit = Decimal(str(high)) - Decimal(str(low)), Decimal(str(step))
    if width / unit > _MOST_STEPS:
        return [
            f"expected at most {_MOST_STEPS} steps from {low!r} to {high!r}, got step {step!r}; choose a larger one"
        ]
    last = Decimal(str(low)) + width // unit * unit
    return [] if last == Decimal(str(high)) else [f"steps of {step!r} from {low!r} end at {last}, got high {high!r}"]
