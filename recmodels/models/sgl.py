"""SGL."""

from dataclasses import dataclass
from typing import ClassVar

from recmodels.graph import BipartiteGraph
from recmodels.models.base import Parts
from recmodels.models.contrast_terms import ContrastParams
from recmodels.models.lightgcn import LightGCN
from recmodels.objectives import ViewContrast
from recmodels.params import LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE, param
from recmodels.perturbed_views import DroppedView

DROPS = {"ED": "edge", "ND": "node", "RW": "walk"}


class SGL(LightGCN):
    """LightGCN with a contrast between two views of dropped graphs, which are drawn anew every epoch.

    Source: Wu et al. 2021, "Self-supervised Graph Learning for Recommendation", section 3. Weights: `ssl_weight`
    multiplies a *sum* over the batch (or its mean, `ssl_reduction`) against all nodes of the side, B =
    train_batch_size. Deviations from the paper: the candidates include the padding row; the regularizer is RecBole's.
    RecBole 1.2.1's SGL *sums* BPR where `bpr_weight` multiplies a mean, so its `ssl_weight` w is a mean's w here, or a
    sum's w / B; its `reg_weight` is divided by B. With `bpr_weight` B and a sum, loss, gradient and scores are its own.
    It counts the padding row among the nodes that `ND` drops; here only real nodes are dropped.
    """

    @dataclass(frozen=True)
    class Params(ContrastParams):
        """Keys of `properties/model/SGL.yaml`."""

        of_contrast: ClassVar[frozenset[str]] = frozenset(("type", "drop_ratio", "ssl_tau"))

        type: str = param(choices=tuple(DROPS))
        drop_ratio: float = param(ge=0, lt=1)
        ssl_tau: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)

        def inert_keys(self) -> set[str]:
            """Also: what is dropped where nothing is."""
            return super().inert_keys() | (set() if self.drop_ratio else {"type"})

    def build(self, p: Params, graph: BipartiteGraph) -> Parts:  # type: ignore[override]  # a model reads its own keys
        """LightGCN's parts, and the contrast of two dropped views of its encoder."""
        parts = super().build(p, graph)
        first, second = (DroppedView(parts.encoder, graph, DROPS[p.type], p.drop_ratio) for _ in range(2))
        contrast = ViewContrast(graph, (first, second), p.form(p.ssl_tau), p.ssl_weight)
        return parts._replace(objectives=[*parts.objectives, contrast])
