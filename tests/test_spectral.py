import pytest
import torch

from recmodels.spectral import normalized_interactions, truncated_svd
from tests.conftest import random_graph


def _matrix():
    return normalized_interactions(random_graph(n_users=30, n_items=50))


def test_the_matrix_is_the_upper_right_block_of_the_adjacency():
    graph = random_graph(n_users=30, n_items=50)
    dense = graph.normalized_adjacency(torch.float64).matrix().to_dense()
    assert normalized_interactions(graph).toarray().tolist() == dense[:30, 30:].tolist()


def test_its_exponents_are_those_of_either_block_of_the_adjacency():
    graph = random_graph(n_users=30, n_items=50)
    dense = graph.normalized_adjacency(torch.float64, target=0.6, source=-0.1).matrix().to_dense()
    assert normalized_interactions(graph, 0.6, -0.1).toarray().tolist() == dense[:30, 30:].tolist()
    assert normalized_interactions(graph, -0.1, 0.6).T.toarray().tolist() == dense[30:, :30].tolist()


@pytest.mark.parametrize("rank", [1, 7, 20])
def test_it_is_the_top_of_the_dense_decomposition(rank):
    u, s, v = truncated_svd(_matrix(), rank, torch.Generator().manual_seed(0))
    dense = torch.from_numpy(_matrix().toarray())
    assert (u.shape, s.shape, v.shape) == ((30, rank), (rank,), (50, rank))
    torch.testing.assert_close(s, torch.linalg.svdvals(dense)[:rank], atol=1e-12, rtol=0)
    torch.testing.assert_close(dense @ v, u * s, atol=1e-12, rtol=0)
    torch.testing.assert_close(u.T @ u, torch.eye(rank, dtype=torch.float64), atol=1e-12, rtol=0)


def test_signs_do_not_depend_on_the_start_vector():
    first, second = (truncated_svd(_matrix(), 5, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)
    assert (first[0].gather(0, first[0].abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize("rank", [0, 30])
def test_a_rank_out_of_range_is_refused(rank):
    with pytest.raises(ValueError, match=rf"rank must lie in \[1, 30\), got {rank}"):
        truncated_svd(_matrix(), rank, torch.Generator())
