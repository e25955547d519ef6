"""Planted data whose answer is known, through RecBole's data path, and untrained models on them."""

from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recmodels.data.split import interactions
from recmodels.experiments.session import Session, prepare, resolve_train
from recmodels.models import GraphRecommender
from recmodels.objectives import Objective
from tests.runs import options, write_rows

N_GROUPS, GROUP_SIZE = 4, 15  # 15 users and 15 items a group


def write_groups(root: Path, inside: float = 0.8, across: float = 0.05) -> None:
    """The data set of `session`: 60 x 60; a pair of one group is kept with probability `inside`, others `across`."""
    group = torch.arange(N_GROUPS * GROUP_SIZE) // GROUP_SIZE
    probability = torch.where(group[:, None] == group, inside, across)
    likes = torch.rand(probability.shape, generator=torch.Generator().manual_seed(0)) < probability
    write_rows(root, [f"u{user}\ti{item}" for user, item in likes.nonzero().tolist()])


def session(root: Path, **overrides: Any) -> Session:  # noqa: ANN401
    """Data, split and an untrained model on the planted data of `root`."""
    return prepare(resolve_train(options(root, **overrides)))


def triples(of: Session, size: int = 64) -> Interaction:
    """The first training interactions with fixed negatives: the same whatever the seed of the session."""
    users, items = (torch.from_numpy(ids[:size]) for ids in interactions(of.splits.train))
    negatives = torch.randint(1, of.model.n_items, (size,), generator=torch.Generator().manual_seed(0))
    return Interaction({of.model.USER_ID: users, of.model.ITEM_ID: items, of.model.NEG_ITEM_ID: negatives})


def objective(model: GraphRecommender, name: str) -> Objective:
    """The objective of that name."""
    (found,) = (o for o in model.objectives if isinstance(o, Objective) and o.name == name)
    return found


def scores(model: GraphRecommender) -> Tensor:
    """(n_users, n_items) scores of all pairs, padding included."""
    users = torch.arange(model.n_users)
    with torch.no_grad():
        return model.full_sort_predict(Interaction({model.USER_ID: users})).view(model.n_users, -1)


def groups(of: Session) -> Tensor:
    """(N,) planted group of each node, read from the raw ids; -1 for padding."""
    dataset = of.splits.dataset
    names = [*dataset.field2id_token[dataset.uid_field], *dataset.field2id_token[dataset.iid_field]]
    return torch.tensor([-1 if name == "[PAD]" else int(name[1:]) // GROUP_SIZE for name in names])


def unseen(of: Session) -> Tensor:
    """(n_users, n_items) bool: real pairs that are not in training."""
    users, items = interactions(of.splits.train)
    mask = torch.ones(of.model.n_users, of.model.n_items, dtype=torch.bool)
    mask[users, items] = False
    mask[0], mask[:, 0] = False, False
    return mask


def top1_in_group(of: Session) -> float:
    """Share of users whose best unseen item belongs to their group."""
    user_groups, item_groups = groups(of).split([of.model.n_users, of.model.n_items])
    best = scores(of.model.eval()).masked_fill(~unseen(of), -torch.inf).argmax(1)
    return float((item_groups[best] == user_groups)[1:].double().mean())


def chance(of: Session) -> float:
    """The same for a ranking that knows nothing: mean share of the group among the unseen items."""
    user_groups, item_groups = groups(of).split([of.model.n_users, of.model.n_items])
    candidates = unseen(of)
    of_group = candidates & (user_groups[:, None] == item_groups)
    return float((of_group.sum(1) / candidates.sum(1).clamp(min=1))[1:].double().mean())
