"""The records that travel between components."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """One training batch of B triples, as node ids.

    Attributes:
        user: (B,) int64, in `[1, n_users)`.
        pos: (B,) int64, node ids of interacted items, `n_users + item id`.
        neg: (B,) int64, node ids of sampled items.
    """

    user: Tensor
    pos: Tensor
    neg: Tensor


class Encoding(NamedTuple):
    """What a view makes of the ego embeddings.

    Attributes:
        ego: (N, d) ego embeddings, hop 0.
        hops: `hops[k]` is (N, d), the embeddings after k propagations; `hops[0] is ego`.
        final: (N, d), the readout that is scored.
    """

    ego: Tensor
    hops: tuple[Tensor, ...]
    final: Tensor


class Subgraphs(NamedTuple):
    """Subgraphs sampled around B centers, padded to S nodes.

    Attributes:
        nodes: (B, S) int64 node ids; column 0 is the center; the valid nodes of a row are distinct; padded places
            repeat the center.
        mask: (B, S) bool, True where a node is valid.
    """

    nodes: Tensor
    mask: Tensor
