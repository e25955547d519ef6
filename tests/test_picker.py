"""Pickers: shapes, starts, and what they read."""

import pytest
import torch
from torch import Tensor, nn

from recmodels.tables.picker import BucketLogits, PickerNetwork, TwinPicker

BUCKETS = torch.tensor([0, 2, 1, 2])


def _network(embedding_width: int = 0, seed: int = 0) -> PickerNetwork:
    return PickerNetwork(3, 4, 5, 6, embedding_width, torch.Generator().manual_seed(seed))


def _by_hand(picker: PickerNetwork, x: Tensor) -> Tensor:
    hidden = (x @ picker.first.weight.T + picker.first.bias).clamp(min=0)
    return hidden @ picker.second.weight.T + picker.second.bias


def test_logits_by_class_start_at_the_widest_and_are_read_by_class() -> None:
    picker = BucketLogits(3, 4)
    assert picker(BUCKETS, None).tolist() == [[0.0, 0.0, 0.0, 1.0]] * 4
    with torch.no_grad():
        picker.logits.copy_(torch.arange(12.0).view(3, 4))
    assert picker(BUCKETS, None)[1].equal(picker(BUCKETS, None)[3])
    assert picker(BUCKETS, None)[2].tolist() == [4, 5, 6, 7]


def test_the_network_is_two_layers_with_relu_on_the_bucket_embedding() -> None:
    picker = _network()
    torch.testing.assert_close(picker(BUCKETS, None), _by_hand(picker, picker.buckets[BUCKETS]))
    assert not picker.reads_embeddings


def test_the_network_reads_previous_embeddings_without_a_gradient() -> None:
    picker, previous = _network(7), torch.randn(4, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    logits = picker(BUCKETS, previous)
    torch.testing.assert_close(logits, _by_hand(picker, torch.cat([picker.buckets[BUCKETS], previous], 1)))
    assert not logits[1].equal(logits[3])  # one class, two embeddings
    logits.sum().backward()
    assert previous.grad is None
    assert all(p.grad is not None for p in picker.parameters())


def test_the_start_follows_the_generator() -> None:
    assert _network(seed=1)(BUCKETS, None).equal(_network(seed=1)(BUCKETS, None))
    assert not _network(seed=1)(BUCKETS, None).equal(_network(seed=2)(BUCKETS, None))


@pytest.mark.parametrize("pivot", [0, 10])
def test_twins_are_mixed_by_the_count(pivot: int) -> None:
    counts = torch.tensor([0, 10, 30, 10**6])
    frequent, rare = _network(seed=1), _network(seed=2)
    logits = TwinPicker(frequent, rare, counts, pivot)(BUCKETS, None)
    share = (counts / (counts + max(pivot, 1)))[:, None]
    torch.testing.assert_close(logits, share * frequent(BUCKETS, None) + (1 - share) * rare(BUCKETS, None))
    torch.testing.assert_close(logits[0], rare(BUCKETS, None)[0])
    if pivot:
        torch.testing.assert_close(logits[1], (frequent(BUCKETS, None) + rare(BUCKETS, None))[1] / 2)


def test_every_picker_is_a_module_whose_parameters_all_learn() -> None:
    twin = TwinPicker(_network(seed=1), _network(seed=2), torch.tensor([1, 2, 3, 4]), 2)
    for picker in (BucketLogits(3, 4), _network(), twin):
        assert isinstance(picker, nn.Module)
        weighted = picker(BUCKETS, None) * torch.arange(16.0).view(4, 4)
        weighted.sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in picker.parameters())
