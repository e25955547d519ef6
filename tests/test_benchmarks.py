import json
import math
import operator
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.model.general_recommender import NCL as RecboleNCL  # noqa: N811  (a class)
from recbole.sampler import Sampler
from recbole.trainer import NCLTrainer

from benchmarks import bench, breakdown, machine, scale
from benchmarks.bench import Runner
from benchmarks.ours import OurSide
from benchmarks.recbole_side import RecboleSide
from benchmarks.rows import Measured, row, table
from benchmarks.side import Head, Settings, Side
from benchmarks.synthetic import SyntheticModel, n_edges_of, n_users_for, random_batch, synthetic_graph
from benchmarks.worker import Worker
from recmodels.cli import guarded
from recmodels.errors import DataError, TrainingError
from recmodels.models import MODELS
from recmodels.streams import stream
from tests.runs import CHECKOUT, python, same_state

KEYS = [
    *("model", "ours_s", "recbole_s", "ratio", "ours_peak_mb", "recbole_peak_mb", "ours_eval_s", "ours_to_ncl"),
    *("ours_epochs_s", "recbole_epochs_s"),
]
needs_proc = pytest.mark.skipif(machine.resident_mb() is None, reason="this system has no /proc")


def settings(folder: Path, model: str, **changes: Any) -> Settings:  # noqa: ANN401
    values = {"batch_size": 1024, "steps": 2, "warmup_steps": 1, "use_gpu": False} | changes
    return Settings(model, "ml-100k", "dataset", folder=str(folder), **values)


# --- rows


def test_row_holds_medians_and_their_ratio() -> None:
    found = row("NCL", Measured([2.0, 9.0, 4.0], 10.0, [3.0, 1.0]), Measured([30.0, 10.0, 20.0], 40.0, []), None)
    assert list(found) == KEYS
    assert (found["ours_s"], found["recbole_s"], found["ratio"], found["ours_eval_s"]) == (4.0, 20.0, 5.0, 2.0)
    assert (found["ours_peak_mb"], found["recbole_peak_mb"], found["ours_to_ncl"]) == (10.0, 40.0, None)
    assert (found["ours_epochs_s"], found["recbole_epochs_s"]) == ([2.0, 9.0, 4.0], [30.0, 10.0, 20.0])


def test_row_without_recbole_is_compared_with_our_ncl() -> None:
    found = row("NCL_OT", Measured([6.0], None, []), None, Measured([5.0, 3.0, 4.0], 10.0, []))
    assert found["ours_to_ncl"] == 1.5
    absent = {"recbole_s", "ratio", "recbole_peak_mb", "recbole_epochs_s", "ours_peak_mb", "ours_eval_s"}
    assert {key for key, value in found.items() if value is None} == absent
    assert json.loads(json.dumps(found)) == found


def test_table_aligns_columns_and_marks_what_is_absent() -> None:
    text = table({"a": ("name", ""), "b": ("s", ".1f")}, [{"a": "x", "b": 12.345}, {"a": "longer", "b": None}])
    assert text.splitlines() == ["name       s", "x       12.3", "longer     -"]


# --- turns


class FakeWorker:
    """Answers every action with 1 and writes down who was asked."""

    def __init__(self, name: str, journal: list[str], facts: dict[str, int] | None = None) -> None:
        self.name, self.journal, self.facts = name, journal, facts

    def run(self, action: Callable[..., Any]) -> Any:  # noqa: ANN401
        self.journal.append(f"{self.name} {action.__name__}")
        return self.facts if action is Side.facts else 1.0

    def peak_mb(self) -> float:
        self.journal.append(f"{self.name} peak")
        return 2.0


def runners(journal: list[str], *facts: dict[str, int]) -> list[Runner]:
    named = zip(("ours", "RecBole"), facts or ({}, {}), strict=True)
    return [Runner("NCL", name, FakeWorker(name, journal, own)) for name, own in named]  # type: ignore[arg-type]


def test_epochs_alternate_and_peaks_come_after_them(capsys: pytest.CaptureFixture[str]) -> None:
    journal: list[str] = []
    found = runners(journal)
    bench._take_turns(found, 2)
    both = ["ours epoch", "RecBole epoch"]
    assert journal == ["ours warm_up", "RecBole warm_up", *both, *both, "ours peak", "RecBole peak"]
    assert [runner.measured() for runner in found] == [Measured([1.0, 1.0], 2.0, [])] * 2
    assert capsys.readouterr().err.splitlines()[3] == "NCL, RecBole, epoch 2 of 2: 1.0 s"


def test_sides_that_differ_are_refused() -> None:
    assert bench._common_facts(runners([], {"batch": 1}, {"batch": 1})) == {"batch": 1}
    with pytest.raises(DataError, match=r"NCL, RecBole: got \{'batch': 2\}, expected \{'batch': 1\} as NCL, ours"):
        bench._common_facts(runners([], {"batch": 1}, {"batch": 2}))


@pytest.mark.parametrize(("gpu", "libraries"), [(False, ["ours", "RecBole"]), (True, ["ours"])])
def test_recbole_runs_where_it_has_the_model_and_not_on_a_gpu(gpu: bool, libraries: list[str]) -> None:
    assert bench._libraries("NCL", Namespace(gpu=gpu)) == libraries
    assert bench._libraries("NCL_OT", Namespace(gpu=gpu)) == ["ours"]


# --- processes


def test_worker_keeps_its_job_in_another_process() -> None:
    with Worker(list, [3, 1, 2]) as worker:
        worker.run(list.sort)
        assert worker.run(list.copy) == [1, 2, 3]
        assert worker._process.pid != os.getpid()
    assert not worker._process.is_alive()


def test_errors_of_a_worker_reach_the_parent() -> None:
    with Worker(int, "3") as worker:
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            worker.run(divmod, 0)
        with pytest.raises(TrainingError, match="exit code 3"):
            worker.run(os._exit)
    with pytest.raises(RuntimeError, match="ValueError"):
        Worker(int, "three")


@needs_proc
def test_peak_is_that_of_the_job_alone() -> None:
    ballast = np.ones(2**25)  # 256 MB in this process, which the worker must not inherit
    with Worker(operator.mul, b"x", 2**26) as worker:
        peak = worker.peak_mb()
    assert ballast.nbytes == 2**28
    assert peak is not None
    assert 64 <= peak < 80


@needs_proc
def test_high_water_mark_starts_again_at_the_present_size() -> None:
    np.ones(2**24)  # 128 MB, given back at once
    before = machine.high_water_mb()
    if not machine.reset_high_water():
        pytest.skip("this system cannot reset the mark")
    after, present = machine.high_water_mb(), machine.resident_mb()
    assert before is not None
    assert after is not None
    assert present is not None
    assert before > present + 100
    assert after < present + 20


# --- sides


def test_head_is_the_beginning_of_a_loader_and_otherwise_the_loader() -> None:
    loader = range(10)
    assert (list(Head(loader, 3)), len(Head(loader, 3))) == ([0, 1, 2], 3)
    assert (list(Head(loader, None)), len(Head(loader, 99))) == (list(loader), 10)
    assert Head(loader, 3).stop == 10


def test_recbole_side_trains_recboles_classes_with_recboles_sampler(tmp_path: Path) -> None:
    side = RecboleSide(settings(tmp_path / "theirs", "NCL"))
    assert (type(side.trainer), type(side.trainer.model)) == (NCLTrainer, RecboleNCL)
    assert (type(side.loader), type(side.loader._sampler)) == (TrainDataLoader, Sampler)
    before = side.trainer.model.user_embedding.weight.detach().clone()
    side.warm_up()
    side.epoch()
    model = side.trainer.model
    assert not torch.equal(model.user_embedding.weight, before)
    assert model.user_centroids.shape == (model.n_users, model.latent_dim)  # 1000 clusters are more than the users
    torch.testing.assert_close(model.item_centroids.norm(dim=1), torch.ones(1000))
    assert sys.modules["faiss"].Kmeans.__name__ == "Kmeans"
    (tmp_path / "ours").mkdir()
    assert OurSide(settings(tmp_path / "ours", "NCL")).facts() == side.facts()


def test_a_step_in_parts_is_a_whole_step(tmp_path: Path) -> None:
    sides = [OurSide(settings(tmp_path, "NCL_OT")) for _ in range(2)]
    for side, step in zip(sides, (breakdown._whole_step, breakdown._step_in_parts), strict=True):
        batches = iter(side.loader)
        side.session.model.train()
        side.session.model.on_epoch_start(0)
        np.random.seed(0)
        for index in range(2):
            step(side, batches, index)
    assert same_state(*(side.session.model.state_dict() for side in sides))


def test_breakdown_names_every_part(tmp_path: Path) -> None:
    found = breakdown.measure(OurSide(settings(tmp_path, "LightGCN")), 3)
    parts = {"sampling", "propagation", "term bpr", "term reg", "backward", "optimizer", "rest"}
    assert found["parts_ms"].keys() == parts
    assert found["sum_ms"] == pytest.approx(sum(found["parts_ms"].values()))
    text = breakdown.breakdown_table([{"model": "LightGCN", **found}])
    assert parts <= {line.rsplit(None, 1)[0] for line in text.splitlines() if line}


# --- scale


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_slope_of_a_power_law_is_its_exponent(exponent: float) -> None:
    x = [1e6, 2e6, 4e6, 8e6]
    assert scale.log_log_slope(x, [3e-7 * n**exponent for n in x]) == pytest.approx(exponent)


def test_deviation_is_zero_on_a_line_and_the_worst_point_off_it() -> None:
    assert scale.line_deviation([1, 2, 5], [13, 16, 25]) == pytest.approx(0)
    # the line through (1, 1), (2, 2), (3, 6) is 2.5 x - 2: 0.5, -1 and 0.5 away
    assert scale.line_deviation([1, 2, 3], [1, 2, 6]) == pytest.approx(50)


def test_too_few_sizes_have_no_fit() -> None:
    assert scale.log_log_slope([5], [1]) is None
    assert scale.line_deviation([1, 2], [1, 7]) is None
    rows = [scale.scale_row("LightGCN", {"edges": 2 * 10**6}, [1.0, 3.0, 2.0], None)]
    assert (rows[0]["step_s"], rows[0]["s_per_million_edges"], rows[0]["mb_per_million_edges"]) == (2.0, 1.0, None)
    assert [fit["quantity"] for fit in scale.fits(rows)] == ["seconds of a step"]


def test_synthetic_graph_has_the_asked_size() -> None:
    n_users = n_users_for(50_000, "nodes")
    graph = synthetic_graph(50_000, n_users, stream(0, "graph"))
    assert (n_users, graph.n_users, graph.n_items) == (2000, 2001, 1001)
    assert 0.95 * 50_000 < n_edges_of(graph) < 50_000
    assert graph.degrees[0] == graph.degrees[graph.n_users] == 0
    assert n_users_for(50_000, "density") == n_users_for(10**6, "density") == 100_000


def test_synthetic_graph_is_reproducible() -> None:
    one, same, other = (synthetic_graph(5000, 200, stream(seed, "graph")) for seed in (1, 1, 2))
    assert torch.equal(one.indices, same.indices)
    assert torch.equal(one.indptr, same.indptr)
    assert not torch.equal(one.indptr, other.indptr)


def test_popularity_follows_the_root_of_the_rank() -> None:
    graph = synthetic_graph(200_000, 20_000, stream(0, "graph"))
    degrees = graph.degrees[graph.items].double()
    share = float(degrees[: len(degrees) // 4].sum() / degrees.sum())
    assert math.isclose(share, 0.5, abs_tol=0.01)  # P(u^2 < 1/4)


def test_batches_are_edges_with_items_as_negatives() -> None:
    graph = synthetic_graph(2000, 80, stream(0, "graph"))
    batch = random_batch(graph, 20_000, stream(0, "batches"))
    assert bool(graph.has_edge(batch.user, batch.pos).all())
    assert int(batch.user.max()) < graph.n_users
    assert set(batch.neg.tolist()) == set(graph.items.tolist())
    seen = torch.unique(batch.user * graph.n_nodes + batch.pos)
    assert len(seen) > 0.99 * n_edges_of(graph)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_on_a_synthetic_graph(name: str) -> None:
    model = SyntheticModel(name, 2500, "nodes", seed=1)
    before = {key: value.clone() for key, value in model.parts.table.state_dict().items()}
    assert len(model.steps(2)) == 2
    rows = model.parts.table()
    assert bool((rows != next(iter(before.values())))[model.graph.users].any())
    assert bool(torch.isfinite(rows).all())
    assert {o.name for o in model.objectives} >= ({"ssl", "proto"} if name != "LightGCN" else {"bpr", "reg"})


# --- command lines


def run(module: str, cwd: Path, *options: str) -> Any:  # noqa: ANN401  (a finished process)
    return python(["-m", f"benchmarks.{module}", *options], cwd, PYTHONPATH=str(CHECKOUT))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_bench_end_to_end_leaves_only_its_files(tmp_path: Path) -> None:
    short = ["--steps", "2", "--epochs", "1", "--warmup-steps", "1", "--batch-size", "512", "--models", "LightGCN"]
    done = run("bench", tmp_path, *short, "--threads", "1", "--out", "found")
    assert done.returncode == 0, done.stderr
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "found",
        "found/bench-ml-100k.jsonl",
        "found/breakdown-ml-100k.jsonl",
    ]
    header, *rows = lines(tmp_path / "found" / "bench-ml-100k.jsonl")
    assert (header["dataset"], header["batch_size"], header["threads"]) == ("ml-100k", 512, 1)
    assert (header["seed"], header["split_seed"], header["steps_taken"]) == (2020, 2020, 2)
    assert [list(found) for found in rows] == [KEYS]
    assert [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")] == rows
    assert f"EPOCHS CUT after 2 of {header['steps_per_epoch']} steps" in done.stdout
    assert rows[0]["ratio"] == rows[0]["recbole_s"] / rows[0]["ours_s"]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "LightGCN, ours, epoch 1 of 1",
        "LightGCN, RecBole, epoch 1 of 1",
        "LightGCN, ours, evaluation 1 of 1",
    ]


@pytest.mark.slow
def test_scale_end_to_end_writes_rows_fits_and_a_picture(tmp_path: Path) -> None:
    done = run("scale", tmp_path, "--edges", "3000", "6000", "12000", "--steps", "1", "--models", "LightGCN")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "benchmarks" / "out"
    conditions, *others = lines(out / "scale-nodes.jsonl")
    assert (conditions["growth"], conditions["threads"]) == ("nodes", 1)
    assert [found["users"] for found in others[:3]] == [120, 240, 480]
    assert [found["quantity"] for found in others[3:]] == list(scale.QUANTITIES.values())
    assert (out / "scale-nodes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", [bench.run, breakdown.run, scale.run])
def test_an_unknown_model_is_refused_with_the_choices(
    command: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(["--models", "NLC"])
    assert caught.value.code == 2
    assert "invalid choice: 'NLC' (choose from" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--epochs=0", "--steps=-1", "--threads=two", "--batch-size=1.5"])
def test_counts_below_one_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.run([option])
    assert caught.value.code == 2
    name, _, value = option.partition("=")
    assert f"argument {name}: got '{value}', expected a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_an_unknown_data_set_is_one_error_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(bench.run, ["--dataset=ml-100", "--models", "LightGCN"]) == 2
    (line, *_) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "ml-100" in line
    assert list(tmp_path.iterdir()) == []
