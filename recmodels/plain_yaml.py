"""YAML as plain data, read and written so that nothing is lost or guessed."""

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from recmodels.errors import ParamError
from recmodels.params import raise_all

_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"


class _Loader(yaml.SafeLoader):
    """Numbers as in YAML 1.2, no tags, no dates; of a key that is twice in a mapping the first counts.

    Attributes:
        repeated: line, from 1, and problem of each key that is there again.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[tuple[int, str]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                told = f"a key must be a string, got {key.value if isinstance(key.value, str) else 'a list or mapping'}"
                self.problems.append((key.start_mark.line + 1, f"{told}; put it into quotes"))
                continue
            if key.value in first:
                self.problems.append((key.start_mark.line + 1, f"key {key.value!r} appears twice"))
            first.setdefault(key.value, (key, value))
        node.value = list(first.values())
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back: strings that look like its numbers are quoted, nothing is an alias."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind in (_Loader, _Dumper):
    for _tag, _pattern, _first in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", list("yYnNtTfFoO")),
        ("int", r"[-+]?[0-9]+", list("-+0123456789")),
        ("float", _FLOAT, list("-+0123456789.")),
        ("merge", r"<<", ["<"]),
    ):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
# YAML 1.1 reads 010 as eight; here it is ten
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def load_yaml(text: str, name: str) -> Any:
    """Plain data of a YAML text: mappings, lists, strings, numbers, booleans, null.

    Floats follow YAML 1.2 (`1e-4`, `1E5` and `.5` are floats), ints are decimal, dates stay strings.

    Args:
        text: one YAML document.
        name: where it comes from, for the error.

    Raises:
        ParamError: not YAML, a tag, an alias, keys twice in one mapping, a key that is not a string, nesting or a
            whole number beyond Python's limits; names line and reason.
    """
    values, repeated = read_yaml(text, name)
    if len(repeated) == 1:
        raise ParamError(f"{name}, {repeated[0]}")
    raise_all(name, repeated)
    return values


def read_yaml(text: str, name: str) -> tuple[Any, list[str]]:
    """Like `load_yaml`, with what is wrong with keys told beside the data, which has the first of two, no odd one."""
    try:
        for token in yaml.scan(text, Loader=_Loader):
            if isinstance(token, yaml.TagToken):
                raise yaml.MarkedYAMLError(problem="tags are refused, write plain data", problem_mark=token.start_mark)
            if isinstance(token, yaml.AliasToken):  # a value could hold itself
                problem = f"the alias *{token.value} is refused, write the value again"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=token.start_mark)
        loader = _Loader(text)
        values = loader.get_single_data()
        return values, [f"line {line}: {problem}" for line, problem in sorted(loader.problems)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ParamError(f"{name}, line {mark.line + 1 if mark else '?'}: {error.problem}") from None
    except RecursionError:
        raise ParamError(f"{name}: brackets are nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # Python reads no whole number of more than 4300 digits
        raise ParamError(f"{name}: {error}") from None


def dump_yaml(values: Mapping[str, Any]) -> str:
    """YAML text in the given order that `load_yaml` reads back as equal values."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False)
