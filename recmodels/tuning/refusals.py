"""What a search refuses about a configuration, told without data."""

import shlex

from recmodels.config import Resolved
from recmodels.experiments.session import training_problems


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
