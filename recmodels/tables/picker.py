"""Width pickers: from the frequency class of a node to logits of the width candidates."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recmodels.kernels import gather

# Spread of the bucket embeddings at the start, so that classes differ from the first step on.
_BUCKET_DEVIATION = 0.1


class BucketLogits(nn.Module):
    """One trained logit for each frequency class and candidate; the widest starts ahead by 1.

    Args:
        n_buckets: frequency classes of the side.
        n_candidates: K.

    Source: Guan et al. 2025 (AdaE), flag `no_picker`.
    """

    reads_embeddings = False

    def __init__(self, n_buckets: int, n_candidates: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_buckets, n_candidates))
        nn.init.ones_(self.logits[:, -1].detach())

    def forward(self, buckets: Tensor, previous: Tensor | None) -> Tensor:
        """(n,) frequency classes to (n, K) logits."""
        return gather(self.logits, buckets)


class PickerNetwork(nn.Module):
    """Bucket embedding, and the node's previous embedding where asked for, through two layers to logits.

    Args:
        n_buckets: frequency classes of the side.
        n_candidates: K.
        bucket_width: of the bucket embedding.
        hidden: units of the first layer.
        embedding_width: D of the previous embedding, which gets no gradient; 0 leaves it out.
        generator: of the start.

    Source: Guan et al. 2025 (AdaE), the picker; ReLU and raw logits, since tanh and a second softmax starve gradients.
    """

    def __init__(
        self,
        n_buckets: int,
        n_candidates: int,
        bucket_width: int,
        hidden: int,
        embedding_width: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.reads_embeddings = embedding_width > 0
        self.buckets = nn.Parameter(torch.empty(n_buckets, bucket_width))
        self.first = nn.Linear(bucket_width + embedding_width, hidden)
        self.second = nn.Linear(hidden, n_candidates)
        nn.init.normal_(self.buckets, std=_BUCKET_DEVIATION, generator=generator)
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, buckets: Tensor, previous: Tensor | None) -> Tensor:
        """(n,) frequency classes, and (n, D) previous embeddings where it reads them, to (n, K) logits."""
        if not self.reads_embeddings or previous is None:
            return gather(self._logits(self.buckets), buckets)  # a class is looked at once, however many nodes it has
        return self._logits(torch.cat([gather(self.buckets, buckets), previous.detach()], -1))

    def _logits(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x)))


class TwinPicker(nn.Module):
    """Two pickers, one for frequent and one for rare nodes, whose logits are mixed by the node's count.

    The share of the frequent one is `count / (count + pivot)`: one half at the pivot, and continuous, unlike AdaE's.
    Each has class embeddings of its own, where AdaE's share theirs.

    Args:
        frequent: picker of frequent nodes.
        rare: picker of rare nodes.
        counts: (n,) interactions of each node.
        pivot: the count at which both have the same say; 0 is taken as 1.

    Source: Yan et al. 2021 (AMTL), twin networks; Guan et al. 2025 (AdaE).
    """

    share: Tensor

    def __init__(self, frequent: PickerNetwork, rare: PickerNetwork, counts: Tensor, pivot: int) -> None:
        super().__init__()
        self.frequent, self.rare = frequent, rare
        self.reads_embeddings = frequent.reads_embeddings
        counts = counts.float()
        self.register_buffer("share", (counts / (counts + max(pivot, 1)))[:, None], persistent=False)

    def forward(self, buckets: Tensor, previous: Tensor | None) -> Tensor:
        """As of a single picker."""
        return self.share * self.frequent(buckets, previous) + (1 - self.share) * self.rare(buckets, previous)


Picker = BucketLogits | PickerNetwork | TwinPicker
