"""Run folders become rows: seeds are grouped, what cannot be compared is refused, copies say the same."""

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recmodels.errors import CheckpointError, ParamError, UserError
from recmodels.experiments.folder import CONFIG, RESULT, USERS, write_arrays
from recmodels.experiments.unread import unread_by_fits
from recmodels.plain_yaml import load_yaml
from recmodels.reporting.finished import ROW_NAME, Run, read_runs
from recmodels.reporting.kept import PER_USER, keep
from recmodels.reporting.published import Published, read_published
from recmodels.reporting.table import Row, Table, choose_metrics, make_tables, sort_rows
from recmodels.reporting.user_metrics import disagreements, per_user
from recmodels.run_params import RunParams
from tests.finished_runs import SPLIT, write_run


def only_table(*paths: str) -> Table:
    (table,), _ = make_tables(read_runs([Path(path) for path in paths])[0])
    return table


def test_runs_that_differ_only_in_their_seed_are_one_row_with_mean_and_deviation() -> None:
    recalls = {2022: 0.23, 2020: 0.20, 2021: 0.21}
    for seed, recall in recalls.items():
        write_run(f"runs/{seed}", recall, seed=seed, data_path=f"/machine/{seed}")
    (row,) = only_table("runs").rows
    assert isinstance(row, Row)
    assert (row.name, row.settings, row.seeds) == ("NCL", "", (2020, 2021, 2022))
    assert row.mean("recall@10") == pytest.approx(statistics.mean(recalls.values()), rel=1e-15)
    assert row.deviation("recall@10") == pytest.approx(np.std(list(recalls.values()), ddof=1), rel=1e-12)


def test_one_seed_has_no_deviation() -> None:
    write_run("runs/a", 0.2)
    (row,) = only_table("runs").rows
    assert (row.mean("recall@10"), row.deviation("recall@10"), row.mean("absent")) == (0.2, None, None)


def test_rows_show_the_settings_in_which_they_differ_and_no_others() -> None:
    write_run("runs/a", 0.2)
    write_run("runs/b", 0.2, ssl_reg=0)
    write_run("runs/c", 0.2, eval_args={"mode": "full", "order": "TO"}, extra="on")
    settings = sorted(row.settings for row in only_table("runs").rows)
    split = "eval_args.group_by user, eval_args.order RO, eval_args.split.RS [0.8, 0.1, 0.1]"
    assert settings == [f"{split}, ssl_reg 0", f"{split}, ssl_reg 1e-07", "eval_args.order TO, extra on, ssl_reg 1e-07"]


def test_a_key_that_another_model_does_not_have_is_no_difference() -> None:
    write_run("runs/a", 0.2)
    light = write_run("runs/b", 0.2, model="LightGCN")
    values = load_yaml((light / CONFIG).read_text(), "b")
    (light / CONFIG).write_text(json.dumps({key: value for key, value in values.items() if key != "ssl_reg"}))
    assert [(row.name, row.settings) for row in only_table("runs").rows] == [("LightGCN", ""), ("NCL", "")]


def test_runs_are_found_below_folders_and_once() -> None:
    for seed in (1, 2):
        write_run(f"runs/deep/down/{seed}", 0.2, seed=seed)
    runs, skipped = read_runs([Path("runs"), Path("runs/deep/down/1"), Path("runs/../runs/deep")])
    assert ([run.result["seed"] for run in runs], skipped) == ([1, 2], [])
    assert all(isinstance(run, Run) for run in runs)


def test_an_unfinished_run_is_skipped_with_the_reason() -> None:
    write_run("runs/a", 0.2)
    (write_run("runs/b", 0.2, seed=1) / RESULT).unlink()
    runs, skipped = read_runs([Path("runs")])
    assert [run.folder for run in runs] == [Path("runs/a")]
    assert skipped == ["runs/b: unfinished, no result.json yet; recmodels train --resume=runs/b continues it"]


def test_every_damaged_run_is_named_at_once() -> None:
    (write_run("runs/a", 0.2) / RESULT).write_text('{"model": ')
    write_run("runs/b", float("nan"))
    write_run("runs/c", 0.2, result={"seed": 7, "n_parameters": "many"})
    (write_run("runs/d", 0.2) / CONFIG).unlink()
    write_run("runs/e", 0.2, result={"test": None})
    with pytest.raises(CheckpointError) as error:
        read_runs([Path("runs"), Path("rnus")])
    for words in (
        "runs: 8 problems",
        "rnus: no such folder; did you mean 'runs'?",
        "runs/a/result.json: cannot be read: Expecting value",
        "runs/b/result.json: test.recall@10: expected a number, got nan",
        "runs/b/result.json: test.ndcg@10: expected a number, got nan",
        "runs/c/result.json: n_parameters: expected a whole number or null, got 'many'",
        "runs/c/config.yaml: seed: got 2020, expected 7 as in result.json",
        "runs/d/config.yaml: cannot be read: No such file or directory",
        "runs/e/result.json: test: expected a mapping, got None",
    ):
        assert words in str(error.value)


def test_metrics_that_no_run_can_have_are_refused_and_others_may_be_above_1() -> None:
    write_run("runs/a", 0.2, result={"test": {"recall@10": 7.5, "ndcg@20": -0.1, "of_another_program": 3.0}})
    with pytest.raises(CheckpointError) as error:
        read_runs([Path("runs")])
    assert str(error.value).splitlines() == [
        "runs: 2 problems",
        "  - runs/a/result.json: test.recall@10: expected a figure from 0 to 1, got 7.5",
        "  - runs/a/result.json: test.ndcg@20: expected a figure from 0 to 1, got -0.1",
    ]
    unbounded = {"averagepopularity@10": 310.5, "shannonentropy@10": 1.5, "of_another_program": 3.0}
    write_run("more/a", 0.2, result={"test": unbounded})
    assert read_runs([Path("more")])[0][0].result["test"] == unbounded


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_result_that_its_users_contradict_is_refused_with_both_figures(dtype: type) -> None:
    users = np.random.default_rng(0).random(6000).astype(dtype)
    coverage = {"itemcoverage@10": 0.3}  # of all users together, so no mean
    mean = float(users.astype(np.float64).mean()) * (1 + 5e-8 * (dtype == np.float32))
    folder = write_run("runs/a", 0.2, result={"test": {"recall@10": mean, **coverage}})
    names = np.array([f"u{place}" for place in range(len(users))])
    write_arrays(folder / USERS, {"user": names, "recall@10": users})
    assert len(read_runs([Path("runs")])[0]) == 1
    (folder / RESULT).write_text((folder / RESULT).read_text().replace(repr(mean), repr(mean + 1e-5)))
    with pytest.raises(CheckpointError) as error:
        read_runs([Path("runs")])
    message = str(error.value)
    assert message.startswith(f"runs/a/result.json: test.recall@10: got {mean + 1e-5!r}, expected 0.")
    assert "the mean over the 6,000 users of test_users.npz beside it" in message
    expected = float(re.findall(r"expected (0\.\d+)", message)[0])
    assert expected == pytest.approx(mean, rel=1e-7)
    assert len(disagreements(folder, {"recall@10": 0.1, **coverage})) == 1
    (folder / USERS).write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match=r"runs/a/test_users.npz: damaged or no file of per-user metrics"):
        read_runs([Path("runs")])


def test_damage_inside_of_values_is_named_at_once_in_both_files() -> None:
    hardware = {"cpu": 3, "gpu": None, "cores": "2", "torch_threads": 1}
    result = {"hardware": hardware, "versions": {"torch": 2}, "test": {}, "split_sha256": "", ROW_NAME: " "}
    write_run("runs/a", 0.2, result=result)
    write_run("runs/b", 0.2, eval_args=None, benchmark_filename=["a"], valid_metric=3, split_seed="x")
    write_run("runs/c", 0.2, eval_args="RS", benchmark_filename="abc", valid_metric="")
    write_run("runs/d", 0.2, eval_args={"split": "RS", "order": "", "group_by": 3, "mode": None})
    write_run("runs/e", 0.2, benchmark_filename=["a", "", "c"])
    (write_run("runs/f", 0.2, eval_args=None) / RESULT).write_text("{")
    with pytest.raises(CheckpointError) as error:
        read_runs([Path("runs")])
    message, three = str(error.value), "a list of 3 (a string, a string, a string) or null"
    assert message.startswith("runs: 20 problems\n")
    for words in (
        "a/result.json: split_sha256: expected a string, not empty, got ''",
        "a/result.json: test: expected a mapping, not empty, got {}",
        "a/result.json: versions.torch: expected a string, got 2",
        "a/result.json: hardware.cpu: expected a string or null, got 3",
        "a/result.json: hardware.cores: expected a whole number or null, got '2'",
        "a/result.json: row: expected a string, not empty, got ' '",
        "b/config.yaml: split_seed: expected a whole number, got 'x'",
        "b/config.yaml: valid_metric: expected a string, got 3",
        f"b/config.yaml: benchmark_filename: expected {three}, got ['a']",
        "b/config.yaml: eval_args: expected a mapping, got None",
        "c/config.yaml: valid_metric: expected a string, not empty, got ''",
        f"c/config.yaml: benchmark_filename: expected {three}, got 'abc'",
        "c/config.yaml: eval_args: expected a mapping, got 'RS'",
        "d/config.yaml: eval_args.split: expected a mapping, got 'RS'",
        "d/config.yaml: eval_args.order: expected a string, not empty, got ''",
        "d/config.yaml: eval_args.group_by: expected a string or null, got 3",
        "d/config.yaml: eval_args.mode: expected a string or a mapping, got None",
        f"e/config.yaml: benchmark_filename: expected {three}, not empty, got ['a', '', 'c']",
        "f/result.json: cannot be read",
        "f/config.yaml: eval_args: expected a mapping, got None",
    ):
        assert f"\n  - runs/{words}" in message


@pytest.mark.parametrize("result", [{"versions": {}, "hardware": {}}, {"hardware": {"cpu": "", "gpu": None}}])
def test_what_the_system_did_not_tell_may_be_empty(result: dict[str, Any]) -> None:
    write_run("runs/a", 0.2, result=result)
    (run,), _ = read_runs([Path("runs")])
    assert run.result.items() >= result.items()


def test_a_file_is_no_folder() -> None:
    path = write_run("runs/a", 0.2) / RESULT
    with pytest.raises(CheckpointError, match=r"^runs/a/result.json: got a file, expected a folder$"):
        read_runs([path])


def test_a_model_that_is_fitted_at_once_has_no_settings_of_training() -> None:
    training: dict[str, Any] = {"epochs": 300, "train_neg_sample_args": {"sample_num": 1}, "guard_lr_factor": 0.5}
    write_run("runs/a", 0.2, **training)
    write_run("runs/b", 0.2, n_layers=2, **training | {"epochs": 500})
    for model in ("EASE", "GFCF"):
        write_run(f"runs/{model}/1", 0.2, model=model, **training)
        write_run(f"runs/{model}/2", 0.2, model=model, seed=1, **training | {"epochs": 9, "learning_rate": 0.1})
    assert [(row.label, len(row.runs)) for row in only_table("runs").rows] == [
        ("EASE", 2),
        ("GFCF", 2),
        ("NCL, epochs 300, n_layers 3", 1),
        ("NCL, epochs 500, n_layers 2", 1),
    ]


def test_every_setting_of_training_is_one_of_a_run() -> None:
    assert set(RunParams.keys()) > unread_by_fits("GFCF") > unread_by_fits("NCL") == frozenset()


def test_different_splits_are_refused_by_folder_or_get_a_table_each() -> None:
    write_run("runs/a", 0.2)
    write_run("runs/b", 0.3, result={"split_sha256": "ff" * 32})
    runs, _ = read_runs([Path("runs")])
    with pytest.raises(ParamError, match="split_sha256 differs.*--by=split") as error:
        make_tables(runs)
    assert f"{SPLIT}: runs/a" in str(error.value)
    assert "ffffffffffff: runs/b" in str(error.value)
    tables, _ = make_tables(runs, by_split=True)
    assert [(table.split_sha256[:2], table.rows[0].mean("recall@10")) for table in tables] == [("61", 0.2), ("ff", 0.3)]


def test_different_data_sets_are_refused_even_by_split() -> None:
    write_run("runs/a", 0.2)
    write_run("runs/b", 0.3, dataset="other")
    with pytest.raises(ParamError, match="dataset differs"):
        make_tables(read_runs([Path("runs")])[0], by_split=True)


def test_a_repeated_run_counts_once_and_a_contradicting_one_is_refused() -> None:
    write_run("runs/a", 0.2)
    write_run("runs/b", 0.2)
    (table,), repeated = make_tables(read_runs([Path("runs")])[0])
    assert table.rows[0].seeds == (2020,)
    assert repeated == ["runs/b: repeats runs/a, with the same result"]
    write_run("runs/c", 0.3)
    with pytest.raises(ParamError, match="runs/c: another result than runs/a, with the same configuration and seed"):
        make_tables(read_runs([Path("runs")])[0])


def test_no_run_is_refused() -> None:
    with pytest.raises(ParamError, match="no finished run"):
        make_tables([])


def test_rows_are_sorted_by_name_or_best_first() -> None:
    for name, recall in (("c", 0.2), ("a", 0.1), ("b", 0.3)):
        write_run(f"runs/{name}", recall, result={ROW_NAME: name}, n_layers=ord(name))
    table = only_table("runs")
    assert [row.name for row in table.rows] == ["a", "b", "c"]
    assert [row.name for row in sort_rows(table, "recall@10").rows] == ["b", "c", "a"]
    smaller = {"averagepopularity@10": 1.0}
    write_run("runs/d", 0.9, result={ROW_NAME: "d", "test": smaller})
    write_run("runs/e", 0.9, result={ROW_NAME: "e", "test": {"averagepopularity@10": 0.5}}, n_layers=9)
    assert [row.name for row in sort_rows(only_table("runs"), "averagepopularity@10").rows][:2] == ["e", "d"]


def test_metrics_are_those_of_the_field_unless_asked_for() -> None:
    write_run("runs/a", 0.2, result={"test": {"mrr@10": 0.1, "ndcg@10": 0.1, "recall@10": 0.1}})
    tables = [only_table("runs")]
    assert choose_metrics(tables, None) == ["recall@10", "ndcg@10"]
    assert choose_metrics(tables, ["MRR@10"]) == ["mrr@10"]
    with pytest.raises(ParamError) as error:
        choose_metrics(tables, ["recal@10", "x@3"])
    assert "recal@10: no run has it; did you mean 'recall@10'?; got mrr@10, ndcg@10, recall@10" in str(error.value)
    assert "x@3: no run has it" in str(error.value)


def test_a_kept_copy_gives_the_same_row_under_its_name_without_paths() -> None:
    generator = np.random.default_rng(0)
    for seed in (1, 2):
        write_run(f"runs/{seed}", 0.2 + seed / 100, generator.random(50), seed=seed)
    folders = keep(read_runs([Path("runs")])[0], Path("results/toy"), "NCL, kept")
    assert folders == [Path("results/toy/NCL-kept/1"), Path("results/toy/NCL-kept/2")]
    (original,), (kept,) = only_table("runs").rows, only_table("results").rows
    assert (kept.name, kept.seeds, kept.mean("recall@10")) == ("NCL, kept", (1, 2), original.mean("recall@10"))
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == [CONFIG, RESULT, USERS]
        assert "/somewhere" not in (folder / CONFIG).read_text()
        small, whole = per_user(folder), per_user(Path("runs") / folder.name)
        assert set(small) == {"user", *PER_USER} & set(whole)
        assert small["recall@10"].dtype == np.float32
        np.testing.assert_array_equal(small["recall@10"], whole["recall@10"].astype(np.float32))
    assert only_table("runs", "results").rows[0].name == "NCL, kept"


def test_keeping_twice_changes_nothing_and_another_result_is_refused() -> None:
    write_run("a/1", 0.2, np.ones(3))
    write_run("b/1", 0.3, np.ones(3))
    (folder,) = keep(read_runs([Path("a")])[0], Path("results"), "x")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    keep(read_runs([Path("a")])[0], Path("results"), "x")
    with pytest.raises(ParamError, match=r"results/x/2020/result.json: holds another result; choose another --name"):
        keep(read_runs([Path("b")])[0], Path("results"), "x")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: write_run("runs/b", 0.2, np.ones(3), ssl_reg=0), "got 2 rows, expected one: NCL, ssl_reg 0; NCL, ssl"),
        (lambda: write_run("runs/b", 0.2, None, seed=1), r"runs/b/test_users.npz: absent"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_written(make: Callable[[], Path], words: str) -> None:
    write_run("runs/a", 0.2, np.ones(3))
    make()
    with pytest.raises(UserError, match=words):
        keep(read_runs([Path("runs")])[0], Path("results"), None)
    assert not Path("results").exists()


def test_published_figures_keep_their_source_and_may_have_gaps() -> None:
    Path("p.csv").write_text('model,source,recall@10,ndcg@10\nNCL,"Lin, 2022",0.2057,0.2732\nX,web,,0.1\n')
    assert read_published("p.csv") == [
        Published("NCL", "Lin, 2022", {"recall@10": 0.2057, "ndcg@10": 0.2732}),
        Published("X", "web", {"ndcg@10": 0.1}),
    ]


def test_published_metrics_may_be_in_any_letters_and_above_1_where_the_metric_may() -> None:
    Path("p.csv").write_text("model,source,Recall@10,AveragePopularity@10\nNCL,web,0.2057,310.5\n")
    assert read_published("p.csv") == [Published("NCL", "web", {"recall@10": 0.2057, "averagepopularity@10": 310.5})]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model,recall@10\nNCL,0.2\n", ["got the columns model, recall@10; expected model, source and metrics"]),
        ("", ["no CSV"]),
        (
            "model,source,recall@10\nNCL,,20.57\n,web,abc\n",
            [
                "row 1, source: expected a text, got ''",
                "row 1, recall@10: expected a figure from 0 to 1, got 20.57; a percentage is divided by 100",
                "row 2, model: expected a text",
                "row 2, recall@10: expected nothing or a number, got 'abc'",
            ],
        ),
        ("model,source,recall@10\nNCL,web,nan\n", ["row 1, recall@10: expected a figure from 0 to 1, got nan"]),
        (
            "model,source,recal@10,NDCG@10,ndcg@10,mrr\nNCL,web,0.2,0.1,0.1,0.3\n",
            [
                "column recal@10: expected metric@k; did you mean 'recall@10'?",
                "column ndcg@10: is there twice, in other letters; keep one",
                "column mrr: expected metric@k; did you mean 'mrr@10'?",
            ],
        ),
    ],
)
def test_a_wrong_file_of_published_figures_is_refused_with_every_cell(text: str, words: list[str]) -> None:
    Path("p.csv").write_text(text)
    with pytest.raises(ParamError) as error:
        read_published("p.csv")
    assert all(expected in str(error.value) for expected in words)


def test_shipped_figures_are_found_by_name_and_name_their_sources() -> None:
    for name, size in (("ml-1m", 10), ("gowalla", 7)):
        rows = read_published(name)
        assert len({(row.model, row.source) for row in rows}) == len(rows) == size
    assert all(row.source.endswith(", probably test-picked") for row in read_published("gowalla"))
    with pytest.raises(ParamError, match=r"ends in .csv, or one of gowalla, ml-1m; did you mean 'gowalla'\?"):
        read_published("gowala")
    with pytest.raises(ParamError, match=r"published: absent.csv: cannot be read"):
        read_published("absent.csv")


def test_a_long_value_is_shown_by_its_beginning_and_told_apart_by_a_fingerprint(tmp_path: Path) -> None:
    long = "users " + " ".join(f"{n}*2" for n in range(60))
    one, two = (write_run(tmp_path / name, 0.2, columns=long + name) for name in "ab")
    runs, _ = read_runs([one, two])
    texts = [run.settings["columns"] for run in runs]
    assert all(text.startswith('"users 0*2 1*2') and len(text) < 60 for text in texts)
    assert texts[0] != texts[1]
