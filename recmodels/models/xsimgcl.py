"""XSimGCL."""

from dataclasses import dataclass
from typing import ClassVar

from recmodels.graph import BipartiteGraph
from recmodels.models.base import Parts
from recmodels.models.contrast_terms import NoiseParams
from recmodels.models.lightgcn import LightGCN
from recmodels.objectives import HopContrast
from recmodels.params import param
from recmodels.perturbed_views import NoisyView


class XSimGCL(LightGCN):
    """LightGCN whose encoder has noise in training, with a contrast between its readout and one of its hops.

    One propagation serves all terms: the ranking loss sees the noise too, and `ssl_weight: 0` leaves it there.

    Source: Yu et al. 2023, "XSimGCL: Towards Extremely Simple Graph Contrastive Learning for Recommendation", section
    3. Weights: `ssl_weight` (the paper's lambda) multiplies a *mean* over the distinct nodes of the batch, against
    those. Deviations from the paper: the regularizer is of the ego embeddings, as RecBole's (squared by
    `require_pow`). `readout_ego` as in SimGCL. Same terms as RecBole-GNN's XSimGCL.
    """

    @dataclass(frozen=True)
    class Params(NoiseParams):
        """Keys of `properties/model/XSimGCL.yaml`."""

        of_contrast: ClassVar[frozenset[str]] = frozenset(("temperature", "layer_cl"))  # eps is the encoder's

        layer_cl: int = param(ge=0)

        def problems(self) -> list[str]:
            """Also: the hop that is contrasted must exist."""
            found = super().problems()
            if self.layer_cl > self.n_layers:
                found.append(f"layer_cl: must be a hop, 0 to n_layers ({self.n_layers}), got {self.layer_cl}")
            return found

    def build(self, p: Params, graph: BipartiteGraph) -> Parts:  # type: ignore[override]  # a model reads its own keys
        """LightGCN's parts with a noisy encoder, and the contrast within its encoding."""
        parts = super().build(p, graph)
        contrast = HopContrast(graph, p.layer_cl, p.form(p.temperature), p.ssl_weight)
        encoder = NoisyView(p.read_out(parts.encoder), p.eps)
        return parts._replace(encoder=encoder, objectives=[*parts.objectives, contrast])
