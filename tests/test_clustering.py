import faiss
import pytest
import torch
from torch.testing import assert_close

from recmodels.clustering import MAX_NORM, _beside, kmeans, n_clusters_for
from recmodels.errors import NonFiniteError


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_separated_groups_are_found():
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = centers.repeat_interleave(20, 0) + 0.1 * torch.randn(60, 2, generator=_generator())
    found = kmeans(points, 3, _generator(1))
    groups = found.assignment.reshape(3, 20)
    assert (groups == groups[:, :1]).all()
    assert groups[:, 0].unique().numel() == 3
    assert_close(found.centroids[groups[0, 0]], points[:20].mean(0), atol=1e-4, rtol=0)


def test_every_point_belongs_to_its_nearest_centroid():
    points = torch.randn(200, 8, generator=_generator())
    found = kmeans(points, 12, _generator())
    assert torch.equal(found.assignment, torch.cdist(points, found.centroids).argmin(1))


def test_clusters_are_clipped_to_the_points():
    found = kmeans(torch.randn(5, 3, generator=_generator()), 1000, _generator())
    assert found.centroids.shape == (5, 3)
    assert n_clusters_for(5, 1000) == 5
    assert n_clusters_for(1, 3) == 1


def test_same_seed_same_clusters_and_global_streams_do_not_matter():
    points = torch.randn(3000, 16, generator=_generator())
    first = kmeans(points, 50, _generator(3))
    torch.manual_seed(99)
    again = kmeans(points, 50, _generator(3))
    other = kmeans(points, 50, _generator(4))
    assert torch.equal(first.centroids, again.centroids)
    assert torch.equal(first.assignment, again.assignment)
    assert not torch.equal(first.centroids, other.centroids)


def test_no_points_is_an_error():
    with pytest.raises(ValueError, match="at least one point"):
        kmeans(torch.zeros(0, 3), 2, _generator())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1.01 * MAX_NORM, 1e30])
def test_points_that_would_end_the_process_are_refused_with_their_number(value):
    points = torch.randn(20, 3, generator=_generator())
    points[[4, 7], 1] = value
    with pytest.raises(NonFiniteError, match=r"k-means \(E-step\): 2 of 20 points are NaN, infinite or longer"):
        kmeans(points, 3, _generator())


def test_the_length_counts_and_not_the_entries():
    with pytest.raises(NonFiniteError, match="1 of 1 points"):
        kmeans(torch.full((1, 4), 0.6e18), 1, _generator())  # length 1.2e18


def test_points_of_the_largest_length_are_clustered_like_short_ones():
    points = torch.nn.functional.normalize(torch.randn(300, 8, generator=_generator()), dim=-1)
    scale = 2.0**59  # exact in float32, below MAX_NORM
    short, long = kmeans(points, 10, _generator()), kmeans(scale * points, 10, _generator())
    assert torch.equal(short.assignment, long.assignment)
    assert_close(long.centroids / scale, short.centroids)


@pytest.mark.parametrize(
    ("device", "n_gpus", "want"), [("cpu", 2, None), ("cuda:1", 2, [1]), ("cuda:0", 2, [0]), ("cuda:1", 1, None)]
)
def test_a_gpu_clusters_only_its_own_points(monkeypatch, device, n_gpus, want):
    used = []
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: n_gpus)
    monkeypatch.setattr(faiss, "index_cpu_to_gpus_list", lambda index, gpus: used.append(gpus) or "on gpu")
    index = faiss.IndexFlatL2(3)
    moved = _beside(torch.device(device), index)
    assert used == ([] if want is None else [want])
    assert moved == ("on gpu" if want else index)
