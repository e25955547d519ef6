"""NCL."""

from dataclasses import dataclass

from recmodels.graph import BipartiteGraph
from recmodels.models.base import Parts
from recmodels.models.lightgcn import LightGCN
from recmodels.objectives import PrototypeContrast, StructureContrast
from recmodels.params import LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE, param
from recmodels.views import PropagationView


class NCL(LightGCN):
    """LightGCN with contrasts against structural neighbors and prototypes.

    Source: Lin et al. 2022, "Improving Graph Collaborative Filtering with Neighborhood-enriched Contrastive Learning",
    eqs. 5 to 12. Weights: `ssl_reg` and `proto_reg` multiply *sums* over the batch (B = train_batch_size) against all
    nodes of the side and all centroids of the side. Deviations from the paper: none in the losses; k-means leaves the
    padding rows out and runs only while the prototype term is active. Reproduces RecBole 1.2.1's NCL.
    """

    @dataclass(frozen=True)
    class Params(LightGCN.Params):
        """Keys of `properties/model/NCL.yaml`."""

        ssl_temp: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
        ssl_reg: float = param(ge=0)
        hyper_layers: int = param(ge=1)
        alpha: float = param(ge=0)
        proto_reg: float = param(ge=0)
        num_clusters: int = param(ge=1)
        m_step: int = param(ge=1)
        warm_up_step: int = param(ge=0)

        def first_epochs(self) -> dict[str, int]:
            """Also those of the two contrasts."""
            return super().first_epochs() | {"ssl_reg": 0, "proto_reg": self.warm_up_step}

        def inert_keys(self) -> set[str]:
            """Also: what only a contrast without a weight would read."""
            of_structure = set() if self.ssl_reg else {"alpha"}
            if not self.ssl_reg and not self.reads_last_hop:
                of_structure |= {"hyper_layers"}
            of_prototypes = set() if self.proto_reg else {"warm_up_step"}
            if not self.proto_reg and not self.reads_clusters:
                of_prototypes |= {"num_clusters", "m_step"}
            of_both = set() if self.ssl_reg or self.proto_reg else {"ssl_temp"}
            return super().inert_keys() | of_structure | of_prototypes | of_both

        @property
        def reads_last_hop(self) -> bool:
            """Whether something beside the structure term reads how many hops there are."""
            return False

        @property
        def reads_clusters(self) -> bool:
            """Whether something beside the prototype term reads the clusters of the nodes."""
            return False

    def build(self, p: Params, graph: BipartiteGraph) -> Parts:  # type: ignore[override]  # a model reads its own keys
        """LightGCN's parts, enough hops for the structure contrast, and the two contrasts."""
        parts = super().build(p, graph)
        hop = 2 * p.hyper_layers
        plain = parts.encoder
        encoder = PropagationView(plain.adjacency, p.n_layers, max(0, hop - p.n_layers), plain.aggregation)
        structure = StructureContrast(graph, hop, p.ssl_temp, p.alpha, p.ssl_reg)
        prototypes = PrototypeContrast(
            graph, p.embedding_size, p.num_clusters, p.m_step, p.ssl_temp, weight=p.proto_reg, starts_at=p.warm_up_step
        )
        return parts._replace(encoder=encoder, objectives=[*parts.objectives, structure, prototypes])
