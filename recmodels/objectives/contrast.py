"""NCL's two contrasts: with structural neighbors and with prototypes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from recmodels.clustering import kmeans, n_clusters_for
from recmodels.graph import BipartiteGraph
from recmodels.kernels import gather, weighted_infonce_sum
from recmodels.objectives.base import Objective
from recmodels.records import Batch, Distinct, Encoding


class StructureContrast(Objective):
    """A node's embedding after some hops against its own ego embedding, among all nodes of its side.

    Reduction: sum over the batch. Candidates: all rows of the side, the padding row included, as published. A node
    that occurs c times in the batch is computed once and counts c times.

    Args:
        graph: gives the sides.
        hop: an even hop, whose embeddings are of the node's own side.
        temperature: > 0, dimensionless.
        item_weight: alpha, weight of the item side.
        weight: multiplier.

    Source: Lin et al. 2022 (NCL), eqs. 5 to 7.
    """

    name = "ssl"

    def __init__(self, graph: BipartiteGraph, hop: int, temperature: float, item_weight: float, weight: float) -> None:
        super().__init__(weight)
        self.hop, self.temperature, self.item_weight = hop, temperature, item_weight
        self.n_users, self.n_nodes = graph.n_users, graph.n_nodes

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Sum over the users of the batch plus alpha times the sum over its positive items."""
        users = self._side(encoding, batch.users, 0, self.n_users)
        items = self._side(encoding, batch.items, self.n_users, self.n_nodes)
        return users + self.item_weight * items

    def _side(self, encoding: Encoding, side: Distinct, first: int, end: int) -> Tensor:
        nodes, counts = side
        candidates = F.normalize(encoding.ego[first:end], dim=-1)
        anchors = F.normalize(gather(encoding.hops[self.hop], nodes), dim=-1)
        positives = gather(candidates, nodes - first)
        return weighted_infonce_sum(anchors, positives, candidates, counts.to(anchors.dtype), self.temperature)


class PrototypeContrast(Objective):
    """A node's ego embedding against the centroid of its k-means cluster, among all centroids of its side.

    The E-step (k-means of the ego embeddings, padding rows left out) runs at every epoch that `m_step` divides, counted
    from 0 as in RecBole, and at the first active epoch, of this term or of a reader of the assignment. Reduction: sum
    over the batch. Candidates: the K centroids of the side. Centroids are scaled to unit length and constant between
    E-steps.

    Args:
        graph: gives the sides.
        width: d of the ego embeddings.
        n_clusters: K, clipped to the number of nodes of each side.
        m_step: epochs between E-steps, >= 1.
        temperature: > 0, dimensionless.
        **schedule: `weight` and `starts_at`.

    Source: Lin et al. 2022 (NCL), eqs. 8 to 11.
    """

    name = "proto"
    users: Tensor
    items: Tensor
    user_centroids: Tensor
    item_centroids: Tensor
    assignment: Tensor

    def __init__(
        self, graph: BipartiteGraph, width: int, n_clusters: int, m_step: int, temperature: float, **schedule: float
    ) -> None:
        super().__init__(schedule["weight"], int(schedule["starts_at"]))
        self.m_step, self.temperature, self.n_clusters = m_step, temperature, n_clusters
        for side, nodes in (("user", graph.users), ("item", graph.items)):
            self.register_buffer(f"{side}s", nodes, persistent=False)  # on the device of the embeddings they pick
            self.register_buffer(f"{side}_centroids", torch.zeros(n_clusters_for(nodes.numel(), n_clusters), width))
        self.register_buffer("assignment", torch.zeros(graph.n_nodes, dtype=torch.int64))

    def on_epoch_start(self, epoch: int, ego: Tensor, generator: torch.Generator) -> None:
        """The E-step, when it is due."""
        super().on_epoch_start(epoch, ego, generator)
        if epoch % self.m_step and epoch not in {o.starts_at for o in self.needed_by()}:
            return
        for nodes, centroids in ((self.users, self.user_centroids), (self.items, self.item_centroids)):
            clusters = kmeans(ego[nodes], self.n_clusters, generator)
            centroids.copy_(F.normalize(clusters.centroids, dim=-1))
            self.assignment[nodes] = clusters.assignment.to(self.assignment.device)

    def forward(self, encoding: Encoding, batch: Batch) -> Tensor:
        """Sum over the users and the positive items of the batch."""
        users = self._side(encoding, batch.users, self.user_centroids)
        return users + self._side(encoding, batch.items, self.item_centroids)

    def _side(self, encoding: Encoding, side: Distinct, centroids: Tensor) -> Tensor:
        nodes, counts = side
        anchors = F.normalize(gather(encoding.ego, nodes), dim=-1)
        positives = centroids[self.assignment[nodes]]
        return weighted_infonce_sum(anchors, positives, centroids, counts.to(anchors.dtype), self.temperature)
