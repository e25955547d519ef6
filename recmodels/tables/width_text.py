"""Widths of all nodes as one line of text, so that a configuration file alone describes a table."""

import re

import torch
from torch import Tensor

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph
from recmodels.tables.frequency import most_frequent_first

_EXAMPLE = "'users 64*1207 16*4833 items 64*721 16*2908'"


def widths_as_text(graph: BipartiteGraph, widths: Tensor) -> str:
    """Runs of equal widths, `users 64*1207 16*4833 items ...`, each side from its most frequent node down.

    Nodes of equal frequency are in the order of their ids, and the padding is last.

    Args:
        graph: of the training interactions.
        widths: (N,) int64.
    """
    parts = []
    for side, nodes in zip(("users", "items"), _falling(graph), strict=True):
        values, counts = torch.unique_consecutive(widths[nodes], return_counts=True)
        runs = [
            f"{width}*{n}" if n > 1 else str(width) for width, n in zip(values.tolist(), counts.tolist(), strict=True)
        ]
        parts += [side, *runs]
    return " ".join(parts)


def widths_from_text(graph: BipartiteGraph, text: str, widest: int) -> Tensor:
    """What `widths_as_text` wrote: (N,) int64.

    Args:
        graph: of the same training interactions.
        text: see `widths_as_text`.
        widest: the aligned width.

    Raises:
        ParamError: the text has another form, other numbers of nodes, or a width out of range.
    """
    found = re.fullmatch(r"users((?: \d+(?:\*\d+)?)+) items((?: \d+(?:\*\d+)?)+)", " ".join(text.split()))
    if not found:
        raise ParamError(f"adae_widths: expected runs of widths such as {_EXAMPLE}, got {text[:60]!r}")
    widths = torch.zeros(graph.n_nodes, dtype=torch.int64)
    for side, nodes, runs in zip(("users", "items"), _falling(graph), found.groups(), strict=True):
        pairs = [[int(number) for number in (*run.split("*"), "1")[:2]] for run in runs.split()]
        n_given = sum(n for _, n in pairs)
        if n_given != len(nodes):
            raise ParamError(
                f"adae_widths: {n_given:,} {side}, but the training part has {len(nodes):,}, padding included; the "
                "widths are of another data set or split"
            )
        outside = [width for width, _ in pairs if not 1 <= width <= widest]
        if outside:
            raise ParamError(f"adae_widths: must lie in 1 to embedding_size, {widest}, got {outside[0]} for {side}")
        values, counts = torch.tensor(pairs).T
        widths[nodes] = values.repeat_interleave(counts)
    return widths


def _falling(graph: BipartiteGraph) -> tuple[Tensor, Tensor]:
    """Nodes of each side from the most frequent down, the padding last."""
    users, items = (torch.cat([most_frequent_first(graph, nodes[1:]), nodes[:1]]) for nodes in graph.sides)
    return users, items
