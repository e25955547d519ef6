"""A look at the transport term of a finished run: the plans of one user's subgraph."""

from typing import NamedTuple

import numpy as np
import torch

from recmodels.data.split import raw_items, raw_users
from recmodels.experiments.run import restore
from recmodels.experiments.session import Session
from recmodels.objectives import SubgraphTransport
from recmodels.objectives.subgraph_transport import Pairs
from recmodels.records import Subgraphs


class ExamplePlan(NamedTuple):
    """What moves between two subgraphs of n and m nodes.

    Attributes:
        title: the two centers.
        rows: n names, the center first.
        columns: m names, the center first.
        cost: (n, m) cost of a unit of mass.
        plan: (n, m) masses.
    """

    title: str
    rows: list[str]
    columns: list[str]
    cost: np.ndarray
    plan: np.ndarray

    @property
    def distance(self) -> float:
        """The Wasserstein distance, the cost of the whole plan."""
        return float((self.cost * self.plan).sum())


def example_plans(run_dir: str) -> list[ExamplePlan]:
    """Plans of the user of median activity: to its own subgraph (a positive), and to another user's (a negative).

    Args:
        run_dir: folder of a finished run with a transport term that has Wasserstein distances.

    Returns:
        Both, with the weights of the best epoch and subgraphs drawn from the run's seed; empty without such a term.

    Raises:
        UserError: the run cannot be restored.
    """
    session = restore(run_dir)
    model = session.model
    terms = [term for term in getattr(model, "objectives", ()) if isinstance(term, SubgraphTransport)]
    if not terms or not terms[0].distance.has_wasserstein:
        return []
    model.on_epoch_start(max(terms[0].starts_at, model.epoch))  # what samplers and noise prepare
    model.eval()
    users = model.graph.users[model.graph.degrees[model.graph.users] > 0]
    by_activity = users[torch.argsort(model.graph.degrees[users], stable=True)]
    middle = len(by_activity) // 2
    user, other = by_activity[middle], by_activity[middle - 1]
    pairs = terms[0].pairs(model.encode(), torch.stack([user, user]), torch.stack([user, other]), model.stream("look"))
    names = node_names(session)
    return [_example(names, pairs, place) for place in range(2)]


def node_names(session: Session) -> list[str]:
    """Names of all N nodes by their id: `user <raw id>`, then `item <raw id>`."""
    dataset = session.splits.dataset
    return [f"user {name}" for name in raw_users(dataset)] + [f"item {name}" for name in raw_items(dataset)]


def _example(names: list[str], pairs: Pairs, place: int) -> ExamplePlan:
    def valid(subgraphs: Subgraphs) -> tuple[np.ndarray, list[str]]:
        mask = subgraphs.mask[place]
        return mask.numpy(), [names[node] for node in subgraphs.nodes[place][mask].tolist()]

    (in_row, rows), (in_column, columns) = valid(pairs.left), valid(pairs.right)
    kept = np.ix_(in_row, in_column)
    cost, plan = (x[place].float().cpu().numpy()[kept] for x in (pairs.cost, pairs.plan.plan))
    return ExamplePlan(f"{rows[0]}, view a, to {columns[0]}, view b", rows, columns, cost, plan)
