"""From a search to a smaller model: what is trained, how large it is, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recmodels.cli import main
from recmodels.errors import ParamError
from recmodels.experiments import run
from recmodels.experiments.compact import compacted, describe_widths, pruned
from recmodels.experiments.session import prepare, resolve_train
from recmodels.tables import AdaptiveTable
from recmodels.tables.pruned import PrunedTable, largest_entries, mask_as_text, mask_from_text
from tests.conftest import random_graph
from tests.runs import options, start

SEARCH: dict[str, Any] = {
    "model": "LightGCN",
    "table": "adaptive",
    "adae_mode": "auto",
    "adae_dims": [2, 4, 16],
    "adae_budget": 0.4,
    "adae_warmup": 0,
    "adae_picker_lr": 5.0,
    "epochs": 3,
}


@pytest.fixture
def search(tmp_path: Path, undrawn: None) -> Path:
    """Folder of a finished search."""
    return run.train(resolve_train(options(tmp_path, **SEARCH)), str(tmp_path / "search"))


def test_the_compact_model_has_the_preferred_widths_and_all_of_training(search: Path) -> None:
    resolved, words = compacted(str(search), {})
    table_of_search, model = run.restore_last(str(search)).model.table, prepare(resolved).model
    assert isinstance(model.table, AdaptiveTable)
    assert model.table.widths.long().equal(table_of_search.preferred_widths())
    whole = prepare(resolve_train(options(search.parent, model="LightGCN")))
    assert model.graph.indices.equal(whole.model.graph.indices)
    assert f"{int(model.table.widths.sum()):,} parameters in the table" in words
    assert int(model.table.widths.sum()) <= 0.4 * 16 * model.graph.n_nodes


def test_the_size_of_a_table_with_transforms_counts_them(tmp_path: Path) -> None:
    transformed = {**SEARCH, "adae_budget": None, "adae_align": "transform", "adae_norm": True}
    folder = run.train(resolve_train(options(tmp_path, **transformed)), str(tmp_path / "search"))
    resolved, words = compacted(str(folder), {})
    n_parameters = sum(p.numel() for p in prepare(resolved).model.table.parameters())
    assert words.startswith(f"{n_parameters:,} parameters in the table")
    assert n_parameters > int(prepare(resolved).model.table.widths.sum())


def test_parameters_bytes_and_optimizer_memory_are_the_formulas(search: Path) -> None:
    resolved, _ = compacted(str(search), {"epochs": 2})
    folder = run.train(resolved, str(search.parent / "small"))
    state = torch.load(folder / "last.pt", weights_only=True)
    widths = state["weights"]["table.widths"]
    total, n_nodes = int(widths.sum()), len(widths)
    assert json.loads((folder / "result.json").read_text())["n_parameters"] == total
    weights = sum(value.nbytes for value in state["weights"].values())
    assert weights == 4 * total + 2 * n_nodes
    moments = [value for slot in state["optimizer"]["state"].values() for name, value in slot.items() if name != "step"]
    assert sum(value.nbytes for value in moments) == 2 * 4 * total  # Adam keeps two


@pytest.mark.parametrize("is_pruned", [False, True])
def test_a_file_is_as_small_as_what_is_stored(is_pruned: bool, tmp_path: Path, undrawn: None) -> None:
    """Beside the tensors are names, identity and history, and no mask or list of widths a second time."""
    wide: dict[str, Any] = {"model": "LightGCN", "embedding_size": 512, "epochs": 1}
    plain = run.train(resolve_train(options(tmp_path, **wide)), str(tmp_path / "plain"))
    chosen = SEARCH | wide | {"adae_dims": [64, 128, 512]}
    found = plain if is_pruned else run.train(resolve_train(options(tmp_path, **chosen)), str(tmp_path / "search"))
    resolved, _ = pruned(str(found), 0.4, {}) if is_pruned else compacted(str(found), {})
    small = run.train(resolved, str(tmp_path / "small"))
    stored = json.loads((small / "result.json").read_text())["n_stored"]
    size, size_of_plain = ((folder / "checkpoint.pt").stat().st_size for folder in (small, plain))
    n_nodes = prepare(resolved).model.graph.n_nodes
    assert 4 * stored < size < 4 * stored + 2 * n_nodes + 8_000
    assert size < 0.5 * size_of_plain


def test_a_compact_run_is_evaluated_and_resumed_like_any_other(search: Path) -> None:
    resolved, _ = compacted(str(search), {"epochs": 2})
    folder = run.train(resolved, str(search.parent / "small"))
    result = json.loads((folder / "result.json").read_text())
    assert run.evaluate(str(folder)) == result["test"]
    (folder / "result.json").unlink()
    run.resume(str(folder))
    assert json.loads((folder / "result.json").read_text())["test"] == result["test"]


def test_it_is_said_where_a_model_comes_from_also_after_an_interruption(search: Path) -> None:
    resolved, _ = compacted(str(search), {"epochs": 1, "adae_share": False})
    folder = run.train(resolved, str(search.parent / "small"))
    (folder / "result.json").unlink()
    run.resume(str(folder))
    assert json.loads((folder / "result.json").read_text())["made_from"] == {"run": "search"}
    assert "made_from" not in json.loads((search / "result.json").read_text())


def test_what_a_search_of_one_epoch_stores_is_what_its_compact_model_has(tmp_path: Path, undrawn: None) -> None:
    for n, form in enumerate(({}, {"adae_align": "transform", "adae_norm": True}, {"adae_share": False})):
        chosen = SEARCH | {"adae_budget": None if form.get("adae_norm") else 0.4, "epochs": 1} | form
        folder = run.train(resolve_train(options(tmp_path, **chosen)), str(tmp_path / f"search-{n}"))
        small = run.train(compacted(str(folder), {})[0], str(tmp_path / f"small-{n}"))
        stored, own = (json.loads((f / "result.json").read_text()) for f in (folder, small))
        assert stored["n_stored"] == own["n_stored"] == own["n_parameters"] < stored["n_parameters"]


def test_an_unfinished_search_is_told(search: Path) -> None:
    (search / "result.json").unlink()
    resolved, words = compacted(str(search), {})
    assert words.startswith(f"{search} is not finished: these are its widths so far; --resume=")
    assert resolved.made_from == {"run": "search", "is_finished": False}


def test_a_key_that_nothing_reads_is_told_as_for_any_run(
    search: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *_typed(search), "--stopping_step=7"]) == 0
    assert "nothing reads it at these values: stopping_step" in (search.parent / "again/log.txt").read_text()
    words = ["--bsl_ratio=2", "--epochs=1", f"--run_dir={search.parent / 'small'}", "--show_progress=false"]
    assert main(["compact", str(search), *words]) == 0
    assert "given, but nothing reads it at these values: bsl_ratio" in (search.parent / "small/log.txt").read_text()


def _typed(search: Path) -> list[str]:
    """The command of another search like one."""
    return [f"--config_files={search / 'config.yaml'}", f"--run_dir={search.parent / 'again'}", "--show_progress=false"]


def test_the_command_searches_nothing_anew(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compact", str(search), "--widths-only"]) == 0
    shown = capsys.readouterr().out
    assert "adae_widths: users " in shown
    assert "mean width of items by fifths, most frequent first:" in shown
    small = search.parent / "small"
    assert main(["compact", str(search), f"--run_dir={small}", "--epochs=1", "--show_progress=false"]) == 0
    assert f"found in {search}, trained in {small}" in capsys.readouterr().out
    assert (small / "result.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--help"], "usage: recmodels compact RUN_DIR"),
        ([], "usage: recmodels compact RUN_DIR"),
        (["--epochs=3"], "RUN_DIR: no folder"),
        (["nowhere"], "nowhere"),
        (["search", "--prune=1.4"], "got 1.4, expected a number between 0 and 1"),
        (["search", "--prune=0.4"], "only a plain table is pruned"),
        (["search", "--widhts-only=1"], "did you mean '--widths-only'"),
        (["search", "--adae_dimz=3"], "adae_dimz: unknown key of LightGCN; did you mean 'adae_dims'"),
        (["search", "--split_seed=7"], "split_seed: decided by the search; leave it out"),
        (["search", "--model=BPR", "--val_interval={}"], "  - val_interval: decided by the search; leave it out"),
        (["search", "--adae_budget=0.2"], "adae_budget: decided by the search; leave it out"),
        (["search", "--config_files=softmax"], "config_files: decided by the search; leave it out"),
        (["search", "--eval_args.order=TO"], "eval_args.order: decided by the search; leave it out"),
        (["search", "--learning_raet=1"], "learning_raet: unknown key of LightGCN; did you mean 'learning_rate'"),
    ],
)
def test_what_the_command_says(
    search: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["compact", *arguments])
    told = capsys.readouterr()
    assert message in told.out + told.err
    assert code == (0 if message.startswith("usage") else 2)


def test_a_plain_table_is_pruned_to_its_largest_entries_and_trained_from_their_start(
    tmp_path: Path, undrawn: None
) -> None:
    plain = run.train(resolve_train(options(tmp_path, model="LightGCN", epochs=2)), str(tmp_path / "plain"))
    resolved, words = pruned(str(plain), 0.3, {})
    weight = run.restore(str(plain)).model.table().detach()
    table, start_of = (
        prepare(resolved).model.table,
        prepare(resolve_train(options(tmp_path, model="LightGCN"))).model.table,
    )
    assert isinstance(table, PrunedTable)
    kept = table() != 0
    assert int(kept.sum()) == len(table.values) == int(0.3 * weight.numel())
    assert weight.abs()[kept].min() >= weight.abs()[~kept].max()
    assert table().equal(torch.where(kept, start_of(), 0))
    assert f"{len(table.values):,} of {weight.numel():,} entries" in words
    folder = run.train(resolved, str(tmp_path / "pruned"))
    result = run.stored_result(folder)
    assert result is not None
    assert result["n_parameters"] == len(table.values)
    assert run.evaluate(str(folder)) == result["test"]
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["weights"]
    assert sum(value.nbytes for value in state.values()) == 4 * len(table.values) + -(-weight.numel() // 8)
    assert result["n_stored"] == len(table.values) + -(-weight.numel() // 32)
    assert result["made_from"] == {"run": "plain", "prune": 0.3}
    with pytest.raises(ParamError, match="only a plain table is pruned, got table 'adaptive'"):
        pruned(str(folder), 0.3, {})
    with pytest.raises(ParamError) as caught:
        pruned(str(plain), 0.3, {"seed": 1, "init": "normal", "adae_share": False, "epochs": 1})
    assert [line.split(":")[0].strip(" -") for line in str(caught.value).splitlines()[1:]] == [
        "seed",
        "init",
        "adae_share",
    ]


def test_what_would_exceed_the_budget_of_a_search_is_refused(tmp_path: Path, undrawn: None) -> None:
    tight = {**SEARCH, "adae_budget": 568, "adae_picker_lr": 0.01}
    folder = run.train(resolve_train(options(tmp_path, **tight)), str(tmp_path / "tight"))
    assert run.restore_last(str(folder)).model.table.n_stored() > 568 - 14  # too little is left for a norm
    for form, words in (
        ({"adae_norm": True}, r"^adae_norm: true makes .* adae_budget of the search allows 568; .* search with it$"),
        (
            {"adae_align": "transform", "adae_share": False},
            r"^adae_align: transform makes .* search without adae_budget$",
        ),
    ):
        with pytest.raises(ParamError, match=words):
            compacted(str(folder), form)
    assert compacted(str(folder), {"adae_share": False, "adae_align": "zero_pad"})
    roomy = {**SEARCH, "adae_budget": 0.9, "adae_memory": 5.0}
    folder = run.train(resolve_train(options(tmp_path, **roomy)), str(tmp_path / "roomy"))
    assert compacted(str(folder), {"adae_norm": True})  # more than the search chose, less than its budget


def test_entries_of_an_unfinished_run_are_told_and_original_is_plain(tmp_path: Path, undrawn: None) -> None:
    chosen = options(tmp_path, model="LightGCN", epochs=1, table="adaptive", adae_mode="original")
    folder = run.train(resolve_train(chosen), str(tmp_path / "plain"))
    resolved, words = pruned(str(folder), 0.4, {})
    assert "not finished" not in words
    assert "is_finished" not in resolved.made_from
    (folder / "result.json").unlink()
    resolved, words = pruned(str(folder), 0.4, {})
    assert words.startswith(f"{folder} is not finished: these are its entries so far; --resume={folder} trains on")
    assert resolved.made_from["is_finished"] is False


def test_a_share_that_keeps_nothing_is_refused(tmp_path: Path, undrawn: None) -> None:
    plain = run.train(resolve_train(options(tmp_path, model="LightGCN", epochs=1)), str(tmp_path / "plain"))
    with pytest.raises(ParamError, match=r"prune: a share of 1e-07 keeps none of 2,272 entries; raise it"):
        pruned(str(plain), 1e-7, {})


def test_a_mask_is_read_back_and_another_text_refused() -> None:
    mask = torch.rand(13, 7, generator=torch.Generator().manual_seed(0)) < 0.4
    text = mask_as_text(mask)
    assert mask_from_text(text, 13, 7).equal(mask)
    with pytest.raises(
        ParamError, match="adae_mask: of a table of about 96 entries, expected 13 nodes of width 8, 104"
    ):
        mask_from_text(text, 13, 8)
    for broken in ("", "no mask", text[:-6]):
        with pytest.raises(ParamError, match="adae_mask: not a mask that recmodels compact --prune wrote"):
            mask_from_text(broken, 13, 7)


def test_of_equal_entries_the_first_are_kept_and_gradients_reach_only_what_is_kept() -> None:
    mask = largest_entries(torch.tensor([[1.0, -2.0], [2.0, 0.5]]), 2)
    assert mask.tolist() == [[False, True], [True, False]]
    table = PrunedTable(torch.ones(2, 2), mask)
    (table() * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert table.values.grad is not None
    assert table.values.grad.tolist() == [2.0, 3.0]
    assert "2 of 4 entries of 2 nodes, width 2" in repr(table)


def test_a_run_that_searched_nothing_is_refused(tmp_path: Path) -> None:
    start(tmp_path, "plain", model="LightGCN")
    with pytest.raises(ParamError, match="its widths were not searched: table 'plain'; .* or give --prune=SHARE"):
        compacted(str(tmp_path / "plain"), {})


def test_fifths_are_told_from_the_most_frequent_down() -> None:
    graph = random_graph(n_users=11, n_items=21)
    order = graph.users[graph.degrees[graph.users].argsort(descending=True, stable=True)]
    widths = torch.full((graph.n_nodes,), 4)
    widths[order[:2]] = 16
    words = describe_widths(graph, widths, 152, 16)
    assert words.startswith("152 parameters in the table, 29.7% of 512 at width 16")
    assert "users by fifths, most frequent first: 16.0, 4.0, 4.0, 4.0, 4.0" in words
