"""Plain YAML values against type annotations, and the words in which a mismatch is reported."""

import math
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", NoneType: "null"}


class TypeMismatchError(ValueError):
    """A value does not have the annotated type; the caller knows the key and writes the message."""


def suggest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate nearest to a name, upper and lower case alike; None when nothing is near."""
    folded = {candidate.casefold(): candidate for candidate in candidates}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def nearest(name: Any, candidates: Iterable[str]) -> str:
    """The end of an error message: `; did you mean 'x'?`, or nothing."""
    found = suggest(name, candidates) if isinstance(name, str) else None
    return f"; did you mean {found!r}?" if found else ""


def convert(hint: Any, value: Any) -> Any:
    """The value in the annotated type: an int becomes a float where one is meant, a list a tuple.

    Args:
        hint: int, float, bool, str, None, Any, Literal, dict, a union of these, or a list or tuple of them.
        value: plain data.

    Returns:
        The value, equal to what was given. A bool is no number, a float no int, a number no string.

    Raises:
        TypeMismatchError: the value has another type, or is a NaN or infinite float.
    """
    kind = get_origin(hint) or hint
    if kind in (Union, UnionType):
        return _convert_union(get_args(hint), value)
    if kind is Literal and any(type(value) is type(choice) and value == choice for choice in get_args(hint)):
        return value
    if kind is float:
        return _convert_float(value)
    if kind in (list, tuple):
        return _convert_sequence(kind, get_args(hint), value)
    if kind is dict and isinstance(value, dict):
        return plain(value)
    if kind is Any or type(value) is kind:
        return value
    raise TypeMismatchError


def _convert_union(hints: Sequence[Any], value: Any) -> Any:
    """The value in the first type that takes it."""
    for hint in hints:
        try:
            return convert(hint, value)
        except TypeMismatchError:
            continue
    raise TypeMismatchError


def _convert_float(value: Any) -> float:
    """A finite float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeMismatchError
    try:
        number = float(value)
    except OverflowError:
        raise TypeMismatchError from None
    if not math.isfinite(number):
        raise TypeMismatchError
    return number


def _convert_sequence(kind: type, hints: Sequence[Any], value: Any) -> Any:
    """A list or tuple of typed elements; `tuple[int, int]` fixes the length."""
    if not isinstance(value, (list, tuple)):
        raise TypeMismatchError
    if kind is list or Ellipsis in hints or not hints:
        hints = [hints[0] if hints else Any] * len(value)
    if len(hints) != len(value):
        raise TypeMismatchError
    return kind(convert(hint, item) for hint, item in zip(hints, value, strict=True))


def describe(hint: Any, words: Sequence[str] = ()) -> str:
    """An annotation in words; `words` are the strings that a union allows, if not all are."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):  # lists last, lest what follows be read as their elements
        ordered = sorted(inner, key=lambda part: get_origin(part) is list)
        return " or ".join(
            " or ".join(map(repr, words)) if part is str and words else describe(part) for part in ordered
        )
    if kind is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if kind is tuple and inner and Ellipsis not in inner:
        return f"a list of {len(inner)} ({', '.join(map(describe, inner))})"
    if kind in (list, tuple):
        return f"a list, each {describe(inner[0])}" if inner else "a list"
    return "a mapping" if kind is dict else _NOUNS.get(kind, "any value")


def hint_for(hint: Any, value: Any) -> str:
    """What to do about a value of the wrong type: the end of an error message, or nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        return "; it must be finite"
    if hint is str and isinstance(value, (int, float)):
        return "; put it in quotes"
    if isinstance(value, (int, float)) and accepts(hint, [value]):
        return f"; did you mean [{value}]?"
    texts = [leaf for leaf in leaves(value) if isinstance(leaf, str)]
    if _takes_numbers(hint) and any(map(is_number, texts)):
        return "; write numbers without quotes"
    choices = _choices(hint)
    return next((nearest(text, choices) for text in texts if text not in choices), "")


def accepts(hint: Any, value: Any) -> bool:
    """Whether `convert` takes the value."""
    try:
        convert(hint, value)
    except TypeMismatchError:
        return False
    return True


def _choices(hint: Any) -> list[str]:
    """The strings of every Literal in an annotation."""
    if get_origin(hint) is Literal:
        return [choice for choice in get_args(hint) if isinstance(choice, str)]
    return [choice for part in get_args(hint) for choice in _choices(part)]


def _takes_numbers(hint: Any) -> bool:
    """Whether an annotation has a place for a number."""
    return hint in (int, float) or (get_origin(hint) is not Literal and any(map(_takes_numbers, get_args(hint))))


def is_number(text: str) -> bool:
    """Whether Python reads the text as a float."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def leaves(value: Any) -> Iterator[Any]:
    """The scalars of a value; a mapping has none, its own check looks into it."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    elif not isinstance(value, dict):
        yield value


def plain(value: Any) -> Any:
    """A copy made of dictionaries, lists and scalars."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
