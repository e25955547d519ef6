"""The records that travel between components."""

from typing import NamedTuple

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device, without waiting: a GPU copies by itself only from memory that cannot be moved."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


class Distinct(NamedTuple):
    """The distinct nodes of a list.

    Attributes:
        nodes: (M,) int64 node ids, ascending.
        counts: (M,) int64, how often each occurs, >= 1.
    """

    nodes: Tensor
    counts: Tensor

    @classmethod
    def of(cls, ids: Tensor) -> "Distinct":
        """The distinct values of (B,) int64 node ids, by counting, in O(B + largest id)."""
        counts = torch.bincount(ids)
        nodes = counts.nonzero().flatten()
        return cls(nodes, counts[nodes])


class Batch(NamedTuple):
    """One training batch of B triples, as node ids.

    Attributes:
        user: (B,) int64, in `[1, n_users)`.
        pos: (B,) int64, node ids of interacted items, `n_users + item id`.
        neg: (B,) int64, node ids of sampled items.
        users: the distinct users, and how often each occurs.
        items: the same of the positive items.
    """

    user: Tensor
    pos: Tensor
    neg: Tensor
    users: Distinct
    items: Distinct

    @classmethod
    def of(cls, user: Tensor, pos: Tensor, neg: Tensor) -> "Batch":
        """The batch of B triples. Counting on a GPU would wait for it: call this on the CPU, then `to`."""
        return cls(user, pos, neg, Distinct.of(user), Distinct.of(pos))

    @property
    def triples(self) -> Tensor:
        """(3, B) users, positives and negatives."""
        return torch.stack([self.user, self.pos, self.neg])

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        user, pos, neg = (sent(ids, device) for ids in (self.user, self.pos, self.neg))
        users, items = (Distinct(*(sent(x, device) for x in side)) for side in (self.users, self.items))
        return Batch(user, pos, neg, users, items)


class Encoding(NamedTuple):
    """What a view makes of the ego embeddings.

    Attributes:
        ego: (N, d) ego embeddings, hop 0.
        hops: `hops[k]` is (N, d), the embeddings after k propagations; `hops[0] is ego`.
        final: (N, d), the readout of the hops.
        scored: (N, d') rows whose inner products are the scores; `final` itself until a `Scorer` made others.
    """

    ego: Tensor
    hops: tuple[Tensor, ...]
    final: Tensor
    scored: Tensor


class Subgraphs(NamedTuple):
    """Subgraphs sampled around B centers, padded to S nodes.

    Attributes:
        nodes: (B, S) int64 node ids; column 0 is the center; the valid nodes of a row are distinct; padded places
            repeat the center.
        mask: (B, S) bool, True where a node is valid.
    """

    nodes: Tensor
    mask: Tensor
