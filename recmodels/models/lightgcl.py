"""LightGCL."""

from dataclasses import dataclass
from typing import ClassVar

from recmodels.graph import BipartiteGraph
from recmodels.models.base import Parts
from recmodels.models.contrast_terms import ContrastParams
from recmodels.models.lightgcn import LightGCN
from recmodels.objectives import LowRankContrast
from recmodels.params import LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE, param
from recmodels.perturbed_views import DroppedView, LowRankView


class LightGCL(LightGCN):
    """LightGCN with a contrast of every hop with its propagation by a truncated singular value decomposition.

    Source: Cai et al. 2023, "LightGCL: Simple Yet Effective Graph Contrastive Learning for Recommendation", section 3.
    Weights: `ssl_weight` (the paper's lambda_1) multiplies a *sum* over the batch and the hops, against all nodes of
    the side. Deviations from the paper: hops are linear, without LeakyReLU and residuals, as in the authors' released
    code, and the readout is their mean; BPR in place of the hinge loss; edges are dropped once an epoch, in both
    directions, and the rest is normalized by its own degrees; anchors are the users and positive items of the batch;
    the candidates include the padding row; the regularizer is RecBole's. With `aggregation: lightgcn++`, which is not
    in the paper, the decomposition is of that adjacency, and of unit-length hops as in the encoder. The released code,
    and RecBole-GNN's, contrast unscaled inner products of the readouts instead: their weights and temperatures belong
    to another loss.
    """

    @dataclass(frozen=True)
    class Params(ContrastParams):
        """Keys of `properties/model/LightGCL.yaml`."""

        of_contrast: ClassVar[frozenset[str]] = frozenset(("q", "temp"))  # dropout is the encoder's

        temp: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
        dropout: float = param(ge=0, lt=1)
        q: int = param(ge=1)

        def problems(self) -> list[str]:
            """Also: edges are dropped once, by the epoch or by the step."""
            both = self.dropout > 0 and self.agg_edge_dropout > 0
            found = [f"agg_edge_dropout: comes beside dropout {self.dropout:g}, which drops edges already; choose one"]
            return super().problems() + found * both

    def build(self, p: Params, graph: BipartiteGraph) -> Parts:  # type: ignore[override]  # a model reads its own keys
        """LightGCN's parts, its encoder on dropped graphs, and the contrast with the low-rank graph."""
        parts = super().build(p, graph)
        encoder = DroppedView(parts.encoder, graph, "edge", p.dropout) if p.dropout else parts.encoder
        view = LowRankView(graph, p.q, self.stream("svd"), parts.encoder.aggregation)
        contrast = LowRankContrast(graph, view, p.form(p.temp), p.ssl_weight)
        return parts._replace(encoder=encoder, objectives=[*parts.objectives, contrast])
