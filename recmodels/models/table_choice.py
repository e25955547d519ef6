"""The table component: its keys, and how they become a table."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph
from recmodels.models.width_search import SearchParams, search_table
from recmodels.params import param
from recmodels.tables import INITIALIZATIONS, AdaptiveTable, PlainTable, Table, TransformedTable
from recmodels.tables.adaptive import deviations
from recmodels.tables.candidates import Candidates, Form
from recmodels.tables.frequency import node_ranks
from recmodels.tables.pruned import PrunedTable, mask_from_text
from recmodels.tables.width_text import widths_from_text
from recmodels.tables.widths import (
    power_rule_widths,
    require_budget,
    reversed_widths,
    shuffled_widths,
    widths_by_rank,
)


@dataclass(frozen=True)
class TableParams(SearchParams):
    """Keys of the table, for a model with one."""

    embedding_size: int = param(ge=1)
    init: str = param(choices=tuple(INITIALIZATIONS))
    table: str = param(choices=("plain", "adaptive"))
    adae_mode: str = param(choices=("original", "fix", "rank", "auto", "given", "pruned"))
    adae_quantiles: list[float] | str = param(gt=0, lt=1, choices=("distinct",))
    adae_item_quantiles: list[float] | str | None = param(gt=0, lt=1, choices=("distinct",), optional=True)
    adae_dims: list[int] | str = param(ge=1, choices=("all",))
    adae_item_dims: list[int] | str | None = param(ge=1, choices=("all",), optional=True)
    adae_widths: str | None = param(optional=True)
    adae_mask: str | None = param(optional=True)
    adae_order: str = param(choices=("frequency", "reversed", "random"))
    adae_budget: int | float | None = param(gt=0, optional=True)
    adae_exponent: float = param(ge=0)
    adae_share: bool = param()
    adae_align: str = param(choices=("zero_pad", "transform"))
    adae_norm: bool = param()

    @property
    def quantiles(self) -> tuple[list[float] | None, list[float] | None]:
        """Of users and of items; None makes one class for each distinct count."""
        users = self.adae_quantiles
        items = users if self.adae_item_quantiles is None else self.adae_item_quantiles
        return (None if isinstance(users, str) else users, None if isinstance(items, str) else items)

    @property
    def dims(self) -> tuple[list[int], list[int]]:
        """Widths of the classes of users and of items, rarest first; in a search, the candidates."""
        users = self.adae_dims
        items = users if self.adae_item_dims is None else self.adae_item_dims
        every = list(range(1, self.embedding_size + 1))
        return (every if isinstance(users, str) else users, every if isinstance(items, str) else items)

    @property
    def candidate_form(self) -> Form:
        """How rows are stored and aligned; lengths are of a search alone."""
        return Form(self.adae_share, self.adae_align == "transform", self.adae_norm, self.adae_keep_length)

    @property
    def held_out_share(self) -> float:
        """A search for widths keeps `adae_holdout` of training for its picker."""
        return self.adae_holdout if self.table == "adaptive" and self.adae_mode == "auto" else 0.0

    def inert_keys(self) -> set[str]:
        """Also: with a plain table nothing reads the keys of an adaptive one, and a mode reads its own."""
        adaptive = {key for key in self.keys() if key.startswith("adae_")}
        if self.table == "plain":
            return super().inert_keys() | adaptive | {"table"}
        return super().inert_keys() | (adaptive - {"adae_mode"} - self._read_keys())

    def _read_keys(self) -> set[str]:
        """The keys that the mode of an adaptive table reads."""
        form = {"adae_share", "adae_align", "adae_norm"}
        classes, dims = {"adae_quantiles", "adae_item_quantiles"}, {"adae_dims", "adae_item_dims"}
        if self.adae_mode == "rank":
            budget = {"adae_budget"} | (dims if self.adae_budget is None else {"adae_exponent"})
            return form | classes | budget | {"adae_order"}
        if self.adae_mode == "auto":
            unread = set() if self.candidate_form.has_prefixes else {"adae_keep_length"}
            unread |= {"adae_budget_rate"} if self.adae_budget is None else set()
            return (form | classes | dims | {"adae_budget"} | self.search_keys()) - unread
        own = {"given": form | {"adae_widths"}, "pruned": {"adae_mask"}}
        return own.get(self.adae_mode, set())

    def problems(self) -> list[str]:
        """Checks that need more than one value."""
        found = super().problems()
        if self.table == "plain" or self.adae_mode in ("original", "fix"):
            return found
        if self.adae_mode in ("given", "pruned"):
            key = "adae_widths" if self.adae_mode == "given" else "adae_mask"
            return found + ([] if getattr(self, key) else [f"{key}: mode {self.adae_mode} reads it; got none"])
        found += self._order_problems() + self._budget_problems()
        if self.adae_mode == "auto":
            return found + self._candidate_problems() + self.search_problems()
        return found + (self._class_problems() if self.adae_budget is None else [])

    def _order_problems(self) -> list[str]:
        """Quantiles that do not ascend."""
        given = {"adae_quantiles": self.adae_quantiles, "adae_item_quantiles": self.adae_item_quantiles}
        return [
            f"{key}: must ascend, got {quantiles}; did you mean {sorted(set(quantiles))}?"
            for key, quantiles in given.items()
            if isinstance(quantiles, list) and quantiles != sorted(set(quantiles))
        ]

    def _class_problems(self) -> list[str]:
        """Widths that do not go with the classes, or with the aligned width."""
        found = self._width_problems()
        sides = zip(("users", "items"), self._dims_keys, self.quantiles, self.dims, strict=True)
        for side, key, quantiles, dims in sides:
            if quantiles is None or isinstance(getattr(self, key), str):
                name = "adae_quantiles: 'distinct'" if quantiles is None else f"{key}: 'all'"
                found.append(f"{name} gives no width to each class in mode rank; give adae_budget, or two lists")
            elif len(dims) != len(quantiles) + 1:
                found.append(
                    f"{key}: {len(quantiles)} quantiles make {len(quantiles) + 1} classes of {side}, got "
                    f"{len(dims)} widths {dims}; give one for each class, rarest first"
                )
        return list(dict.fromkeys(found))

    def _candidate_problems(self) -> list[str]:
        """Candidates that a search cannot choose among."""
        found = self._width_problems()
        for key, dims in zip(self._dims_keys, self.dims, strict=True):
            if dims != sorted(set(dims)) or len(dims) < 2:
                found.append(f"{key}: a search needs two or more ascending candidates, got {dims}")
        if "all" in (self.adae_dims, self.adae_item_dims) and not self.candidate_form.has_prefixes:
            found.append(
                "adae_dims: 'all' widths are prefixes of one table; choose adae_share: true, adae_align: zero_pad and "
                "adae_norm: false, or a list of widths"
            )
        return list(dict.fromkeys(found))

    @property
    def _dims_keys(self) -> tuple[str, str]:
        """The keys that the widths of users and of items come from."""
        return "adae_dims", "adae_dims" if self.adae_item_dims is None else "adae_item_dims"

    def _width_problems(self) -> list[str]:
        """Widths beyond the aligned one."""
        return [
            f"{key}: a width of {max(dims)} does not fit into the aligned width, embedding_size {self.embedding_size}; "
            "raise embedding_size, or lower the width"
            for key, dims in dict(zip(self._dims_keys, self.dims, strict=True)).items()
            if max(dims, default=0) > self.embedding_size
        ]

    def _budget_problems(self) -> list[str]:
        """What does not go with widths that a budget chooses."""
        budget, found = self.adae_budget, []
        if budget is not None and self.adae_align == "transform":
            found.append(
                "adae_align: adae_budget counts rows, and the transforms of many widths would cost more than those; "
                "choose zero_pad"
            )
        if budget is not None and budget > 1 and budget != int(budget):
            found.append(
                f"adae_budget: must be a share of the plain table up to 1, or a number of parameters, got {budget}"
            )
        return found

    def budget(self, graph: BipartiteGraph) -> int:
        """`adae_budget` in parameters, norms included; up to 1 it is a share of the plain table."""
        given = float(self.adae_budget or 0)
        return int(given * (graph.n_nodes * self.embedding_size) if given <= 1 else given)

    def rows_budget(self, graph: BipartiteGraph, smallest: int) -> int:
        """What `adae_budget` leaves for rows, in parameters.

        Args:
            graph: of the table.
            smallest: parameters of the smallest table that it could be.

        Raises:
            ParamError: the plain table is smaller, or the smallest one larger.
        """
        budget, plain = float(self.adae_budget or 0), graph.n_nodes * self.embedding_size
        if budget > plain:
            raise ParamError(
                f"adae_budget: got {int(budget):,} parameters, but the plain table has only {plain:,}; lower it, or "
                "raise embedding_size"
            )
        n_norms = 4 * self.embedding_size if self.adae_norm else 0  # gain and shift of both sides
        rows = self.budget(graph) - n_norms
        given = f"{budget:g}" if budget <= 1 else f"{int(budget):,}"
        require_budget(rows, smallest, given if rows != budget else "")
        return rows


def table(p: TableParams, graph: BipartiteGraph, stream: Callable[[str], torch.Generator]) -> Table:
    """The table that the parameters describe; `stream` gives the random stream of a name."""
    if p.table == "plain" or p.adae_mode == "original":
        return PlainTable(graph, p.embedding_size, p.init, stream("table"))
    if p.adae_mode == "fix":
        return TransformedTable(INITIALIZATIONS[p.init](graph, p.embedding_size, stream("table")))
    if p.adae_mode == "pruned":
        mask = mask_from_text(p.adae_mask or "", graph.n_nodes, p.embedding_size)
        return PrunedTable(INITIALIZATIONS[p.init](graph, p.embedding_size, stream("table")), mask)
    start = (prefix_start if p.adae_share else own_start)(p, graph, stream("table"))
    form = p.candidate_form
    if p.adae_mode != "auto":
        return AdaptiveTable(
            graph, chosen_widths(p, graph, stream), start, p.embedding_size, form.has_transform, form.has_norm
        )

    def candidates(side: int, nodes: Tensor) -> Candidates:
        return Candidates(lambda width: start(width)[nodes], p.dims[side], p.embedding_size, form)

    smallest = graph.n_users * p.dims[0][0] + graph.n_items * p.dims[1][0]
    budget = None if p.adae_budget is None else p.rows_budget(graph, smallest)
    return search_table(p, graph, node_ranks(graph, p.quantiles), candidates, budget, stream("picker"))


def chosen_widths(p: TableParams, graph: BipartiteGraph, stream: Callable[[str], torch.Generator]) -> Tensor:
    """(N,) int64 width of each node."""
    if p.adae_mode == "given":
        return widths_from_text(graph, p.adae_widths or "", p.embedding_size)
    ranks = node_ranks(graph, p.quantiles)
    if p.adae_budget is None:
        widths = widths_by_rank(graph, ranks, p.dims)
    else:
        widths = power_rule_widths(graph, ranks, p.rows_budget(graph, graph.n_nodes), p.adae_exponent, p.embedding_size)
    if p.adae_order == "reversed":
        return reversed_widths(graph, widths)
    return shuffled_widths(graph, widths, stream("adae_widths")) if p.adae_order == "random" else widths


def prefix_start(p: TableParams, graph: BipartiteGraph, generator: torch.Generator) -> Callable[[int], Tensor]:
    """Every width starts as the first columns of one table, the plain one's."""
    whole = INITIALIZATIONS[p.init](graph, p.embedding_size, generator)
    return lambda width: whole[:, :width]


def own_start(p: TableParams, graph: BipartiteGraph, generator: torch.Generator) -> Callable[[int], Tensor]:
    """Every width has a start of its own, whose entries deviate as those of the plain table."""
    scale = _deviation(graph, INITIALIZATIONS[p.init](graph, p.embedding_size, generator))

    def start(width: int) -> Tensor:
        drawn = INITIALIZATIONS[p.init](graph, width, generator)
        return drawn * (scale / _deviation(graph, drawn))

    return start


def _deviation(graph: BipartiteGraph, start: Tensor) -> Tensor:
    """(N, 1) root mean square of the entries of each side."""
    sizes = (graph.n_users, graph.n_items)
    return torch.cat([found.expand(n, 1) for found, n in zip(deviations(graph, start), sizes, strict=True)])
