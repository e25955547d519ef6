import math
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import ClassVar

import pytest
import torch

from benchmarks import scale
from benchmarks.command import main
from benchmarks.rows import Row
from benchmarks.synthetic import SyntheticModel, n_edges_of, n_users_for, random_batch, synthetic_graph
from recmodels.errors import UserError
from recmodels.models import MODELS
from recmodels.streams import stream
from tests.benchmark_runs import REMEDIES, lines, run


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
    rows = [scale.scale_row("LightGCN", [scale.ProcessRun({"edges": 2 * 10**6}, [1.0, 3.0, 2.0], None)])]
    assert (rows[0]["step_s"], rows[0]["s_per_million_edges"], rows[0]["mb_per_million_edges"]) == (2.0, 1.0, None)
    assert [fit["quantity"] for fit in scale.fits(rows)] == ["seconds of a step"]
    processes = [scale.ProcessRun({"edges": 10**6}, [1.0], peak) for peak in (7.0, 9.0, None)]
    assert scale.scale_row("LightGCN", processes)["peak_mb"] == 8.0


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
    assert {o.name for o in model.objectives} >= ({"ssl"} if name != "LightGCN" else {"bpr", "reg"})
    assert any(o.name == "proto" for o in model.objectives) == name.startswith("NCL")


@pytest.mark.slow
def test_scale_end_to_end_writes_rows_fits_and_a_picture(tmp_path: Path) -> None:
    sizes, turns = ["--edges", "3000", "6000", "12000"], ["--steps", "2", "--processes", "2"]
    done = run("scale", tmp_path, *sizes, *turns, "--models", "LightGCN")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "benchmarks" / "out"
    conditions, *others = lines(out / "scale-nodes.jsonl")
    assert (conditions["growth"], conditions["threads"]) == ("nodes", 1)
    assert [found["users"] for found in others[:3]] == [120, 240, 480]
    assert [len(found["steps_s"]) for found in others[:3]] == [4, 4, 4]
    assert all(found["peak_mb"] == median(found["peaks_mb"]) for found in others[:3])
    assert [found["quantity"] for found in others[3:]] == list(scale.QUANTITIES.values())
    assert (out / "scale-nodes.png").read_bytes().startswith(b"\x89PNG")


class JournalWorker:
    """Stands in for a process; every size writes what it does into one journal."""

    journal: ClassVar[list[str]] = []

    def __init__(self, _: object, model: str, n_edges: int, *__: object, **___: object) -> None:
        self.n_edges, self.done = n_edges, 0

    def __enter__(self) -> "JournalWorker":
        self.journal.append(f"{self.n_edges} begins")
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.append(f"{self.n_edges} ends")

    def run(self, action: object, *args: int) -> object:
        if action is SyntheticModel.facts:
            return {"edges": self.n_edges, "threads": 1}
        self.journal.append(f"{self.n_edges} takes {args[0]}")
        self.done += args[0]
        return [float(self.done)] * args[0]

    def reset_peak(self) -> bool:
        return True

    def peak_mb(self) -> float:
        return float(self.n_edges)


def test_sizes_take_turns_in_each_round_and_every_round_gives_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "Worker", JournalWorker)
    monkeypatch.setattr(JournalWorker, "journal", [])
    options = scale.options_of(["--edges", "20", "10", "--steps", "2", "--processes", "2"])
    first, second = scale.measure("LightGCN", options)
    warm = scale._WARM_UP
    begins = ["10 begins", f"10 takes {warm}", "20 begins", f"20 takes {warm}"]
    turns = ["10 takes 1", "20 takes 1"]
    assert JournalWorker.journal == 2 * [*begins, *turns, *turns, "20 ends", "10 ends"]
    assert [(row["edges"], row["peak_mb"], row["steps_s"]) for row in first] == [
        (10, 10.0, [warm + 1.0, warm + 2.0]),
        (20, 20.0, [warm + 1.0, warm + 2.0]),
    ]
    assert [row["steps_s"] for row in second] == 2 * [[warm + 1.0, warm + 2.0] * 2]


def test_an_error_keeps_the_rounds_that_were_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(model: str, options: Namespace) -> Iterator[list[Row]]:
        yield [
            scale.scale_row(model, [scale.ProcessRun({"edges": n, "threads": 1}, [1.0], None)]) for n in options.edges
        ]
        if model == "SGL":
            raise UserError("too large")

    monkeypatch.setattr(scale, "measure", measure)
    argv = ["--edges", "1000", "2000", "--models", "LightGCN", "SGL", "--out", "found"]
    assert main(scale.run, argv, REMEDIES) == 2
    last = "what was finished is in found/scale-nodes.jsonl"
    assert capsys.readouterr().err.splitlines()[-2:] == ["error: too large", last]
    header, *rows = lines(tmp_path / "found" / "scale-nodes.jsonl")
    assert header.items() >= {"growth": "nodes", "steps": 8, "processes": 3, "seed": 2020, "threads": 1}.items()
    assert [(found["model"], found["edges"]) for found in rows] == [
        (m, n) for m in ("LightGCN", "SGL") for n in (1000, 2000)
    ]
