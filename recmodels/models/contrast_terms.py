"""The keys that the contrastive models share."""

from dataclasses import dataclass
from typing import ClassVar

from recmodels.models.lightgcn import LightGCN
from recmodels.objectives import CANDIDATES, REDUCTIONS, ContrastForm
from recmodels.params import LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE, param
from recmodels.views import PropagationView


@dataclass(frozen=True)
class ContrastParams(LightGCN.Params):
    """LightGCN's keys and those of one contrast between embeddings; `of_contrast` names a model's own of these."""

    of_contrast: ClassVar[frozenset[str]] = frozenset()

    ssl_weight: float = param(ge=0)
    ssl_reduction: str = param(choices=REDUCTIONS)
    ssl_candidates: str = param(choices=CANDIDATES)

    def first_epochs(self) -> dict[str, int]:
        """Also that of the contrast."""
        return super().first_epochs() | {"ssl_weight": 0}

    def inert_keys(self) -> set[str]:
        """Also: what only a contrast without a weight would read."""
        own = {"ssl_reduction", "ssl_candidates"} | self.of_contrast
        return super().inert_keys() | (set() if self.ssl_weight else own)

    def form(self, temperature: float) -> ContrastForm:
        """Reduction and candidates as given, at a temperature."""
        return ContrastForm(temperature, self.ssl_reduction, self.ssl_candidates)


@dataclass(frozen=True)
class NoiseParams(ContrastParams):
    """Also the keys of noise on the hops."""

    temperature: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    eps: float = param(ge=0)
    readout_ego: bool = param()

    def inert_keys(self) -> set[str]:
        """Also: hop 0 in the readout of LightGCN++, which has a share of its own for it."""
        return super().inert_keys() | (set() if self.aggregation == "lightgcn" else {"readout_ego"})

    def read_out(self, encoder: PropagationView) -> PropagationView:
        """The encoder with or without hop 0 in its readout; LightGCN++ has a share of its own for it."""
        if self.readout_ego or self.aggregation != "lightgcn":
            return encoder
        aggregation = encoder.aggregation._replace(ego_share=0.0)
        return PropagationView(encoder.adjacency, encoder.n_hops, encoder.n_extra_hops, aggregation)
