"""Contrasts between two embeddings of the same nodes: of two views, or of hops of one."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recmodels.graph import BipartiteGraph
from recmodels.kernels import gather, weighted_infonce_sum
from recmodels.objectives.base import Objective
from recmodels.perturbed_views import LowRankView
from recmodels.records import Batch, Distinct, Encoding
from recmodels.views import PropagationView

REDUCTIONS = ("sum", "mean")
CANDIDATES = ("all", "batch", "distinct")


class ContrastForm(NamedTuple):
    """What an InfoNCE of a batch's nodes is summed over and divided by.

    Attributes:
        temperature: > 0, dimensionless.
        reduction: `sum` over the anchors of a side, or their `mean`; the two sides are added.
        candidates: `all` rows of the side, its padding row included; the nodes of the `batch`, each as often as it
            occurs; or its `distinct` nodes. Anchors are the nodes of the batch, each as often as it occurs, and with
            `distinct` each once.
    """

    temperature: float
    reduction: str
    candidates: str


class PairContrast(Objective):
    """InfoNCE between pairs of embeddings of the batch's users and of its positive items, cosine similarity.

    A node that occurs several times is computed once. Subclasses say which pairs; terms of several pairs are added.

    Args:
        graph: gives the sides.
        form: temperature, reduction and candidates.
        weight: multiplier.

    Raises:
        ValueError: an unknown reduction or choice of candidates.
    """

    name = "ssl"

    def __init__(self, graph: BipartiteGraph, form: ContrastForm, weight: float) -> None:
        super().__init__(weight)
        if form.reduction not in REDUCTIONS or form.candidates not in CANDIDATES:
            raise ValueError(f"expected a reduction of {REDUCTIONS} and candidates of {CANDIDATES}, got {form}")
        self.form, self.n_users, self.n_nodes = form, graph.n_users, graph.n_nodes

    def pairs(self, encoding: Encoding) -> Sequence[tuple[Tensor, Tensor]]:
        """(N, d) anchors and (N, d) positives and candidates, of every pair."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it contrasts")

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """The terms of both sides, added up over the pairs."""
        terms = [
            self._side(first[start:end], second[start:end], Distinct(side.nodes - start, side.counts))
            for first, second in self.pairs(encoding)
            for side, start, end in ((batch.users, 0, self.n_users), (batch.items, self.n_users, self.n_nodes))
        ]
        return torch.stack(terms).sum()

    def _side(self, first: Tensor, second: Tensor, side: Distinct) -> Tensor:
        """The term of one side; first and second are (n, d) rows of the side."""
        nodes, counts = side.nodes, side.counts.to(first.dtype)
        weights = torch.ones_like(counts) if self.form.candidates == "distinct" else counts
        anchors = F.normalize(gather(first, nodes), dim=-1)
        if self.form.candidates == "all":
            candidates = F.normalize(second, dim=-1)
            positives = gather(candidates, nodes)
        else:
            candidates = positives = F.normalize(gather(second, nodes), dim=-1)
        if self.form.candidates == "batch":  # c copies of a candidate are one with log c more
            anchors, positives = F.pad(anchors, (0, 1), value=1.0), F.pad(positives, (0, 1))
            candidates = torch.cat([candidates, self.form.temperature * counts.log()[:, None]], dim=1)
        total = weighted_infonce_sum(anchors, positives, candidates, weights, self.form.temperature)
        return total / weights.sum() if self.form.reduction == "mean" else total

    def extra_repr(self) -> str:
        """Also: the form of the contrast."""
        return f"{super().extra_repr()}, {self.form}"


class ViewContrast(PairContrast):
    """Two views of the batch's nodes, each propagated once a step from the model's ego embeddings.

    Args:
        graph: gives the sides.
        views: a view of the anchors and one of the positives and candidates.
        form: temperature, reduction and candidates.
        weight: multiplier.

    Source: Wu et al. 2021 (SGL), section 3.2; Yu et al. 2022 (SimGCL), section 3.
    """

    def __init__(
        self,
        graph: BipartiteGraph,
        views: tuple[PropagationView, PropagationView],
        form: ContrastForm,
        weight: float,
    ) -> None:
        super().__init__(graph, form, weight)
        self.first, self.second = views

    def on_epoch_start(self, epoch: int, ego: Tensor, generator: torch.Generator) -> None:
        """Lets the views draw, one after the other."""
        super().on_epoch_start(epoch, ego, generator)
        for view in (self.first, self.second):
            view.on_epoch_start(epoch, generator)

    def pairs(self, encoding: Encoding) -> Sequence[tuple[Tensor, Tensor]]:
        """The final embeddings of both views."""
        return [(self.first(encoding.ego).final, self.second(encoding.ego).final)]


class HopContrast(PairContrast):
    """The final embedding against that after `hop` propagations, both of the encoding that is scored.

    Args:
        graph: gives the sides.
        hop: k >= 0.
        form: temperature, reduction and candidates.
        weight: multiplier.

    Source: Yu et al. 2023 (XSimGCL), section 3.
    """

    def __init__(self, graph: BipartiteGraph, hop: int, form: ContrastForm, weight: float) -> None:
        super().__init__(graph, form, weight)
        self.hop = hop

    def pairs(self, encoding: Encoding) -> Sequence[tuple[Tensor, Tensor]]:
        """Readout and hop."""
        return [(encoding.final, encoding.hops[self.hop])]


class LowRankContrast(PairContrast):
    """Every hop after the first against the low-rank propagation of the hop before it; hops are added up.

    Args:
        graph: gives the sides.
        view: the low-rank propagation.
        form: temperature, reduction and candidates.
        weight: multiplier.

    Source: Cai et al. 2023 (LightGCL), section 3.3.
    """

    def __init__(self, graph: BipartiteGraph, view: LowRankView, form: ContrastForm, weight: float) -> None:
        super().__init__(graph, form, weight)
        self.view = view

    def pairs(self, encoding: Encoding) -> Sequence[tuple[Tensor, Tensor]]:
        """Each hop with the other way to it."""
        before = encoding.hops[:-1]
        return [(hop, self.view(source)) for hop, source in zip(encoding.hops[1:], before, strict=True)]
