"""k-means through faiss: CPU by default, GPU when a GPU build is installed and the embeddings live there."""

from typing import NamedTuple

import faiss
import torch
from torch import Tensor

from recmodels.streams import stream_seed

_N_ITERS = 25  # faiss's own default, which the published NCL code uses


class Clusters(NamedTuple):
    """The outcome of k-means.

    Attributes:
        centroids: (K, d) float32.
        assignment: (n,) int64, nearest centroid of each point.
    """

    centroids: Tensor
    assignment: Tensor


def n_clusters_for(n_points: int, n_clusters: int) -> int:
    """Clusters that n points can have: never more clusters than points."""
    return max(1, min(n_clusters, n_points))


def kmeans(points: Tensor, n_clusters: int, generator: torch.Generator) -> Clusters:
    """Lloyd's k-means with faiss.

    Args:
        points: (n, d), finite; detached and computed in float32.
        n_clusters: K >= 1; clipped to n.
        generator: seeds faiss, which has random streams of its own.

    Returns:
        Clusters with K = min(n_clusters, n), on the device of `points`.

    Raises:
        ValueError: no points.

    Source: Lin et al. 2022 (NCL), section 3.3; Johnson et al. 2019 (faiss).
    """
    if points.shape[0] == 0:
        raise ValueError(f"k-means needs at least one point, got shape {tuple(points.shape)}")
    x = points.detach().float().cpu().contiguous().numpy()
    seed = stream_seed(generator.initial_seed(), "faiss") % 2**31
    on_gpu = points.is_cuda and getattr(faiss, "get_num_gpus", lambda: 0)() > 0
    model = faiss.Kmeans(
        d=x.shape[1], k=n_clusters_for(x.shape[0], n_clusters), niter=_N_ITERS, seed=seed, gpu=on_gpu,
        min_points_per_centroid=1,
    )  # fmt: skip
    model.train(x)
    _, nearest = model.index.search(x, 1)
    centroids, assignment = torch.from_numpy(model.centroids), torch.from_numpy(nearest[:, 0])
    return Clusters(centroids.to(points.device), assignment.to(points.device))
