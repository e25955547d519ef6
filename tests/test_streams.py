import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recmodels.streams import global_streams, stream, stream_seed

names = st.text(st.characters(codec="ascii", exclude_characters="/"), min_size=1, max_size=8)


@given(st.integers(0, 2**31), names, st.integers(0, 500), st.integers(0, 2**31), names, st.integers(0, 500))
def test_streams_are_equal_only_for_equal_keys(seed_a, name_a, epoch_a, seed_b, name_b, epoch_b):
    same = (seed_a, name_a, epoch_a) == (seed_b, name_b, epoch_b)
    assert (stream_seed(seed_a, name_a, epoch_a) == stream_seed(seed_b, name_b, epoch_b)) == same


def test_stream_restarts_at_the_same_place():
    draws = [torch.rand(5, generator=stream(7, "ot", 3)) for _ in range(2)]
    assert torch.equal(*draws)


def test_global_streams_are_seeded_inside_and_restored_outside():
    torch.manual_seed(5)
    np.random.seed(5)
    want = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    inside = []
    for _ in range(2):
        with global_streams(1, "split"):
            inside.append((torch.rand(3), np.random.rand(3)))
    got = torch.rand(3), np.random.rand(3)
    assert torch.equal(inside[0][0], inside[1][0])
    assert np.array_equal(inside[0][1], inside[1][1])
    assert torch.equal(got[0], want[0])
    assert np.array_equal(got[1], want[1])
