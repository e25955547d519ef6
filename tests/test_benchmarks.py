import errno
import json
import operator
import os
import signal
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import bench, breakdown, machine
from benchmarks.bench import Group, Runner
from benchmarks.command import main
from benchmarks.rows import Measured, Results, paired_ratio, row, table
from benchmarks.worker import _answer_of
from recmodels.errors import DataError, TrainingError, UserError
from tests.benchmark_runs import FACTS, REMEDIES, FakeWorker, lines, options, run, worker

KEYS = [
    *("model", "ours_s", "recbole_s", "ratio", "ours_peak_mb", "recbole_peak_mb", "ours_eval_s", "ours_to_ncl"),
    *("ours_epochs_s", "recbole_epochs_s"),
]
needs_proc = pytest.mark.skipif(machine.resident_mb() is None, reason="this system has no /proc")


# --- rows


def test_row_holds_medians_and_their_ratio() -> None:
    found = row("NCL", Measured([2.0, 9.0, 4.0], 10.0, [3.0, 1.0]), Measured([30.0, 10.0, 20.0], 40.0, []), None)
    assert list(found) == KEYS
    assert (found["ours_s"], found["recbole_s"], found["ratio"], found["ours_eval_s"]) == (4.0, 20.0, 5.0, 2.0)
    assert (found["ours_peak_mb"], found["recbole_peak_mb"], found["ours_to_ncl"]) == (10.0, 40.0, None)
    assert (found["ours_epochs_s"], found["recbole_epochs_s"]) == ([2.0, 9.0, 4.0], [30.0, 10.0, 20.0])


def test_row_without_recbole_is_compared_with_our_ncl() -> None:
    found = row("NCL_OT", Measured([6.0], None, []), None, 1.5)
    assert found["ours_to_ncl"] == 1.5
    absent = {"recbole_s", "ratio", "recbole_peak_mb", "recbole_epochs_s", "ours_peak_mb", "ours_eval_s"}
    assert {key for key, value in found.items() if value is None} == absent
    assert json.loads(json.dumps(found)) == found


def test_a_slow_stretch_that_meets_both_is_not_in_the_ratio() -> None:
    theirs = [1.0, 1.0, 3.0, 3.0, 3.0]
    assert paired_ratio([1.1, 9.0, 3.3, 3.3, 0.1], theirs) == pytest.approx(1.1)
    assert paired_ratio([], []) is None


def test_table_aligns_columns_and_marks_what_is_absent() -> None:
    text = table({"a": ("name", ""), "b": ("s", ".1f")}, [{"a": "x", "b": 12.345}, {"a": "longer", "b": None}])
    assert text.splitlines() == ["name       s", "x       12.3", "longer     -"]


# --- turns


def runners(journal: list[str], *facts: dict[str, int], device_peak_mb: float | None = None) -> list[Runner]:
    named = zip(("ours", "RecBole"), facts or ({}, {}), strict=True)
    workers: list[tuple[str, Any]] = [(name, FakeWorker(name, journal, own, device_peak_mb)) for name, own in named]
    return [Runner("NCL", name, worker) for name, worker in workers]


def test_epochs_alternate_and_peaks_come_after_them(capsys: pytest.CaptureFixture[str]) -> None:
    journal: list[str] = []
    found = runners(journal)
    bench._take_turns(found, 2)
    both, peaks = ["ours epoch", "RecBole epoch"], ["device_peak_mb", "peak"]
    peaks = [f"{name} {what}" for name in ("ours", "RecBole") for what in peaks]
    assert journal == ["ours warm_up", "RecBole warm_up", *both, *both, *peaks]
    assert [runner.measured() for runner in found] == [Measured([1.0, 1.0], 2.0, [])] * 2
    assert capsys.readouterr().err.splitlines()[3] == "NCL, RecBole, epoch 2 of 2: 1.0 s"


def test_steps_alternate_and_the_first_are_not_timed() -> None:
    journal: list[str] = []
    found = runners(journal)
    bench._take_steps(found, 2)
    both = ["ours step", "RecBole step"]
    assert journal == ["ours begin_epoch", "RecBole begin_epoch", *both * (2 + breakdown.WARM_UP_STEPS)]
    assert [runner.steps_s for runner in found] == [[1.0, 1.0]] * 2


def test_the_peak_of_a_model_on_a_gpu_is_the_gpus() -> None:
    journal: list[str] = []
    found = runners(journal, device_peak_mb=5.0)
    bench._take_turns(found, 1)
    assert [runner.peak_mb for runner in found] == [5.0, 5.0]
    assert "ours peak" not in journal


def test_sides_that_differ_are_refused() -> None:
    assert bench._common_facts(runners([], {"batch": 1}, {"batch": 1}), []) == {"batch": 1}
    with pytest.raises(DataError, match=r"NCL, RecBole: got \{'batch': 2\}, expected \{'batch': 1\} as NCL, ours"):
        bench._common_facts(runners([], {"batch": 1}, {"batch": 2}), [])


def test_groups_that_differ_are_refused_by_what_differs() -> None:
    first = ("the group of LightGCN", {"batch": 1, "seed": 3})
    same = {"batch": 2, "seed": 3}
    with pytest.raises(DataError, match=r"NCL, ours: got \{'batch': 2\}, expected \{'batch': 1\} as the group of L"):
        bench._common_facts(runners([], same, same), [first])


def test_the_table_names_the_device_and_the_memory_of_the_peak() -> None:
    rows = [row("NCL", Measured([1.0], 5.0, [2.0]), None, None)]
    told = bench.describe(bench.header(options(gpu=True), FACTS | {"device": "cuda, Some GPU"}), rows)
    assert "dataset ml-100k, device cuda, Some GPU, batch_size 8" in told
    assert "peak: what torch held on the GPU" in told
    assert "peak: memory of the process" in bench.describe(bench.header(options(), FACTS), rows)


def test_the_row_of_a_filter_is_told_to_be_a_fit() -> None:
    rows = [row(name, Measured([1.0], 5.0, [2.0]), None, None) for name in ("LightGCN", "GFCF")]
    assert "\nGFCF: seconds of the whole fit" in bench.describe(bench.header(options(), FACTS), rows)
    assert "whole fit" not in bench.describe(bench.header(options(), FACTS), rows[:1])


# --- what is kept


def group(names: Sequence[str], *_: object) -> Group:
    """In place of measuring; the second group is interrupted."""
    if "NCL" in names:
        raise KeyboardInterrupt
    parts = {"model": "LightGCN", "parts_ms": {"rest": 1.0}, "sum_ms": 1.0, "step_ms": 1.0, "epoch_start_ms": 1.0}
    return Group([row("LightGCN", Measured([1.0], None, [1.0]), None, None)], [parts], FACTS)


def test_an_interruption_keeps_the_groups_that_were_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "measure_group", group)
    with pytest.raises(SystemExit) as caught:
        main(bench.run, ["--out", "found"], REMEDIES)
    assert caught.value.code == 130
    files = "found/bench-ml-100k.jsonl and found/breakdown-ml-100k.jsonl"
    assert capsys.readouterr().err == f"interrupted; what was finished is in {files}\n"
    (header, only), (same, parts) = (lines(Path(file)) for file in files.split(" and "))
    assert (only["model"], parts["model"], header["epochs"]) == ("LightGCN", "LightGCN", 3)
    assert {key: header[key] for key in same} == same
    with pytest.raises(SystemExit):
        main(bench.run, ["--out", "others", "--models", "NCL"], REMEDIES)
    assert capsys.readouterr().err == "interrupted; nothing was finished\n"


def test_mixed_precision_is_measured_without_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = group(["LightGCN"])._replace(breakdowns=[])
    monkeypatch.setattr(bench, "measure_group", lambda *_: found)
    bench.run(["--models", "LightGCN", "--set", "enable_amp=true"], Results())
    assert "no steps in parts: enable_amp: got True, expected False" in capsys.readouterr().out
    assert [path.name for path in Path("benchmarks/out").iterdir()] == ["bench-ml-100k.jsonl"]


@pytest.mark.parametrize(("gpu", "libraries"), [(False, ["ours", "RecBole"]), (True, ["ours"])])
def test_recbole_runs_where_it_has_the_model_and_not_on_a_gpu(gpu: bool, libraries: list[str]) -> None:
    assert bench._libraries("NCL", Namespace(gpu=gpu)) == libraries
    assert bench._libraries("NCL_OT", Namespace(gpu=gpu)) == ["ours"]


# --- processes


def test_worker_keeps_its_job_in_another_process() -> None:
    with worker(list, [3, 1, 2]) as process:
        process.run(list.sort)
        assert process.run(list.copy) == [1, 2, 3]
        assert process._process.pid != os.getpid()
    assert not process._process.is_alive()


def test_errors_of_a_worker_reach_the_parent() -> None:
    with worker(int, "3") as process:
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            process.run(divmod, 0)
        with pytest.raises(TrainingError, match="exit code 3"):
            process.run(os._exit)
    with pytest.raises(RuntimeError, match="ValueError"):
        worker(int, "three")


def refuse(_: object, error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "a job: out of memory; lower --everything"),
        (RuntimeError("not enough memory: you tried"), r"a job: out of memory \(not enough memory: you tried\); lower"),
        (RuntimeError("Storage size calculation overflowed"), r"a job: out of memory \(Storage size .*; lower --every"),
        (torch.OutOfMemoryError("CUDA"), r"a job: out of memory \(CUDA\); lower --everything"),
        (OSError(errno.ENOSPC, "No space"), "a job: No space; less"),
        (OSError(errno.EACCES, "Permission denied", "x"), "a job: x: Permission denied; another folder"),
    ],
)
def test_what_the_machine_refuses_a_worker_is_one_message(error: Exception, words: str) -> None:
    is_good, answer = _answer_of(partial(refuse, None, error), "a job", REMEDIES)
    assert not is_good
    with pytest.raises(UserError, match=f"^{words}"):
        raise answer


def test_a_process_that_was_killed_is_told_with_its_name() -> None:
    with worker(int, "3") as process:
        os.kill(process._process.pid or 0, signal.SIGKILL)
        process._process.join()
        with pytest.raises(TrainingError, match="a job: its process ended .* -9, killed for want.* lower --everything"):
            process.run(abs)


@needs_proc
def test_peak_is_that_of_the_job_alone() -> None:
    ballast = np.ones(2**25)  # 256 MB in this process, which the worker must not inherit
    with worker(operator.mul, b"x", 2**26) as process:
        peak = process.peak_mb()
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
