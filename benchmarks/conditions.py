"""Under which conditions rows were measured, and that all of them were measured under the same."""

import argparse
from collections.abc import Sequence
from importlib.metadata import version

import recmodels
from benchmarks.rows import Row
from recmodels.errors import DataError
from recmodels.experiments.hardware import cpu_name


def agreed(found: Sequence[tuple[str, Row]]) -> Row:
    """The facts of the first, once all agree: another split or batch would make every ratio meaningless.

    Args:
        found: who, and the facts of its side; at least one.

    Raises:
        DataError: two differ.
    """
    first, facts = found[0]
    for name, others in found[1:]:
        differing = [key for key in facts if others[key] != facts[key]]
        if differing:
            got, expected = ({key: row[key] for key in differing} for row in (others, facts))
            raise DataError(f"{name}: got {got}, expected {expected} as {first}; only equal ones are comparable")
    return facts


def conditions(options: argparse.Namespace, facts: Row) -> Row:
    """The first line of a file: what the rows below have in common.

    Args:
        options: of a command that trains on a data set.
        facts: what all sides agree in.
    """
    return {
        "dataset": options.dataset,
        **facts,
        "warmup_steps": options.warmup_steps,
        "overrides": options.set,
        "cpu": cpu_name(),
        "torch": version("torch"),
        "recbole": version("recbole"),
        "recmodels": recmodels.__version__,
    }
