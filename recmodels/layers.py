"""Layers of configuration as plain data: files, command lines, and how they merge."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recmodels.errors import ParamError
from recmodels.params import nearest, raise_all
from recmodels.plain_yaml import load_yaml, read_yaml

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

MERGED_KEYS = ("eval_args", "train_neg_sample_args", "clip_grad_norm")
_SHORT = {"-m": "--model", "-d": "--dataset"}


class Layer(NamedTuple):
    """Flat names to plain data, and where they come from."""

    name: str
    values: dict[str, Any]


def load_layer(source: Traversable | Path, name: str, repeated: list[str] | None = None) -> Layer:
    """One YAML file of flat names.

    Args:
        source: the file.
        name: of the layer.
        repeated: takes the problems of keys that are there twice, of which the first counts; None raises them.

    Raises:
        ParamError: the file cannot be read, or is not a mapping of names; or a key is there twice.
    """
    try:
        text = source.read_text(encoding="utf-8")
        if repeated is None:
            values = load_yaml(text, name)
        else:
            values, found = read_yaml(text, name)
            repeated += found
    except (OSError, UnicodeDecodeError) as error:
        raise ParamError(f"{name}: cannot be read: {error}") from None
    if values is not None and not isinstance(values, dict):
        raise ParamError(f"{name}: expected a mapping of names to values, got {type(values).__name__}")
    return Layer(name, values or {})


def load_named(path: str, kind: str, repeated: list[str]) -> Layer:
    """A file, or the shipped one of that name where there is no such file.

    Args:
        path: of the file, or the name of a YAML in `properties/<kind>/`.
        kind: `preset`, `space` or `ablation`.
        repeated: takes the problems of keys that are there twice, as in `load_layer`.

    Raises:
        ParamError: as `load_layer`; names what is shipped.
    """
    shipped = {file.name.removesuffix(".yaml"): file for file in (properties_root() / kind).iterdir()}
    if path in shipped and not Path(path).is_file():
        return load_layer(shipped[path], f"properties/{kind}/{path}.yaml", repeated)
    try:
        return load_layer(Path(path), path, repeated)
    except ParamError as error:
        known = f"shipped {kind}s: {', '.join(sorted(shipped))}{nearest(path, shipped)}"
        raise ParamError(f"{error}; {known}") from None


def properties_root() -> Traversable:
    """The folder of the shipped YAML layers.

    Raises:
        ParamError: the package was put together without it.
    """
    try:
        return files("recmodels.properties")
    except ModuleNotFoundError:
        raise ParamError("recmodels.properties is missing: install the package (pip install -e .)") from None


def merge(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Merges layers, later ones over earlier ones.

    A value replaces the earlier one. The mappings of `MERGED_KEYS` merge key by key, one level deep: their inner
    mappings (`split`, `mode`) and all other mappings (`val_interval`, `load_col`, ...) are replaced as a whole, because
    half of a split or of a column list of another layer would never be meant.

    Args:
        layers: lowest first.

    Returns:
        The merged values, and for every key, and `key.inner` of the merged mappings, the layer that set it.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, given in layers:
        for key, value in given.items():
            old, values[key], origin[key] = values.get(key), value, name
            if key in MERGED_KEYS and isinstance(value, dict):
                values[key] = {**(old if isinstance(old, dict) else {}), **value}
                origin |= {f"{key}.{inner}": name for inner in value}
    return values, origin


def parse_argv(argv: Sequence[str]) -> dict[str, Any]:
    """Overrides of a command line.

    Args:
        argv: arguments without the program: `--key=value` (split at the first `=`), `--key value`, `-m`, `-d`. Values
            are YAML; `model` and `dataset` are names; `config_files` is one argument, paths separated by commas or,
            when there is no comma, by spaces.

    Returns:
        Flat names to plain data.

    Raises:
        ParamError: an argument without `--`, a missing value, a key twice with different values, a value that is not
            YAML. All at once.
    """
    values, problems = read_argv(argv)
    raise_all("command line", problems)
    return values


def read_argv(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Like `parse_argv`, with the problems returned beside what could be read."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    rest = list(argv)
    while rest:
        try:
            key, text = _next_argument(rest)
            value = _argument_value(key, text)
            if key in values and values[key] != value:
                raise ParamError(f"{key}: given twice, as {values[key]!r} and {value!r}; keep one")
            values[key] = value
        except ParamError as error:
            problems.append(str(error))
    return values, problems


def take_option(argv: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """Takes an option that is no configuration key off a command line.

    Args:
        argv: arguments without the program.
        name: of the option, given as `--name=VALUE` or `--name VALUE`.

    Returns:
        Its text, None where it is not given, and the other arguments.

    Raises:
        ParamError: it has no value, or is given twice.
    """
    rest, found = list(argv), [place for place, word in enumerate(argv) if word.partition("=")[0] == f"--{name}"]
    if not found:
        return None, rest
    if len(found) > 1:
        raise ParamError(f"{name}: given {len(found)} times; keep one")
    _, equals, text = rest.pop(found[0]).partition("=")
    if not equals and found[0] < len(rest) and not rest[found[0]].startswith("-"):
        text = rest.pop(found[0])
    if not text.strip():
        raise ParamError(f"{name}: no value; write --{name}=FOLDER")
    return text, rest


def _next_argument(rest: list[str]) -> tuple[str, str]:
    """Takes one key and its text from the front of the list."""
    word, equals, text = rest.pop(0).partition("=")
    word = _SHORT.get(word, word)
    key = word.removeprefix("--")
    if not word.startswith("--") or not key:
        hint = f"--{word.lstrip('-')}={text or '...'}" if equals or word.startswith("-") else "--key=value"
        raise ParamError(f"{word}{equals}{text}: unexpected argument; write {hint} (a value with spaces in quotes)")
    if not equals and rest and not rest[0].startswith("--") and rest[0] not in _SHORT:
        text = rest.pop(0)
    if not text.strip():
        raise ParamError(f"{key}: no value; write --{key}=VALUE, --{key}=true for a switch, --{key}=null for nothing")
    return key, text


def _argument_value(key: str, text: str) -> Any:
    """The plain data of one argument."""
    if key in ("model", "dataset"):
        return text.strip()
    if key == "config_files" and not text.strip().startswith("["):
        return (
            [text]
            if Path(text).is_file()
            else [part for part in re.split("," if "," in text else r"\s+", text) if part]
        )
    if key.endswith("_inter_num_interval") and text.strip()[0] in "[(":
        return text.strip()  # [5,inf) is no YAML, and RecBole's users write it without inner quotes
    return load_yaml(text, f"{key}: {text!r}")
