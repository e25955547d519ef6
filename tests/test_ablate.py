"""An ablation: names and identities of its runs, what is skipped, continued, recorded, and that nothing runs twice."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import recmodels
from recmodels import cli
from recmodels.ablation.ablate import Work, ablate, failed_trials
from recmodels.ablation.ablation_file import load_ablation
from recmodels.ablation.grid_study import GridStudy
from recmodels.ablation.points import Plan, PointRun, chosen_points, finished_runs, make_plan, run_key
from recmodels.ablation.table import write_table
from recmodels.config import Resolved
from recmodels.errors import DataError, ParamError, UserError
from recmodels.experiments import run
from recmodels.experiments.folder import CONFIG, RESULT
from recmodels.experiments.session import NO_NUMBER, load_splits, prepare, resolve_run, resolve_train
from recmodels.files import write_text
from recmodels.plain_yaml import dump_yaml
from recmodels.streams import stream_seed
from tests.runs import arguments, options
from tests.studies import full_databases

SPLIT = "6111c3a5b042" * 5
POINTS = "points: {plain: {}, deep: {n_layers: 3, note: 'a | b', reported: {recall@10: 0.25}}, aa: {control_of: plain}}"
Runner = Callable[[Resolved, Path], object]


def make(root: Path, points: str = POINTS, n_seeds: int | None = None, **overrides: Any) -> Plan:  # noqa: ANN401
    """The plan of `points.yaml` with a short base on the planted data under `root`."""
    base = options(root, model="LightGCN", **overrides)
    Path("points.yaml").write_text(dump_yaml({"base": base}) + points + "\n")
    return make_plan(*load_ablation("points.yaml", {}, n_seeds))


def score(resolved: Resolved) -> float:
    return resolved.values["n_layers"] / 10 + stream_seed(resolved.run.seed, "score") % 100 / 10000


def pretend(resolved: Resolved, folder: Path) -> None:
    """Leaves what a finished run leaves, its figures a formula of its values."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, resolved.dump())
    names = {"model": resolved.model, "dataset": resolved.dataset, "seed": resolved.run.seed, "best_epoch": 1}
    test = {"recall@10": 2 * score(resolved), "ndcg@10": 3 * score(resolved)}
    more = {"split_sha256": SPLIT, "test": test, "best_valid": {"ndcg@10": score(resolved)}}
    write_text(folder / RESULT, json.dumps(names | more))


def counted(runner: Runner = pretend) -> tuple[Runner, list[str]]:
    """A runner that keeps the names of the folders it is called with."""
    folders: list[str] = []

    def run_and_count(resolved: Resolved, folder: Path) -> None:
        folders.append(folder.name)
        runner(resolved, folder)

    return run_and_count, folders


def work(plan: Plan, runner: Runner, retried: frozenset[int] = frozenset()) -> list[str]:
    """Works on a plan to its end; the lines that were said."""
    lines: list[str] = []
    ablate(Work(plan, retried, runner, poll_seconds=0.01), 1, lines.append)
    return lines


def test_runs_are_named_by_point_seed_and_key_every_point_before_the_next_seed(tmp_path: Path) -> None:
    plan = make(tmp_path, POINTS + "\ngrid: {'odd: (name)': {reg_weight: [0.5]}}", n_seeds=2)
    assert [(found.point, found.seed) for found in plan.runs] == [
        *(("plain", 2020), ("deep", 2020), ("aa", 3020), ("odd: (name):reg_weight=0.5", 2020)),
        *(("plain", 2021), ("deep", 2021), ("aa", 3021), ("odd: (name):reg_weight=0.5", 2021)),
    ]
    names = [found.folder_name for found in plan.runs[:4]]
    keys = [found.key for found in plan.runs[:4]]
    assert names[0] == f"plain-2020-{keys[0]}"
    assert names[3] == f"odd-name-reg_weight=0.5-2020-{keys[3]}"
    assert plan.folder == tmp_path / "runs" / "points-planted"
    assert plan.split_sha256 == prepare(plan.points[0].resolved).splits.sha256
    assert PointRun("ß/" * 200, {"seed": 7}, "abc").folder_name == "point-7-abc"
    assert len(PointRun("long" * 200, {"seed": 7}, "abc").folder_name) < 120


def test_a_key_depends_on_what_decides_a_number_and_on_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(tmp_path, model="LightGCN")
    changes: dict[str, Any] = {"use_gpu": True, "gpu_id": "1", "state": "ERROR", "show_progress": True}
    changes |= {"runs_dir": "elsewhere", "data_path": str(tmp_path), "guard_replay": False, "eval_batch_bytes": 1}
    changes |= {"eval_batch_size": 9, "metric_decimal_place": 2, "loss_decimal_place": 2, "guard_dead_share": 0.5}
    assert set(changes) == NO_NUMBER
    base = run_key(resolve_train(given), SPLIT)
    assert {run_key(resolve_train({**given, key: value}), SPLIT) for key, value in changes.items()} == {base}
    monkeypatch.setattr("time.time", lambda: 0.0)
    monkeypatch.chdir(tmp_path.parent)
    assert run_key(resolve_train(given), SPLIT) == base
    others = [{"seed": 7}, {"n_layers": 1}, {"epochs": 4}, {"model": "SGL"}, {"split_seed": 1}, {"dataset": "other"}]
    keys = [run_key(resolve_train({**given, **other}), SPLIT) for other in others] + [run_key(resolve_train(given), "")]
    monkeypatch.setattr(recmodels, "__version__", "999")
    keys.append(run_key(resolve_train(given), SPLIT))
    assert len({base, *keys}) == 1 + len(keys)


def test_the_fingerprint_is_that_of_the_runs_and_another_seed_does_not_move_it(tmp_path: Path) -> None:
    resolved = resolve_train(options(tmp_path, model="EASE", reg_weight=1.0, guard_nonfinite="raise"))
    one, other = load_splits(resolved), load_splits(resolved.with_seed(7))
    assert one.sha256 == other.sha256 == prepare(resolved).splits.sha256
    assert resolved.with_seed(7) == resolve_train({**resolved.values, "model": "EASE", "dataset": "planted", "seed": 7})


def test_every_run_that_ends_is_a_line_and_the_same_plan_again_runs_nothing(tmp_path: Path) -> None:
    plan = make(tmp_path, n_seeds=2)
    runner, folders = counted()
    lines = work(plan, runner)
    assert folders == [found.folder_name for found in plan.runs]
    assert lines[0] == f"6 runs of 3 points in {plan.folder}: 6 to do"
    best = max(score(resolve_run(str(plan.folder / name))) for name in folders)
    assert [line[:5] for line in lines[1:]] == [f"[{n}/6]" for n in range(1, 7)]
    assert lines[2].startswith(
        f"[2/6] deep, seed 2020: ndcg@10 {score(resolve_run(str(plan.folder / folders[1]))):.4f}"
    )
    assert f"| best {best:.4f}, deep, seed " in lines[6]
    assert re.search(r"^\[6/6] aa, seed 3021: ndcg@10 0\.\d{4} at epoch 1, \d+\.\d s \| ", lines[6])
    assert work(plan, runner) == [f"6 runs of 3 points in {plan.folder}: 6 finished before (skipped), 0 to do"]
    assert len(folders) == 6


def test_more_seeds_and_more_points_run_only_what_is_new(tmp_path: Path) -> None:
    runner, folders = counted()
    work(make(tmp_path, "points: {plain: {}, aa: {control_of: plain}}"), runner)
    work(make(tmp_path, n_seeds=2, show_progress=True), runner)
    named = [name.rpartition("-")[0] for name in folders]
    assert named == ["plain-2020", "aa-3020", "deep-2020", "plain-2021", "deep-2021", "aa-3021"]


def test_a_point_that_was_renamed_and_a_lost_database_find_their_finished_runs(tmp_path: Path) -> None:
    runner, folders = counted()
    work(make(tmp_path, "points: {plain: {}, deep: {n_layers: 3}}"), runner)
    renamed = make(tmp_path, "points: {base: {}, deeper: {n_layers: 3}}")
    work(renamed, runner)
    (renamed.folder / "study.db").unlink()
    work(renamed, runner)
    assert len(folders) == 2
    runs = finished_runs(renamed)
    assert {name: [found.folder.name for found in runs[name]] for name in runs} == {
        "base": [folders[0]],
        "deeper": [folders[1]],
    }


def test_a_run_that_lost_its_result_is_run_again(tmp_path: Path) -> None:
    plan = make(tmp_path)
    runner, folders = counted()
    work(plan, runner)
    (plan.folder / folders[1] / RESULT).unlink()
    lines = work(plan, runner)
    assert lines[0].endswith("2 finished before (skipped), 1 to do")
    assert folders[3:] == [folders[1]]
    assert finished_runs(plan)["deep"]


def test_a_failed_run_is_recorded_and_the_rest_goes_on_until_it_is_retried(tmp_path: Path) -> None:
    plan = make(tmp_path, n_seeds=2)

    def fail_deep(resolved: Resolved, folder: Path) -> None:
        if resolved.values["n_layers"] == 3:
            raise ValueError(f"no such\n depth as in {folder.name}")
        pretend(resolved, folder)

    failing, tried = counted(fail_deep)
    lines = work(plan, failing)
    assert len(tried) == 6
    name = plan.runs[1].folder_name
    assert lines[2].startswith(f"[2/6] deep, seed 2020 failed: ValueError: no such depth as in {name} | best ")
    again = work(plan, failing)
    before = "4 finished before (skipped), 2 failed before (skipped; --retry-failed tries again)"
    assert again == [f"6 runs of 3 points in {plan.folder}: {before}, 0 to do"]
    assert f"- deep, seed 2020 failed: ValueError: no such depth as in {name}\n" in write_table(plan)
    retried = failed_trials(plan)
    work(plan, failing, retried)
    work(plan, failing, retried)  # a second process with the same retries, later: they are done
    assert len(tried) == 8
    runner, folders = counted()
    lines = work(plan, runner, failed_trials(plan))
    assert lines[0].endswith("4 finished before (skipped), 2 to do")
    assert folders == [plan.runs[place].folder_name for place in (1, 4)]
    assert "6 of 6 runs are finished" in write_table(plan)
    assert "failed" not in write_table(plan)


def test_a_run_without_a_result_has_failed(tmp_path: Path) -> None:
    plan = make(tmp_path, "points: {plain: {}}")
    (line,) = work(plan, lambda resolved, folder: folder.mkdir(parents=True))[1:]
    path = plan.folder / plan.runs[0].folder_name / RESULT
    assert line == f"[1/1] plain, seed 2020 failed: {path} has no valid ndcg@10"


def test_a_full_disk_stops_everything_and_leaves_the_run_to_the_next_command(tmp_path: Path) -> None:
    plan = make(tmp_path)

    def fill(resolved: Resolved, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    for _ in range(4):  # more often than a run may end its process without an error
        with pytest.raises(OSError, match="No space left"):
            work(plan, fill)
    runner, folders = counted()
    assert work(plan, runner)[0].endswith("3 to do")
    assert folders == [found.folder_name for found in plan.runs]
    assert [trial.number for trial in GridStudy(plan).finished()] == [0, 1, 2]


def test_a_point_that_the_data_are_too_small_for_is_refused_before_the_first_run(tmp_path: Path) -> None:
    text = "points:\n  plain: {}\n  slk: {rec_loss: slk, slk_k: 500}\n  filter: {model: GFCF, ideal_rank: 500}\n"
    with pytest.raises(ParamError) as caught:
        make(tmp_path, text)
    found = str(caught.value)
    assert "point slk: slk_k: got 500; expected at most 80" in found
    assert "point filter: ideal_rank: got 500, expected at most 60" in found


def test_a_full_database_stops_everything_and_leaves_the_run_to_the_next_command(tmp_path: Path) -> None:
    plan = make(tmp_path)
    GridStudy(plan)  # makes the database

    def fail(resolved: Resolved, folder: Path) -> None:
        raise ValueError("a long reason" * 1000)

    with full_databases(), pytest.raises(UserError, match=r"study\.db: database or disk is full; .* continues"):
        work(plan, fail)
    runner, folders = counted()
    assert work(plan, runner)[0].endswith("3 to do")
    assert folders == [found.folder_name for found in plan.runs]


def test_a_run_is_in_one_process_at_a_time_and_free_when_its_lock_is(tmp_path: Path) -> None:
    plan = make(tmp_path, "points: {plain: {}, deep: {n_layers: 3}}")
    one, other = GridStudy(plan), GridStudy(plan)
    first, second = one.claim(), other.claim()
    assert first is not None
    assert second is not None
    assert [found.point for found, _ in (first, second)] == ["plain", "deep"]
    assert one.claim() is None
    assert one.has_running()
    second[1].lock.lock.release()  # what the kernel does when a process is killed
    again = one.claim()
    assert again is not None
    assert (again[0].point, again[1].trial.number) == ("deep", second[1].trial.number)
    assert other.claim() is None


def test_a_run_that_ends_its_processes_is_given_up(tmp_path: Path) -> None:
    class KilledError(BaseException):
        """What ends a process."""

    def kill(resolved: Resolved, folder: Path) -> None:
        if resolved.values["n_layers"] == 3:
            raise KilledError
        pretend(resolved, folder)

    plan, tries = make(tmp_path), 0
    while GridStudy(plan).claim() is not None:
        tries += 1
        try:
            lines = work(plan, kill)
        except KilledError:
            continue
        break
    assert tries == 4
    assert "3 processes ended without an error after 0 epochs, say for lack of memory" in "".join(lines)
    assert [len(found) for found in finished_runs(plan).values()] == [1, 0, 1]


def test_interruptions_are_no_deaths(tmp_path: Path) -> None:
    plan = make(tmp_path, "points: {only: {}}")

    def interrupt(resolved: Resolved, folder: Path) -> None:
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            work(plan, interrupt)
    runner, folders = counted()
    work(plan, runner)
    assert folders == [plan.runs[0].folder_name]
    assert failed_trials(plan) == frozenset()


def test_a_damaged_result_is_run_again(tmp_path: Path) -> None:
    plan = make(tmp_path, "points: {only: {}}")
    work(plan, pretend)
    (plan.folder / plan.runs[0].folder_name / "result.json").write_text("garbage")
    runner, folders = counted()
    work(plan, runner)
    assert folders == [plan.runs[0].folder_name]


def test_a_damaged_database_is_refused_and_without_it_finished_runs_are_found(tmp_path: Path) -> None:
    plan = make(tmp_path)
    work(plan, pretend)
    database = plan.folder / "study.db"
    database.write_bytes(b"junk" * 1000)
    with pytest.raises(UserError) as caught:
        work(plan, pretend)
    reason = "not the database of a study: file is not a database"
    assert str(caught.value) == f"{database}: {reason}; remove it: finished runs are known by their folders"
    database.unlink()
    runner, folders = counted()
    work(plan, runner)
    assert not folders


def test_trials_of_other_versions_of_the_file_are_left_alone(tmp_path: Path) -> None:
    old = make(tmp_path, "points: {gone: {n_layers: 1}}")
    left = GridStudy(old).claim()
    assert left is not None
    left[1].lock.lock.release()
    plan = make(tmp_path, "points: {plain: {}}")
    runner, folders = counted()
    work(plan, runner)
    assert folders == [plan.runs[0].folder_name]
    assert GridStudy(old).has_running()


def test_runs_of_another_split_are_refused_with_what_differs(tmp_path: Path) -> None:
    plan = make(tmp_path)
    work(plan, pretend)
    other = make(tmp_path, split_seed=7)
    with pytest.raises(UserError) as caught:
        work(other, pretend)
    assert str(caught.value).split("\n  - ") == [
        f"{plan.folder} is the study of something else; choose another folder with --runs_dir=DIR. What differs:",
        f"split_sha256: got '{other.split_sha256}', expected '{plan.split_sha256}'",
    ]


def test_the_table_has_means_and_deviations_beside_the_figures_of_others(tmp_path: Path) -> None:
    plan = make(tmp_path, n_seeds=2)
    work(plan, pretend)
    text = write_table(plan)
    assert (plan.folder / "table.md").read_text() == text
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert lines[0] == [
        *("| point", "seeds", "valid ndcg@10", "test recall@10", "reported recall@10", "test ndcg@10"),
        *("state", "note |"),
    ]
    scores = [score(found.resolved.with_seed(seed)) for found in plan.points[1:2] for seed in found.seeds]
    mean, deviation = pd.Series(scores).mean(), pd.Series(scores).std()
    cells = [f"{factor * mean:.4f} ± {factor * deviation:.4f}".replace("0.", ".") for factor in (1, 2, 3)]
    assert lines[3] == ["| deep", "2 of 2", cells[0], cells[1], ".2500", cells[2], "done", "a \\| b |"]
    assert lines[4][-1] == "control of plain: its values, other seeds |"
    assert "6 of 6 runs are finished" in text


def test_the_table_of_an_unfinished_study_says_what_is_left(tmp_path: Path) -> None:
    plan = make(tmp_path, n_seeds=2)
    claimed = GridStudy(plan).claim()
    assert claimed is not None
    rows = [line for line in write_table(plan).splitlines() if line.startswith("| ")]
    assert rows[2].startswith("| plain | 0 of 2 | – | – |  | – | 1 running, 1 waiting |")
    assert rows[3].startswith("| deep | 0 of 2 | – | – | .2500 | – | 2 waiting |")


def given_to_a_file(root: Path) -> list[str]:
    """Keys for one short epoch, without those that the points decide."""
    words = arguments(root, model="LightGCN", epochs=1)
    return [word for word in words if "model=" not in word and not word.startswith("--learning_rate=")]


@pytest.mark.usefixtures("undrawn")
def test_the_command_runs_a_file_to_its_table_and_a_report_reads_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("points.yaml").write_text("base: {model: LightGCN}\npoints: {a: {}, wild: {learning_rate: 1e30}}\n")
    given = given_to_a_file(tmp_path)
    assert cli.main(["ablate", "points.yaml", "--seeds", "2", *given]) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "runs" / "points-planted"
    assert "\n[4/4] wild, seed 2021 failed: NonFiniteError: epoch 0, " in out
    assert "\n| a | 2 of 2 | ." in out
    assert "\n| wild | 0 of 2 | – | – | – | 2 failed |\n" in out
    assert f"\nthis table:   {folder}/table.md\nreport:       {folder}/report/report.html\n" in out
    assert out.endswith(f"\nfull tables:  recmodels report {folder}\n")
    assert "a: not compared" not in (folder / "report" / "report.md").read_text()
    for path in folder.glob("a-*"):
        assert run.stored_result(path) is not None
        assert resolve_run(str(path)).values["epochs"] == 1
    assert cli.main(["report", str(folder)]) == 0
    assert "| LightGCN | " in capsys.readouterr().out
    assert cli.main(["ablate", "points.yaml", "--seeds=2", "--retry_failed", *given]) == 0
    assert "2 finished before (skipped), 2 to do\n[3/4] wild" in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
def test_a_key_that_nothing_reads_is_said_and_an_ablation_without_any_result_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = "{learning_rate: 1e30, table: adaptive, adae_dims: [2, 4], adae_picker: twin}"
    Path("points.yaml").write_text(f"base: {{model: LightGCN}}\npoints: {{wild: {wild}}}\n")
    given = given_to_a_file(tmp_path)
    assert cli.main(["ablate", "points.yaml", *given]) == 1
    said = capsys.readouterr()
    assert "point wild: given, but nothing reads it at these values: adae_picker; " in said.out
    assert "no run has a result" in said.err
    assert "| wild | 0 of 1 |" in said.err


def test_some_points_are_chosen_by_name_or_pattern_with_what_they_need(tmp_path: Path) -> None:
    make(tmp_path, "points: {'a[b]': {n_layers: 1}, plain: {}, wide_1: {reg_weight: 0.5}, again: {control_of: plain}}")
    points = load_ablation("points.yaml", {})[1]
    assert [point.name for point in chosen_points(points, [])] == ["a[b]", "plain", "wide_1", "again"]
    assert [point.name for point in chosen_points(points, ["a[b]", "wide*"])] == ["a[b]", "wide_1"]
    assert [point.name for point in chosen_points(points, ["again"])] == ["plain", "again"]
    with pytest.raises(ParamError) as caught:
        chosen_points(points, ["plan", "wide*", "none"])
    assert str(caught.value).split("\n  - ") == [
        "--points: 2 problems", "'plan' is no point; did you mean 'plain'?", "'none' is no point"
    ]  # fmt: skip


def test_run_folders_of_other_machines_are_taken_over(tmp_path: Path) -> None:
    plan = make(tmp_path, n_seeds=1)
    work(plan, pretend)
    elsewhere = tmp_path / "collected" / plan.folder.name
    for found in plan.runs:
        shutil.copytree(plan.folders()[found.key], elsewhere / found.folder_name)
    taken = make(tmp_path, n_seeds=1, runs_dir=str(tmp_path / "collected"))
    runner, folders = counted()
    work(taken, runner)
    assert folders == []
    assert "3 of 3 runs are finished" in write_table(taken)
    (elsewhere / "study.json").unlink()
    (elsewhere / "notes").mkdir()
    with pytest.raises(UserError, match="not a study: it has notes, study.db, table.md; choose another --runs"):
        GridStudy(taken)


def test_a_mistake_is_one_message_before_the_first_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text("base: {model: LightGCN}\npoints: {a: {n_layer: 1}, b: {n_layers: 0}}\n")
    for words, message in (
        (["bad.yaml"], "2 problems\n  - point a: n_layer: unknown key of LightGCN; did you mean 'n_layers'?\n"),
        (["--seeds=2"], "NAME_OR_FILE: no file; write recmodels ablate NAME_OR_FILE, such as losses"),
        (["losses", "--seeds=0"], "argument --seeds: got 0, expected a whole number >= 1"),
        (["losses", "--seed=7"], "seed: a point is run with several seeds; write --seeds=N, or seeds: in the file"),
        (["losses", "--job=2"], "job: did you mean '--jobs'?"),
        (["losses", "--rec_loss=bpr"], "point softmax: rec_loss: also given on the command line, as 'bpr'; keep one"),
        (["losses", "--dataset=ml-100"], "ml-100"),
        (
            ["lossse"],
            "components, gsc, losses, models, notes, taught, weights, widths; did you mean 'losses'?",
        ),
    ):
        assert cli.main(["ablate", *words]) == 2
        out, err = capsys.readouterr()
        assert (out, message in err, "Traceback" in err) == ("", True, False), err
    assert not Path("runs").exists()
    assert cli.main(["ablate", "--help"]) == 0
    assert "--retry-failed" in capsys.readouterr().out


def test_data_that_are_not_there_are_refused_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        make(tmp_path, dataset="nowhere")
