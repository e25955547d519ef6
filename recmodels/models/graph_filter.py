"""Graph filters: models that are computed at once from the training interactions, without gradients."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from recmodels.filters import ItemGraph, chebyshev_filter, degree_scales, ideal_pass, plateau_coefficients
from recmodels.graph import BipartiteGraph, incoming_edges
from recmodels.models.base import GeneralRecommender, InputType
from recmodels.params import Params, param
from recmodels.spectral import normalized_interactions, truncated_svd
from recmodels.streams import stream


@dataclass(frozen=True)
class IdealPassParams(Params):
    """Keys of the ideal pass filter."""

    ideal_rank: int = param(ge=1)
    ideal_weight: float = param(ge=0)

    def limit_problems(self, n_users: int, n_items: int) -> list[str]:
        """Also: the singular vectors are not fewer than users and items."""
        found, limit = super().limit_problems(n_users, n_items), min(n_users, n_items)
        if self.ideal_rank >= limit:
            found.append(
                f"ideal_rank: got {self.ideal_rank}, expected at most {limit - 1}: fewer than users ({n_users}) and "
                f"items ({n_items}), padding included"
            )
        return found


class GraphFilter(GeneralRecommender):
    """Scores are a user's interactions, filtered on the item graph; only singular vectors are computed and kept.

    A named filter writes `Params`, `degree_power` and `filtered`. Scores are made a block of users at a time, in
    O((users + items) * block) memory.

    Args:
        config: RecBole's config, read through `Params` and for its field names, device and seed.
        dataset: RecBole's training part; `Params.limit_problems` says whether it is large enough.
    """

    input_type = InputType.PAIRWISE
    Params: ClassVar[type[IdealPassParams]]
    basis: Tensor
    before: Tensor
    after: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:  # noqa: ANN401  (RecBole's types)
        super().__init__(config, dataset)
        self.seed: int = config["seed"]
        users, items = dataset.inter_feat[self.USER_ID], dataset.inter_feat[self.ITEM_ID]
        self.graph = BipartiteGraph.from_interactions(users, items, self.n_users, self.n_items)
        self.params: Any = self.Params.from_mapping({key: config[key] for key in set(self.Params.keys())})
        self.items = ItemGraph(self.graph)
        self.register_buffer("basis", torch.zeros(self.n_items, self.params.ideal_rank))
        for name, scale in zip(("before", "after"), degree_scales(self.graph, self.degree_power), strict=True):
            self.register_buffer(name, scale, persistent=False)
        self.to(self.device)

    @property
    def degree_power(self) -> float:
        """Power of the items' degrees that divides signals before the ideal pass and multiplies them after it."""
        raise NotImplementedError(f"{type(self).__name__} must say its degree_power")

    def filtered(self, signals: Tensor) -> Tensor:
        """(n_items, B) scores of (n_items, B) signals."""
        raise NotImplementedError(f"{type(self).__name__} must write filtered(signals) -> scores")

    def fit(self) -> None:
        """Computes the top right singular vectors of the normalized interactions."""
        generator = stream(self.seed, "basis")
        self.basis.copy_(truncated_svd(normalized_interactions(self.graph), self.params.ideal_rank, generator)[2])

    @property
    def n_fitted(self) -> int:
        """How many numbers `fit` finds."""
        return self.basis.numel()

    def signals(self, users: Tensor) -> Tensor:
        """(n_items, B) training interactions of users, 1 or 0."""
        nodes, column = incoming_edges(self.graph, users.cpu())
        rows = torch.zeros(self.n_items, len(users))
        rows[nodes - self.n_users, column] = 1
        return rows.to(self.basis)

    def predict(self, interaction: Any) -> Tensor:  # noqa: ANN401  (RecBole's Interaction)
        """(B,) scores of user-item pairs; memory for the scores of all items for each of their users."""
        users, column = torch.unique(interaction[self.USER_ID], return_inverse=True)
        return self.filtered(self.signals(users))[interaction[self.ITEM_ID], column]

    def full_sort_predict(self, interaction: Any) -> Tensor:  # noqa: ANN401
        """(B * n_items,) scores of all items for each user, flat as RecBole wants them."""
        return self.filtered(self.signals(interaction[self.USER_ID])).T.flatten()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value}' for key, value in self.params.as_values().items())})"


class GFCF(GraphFilter):
    """Linear filter plus ideal pass: `r_u (R~^T R~ + ideal_weight * Di^-1/2 V V^T Di^1/2)`.

    Source: Shen et al. 2021, "How Powerful is Graph Convolution for Recommendation?", section 5 (GF-CF); V are the top
    `ideal_rank` right singular vectors of R~. Weights: `ideal_weight` is alpha, relative to the linear filter.
    Deviations from the paper: none known. Reproduces the authors' figures on Gowalla.
    """

    Params = IdealPassParams
    degree_power = 0.5

    def filtered(self, signals: Tensor) -> Tensor:
        """(n_items, B) scores of (n_items, B) signals."""
        ideal = self.after * ideal_pass(self.basis, self.before * signals)
        return self.items(signals) + self.params.ideal_weight * ideal


class ChebyCF(GraphFilter):
    """Chebyshev polynomial near a plateau, plus ideal pass, between scalings by item degrees.

    Scores are `r_u Di^-b (p(I - 2 R~^T R~) + ideal_weight * V V^T) Di^b` with b = `degree_power`.

    Source: Kim et al. 2025, "Graph Spectral Filtering with Chebyshev Interpolation for Recommendation" (ChebyCF).
    Weights: `ideal_weight` is alpha, relative to the Chebyshev filter. Deviations from the paper: the nodes' values are
    those of the authors' code, see `recmodels.filters.plateau_coefficients`, without its rounding to 3 decimals.
    Reproduces the authors' figures on Gowalla.
    """

    @dataclass(frozen=True)
    class Params(IdealPassParams):
        """Keys of `properties/model/ChebyCF.yaml`."""

        cheby_order: int = param(ge=1)
        cheby_flatness: float = param(gt=0)
        degree_power: float = param(ge=0)

    coefficients: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:  # noqa: ANN401
        super().__init__(config, dataset)
        p = self.params
        coefficients = plateau_coefficients(p.cheby_order, p.cheby_flatness).to(self.basis)
        self.register_buffer("coefficients", coefficients, persistent=False)

    @property
    def degree_power(self) -> float:
        """b, as configured."""
        return float(self.params.degree_power)

    def filtered(self, signals: Tensor) -> Tensor:
        """(n_items, B) scores of (n_items, B) signals."""
        scaled = self.before * signals
        smooth = chebyshev_filter(self.items, self.coefficients, scaled)
        return self.after * (smooth + self.params.ideal_weight * ideal_pass(self.basis, scaled))
