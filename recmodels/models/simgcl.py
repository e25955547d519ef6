"""SimGCL."""

from dataclasses import dataclass
from typing import ClassVar

from recmodels.graph import BipartiteGraph
from recmodels.models.base import Parts
from recmodels.models.contrast_terms import NoiseParams
from recmodels.models.lightgcn import LightGCN
from recmodels.objectives import ViewContrast
from recmodels.perturbed_views import NoisyView


class SimGCL(LightGCN):
    """LightGCN with a contrast between two views with noise on their hops.

    Source: Yu et al. 2022, "Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation",
    section 3. Weights: `ssl_weight` (the paper's lambda) multiplies a sum over the nodes of the batch, each as often
    as it occurs, against the nodes of the batch, as in RecBole-GNN; the paper's code has `ssl_candidates: distinct`.
    Deviations from the paper: the regularizer is RecBole's (un-squared unless `require_pow`). `readout_ego: false`
    leaves hop 0 out of the readout, as in the paper's code; it concerns `aggregation: lightgcn` only.
    """

    @dataclass(frozen=True)
    class Params(NoiseParams):
        """Keys of `properties/model/SimGCL.yaml`."""

        of_contrast: ClassVar[frozenset[str]] = frozenset(("temperature", "eps"))

    def build(self, p: Params, graph: BipartiteGraph) -> Parts:  # type: ignore[override]  # a model reads its own keys
        """LightGCN's parts, and the contrast of two noisy views of its encoder."""
        parts = super().build(p, graph)
        encoder = p.read_out(parts.encoder)
        views = NoisyView(encoder, p.eps), NoisyView(encoder, p.eps)
        contrast = ViewContrast(graph, views, p.form(p.temperature), p.ssl_weight)
        return parts._replace(encoder=encoder, objectives=[*parts.objectives, contrast])
