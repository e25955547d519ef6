"""Reading a space file against a model: everything wrong with it at once, before any trial starts."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations, islice, product
from typing import Any, get_type_hints

from recmodels.config import Resolved, changed
from recmodels.data_params import DataParams
from recmodels.experiments.session import NO_NUMBER, PARAMS, deciding_values
from recmodels.layers import load_named
from recmodels.params import nearest, raise_all
from recmodels.run_params import RunParams
from recmodels.tuning.refusals import search_problems
from recmodels.tuning.space import ENQUEUE, Choices, Range, Space, read_part
from recmodels.typed_values import accepts, convert, describe

_LUCK = "the best of several seeds is luck; fix it here, and repeat the winner with other seeds"
_DATA = "trials on different data or splits cannot be compared; fix it, or make one study for each value"
_SCALE = "trials measured differently cannot be compared; fix it"
_NO_NUMBER = "it decides no result; fix it"
_OPTION = "it is the same in every trial; give it to the command, as {}"
_UNREAD = (
    "nothing reads it at any value of this space, so its values would be tried in vain; leave it out, or choose what "
    "reads it, see its line in properties/ (say table, adae_mode, rec_loss)"
)
_MOST_CORNERS = 2**11  # a few seconds; all corners of 11 keys with two each

# Keys that must not differ between runs that are compared, by why.
DATA_KEYS = frozenset(("split_seed", "eval_args", "data_path", *DataParams.keys()))
SCALE_KEYS = frozenset(("metrics", "topk", "valid_metric", "repeatable", "eval_step"))
MACHINE_KEYS = NO_NUMBER - DATA_KEYS | {"reproducibility"}
_NOT_SEARCHED = {
    "seed": _LUCK,
    **dict.fromkeys(DATA_KEYS, _DATA),
    **dict.fromkeys(SCALE_KEYS, _SCALE),
    **dict.fromkeys(MACHINE_KEYS, _NO_NUMBER),
}
_OPTIONS = {"model": "recmodels tune MODEL", "dataset": "--dataset=NAME", "config_files": "--config_files=FILES"}


def load_space(path: str, base: Resolved, given: Mapping[str, Any]) -> Space:
    """Reads and checks a space file.

    A list is a set of choices (a list of one value fixes it), a mapping with low and high a range, anything else the
    value of every trial. `enqueue` is a list of settings to try first.

    Args:
        path: a YAML file, or the name of a shipped space (`space/*.yaml`) where there is no such file.
        base: the configuration without the space.
        given: overrides of the command line; they win over fixed values and exclude a search.

    Raises:
        ParamError: the file cannot be read; or keys, types, bounds, choices or settings are wrong, all at once; or
            values of the space that the model, its training or a search refuses together; or nothing reads a searched
            key.
    """
    repeated = list[str]()
    values = load_named(path, "space", repeated).values
    enqueued = values.pop(ENQUEUE, None)
    wrong_keys = {key: list(_key_problems(key, values[key], base.model, given)) for key in values}
    problems = [text for found in wrong_keys.values() for text in found]
    known = _hints(base.model)
    read, found = _parts({key: value for key, value in values.items() if key in known}, base.model)
    space = Space(
        {key: part for key, part in read.searched.items() if not wrong_keys[key]},
        {key: value for key, value in read.fixed.items() if not wrong_keys[key]},
    )
    found += _hidden_problems(space, base, given)
    space = replace(space, fixed={key: value for key, value in space.fixed.items() if key not in given})
    settings, wrong = _settings(enqueued, space, values)
    problems += found
    if not any(map(_is_searched, values.values())):
        problems.append("nothing to search: give at least one key a list of choices, or low and high")
    raise_all(path, list(dict.fromkeys([*repeated, *problems, *_value_problems(space, base), *wrong])))
    space = replace(space, enqueued=settings)
    raise_all(
        path, [*dict.fromkeys(_joint_problems(space, base)), *(f"{key}: {_UNREAD}" for key in _unread(space, base))]
    )
    return space


def _hints(model: str) -> dict[str, Any]:
    """Every key of a run of the model, with its annotation."""
    return {key: hint for cls in (PARAMS[model], RunParams, DataParams) for key, hint in get_type_hints(cls).items()}


def _is_searched(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and len(value) != 1)


def _key_problems(key: str, value: Any, model: str, given: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a key, whatever its values are."""
    known = _hints(model)
    if key in _OPTIONS:
        yield f"{key}: {_OPTION.format(_OPTIONS[key])}"
    elif key not in known:
        owners = [name for name, params in PARAMS.items() if key in set(params.keys())]
        hint = f"; it belongs to {', '.join(owners)}" if owners else nearest(key, [*known, ENQUEUE])
        yield f"{key}: unknown key of {model}{hint}"
    elif _is_searched(value) and key in _NOT_SEARCHED:
        yield f"{key}: cannot be searched: {_NOT_SEARCHED[key]}"
    elif _is_searched(value) and key in given:
        yield f"{key}: searched here and given on the command line as {given[key]!r}; keep one"


def _parts(values: Mapping[str, Any], model: str) -> tuple[Space, list[str]]:
    """The parts that can be read, and what is wrong with the others."""
    hints, problems = _hints(model), list[str]()
    searched: dict[str, Choices | Range] = {}
    fixed: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(value, (list, dict)):
            fixed[key] = value
            continue
        part, found = read_part(value)
        if isinstance(part, Range):
            part, more = _typed(part, hints[key])
            found += more
        problems += [f"{key}: {text}" for text in found]
        if isinstance(part, Choices) and len(part.values) == 1:
            fixed[key] = part.values[0]
        elif part is not None:
            searched[key] = part
    return Space(searched, fixed), problems


def _typed(part: Range, hint: Any) -> tuple[Range | None, list[str]]:
    """A range in the type of its key: an int key has whole bounds and steps, a float key takes whole numbers too."""
    numbers = {name: getattr(part, name) for name in ("low", "high", "step") if getattr(part, name) is not None}
    if not accepts(hint, 1):
        return None, [f"takes {describe(hint)}, got the range {part.as_values()}; write a list of choices"]
    wrong = [name for name, number in numbers.items() if not accepts(hint, number)]
    if wrong:
        return None, [f"{name} expected a whole number, got {numbers[name]!r} (float)" for name in wrong]
    return replace(part, **{name: convert(hint, number) for name, number in numbers.items()}), []


def _settings(enqueued: Any, space: Space, values: Mapping[str, Any]) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """The settings to try first, and everything wrong with them."""
    if enqueued is None:
        return (), []
    if not isinstance(enqueued, list):
        return (), [f"{ENQUEUE}: expected a list of settings such as [{{learning_rate: 0.001}}], got {enqueued!r}"]
    problems = []
    for place, setting in enumerate(enqueued, start=1):
        where = f"{ENQUEUE}, setting {place}"
        if not isinstance(setting, dict):
            problems.append(f"{where}: expected keys with values such as {{learning_rate: 0.001}}, got {setting!r}")
            continue
        if not setting or setting in enqueued[: place - 1]:
            problems.append(f"{where}: {'is there twice' if setting else 'is empty'}; leave it out")
        for key, value in setting.items():
            problems += [f"{where}: {key}: {text}" for text in _setting_problems(key, value, space, values)]
    return tuple(enqueued), problems


def _setting_problems(key: str, value: Any, space: Space, values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with one value of a setting."""
    if key in values and not _is_searched(values[key]):
        yield f"is fixed to {values[key]!r}; leave it out, or give it a list of choices"
    elif key not in values:
        yield f"is not searched{nearest(key, [name for name in values if _is_searched(values[name])])}"
    elif key in space.searched and (text := space.searched[key].problem(value)):
        yield text


def _hidden_problems(space: Space, base: Resolved, given: Mapping[str, Any]) -> list[str]:
    """What is wrong with fixed values themselves that the command line takes the place of."""
    hidden = {key: value for key, value in space.fixed.items() if key in given}
    return [
        text
        for key, value in hidden.items()
        for text in _refusals(base, Space({}, {}), {key: value})
        if text.startswith(f"{key}:")
    ]


def _value_problems(space: Space, base: Resolved) -> Iterator[str]:
    """What the model, its training and a search say against the corners of the space, one key at a time."""
    yield from _refusals(base, space, {})
    for corner in space.corners(1):
        yield from _refusals(base, space, corner)


def _joint_problems(space: Space, base: Resolved) -> Iterator[str]:
    """What they say against two corners together, and against a setting that is tried first."""
    told = set[str]()
    for corner in space.corners(2):
        found = _refusals(base, space, corner)
        told |= set(found)
        where = " together with ".join(f"{key} {value!r}" for key, value in corner.items())
        yield from (f"{where}: {text}" for text in found)
    for place, setting in enumerate(space.enqueued, start=1):
        yield from (f"{ENQUEUE}, setting {place}: {t}" for t in _refusals(base, space, setting) if t not in told)


def _refusals(base: Resolved, space: Space, change: Mapping[str, Any]) -> list[str]:
    """Problems of one point: the first corner of every key, but for the change."""
    found, problems = changed(base, {**space.first(), **change}, PARAMS)
    return problems if found is None else search_problems(found)


def _unread(space: Space, base: Resolved) -> list[str]:
    """Searched keys that decide no number at any corner of the space; none where there are too many to look at all."""
    left, changes = set(space.searched), _changes(space)
    for change in islice(changes, _MOST_CORNERS):
        found, _ = changed(base, {**space.first(), **change}, PARAMS)
        left -= set() if found is None else deciding_values(found).keys()
        if not left:
            return []
    return [] if next(changes, None) is not None else [key for key in space.searched if key in left]


def _changes(space: Space) -> Iterator[dict[str, Any]]:
    """Every corner once, as the keys that are not at their first one; those of few keys come first."""
    others = {key: part.corners()[1:] for key, part in space.searched.items()}
    for n_changed in range(len(others) + 1):
        for keys in combinations(others, n_changed):
            for values in product(*(others[key] for key in keys)):
                yield dict(zip(keys, values, strict=True))
