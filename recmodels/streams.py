"""Stateless random streams: one per (seed, component, epoch).

A stream that is seeded anew at every epoch has no state to save, so a resumed run sees what an undisturbed one sees,
and switching one component on does not reshuffle another.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def stream_seed(seed: int, name: str, epoch: int = 0) -> int:
    """A 63-bit seed that differs for every (seed, name, epoch)."""
    digest = hashlib.blake2b(f"{seed}/{name}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def stream(seed: int, name: str, epoch: int = 0) -> torch.Generator:
    """A CPU generator at the start of the stream (seed, name, epoch)."""
    return torch.Generator().manual_seed(stream_seed(seed, name, epoch))


@contextmanager
def global_streams(seed: int, name: str, epoch: int = 0) -> Iterator[None]:
    """Seeds torch's and numpy's global streams inside the block and restores them after it.

    For code we do not own that draws from the global streams: RecBole's split (torch) and negative sampler (numpy).
    """
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002  (RecBole draws from it)
    value = stream_seed(seed, name, epoch)
    torch.random.default_generator.manual_seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
