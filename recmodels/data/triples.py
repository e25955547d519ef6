"""The loader of training triples: RecBole's, without its Python loops over the rows of a batch."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.sampler.sampler import AbstractSampler
from torch import Tensor


class TripleLoader(TrainDataLoader):
    """RecBole's loader of training batches, each batch taken by one index tensor instead of one index after another."""

    @property
    def negatives(self) -> Any:  # noqa: ANN401  (RecBole's samplers have no common class)
        """What draws the negatives."""
        return self._sampler

    def __iter__(self) -> Iterator[Interaction]:
        """Batches of one epoch; the order comes from `generator` where the loader shuffles."""
        n = self.sample_size
        order = torch.randperm(n, generator=self.generator) if self.shuffle else torch.arange(n)
        return (self.collate_fn(rows) for rows in order.split(self.step))

    def collate_fn(self, index: Tensor) -> Interaction:
        """The interactions of the rows (B,) with their sampled negatives."""
        columns = self._dataset.inter_feat.interaction  # an Interaction would turn the index into a list
        rows = self._dataset.join(Interaction({name: column[index] for name, column in columns.items()}))
        return self._neg_sampling(self.transform(self._dataset, rows))


class UserTripleLoader(TripleLoader):
    """Batches of users, each with all their training interactions: `train_batch_size` counts users.

    A ranking loss over all items needs one row of scores a user, so an epoch costs a row for each user and not for
    each interaction.
    """

    def __init__(self, config: Any, dataset: Dataset, sampler: Any, shuffle: bool) -> None:  # noqa: ANN401
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        users = torch.as_tensor(dataset.inter_feat[dataset.uid_field])
        counts = torch.unique(users, return_counts=True)[1]
        self._rows_of_users = users.argsort(stable=True).split(counts.tolist())
        self.sample_size = len(counts)  # from here on samples are users

    def __len__(self) -> int:
        """Batches of an epoch."""
        return math.ceil(self.sample_size / self.step)

    def _init_batch_size_and_step(self) -> None:
        self.step = self.config["train_batch_size"]
        self.set_batch_size(self.step)

    def collate_fn(self, index: Tensor) -> Interaction:
        """All interactions of the users at places (B,) among those with interactions, with sampled negatives."""
        return super().collate_fn(torch.cat([self._rows_of_users[place] for place in index.tolist()]))


class NegativeItems:
    """Items that a user has not met, all users of a batch at once.

    Draws what RecBole's own sampler would draw from the same random numbers: candidates come from it, and only the
    search for those that the user has met is ours.

    Args:
        sampler: RecBole's sampler of the training phase, for its distribution.
        train: the interactions that are no negatives.
    """

    def __init__(self, sampler: AbstractSampler, train: Dataset) -> None:
        self._sampler, self._n_items = sampler, train.item_num
        users, items = (np.asarray(train.inter_feat[f], dtype=np.int64) for f in (train.uid_field, train.iid_field))
        met = np.append(np.unique(self._pair(users, items)), np.iinfo(np.int64).max)  # the last ends every search
        self._met = torch.from_numpy(met)  # torch searches with all threads

    def beside(self, train: Dataset) -> "NegativeItems":
        """The same draws where other interactions are no negatives."""
        return NegativeItems(self._sampler, train)

    def sample_by_user_ids(self, user_ids: Any, item_ids: Any, num: int) -> Tensor:  # noqa: ANN401  (arrays or lists)
        """`num` negatives of each of B users.

        Args:
            user_ids: (B,) users.
            item_ids: (B,) their positives, which RecBole's interface passes and which are among the met items.
            num: negatives of each user.

        Returns:
            (num * B,) int64: the first negative of every user, then the second of every user, and so on.
        """
        users = np.tile(np.asarray(user_ids, dtype=np.int64), num)
        negatives = np.zeros(len(users), dtype=np.int64)
        rejected = np.arange(len(users))
        while len(rejected):
            negatives[rejected] = self._sampler.sampling(len(rejected))
            pairs = torch.from_numpy(self._pair(users[rejected], negatives[rejected]))
            rejected = rejected[(self._met[torch.searchsorted(self._met, pairs)] == pairs).numpy()]
        return torch.from_numpy(negatives)

    def _pair(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return users * self._n_items + items


# By what `train_batch_size` counts.
LOADERS: dict[str, type[TripleLoader]] = {"interactions": TripleLoader, "users": UserTripleLoader}
