"""The records that travel between components."""

import torch

from recmodels.records import Batch, Distinct


def test_distinct_nodes_are_those_of_unique_with_their_counts() -> None:
    ids = torch.randint(3, 40, (100,), generator=torch.Generator().manual_seed(0))
    nodes, counts = torch.unique(ids, return_counts=True)
    found = Distinct.of(ids)
    assert torch.equal(found.nodes, nodes)
    assert torch.equal(found.counts, counts)


def test_a_batch_counts_its_users_and_positives_and_keeps_them_on_the_way_to_a_device() -> None:
    ids = torch.tensor([[4, 2, 4], [9, 9, 9], [8, 9, 7]])
    batch = Batch.of(*ids)
    assert [x.tolist() for x in (*batch.users, *batch.items)] == [[2, 4], [1, 2], [9], [3]]
    assert torch.equal(batch.triples, ids)
    moved = batch.to(torch.device("meta"))
    assert {x.device.type for x in (*moved[:3], *moved.users, *moved.items)} == {"meta"}
