"""What a search refuses about a configuration, told before the first trial."""

import shlex

from recmodels.config import Resolved, changed
from recmodels.experiments.session import PARAMS, training_problems
from recmodels.tuning.space import Space


def search_problems(resolved: Resolved) -> list[str]:
    """Why no trial can be run with a configuration that resolves, each message beginning with its key."""
    return [*training_problems(resolved), *_selection_on_test(resolved)]


def _selection_on_test(resolved: Resolved) -> list[str]:
    """A fixed split whose test part would choose the values."""
    parts = resolved.data.benchmark_filename
    if parts is None or parts[1] != parts[2]:
        return []
    carve = shlex.join(["recmodels", "data", "carve", resolved.dataset, f"--data_path={resolved.run.data_path}"])
    return [
        f"benchmark_filename: got [{', '.join(parts)}], so the best values would be picked on the test part, which a "
        f"search never looks at; make a valid part out of train, and give the files that this names: {carve}"
    ]


def size_problems(space: Space, base: Resolved, n_users: int, n_items: int) -> list[str]:
    """What data of this size do not allow at a corner of the space, two corners together, or a setting tried first.

    Args:
        space: whose corners `training_problems` allows.
        base: the configuration without the space.
        n_users: with the padding row.
        n_items: with the padding row.
    """
    found = list[str]()
    for probe in [*space.corners(1), *space.corners(2), *space.enqueued]:
        resolved, _ = changed(base, {**space.first(), **probe}, PARAMS)
        found += [] if resolved is None else resolved.params.limit_problems(n_users, n_items)
    return list(dict.fromkeys(found))
