"""LightGCN."""

from dataclasses import dataclass

from recmodels.graph import BipartiteGraph
from recmodels.models.base import GraphRecommender, Parts
from recmodels.objectives import EgoNorm, PairwiseRanking
from recmodels.params import Params as BaseParams
from recmodels.params import param
from recmodels.tables import INITIALIZATIONS, PlainTable
from recmodels.views import PropagationView


class LightGCN(GraphRecommender):
    """Linear propagation on the user-item graph, mean of all hops, BPR.

    Source: He et al. 2020, "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", eqs. 7,
    8, 15. Weights: `reg_weight` multiplies the norm of the batch's ego embeddings divided by B (reduction mean,
    no candidates, B = train_batch_size). Deviations from the paper: the regulariser is RecBole's (un-squared unless
    `require_pow`, on the batch). Reproduces RecBole 1.2.1's LightGCN.
    """

    @dataclass(frozen=True)
    class Params(BaseParams):
        """Keys of `properties/model/LightGCN.yaml`."""

        embedding_size: int = param(ge=1)
        n_layers: int = param(ge=1)
        init: str = param(choices=tuple(INITIALIZATIONS))
        bpr_weight: float = param(ge=0)
        reg_weight: float = param(ge=0)
        require_pow: bool = param()

    def build(self, p: Params, graph: BipartiteGraph) -> Parts:
        """Plain table, propagation, BPR and the regulariser."""
        return Parts(
            PlainTable(graph, p.embedding_size, p.init, self.stream("table")),
            PropagationView(graph.normalized_adjacency(), p.n_layers),
            [PairwiseRanking(p.bpr_weight), EgoNorm(p.reg_weight, squared=p.require_pow)],
        )
