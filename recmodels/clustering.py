"""k-means through faiss: CPU by default, GPU when a GPU build is installed and the embeddings live there."""

from typing import NamedTuple

import faiss
import torch
from torch import Tensor

from recmodels.errors import NonFiniteError
from recmodels.streams import stream_seed

# Longest embedding that counts as finite: inner products and squared distances of such rows stay far below float32's
# largest number, beyond which faiss ends the whole process.
MAX_NORM = 1e18
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
        points: (n, d), finite and no row longer than `MAX_NORM`; detached and computed in float32.
        n_clusters: K >= 1; clipped to n.
        generator: seeds faiss, which has random streams of its own.

    Returns:
        Clusters with K = min(n_clusters, n), on the device of `points`.

    Raises:
        ValueError: no points.
        NonFiniteError: points that are NaN, infinite or too long.

    Source: Lin et al. 2022 (NCL), section 3.3; Johnson et al. 2019 (faiss).
    """
    if points.shape[0] == 0:
        raise ValueError(f"k-means needs at least one point, got shape {tuple(points.shape)}")
    _check_norms(points)
    x = points.detach().float().cpu().contiguous().numpy()
    seed = stream_seed(generator.initial_seed(), "faiss") % 2**31
    model = faiss.Kmeans(
        d=x.shape[1], k=n_clusters_for(x.shape[0], n_clusters), niter=_N_ITERS, seed=seed,
        min_points_per_centroid=1,
    )  # fmt: skip
    model.index = _beside(points.device, model.index)
    model.train(x)
    _, nearest = model.index.search(x, 1)
    centroids, assignment = torch.from_numpy(model.centroids), torch.from_numpy(nearest[:, 0])
    return Clusters(centroids.to(points.device), assignment.to(points.device))


def _check_norms(points: Tensor) -> None:
    norms = torch.linalg.vector_norm(points.detach(), dim=-1, dtype=torch.float64)
    n_bad = int((~(norms <= MAX_NORM)).sum())  # a NaN is not below anything
    if n_bad:
        raise NonFiniteError(
            f"k-means (E-step): {n_bad} of {len(norms)} points are NaN, infinite or longer than {MAX_NORM:g}; "
            "lower the learning rate, or go back to an earlier checkpoint"
        )


def _beside(device: torch.device, index: faiss.Index) -> faiss.Index:
    """The index on the points' own GPU, if they are on one and faiss can use it."""
    if device.type != "cuda" or getattr(faiss, "get_num_gpus", lambda: 0)() <= (device.index or 0):
        return index
    return faiss.index_cpu_to_gpus_list(index, gpus=[device.index or 0])
