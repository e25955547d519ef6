"""Typed, bounded parameters: the names and bounds of flat YAML keys, whose values live in YAML alone."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from recmodels.errors import ParamError
from recmodels.typed_values import TypeMismatchError, convert, describe, hint_for, leaves, nearest, plain, suggest

__all__ = ["Params", "nearest", "param", "raise_all", "suggest"]

P = TypeVar("P", bound="Params")

# Above it a first step of Adam, the rate over 1 - 0.9, nears float32's largest number, where torch raises.
LARGEST_RATE = 1e30
# Below it similarities over the temperature soon leave float32, and the temperature itself can be 0 there.
SMALLEST_TEMPERATURE = 1e-6
# Above it nothing is left of a difference between scores, and products with it soon leave float32.
LARGEST_TEMPERATURE = 1e6

_BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "ge": (operator.ge, ">="),
    "gt": (operator.gt, ">"),
    "le": (operator.le, "<="),
    "lt": (operator.lt, "<"),
}


def param(
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: Sequence[Any] | None = None,
    optional: bool = False,
    doc: str = "",
) -> Any:
    """A field of a `Params` class: bounds and meaning, never a value.

    Args:
        ge: smallest allowed number, included. Of a list, every element is bounded.
        gt: smallest allowed number, excluded.
        le: largest allowed number, included.
        lt: largest allowed number, excluded.
        choices: allowed values. Values of a type that is not among the choices' types are left to the annotation,
            so `int | str` with `choices=["all"]` takes any int and one string.
        optional: the key may be left out, which means null.
        doc: meaning and unit, shown when the value is missing.

    Returns:
        A dataclass field without default.
    """
    bounds = {name: bound for name, bound in zip(_BOUNDS, (ge, gt, le, lt), strict=True) if bound is not None}
    return field(metadata={"bounds": bounds, "choices": tuple(choices or ()), "optional": optional, "doc": doc})


def raise_all(where: str, problems: Sequence[str]) -> None:
    """Reports all problems in one error.

    Args:
        where: what was being read.
        problems: messages, each beginning with its key; may be empty.

    Raises:
        ParamError: there is at least one problem.
    """
    if len(problems) == 1:
        raise ParamError(f"{where}: {problems[0]}")
    if problems:
        raise ParamError("\n  - ".join([f"{where}: {len(problems)} problems", *problems]))


@dataclass(frozen=True)
class Params:
    """Base of all parameter classes: a frozen dataclass whose fields are made by `param`."""

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The flat names this class reads, bases first."""
        return tuple(entry.name for entry in fields(cls))

    @classmethod
    def from_mapping(cls: type[P], values: Mapping[str, Any]) -> P:
        """Reads exactly this class's keys.

        Args:
            values: flat names to plain data.

        Returns:
            The typed parameters.

        Raises:
            ParamError: a key is unknown or missing, a value has the wrong type or is out of range. All at once.
        """
        found, problems = cls.read(values)
        raise_all(cls.__qualname__, problems)
        assert found is not None  # `read` gives parameters or problems
        return found

    @classmethod
    def read(cls: type[P], values: Mapping[str, Any]) -> tuple[P | None, list[str]]:
        """Like `from_mapping`, with the problems returned: (parameters, []) or (None, problems).

        Every problem begins with its key, followed by a colon or, inside a mapping, by `.inner key:`.
        """
        names = cls.keys()
        problems = [f"{key}: unknown key{nearest(key, names)}" for key in values if key not in names]
        hints, given, good = get_type_hints(cls), cls.normalized(values), {}
        for entry in fields(cls):
            try:
                good[entry.name] = _read_field(entry.name, hints[entry.name], entry.metadata, given)
            except ParamError as error:
                problems += str(error).splitlines()
        problems += cls._cross_checked(good)
        return (None, problems) if problems else (cls(**good), [])

    @classmethod
    def normalized(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Hook: brings the accepted spellings of a value to one form before types are checked."""
        return dict(values)

    def problems(self) -> list[str]:
        """Hook: checks that need more than one value or look into a mapping; each message begins with its key."""
        return []

    def limit_problems(self, n_users: int, n_items: int) -> list[str]:
        """Hook: what data of this size do not allow; each message begins with its key.

        Args:
            n_users: with the padding row.
            n_items: with the padding row.
        """
        return []

    def remarks(self, n_epochs: int) -> list[str]:
        """Hook: what is allowed and can hardly be meant, a sentence each.

        Args:
            n_epochs: of the run, at most.
        """
        return []

    def inert_keys(self) -> set[str]:
        """Hook: keys that nothing reads at these values, so that they decide no number."""
        return set()

    @property
    def held_out_share(self) -> float:
        """The share of training that the weights do not see; a second level of learning has it."""
        return 0.0

    def as_values(self) -> dict[str, Any]:
        """Flat names to plain data: what `from_mapping` takes; tuples become lists."""
        return {name: plain(getattr(self, name)) for name in self.keys()}

    @classmethod
    def _cross_checked(cls, good: Mapping[str, Any]) -> list[str]:
        """Runs `problems` on the valid values, so that one bad value does not hide what is wrong with the others."""
        partial = object.__new__(cls)
        for name, value in good.items():
            object.__setattr__(partial, name, value)
        try:
            return partial.problems()
        except AttributeError as error:
            if error.obj is partial and error.name in set(cls.keys()):  # this check needs a value that is itself wrong
                return []
            raise


def _read_field(name: str, hint: Any, metadata: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """The typed value of one key; a ParamError with one problem per line."""
    value = values.get(name)
    if value is None and metadata.get("optional"):
        return None
    if name not in values:
        doc = metadata.get("doc")
        raise ParamError(f"{name}: no value, expected {describe(hint)}{f' ({doc})' if doc else ''}")
    try:
        typed = convert(hint, value)
    except TypeMismatchError:
        words = [choice for choice in metadata.get("choices", ()) if isinstance(choice, str)]
        got = f"{name}: expected {describe(hint, words)}, got {value!r} ({type(value).__name__})"
        raise ParamError(got + hint_for(hint, value)) from None
    found = [text for leaf in leaves(typed) for text in _leaf_problems(leaf, metadata)]
    if found:
        inside = f" in {value!r}" if isinstance(value, (list, tuple)) else ""
        raise ParamError("\n".join(f"{name}: {text}{inside}" for text in found))
    return typed


def _leaf_problems(leaf: Any, metadata: Mapping[str, Any]) -> Iterator[str]:
    """What bounds and choices say against one scalar."""
    if isinstance(leaf, (int, float)) and not isinstance(leaf, bool):
        for name, bound in metadata.get("bounds", {}).items():
            is_within, sign = _BOUNDS[name]
            if not is_within(leaf, bound):
                yield f"must be {sign} {bound}, got {leaf!r}"
    choices = metadata.get("choices", ())
    if any(type(choice) is type(leaf) for choice in choices) and leaf not in choices:
        near = nearest(leaf, [choice for choice in choices if isinstance(choice, str)])
        yield f"must be one of {', '.join(map(repr, choices))}, got {leaf!r}{near}"
