"""Under which conditions runs were made, in words."""

import json
from collections.abc import Iterable, Sequence

from recmodels.reporting.finished import Run


def protocol(run: Run) -> str:
    """How the data were split, and how the epoch was picked."""
    config = run.config
    parts, given = config.get("benchmark_filename"), config.get("eval_args", {})
    how = f"{json.dumps(given.get('split'))}, order {given.get('order')}, group_by {given.get('group_by')}"
    if parts:
        how = f"fixed [{', '.join(parts)}]"
    told = [how, *picked(run), *["repeatable true"] * bool(config.get("repeatable"))]
    best = f"mode {given.get('mode')}, best epoch by valid {config.get('valid_metric')}"
    return f"split_seed {config.get('split_seed')}, {', '.join(told)}, {best}"


def picked(run: Run) -> list[str]:
    """Whether the epoch was picked on test, by what was in both parts; a random split says so only where it was."""
    seen, parts = run.result.get("test_seen_in_valid"), run.config.get("benchmark_filename")
    if seen is None:  # a run from before this was stored: files under two names are taken for two
        _, valid, test = parts or ("train", "valid", "test")
        seen = float(valid == test)
    if 0 < seen < 1:
        return [f"{100 * seen:.3g} % of the test pairs in valid"]
    return ["test-picked"] if seen else ["valid-picked"] * bool(parts)


def hardware_text(run: Run) -> str:
    """Processor, GPU, cores and threads."""
    found = run.result.get("hardware")
    if not found:
        return "not recorded"
    parts = [
        found.get("cpu"),
        found.get("gpu"),
        f"cores {found.get('cores')}, torch threads {found.get('torch_threads')}",
    ]
    return ", ".join(part for part in parts if part)


def versions_text(runs: Sequence[Run]) -> str:
    """Each package with its version, or versions."""
    found = [run.result.get("versions", {}) for run in runs]
    names = dict.fromkeys(name for versions in found for name in versions)
    texts = [f"{name} {' or '.join(distinct(given[name] for given in found if name in given))}" for name in names]
    return ", ".join(texts) or "not recorded"


def distinct(texts: Iterable[str]) -> list[str]:
    """Each once, in order."""
    return sorted(set(texts))
