"""The ranking component: its keys, and how they become a score and an objective."""

from collections.abc import Callable
from dataclasses import dataclass

from recmodels.graph import BipartiteGraph
from recmodels.models.distillation_term import DistillationParams
from recmodels.objectives import (
    AlignmentUniformity,
    BilateralRanking,
    Objective,
    PairwiseRanking,
    SampledSoftmaxRanking,
    SoftmaxRanking,
    TopKSoftmaxRanking,
)
from recmodels.params import LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE, param
from recmodels.scoring import SIMILARITIES, Scorer, Temperature

_OF_TEMPERATURE = {"rec_temperature", "rec_temperature_end", "rec_temperature_epochs"}
_KEYS_OF = {"bsl": ("bsl_ratio",), "slk": ("slk_k", "slk_ratio"), "directau": ("directau_gamma",)}

_NOT_TRAINED = "bpr_weight: with 0 nothing trains rec_item_bias or rec_temperature_learned; choose false for both"
_NOT_COMPARED = (
    "rec_loss: directau compares embeddings and not scores, so no gradient reaches rec_item_bias or "
    "rec_temperature_learned; choose false for both, or another loss"
)


@dataclass(frozen=True)
class RankingParams(DistillationParams):
    """Keys of the scores, of the ranking loss, and of a teacher's scores beside it."""

    rec_loss: str = param(choices=("bpr", "softmax", "sampled_softmax", "bsl", "slk", "directau"))
    bpr_weight: float = param(ge=0)
    rec_similarity: str = param(choices=tuple(SIMILARITIES))
    rec_temperature: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    rec_temperature_end: float | None = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE, optional=True)
    rec_temperature_epochs: int = param(ge=0)
    rec_temperature_learned: bool = param()
    rec_item_bias: bool = param()
    rec_user_exponent: float = param(ge=0, le=4)  # n^-4 is within float32 for any n
    bsl_ratio: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    slk_k: int = param(ge=1)
    slk_ratio: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    directau_gamma: float = param(ge=0)

    def inert_keys(self) -> set[str]:
        """Also: the keys of losses that were not chosen, and what only a loss of the scores would read."""
        chosen = self.rec_loss if self.bpr_weight else None
        unread = {key for loss, keys in _KEYS_OF.items() if loss != chosen for key in keys}
        if chosen is None:
            unread |= {"rec_loss"} if self.distill_weight else {"rec_loss", "rec_user_exponent"}
        if not self.learns_scores:
            unread |= _OF_TEMPERATURE
        elif not self.rec_temperature_epochs:
            unread |= {"rec_temperature_end"}
        return super().inert_keys() | unread

    @property
    def learns_scores(self) -> bool:
        """Whether a term reads the scores; otherwise they only rank items, which no temperature changes."""
        return self.distill_weight > 0 or (self.bpr_weight > 0 and self.rec_loss != "directau")

    def limit_problems(self, n_users: int, n_items: int) -> list[str]:
        """Also: the best k of SL@K are more than there are items."""
        found = super().limit_problems(n_users, n_items)
        if self.bpr_weight and self.rec_loss == "slk" and self.slk_k >= n_items:
            found.append(
                f"slk_k: got {self.slk_k}; expected at most {n_items - 1}, the number of items that are left after "
                "filtering"
            )
        return found

    def problems(self) -> list[str]:
        """Checks that need more than one value."""
        found = super().problems()
        if self.rec_temperature_learned and self.rec_temperature_epochs:
            found.append(
                f"rec_temperature_epochs: a learned temperature has no schedule, got {self.rec_temperature_epochs}; "
                "choose 0, or rec_temperature_learned: false"
            )
        if self.learns_scores and self.rec_temperature_epochs and self.rec_temperature_end is None:
            found.append(
                f"rec_temperature_end: no value, expected a number >= {SMALLEST_TEMPERATURE:g}, because "
                f"rec_temperature_epochs is {self.rec_temperature_epochs}; give it, or rec_temperature_epochs: 0"
            )
        if not self.learns_scores and (self.rec_item_bias or self.rec_temperature_learned):
            found.append(_NOT_COMPARED if self.bpr_weight else _NOT_TRAINED)
        if self.bpr_weight and self.rec_loss == "directau" and self.rec_user_exponent:
            found.append(
                f"rec_user_exponent: directau counts the interactions alike, got {self.rec_user_exponent:g}; choose 0"
            )
        return found


LOSSES: dict[str, Callable[[RankingParams, BipartiteGraph], Objective]] = {
    "bpr": lambda p, graph: PairwiseRanking(p.bpr_weight, graph, p.rec_user_exponent),
    "softmax": lambda p, graph: SoftmaxRanking(p.bpr_weight, graph, p.rec_user_exponent),
    "sampled_softmax": lambda p, graph: SampledSoftmaxRanking(p.bpr_weight, graph, p.rec_user_exponent),
    "bsl": lambda p, graph: BilateralRanking(p.bpr_weight, graph, p.bsl_ratio, p.rec_user_exponent),
    "slk": lambda p, graph: TopKSoftmaxRanking(p.bpr_weight, graph, p.slk_k, p.slk_ratio, p.rec_user_exponent),
    "directau": lambda p, graph: AlignmentUniformity(p.bpr_weight, p.directau_gamma),
}


def ranking(p: RankingParams, graph: BipartiteGraph) -> Objective:
    """The ranking objective that the parameters describe."""
    return LOSSES[p.rec_loss](p, graph)


def scorer(p: RankingParams, graph: BipartiteGraph) -> Scorer:
    """The scores that the parameters describe, without a temperature where no term reads them."""
    if not p.learns_scores:
        return Scorer(graph, p.rec_similarity, Temperature(1.0, 1.0, 0), p.rec_item_bias)
    end = p.rec_temperature if p.rec_temperature_end is None else p.rec_temperature_end
    temperature = Temperature(p.rec_temperature, end, p.rec_temperature_epochs, p.rec_temperature_learned)
    return Scorer(graph, p.rec_similarity, temperature, p.rec_item_bias)
