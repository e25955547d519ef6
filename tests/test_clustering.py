import pytest
import torch
from torch.testing import assert_close

from recmodels.clustering import kmeans, n_clusters_for


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
