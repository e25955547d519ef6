"""Interactions taken out of the training part for a search, and given back for what is trained after it."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from recmodels.compat import RecboleConfig
from recmodels.data.split import Splits, interactions
from recmodels.data.triples import NegativeItems
from recmodels.errors import DataError


class HeldOut(NamedTuple):
    """Training interactions that are not trained on.

    Attributes:
        users: (E,) int64 internal ids.
        items: (E,) int64 internal ids.
        negatives: draws items that a user has not met in the whole training part, or with `repeatable` any but the
            row's own positive.
    """

    users: Tensor
    items: Tensor
    negatives: Any  # RecBole's samplers and ours have no common class


def hold_out(config: RecboleConfig, splits: Splits, share: float, generator: torch.Generator) -> tuple[Splits, HeldOut]:
    """Takes a share of the training interactions out of the training part, each with the same probability.

    Only the training loader and the data set behind it change. Its negatives may be held-out items, since a model that
    is spared them can tell them from those that nobody met. Those of the held-out interactions, and evaluation, leave
    out all that a user has met; valid and test are what they were.

    Args:
        config: of the loaders.
        splits: the three parts; not changed.
        share: in (0, 1).
        generator: CPU.

    Raises:
        DataError: nothing would be taken, or nothing be left.
    """
    users, items = (torch.from_numpy(ids) for ids in interactions(splits.train))
    n_held = round(share * len(users))
    if not 0 < n_held < len(users):
        raise DataError(
            f"adae_holdout: {share:g} of {len(users)} training interactions are {n_held}; expected at least one, and "
            "one that is left"
        )
    order = torch.randperm(len(users), generator=generator)
    held, kept = order[:n_held].sort().values, order[n_held:].sort().values
    whole, negatives = splits.train.dataset, splits.train.negatives
    rest = whole.copy(whole.inter_feat[kept])
    of_rest = negatives.beside(rest) if isinstance(negatives, NegativeItems) else negatives
    train = type(splits.train)(config, rest, of_rest, shuffle=bool(config["shuffle"]))
    return splits._replace(train=train), HeldOut(users[held], items[held], negatives)
