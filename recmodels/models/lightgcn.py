"""LightGCN."""

from collections.abc import Mapping
from dataclasses import dataclass

from recmodels.graph import BipartiteGraph
from recmodels.models.base import GraphRecommender, Parts
from recmodels.models.distillation_term import distillation
from recmodels.models.ranking_term import RankingParams, ranking, scorer
from recmodels.models.table_choice import TableParams, table
from recmodels.objectives import EgoNorm
from recmodels.params import param
from recmodels.views import Aggregation, PropagationView


class LightGCN(GraphRecommender):
    """Linear propagation on the user-item graph, mean of all hops, BPR or another ranking loss.

    Source: He et al. 2020, "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", eqs. 7,
    8, 15. Weights: `reg_weight` multiplies the norm of the batch's ego embeddings divided by B (reduction mean,
    no candidates, B = train_batch_size). Deviations from the paper: the regulariser is RecBole's (un-squared unless
    `require_pow`, on the batch). Reproduces RecBole 1.2.1's LightGCN.
    """

    @dataclass(frozen=True)
    class Params(TableParams, RankingParams):
        """Keys of `properties/model/LightGCN.yaml`."""

        n_layers: int = param(ge=1)
        aggregation: str = param(choices=("lightgcn", "lightgcn++"))
        agg_target_exponent: float = param(ge=-4, le=4)
        agg_source_exponent: float = param(ge=-4, le=4)
        agg_ego_share: float = param(ge=0, le=1)
        agg_edge_dropout: float = param(ge=0, lt=1)
        reg_weight: float = param(ge=0)
        require_pow: bool = param()

        def first_epochs(self) -> dict[str, int]:
            """Keys of the weights of the loss's terms, and the epoch in which each term begins to count."""
            return {"bpr_weight": 0, "distill_weight": 0, "reg_weight": 0}

        def inert_keys(self) -> set[str]:
            """Also: the exponents and the share of an aggregation that was not chosen, and the form of no penalty."""
            of_plus = {"agg_target_exponent", "agg_source_exponent", "agg_ego_share"}
            unread = set() if self.aggregation == "lightgcn++" else of_plus
            return super().inert_keys() | unread | (set() if self.reg_weight else {"require_pow"})

        def problems(self) -> list[str]:
            """Also: an epoch needs a loss, and a search a term that ranks."""
            starts = self.first_epochs()
            has_loss = any(getattr(self, key) and not first for key, first in starts.items())
            # A model of one's own may have terms that are not listed; it is checked when it is built.
            idle = [] if has_loss or not type(self).__module__.startswith("recmodels.") else [_no_loss(starts)]
            lacking = "bpr_weight: the picker learns from the ranking term, whose weight is 0; raise it"
            return super().problems() + idle + ([lacking] if self.held_out_share and not self.bpr_weight else [])

    def build(self, p: Params, graph: BipartiteGraph) -> Parts:
        """Table, propagation, the ranking loss, the teacher's term and the regulariser."""
        plus = Aggregation(p.agg_target_exponent, p.agg_source_exponent, True, p.agg_ego_share)
        chosen = plus if p.aggregation == "lightgcn++" else Aggregation()
        aggregation = chosen._replace(edge_dropout=p.agg_edge_dropout)
        ranks = [ranking(p, graph), distillation(p, graph, p.rec_user_exponent)]
        return Parts(
            table(p, graph, self.stream),
            PropagationView(aggregation.adjacency(graph), p.n_layers, aggregation=aggregation),
            [*ranks, EgoNorm(p.reg_weight, squared=p.require_pow)],
            scorer(p, graph),
        )


def _no_loss(starts: Mapping[str, int]) -> str:
    listed = ", ".join(f"{key} (from epoch {first})" if first else key for key, first in starts.items())
    return f"bpr_weight: no term of the loss counts in epoch 0; raise one of {listed}, or start one at 0"
