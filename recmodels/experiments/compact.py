"""From a finished search for widths to a model that has them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recmodels.config import Resolved, resolve
from recmodels.data_params import DataParams
from recmodels.errors import ParamError
from recmodels.experiments.folder import CONFIG
from recmodels.experiments.run import restore, restore_last, stored_result
from recmodels.experiments.session import PARAMS, Session, resolve_run
from recmodels.graph import BipartiteGraph
from recmodels.models.table_choice import TableParams, table
from recmodels.params import raise_all
from recmodels.streams import stream
from recmodels.tables import SearchTable
from recmodels.tables.frequency import most_frequent_first
from recmodels.tables.pruned import largest_entries, mask_as_text, n_with_mask
from recmodels.tables.width_text import widths_as_text

# Of the keys of a table, what a model with found widths may have otherwise than its search.
_FORM = ("adae_share", "adae_align", "adae_norm")


def decided_keys(keys: Iterable[str], is_pruned: bool) -> list[str]:
    """Those of some keys that the run decides from which a smaller one is made.

    Its data and split, since widths and masks are found on its training part; its table; and where single entries are
    kept, all that decides their start.

    Args:
        keys: that somebody wants to change.
        is_pruned: whether entries are kept; otherwise widths are given.
    """
    of_data = {"model", "dataset", "config_files", "split_seed", "eval_args", *DataParams.keys()}
    fixed = of_data | {"table", "embedding_size"} | ({"seed", "init"} if is_pruned else set())
    form = () if is_pruned else _FORM
    known = TableParams.keys()
    outer = {key: key.partition(".")[0] for key in keys}  # eval_args.split is a part of eval_args
    return [
        key for key, of in outer.items() if of in fixed or (of.startswith("adae_") and of in known and of not in form)
    ]


def _check_overrides(overrides: Mapping[str, Any], is_pruned: bool) -> None:
    of = "run that is pruned" if is_pruned else "search"
    decided = [f"{key}: decided by the {of}; leave it out" for key in decided_keys(overrides, is_pruned)]
    raise_all("recmodels compact", decided)


def compacted(run_dir: str, overrides: Mapping[str, Any]) -> tuple[Resolved, str]:
    """The configuration of the model with the widths that a search prefers after its last finished epoch.

    Args:
        run_dir: folder of the search.
        overrides: further keys of the new run.

    Returns:
        The configuration, and what is smaller in words.

    Raises:
        UserError: the folder is not of a search, or an override is wrong.
    """
    found = resolve_run(run_dir)
    if not found.params.held_out_share:
        raise ParamError(
            f"{run_dir}: its widths were not searched: {_table_in_words(found)}; train with --table=adaptive "
            "--adae_mode=auto first, or give --prune=SHARE for the largest entries of a plain table"
        )
    _check_overrides(overrides, is_pruned=False)
    session = restore_last(run_dir)
    found_table = session.model.table
    assert isinstance(found_table, SearchTable)
    if not int(found_table.picker_step):
        raise ParamError(
            f"{run_dir}: the picker has taken no step yet; it rests for adae_warmup = {found.values['adae_warmup']} "
            "epochs and then steps every adae_every steps of the weights; search longer, or lower them"
        )
    widths, graph = found_table.preferred_widths().cpu(), _whole_graph(session)
    chosen = {"adae_mode": "given", "adae_widths": widths_as_text(graph, widths)}
    how = _if_unfinished(run_dir)
    resolved = _resolved(run_dir, chosen, overrides, **how)
    total = _n_parameters(resolved, graph)
    if found_table.budget is not None:
        _check_size(resolved, total, max(found_table.n_stored(), session.model.params.budget(graph)))
    words = describe_widths(graph, widths, total, resolved.values["embedding_size"])
    if how:
        words = f"{run_dir} is not finished: these are its widths so far; --resume={run_dir} searches on\n{words}"
    return resolved, words


def _check_size(resolved: Resolved, total: int, budget: int) -> None:
    """Refuses transforms and norms that a search did not have and that exceed its budget, in parameters."""
    if total <= budget:
        return
    key, value = ("adae_align", "transform") if resolved.values["adae_align"] == "transform" else ("adae_norm", "true")
    how = "without adae_budget" if key == "adae_align" else "with it"
    raise ParamError(
        f"{key}: {value} makes a table of {total:,} parameters, but adae_budget of the search allows {budget:,}; leave "
        f"it out, or search {how}"
    )


def _table_in_words(of: Resolved) -> str:
    kind = f"table {of.values.get('table')!r}"
    return f"{kind}, adae_mode {of.values['adae_mode']!r}" if of.values.get("table") == "adaptive" else kind


def pruned(run_dir: str, share: float, overrides: Mapping[str, Any]) -> tuple[Resolved, str]:
    """The configuration of the model that keeps the largest entries of a run's plain table.

    Args:
        run_dir: folder of a run with a plain table; the entries are those of its best epoch.
        share: of the entries that are kept, in (0, 1).
        overrides: further keys of the new run.

    Returns:
        The configuration, and what is smaller in words.

    Raises:
        UserError: the table of the run is not plain, or an override is wrong.
    """
    found = resolve_run(run_dir)
    if found.values.get("table") != "plain" and found.values.get("adae_mode") != "original":
        raise ParamError(f"{run_dir}: only a plain table is pruned, got {_table_in_words(found)}")
    _check_overrides(overrides, is_pruned=True)
    weight = restore(run_dir).model.table().detach().cpu()
    n_kept = int(share * weight.numel())
    if not n_kept:
        raise ParamError(f"prune: a share of {share:g} keeps none of {weight.numel():,} entries; raise it")
    mask = largest_entries(weight, n_kept)
    chosen = {"table": "adaptive", "adae_mode": "pruned", "adae_mask": mask_as_text(mask)}
    how = _if_unfinished(run_dir)
    resolved = _resolved(run_dir, chosen, overrides, prune=share, **how)
    kept, entries = int(mask.sum()), mask.numel()
    words = f"{kept:,} of {entries:,} entries of the table, {kept / entries:.1%}, and a bit for each of all"
    words = f"{words}: the size of {n_with_mask(kept, entries):,} parameters"
    if how:
        words = f"{run_dir} is not finished: these are its entries so far; --resume={run_dir} trains on\n{words}"
    return resolved, words


def _if_unfinished(run_dir: str) -> dict[str, bool]:
    """What the new run keeps of a source without a result."""
    return {} if stored_result(Path(run_dir)) is not None else {"is_finished": False}


def _resolved(run_dir: str, chosen: Mapping[str, Any], overrides: Mapping[str, Any], **how: Any) -> Resolved:  # noqa: ANN401
    """The configuration of a run with some values changed, which knows what it is made from."""
    resolved = resolve({"config_files": [str(Path(run_dir) / CONFIG)], **chosen, **overrides}, PARAMS)
    return replace(resolved, made_from={"run": Path(run_dir).resolve().name, **how})


def _whole_graph(session: Session) -> BipartiteGraph:
    """The graph of all training interactions, those that the search held out included."""
    users, items = (torch.from_numpy(ids) for ids in session.training_interactions())
    return BipartiteGraph.from_interactions(users, items, session.model.n_users, session.model.n_items)


def _n_parameters(resolved: Resolved, graph: BipartiteGraph) -> int:
    """Of the table that a configuration makes, transforms and norms included."""
    assert isinstance(resolved.params, TableParams)
    found = table(resolved.params, graph, lambda name: stream(resolved.run.seed, name))
    return sum(p.numel() for p in found.parameters())


def describe_widths(graph: BipartiteGraph, widths: Tensor, total: int, aligned: int) -> str:
    """Parameters against the plain table, and the mean width of each fifth of users and items by frequency.

    Args:
        graph: of the training interactions.
        widths: (N,) int64.
        total: parameters of the table with these widths.
        aligned: width of the plain table.
    """
    plain = graph.n_nodes * aligned
    lines = [f"{total:,} parameters in the table, {total / plain:.1%} of {plain:,} at width {aligned}"]
    for side, nodes in (("users", graph.users), ("items", graph.items)):
        fifths = most_frequent_first(graph, nodes).tensor_split(5)
        means = [float(widths[part].float().mean()) for part in fifths if len(part)]
        shown = ", ".join(f"{mean:.1f}" for mean in means)
        lines.append(f"mean width of {side} by fifths, most frequent first: {shown}")
    return "\n".join(lines)
