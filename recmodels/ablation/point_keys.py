"""What may stand in a point of an ablation file beside the keys of a model, and which keys may not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recmodels.config import unknown_key_problems
from recmodels.data_params import DataParams
from recmodels.experiments.session import PARAMS
from recmodels.params import Params
from recmodels.reporting.metric_names import name_problems, range_problem
from recmodels.run_params import LARGEST_SEED, RunParams
from recmodels.tuning.space_file import DATA_KEYS, MACHINE_KEYS, SCALE_KEYS
from recmodels.typed_values import nearest

OF_A_POINT = ("reported", "note", "control_of", "seeds", "compact_of", "prune")
_MOST_SEEDS = 1000
_EXPECTED_SEEDS = f"expected a count from 1 to {_MOST_SEEDS}, or a list of whole numbers from 0 to {LARGEST_SEED}"


def key_problem(key: str, given: Mapping[str, Any]) -> str | None:
    """Why a key cannot differ between the points of an ablation; None when it can.

    Args:
        key: flat name.
        given: overrides of the command line.
    """
    if key == "seed":
        return "belongs to seeds, such as seeds: 3, or seeds: [2020, 2021]"
    if key == "config_files":
        return "belongs to base"
    if key == "dataset" or key in DATA_KEYS:
        return "runs on different data or splits cannot be compared; put it into base, or make a file for each value"
    if key in SCALE_KEYS:
        return "runs measured differently cannot be compared; put it into base"
    if key in MACHINE_KEYS:
        return "it decides no result; put it into base"
    return f"also given on the command line, as {given[key]!r}; keep one" if key in given else None


def lone_problems(key: str, values: Sequence[Any]) -> list[str]:
    """What is wrong with values of a key whatever the other keys have, for a file whose points cannot be made.

    Args:
        key: flat name.
        values: any number.
    """
    if (reserved := key_problem(key, {})) is not None:
        return [f"{key}: {reserved}"]
    if key == "model":
        unknown = [value for value in values if value not in list(PARAMS)]
        return [f"model: unknown model {value!r}{nearest(value, PARAMS)}" for value in unknown]
    classes: list[type[Params]] = [RunParams, *PARAMS.values(), DataParams]
    owners = [cls for cls in classes if key in set(cls.keys())]
    if not owners:
        found = [text for value in values for text in unknown_key_problems({key: value}, "", PARAMS)]
        return list(dict.fromkeys(found))
    of_values = [[_own_problems(cls, key, value) for cls in owners] for value in values]
    return [text for of_owners in of_values if all(of_owners) for text in of_owners[0]]


def _own_problems(cls: type[Params], key: str, value: Any) -> list[str]:  # noqa: ANN401
    return [text for text in cls.read({key: value})[1] if text.startswith(f"{key}:")]


def more_problems(more: Mapping[str, Any]) -> list[str]:
    """What is wrong with figures, note and seeds.

    Args:
        more: some of `OF_A_POINT`.
    """
    found = []
    if "reported" in more:
        found += [f"reported: {text}" for text in _figure_problems(more["reported"])]
    if not isinstance(more.get("note", ""), str):
        found.append(f"note: expected a text, got {more['note']!r}; put it in quotes")
    if "seeds" in more:
        found += [f"seeds: {text}" for text in _seed_problems(more["seeds"])]
    return found


def read_seeds(value: Any, first: int, n_seeds: int | None) -> tuple[int, ...]:
    """The seeds of a count or list that has no problem.

    Args:
        value: a list, or how many there are from `first` on.
        first: of a count.
        n_seeds: if it is given, so many from the first one on.
    """
    seeds = tuple(range(first, first + value)) if isinstance(value, int) else tuple(value)
    return seeds if n_seeds is None else tuple(range(seeds[0], seeds[0] + n_seeds))


def _figure_problems(reported: Any) -> Iterator[str]:
    if not isinstance(reported, dict):
        yield f"expected metrics with figures, such as {{recall@10: 0.2}}, got {reported!r}"
        return
    yield from (f"{metric}: {problem}" for metric, problem in name_problems(reported))
    for metric, figure in reported.items():
        if (problem := _number_problem(metric, figure)) is not None:
            yield f"{metric}: {problem}"


def _number_problem(metric: str, figure: Any) -> str | None:
    if isinstance(figure, bool) or not isinstance(figure, (int, float)) or figure != figure:
        return f"expected a number, got {figure!r}; what is no number is a note"
    return range_problem(metric, figure)


def _seed_problems(value: Any) -> Iterator[str]:
    if _is_whole(value):
        if not 1 <= value <= _MOST_SEEDS:
            yield f"{_EXPECTED_SEEDS}, got {value!r}"
        return
    if not isinstance(value, list) or not value:
        yield f"{_EXPECTED_SEEDS}, got {value!r}"
        return
    for place, seed in enumerate(value):
        if not _is_whole(seed) or not 0 <= seed <= LARGEST_SEED:
            yield f"expected whole numbers from 0 to {LARGEST_SEED}, got {seed!r}"
        elif seed in value[:place]:
            yield f"{seed} is there twice; keep one"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
