"""NCL_OT."""

from dataclasses import dataclass

from recmodels.graph import BipartiteGraph
from recmodels.models.base import Parts
from recmodels.models.ncl import NCL
from recmodels.models.transport_term import TransportParams, subgraph_transport
from recmodels.objectives import PrototypeContrast


class NCL_OT(NCL):  # noqa: N801  (published spelling)
    """NCL with optimal transport between sampled subgraphs.

    Source: Lin et al. 2022 (NCL); Han et al. 2022, "Generative Subgraph Contrast for Self-Supervised Graph
    Representation Learning" (GSC). Weights: as NCL; `ot_weight` multiplies a *mean* over centers (summed over the sides
    when `ot_sides: separate`) against the center's own drawn negatives, whatever the batch size. Deviations from GSC:
    subgraphs of a bipartite graph without a dense adjacency, a solver in the log domain, a bounded cost by default, and
    the last subgraph can be a negative. With `ot_sampler: cluster` NCL's E-step runs while the transport term counts,
    even where the prototype term has not started or has no weight.
    """

    @dataclass(frozen=True)
    class Params(NCL.Params, TransportParams):
        """Keys of `properties/model/NCL_OT.yaml`."""

        def first_epochs(self) -> dict[str, int]:
            """Also that of the transport term."""
            return super().first_epochs() | {"ot_weight": self.ot_starts_at}

        @property
        def reads_last_hop(self) -> bool:
            """A view of the transport term may count from it."""
            return self.ot_weight > 0 and self.counts_from_last_hop

        @property
        def reads_clusters(self) -> bool:
            """The subgraphs of `ot_sampler: cluster` are within them."""
            return self.ot_weight > 0 and self.ot_sampler == "cluster"

        def problems(self) -> list[str]:
            """Also: the views must name hops that this model has."""
            return super().problems() + self.view_problems(max(self.n_layers, 2 * self.hyper_layers))

    def build(self, p: Params, graph: BipartiteGraph) -> Parts:  # type: ignore[override]  # a model reads its own keys
        """NCL's parts and one objective more."""
        parts = super().build(p, graph)
        (prototypes,) = (o for o in parts.objectives if isinstance(o, PrototypeContrast))
        transport = subgraph_transport(p, graph, parts.encoder, p.embedding_size, lambda: prototypes.assignment)
        if p.ot_sampler == "cluster":
            prototypes.readers.append(transport)
        return parts._replace(objectives=[*parts.objectives, transport])
