"""A look at the transport term of a finished run: the plans of one user's subgraph.

Nodes are named by their place in it and not by their ids: a picture that is passed on gives no interactions away.
"""

from typing import NamedTuple

import numpy as np
import torch

from recmodels.experiments.run import restore
from recmodels.objectives import SubgraphTransport
from recmodels.objectives.subgraph_transport import Pairs


class ExamplePlan(NamedTuple):
    """What moves between two subgraphs of n and m nodes.

    Attributes:
        title: whose they are.
        rows: n names, `center` first, then `item #1` and the like in the order in which they were drawn.
        columns: m names of the other subgraph's nodes.
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
    """Plans of the user of median activity: to its own subgraph (a positive), and to that of the user before it.

    The second is a negative where `ot_negatives` has view_b. Views with noise are shown without, and a threshold over
    the batch is one over the two plans.

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
    titles = "a user's subgraph, view a, to itself, view b", "the same to another user's, view b"
    return [_example(title, pairs, place, model.n_users) for place, title in enumerate(titles)]


def _example(title: str, pairs: Pairs, place: int, n_users: int) -> ExamplePlan:
    sides = [(subgraphs.mask[place], subgraphs.nodes[place]) for subgraphs in (pairs.left, pairs.right)]
    rows, columns = (_names(nodes[mask].tolist(), n_users) for mask, nodes in sides)
    kept = np.ix_(*(mask.numpy() for mask, _ in sides))
    cost, plan = (x[place].float().cpu().numpy()[kept] for x in (pairs.cost, pairs.plan.plan))
    return ExamplePlan(title, rows, columns, cost, plan)


def _names(nodes: list[int], n_users: int) -> list[str]:
    kinds = ["user" if node < n_users else "item" for node in nodes]
    return ["center"] + [f"{kind} #{kinds[1 : place + 1].count(kind)}" for place, kind in enumerate(kinds) if place]
