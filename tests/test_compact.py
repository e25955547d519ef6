"""From a search to a smaller model: what is trained, how large it is, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recmodels.cli import main
from recmodels.errors import ParamError
from recmodels.experiments import run
from recmodels.experiments.compact import compacted, describe_widths
from recmodels.experiments.session import prepare, resolve_train
from recmodels.tables import AdaptiveTable
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
    best = (folder / "checkpoint.pt").stat().st_size
    assert weights < best < weights + 30_000  # names, identity and history are beside them


def test_a_compact_run_is_evaluated_and_resumed_like_any_other(search: Path) -> None:
    resolved, _ = compacted(str(search), {"epochs": 2})
    folder = run.train(resolved, str(search.parent / "small"))
    result = json.loads((folder / "result.json").read_text())
    assert run.evaluate(str(folder)) == result["test"]
    (folder / "result.json").unlink()
    run.resume(str(folder))
    assert json.loads((folder / "result.json").read_text())["test"] == result["test"]


def test_the_command_searches_nothing_anew(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compact", str(search), "--widths-only"]) == 0
    shown = capsys.readouterr().out
    assert "adae_widths: users " in shown
    assert "mean width of items by fifths, most frequent first:" in shown
    small = search.parent / "small"
    assert main(["compact", str(search), f"--run_dir={small}", "--epochs=1", "--show_progress=false"]) == 0
    assert f"searched in {search}, trained in {small}" in capsys.readouterr().out
    assert (small / "result.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--help"], "usage: recmodels compact RUN_DIR"),
        ([], "usage: recmodels compact RUN_DIR"),
        (["--epochs=3"], "RUN_DIR: no folder"),
        (["nowhere"], "nowhere"),
        (["search", "--widhts-only=1"], "did you mean '--widths-only'"),
        (["search", "--adae_dimz=3"], "adae_dimz: unknown key of LightGCN; did you mean 'adae_dims'"),
    ],
)
def test_what_the_command_says(
    search: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["compact", *arguments])
    told = capsys.readouterr()
    assert message in told.out + told.err
    assert code == (0 if message.startswith("usage") else 2)


def test_a_run_that_searched_nothing_is_refused(tmp_path: Path) -> None:
    start(tmp_path, "plain", model="LightGCN")
    with pytest.raises(ParamError, match="its widths were not searched: table 'plain'"):
        compacted(str(tmp_path / "plain"), {})


def test_fifths_are_told_from_the_most_frequent_down() -> None:
    graph = random_graph(n_users=11, n_items=21)
    order = graph.users[graph.degrees[graph.users].argsort(descending=True, stable=True)]
    widths = torch.full((graph.n_nodes,), 4)
    widths[order[:2]] = 16
    words = describe_widths(graph, widths, 16)
    assert words.startswith(f"{4 * 32 + 24:,} parameters in the table, 29.7% of 512 at width 16")
    assert "users by fifths, most frequent first: 16.0, 4.0, 4.0, 4.0, 4.0" in words
