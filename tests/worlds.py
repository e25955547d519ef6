"""Small data sets that go through RecBole's data path, and untrained models on them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction

from recmodels.experiments.session import Session, prepare, resolve_train
from recmodels.models import GraphRecommender
from recmodels.streams import global_streams

N_GROUPS = 4
GROUP = 15  # users of a group, and items of a group

# All ratings are interactions, no filter.
PLAIN_DATA = {"load_col": {"inter": ["user_id", "item_id"]}, "val_interval": None, "user_inter_num_interval": None}


def write_interactions(folder: Path, name: str, pairs: Iterable[tuple[int, int]]) -> None:
    """An atomic file `<folder>/<name>/<name>.inter` of (user, item) pairs."""
    rows = [f"u{user}\ti{item}" for user, item in pairs]
    (folder / name).mkdir(parents=True)
    (folder / name / f"{name}.inter").write_text("\n".join(["user_id:token\titem_id:token", *rows]) + "\n")


def planted_pairs(seed: int = 0, inside: float = 0.5, noise: float = 0.08) -> list[tuple[int, int]]:
    """60 x 60, four groups: pairs of one group with probability `inside`, pairs across groups `noise`."""
    generator = torch.Generator().manual_seed(seed)
    group = torch.arange(N_GROUPS * GROUP) // GROUP
    probability = torch.where(group[:, None] == group[None, :], inside, noise)
    users, items = (torch.rand(probability.shape, generator=generator) < probability).nonzero(as_tuple=True)
    return list(zip(users.tolist(), items.tolist(), strict=True))


def session(folder: Path, name: str, model: str, **overrides: Any) -> Session:
    """An untrained model on a data set that `write_interactions` wrote."""
    given = {"model": model, "dataset": name, "data_path": str(folder), "gpu_id": "", "show_progress": False}
    return prepare(resolve_train(given | PLAIN_DATA | overrides))


def first_batch(of: Session) -> Interaction:
    """The first batch of triples of the training loader."""
    with global_streams(0, "negatives"):
        return next(iter(of.splits.train))


def groups(of: Session) -> torch.Tensor:
    """(N,) planted group of each node; -1 for padding."""
    model, dataset = of.model, of.splits.dataset
    names = [*dataset.field2id_token[dataset.uid_field], *dataset.field2id_token[dataset.iid_field]]
    assert len(names) == model.graph.n_nodes
    return torch.tensor([-1 if name == "[PAD]" else int(name[1:]) // GROUP for name in names])


def top1_in_group(of: Session) -> float:
    """Share of users whose best item outside their training set belongs to their group."""
    model: GraphRecommender = of.model
    model.eval()
    users = model.graph.users
    scores = model.full_sort_predict(Interaction({model.USER_ID: users})).view(len(users), -1).clone()
    seen = model.graph.has_edge(users[:, None].expand_as(scores), torch.arange(model.n_items) + model.n_users + 0 * users[:, None])
    scores[seen] = -torch.inf
    scores[:, 0] = -torch.inf
    of_node = groups(of)
    return float((of_node[users] == of_node[scores.argmax(1) + model.n_users]).float().mean())
