"""`recmodels report` as a user types it: files all at once, one message for a mistake, pages that are up to date."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from recmodels import cli
from recmodels.commands import report
from recmodels.experiments import run
from recmodels.experiments.session import resolve_train, values_sha256
from recmodels.plain_yaml import dump_yaml, load_yaml
from recmodels.reporting import finished
from recmodels.tuning import study
from tests.finished_runs import write_run
from tests.runs import files_of, options


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The message of a mistake: the only output, with exit code 2, and nothing changed on disk."""
    before = files_of(Path())
    assert cli.main(["report", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert files_of(Path()) == before
    return err


def write_seeds() -> None:
    generator = np.random.default_rng(0)
    for seed in (1, 2):
        users = generator.random(40)
        write_run(f"runs/plain/{seed}", 0.2, users, seed=seed)
        write_run(f"runs/deep/{seed}", 0.3, users + 0.1, seed=seed, n_layers=9)


def test_three_files_are_written_and_the_same_runs_give_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    write_seeds()
    command = ["report", "runs", "--out=docs/tables", "--published=ml-1m", "--against", "NCL, n_layers 3"]
    assert cli.main(command) == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote docs/tables/toy{end}" for end in (".md", ".csv", ".tex")]
    before = {path: path.read_bytes() for path in Path("docs/tables").iterdir()}
    assert sorted(path.name for path in before) == ["toy.csv", "toy.md", "toy.tex"]
    assert cli.main(command) == 0
    assert {path: path.read_bytes() for path in Path("docs/tables").iterdir()} == before


def test_a_configuration_that_was_edited_after_the_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run.train(resolve_train(options(tmp_path, model="LightGCN", n_layers=2)), "runs/one")
    config = folder / "config.yaml"
    whole = config.read_text()
    config.write_text(whole.replace(f"data_path: {tmp_path}", "data_path: /elsewhere"))
    assert config.read_text() != whole
    assert cli.main(["report", "runs"]) == 0  # which decides no number
    assert cli.main(["report", "--keep", "runs", "--under=kept", "--name=one"]) == 0
    assert cli.main(["report", "kept"]) == 0
    config.write_text(whole.replace("n_layers: 2", "n_layers: 3"))
    capsys.readouterr()
    for more in ([], ["--keep", "--under=kept", "--name=other"]):
        assert cli.main(["report", "runs", *more]) == 2
        expected = f"error: {config}: was edited after the run, so result.json is of other values; put it back\n"
        assert capsys.readouterr().err == expected
    assert not Path("kept/other").exists()


def test_others_without_a_figure_that_is_shown_have_no_row() -> None:
    write_seeds()
    Path("others.csv").write_text("model,source,recall@10,hit@10\nEASE,web,0.2,\nPop,web,,0.5\n")
    given = ["runs", "--out=docs", "--published=others.csv", "--metrics=recall@10"]
    assert cli.main(["report", *given]) == 0
    text = Path("docs/toy.md").read_text()
    assert "| EASE |" in text
    assert "| Pop |" not in text


def test_the_command_on_the_page_gives_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    write_seeds()
    assert cli.main(["report", "runs", "--out=docs", "--name=page", "--sort", "recall@10"]) == 0
    capsys.readouterr()
    (line,) = [line for line in Path("docs/page.md").read_text().splitlines() if line.startswith("recmodels report")]
    found = report.files(shlex.split(line)[2:])
    assert {path: text.encode() for path, text in found.items()} == {p: p.read_bytes() for p in Path("docs").iterdir()}


def test_without_a_folder_the_page_is_printed_with_differences(capsys: pytest.CaptureFixture[str]) -> None:
    write_seeds()
    before = files_of(Path())
    assert cli.main(["report", "runs/plain", "--metrics=Recall@10", "runs/deep", "--against=NCL, n_layers 3"]) == 0
    out = capsys.readouterr().out
    assert "| NCL | n_layers 9 | **.3000 ± .0000** |" in out
    assert "| NCL, n_layers 9 | 1, 2 | +.1000 [+.1000, +.1000]," in out
    assert "N@10" not in out
    assert files_of(Path()) == before


def test_a_kept_run_is_reported_from_its_copy(capsys: pytest.CaptureFixture[str]) -> None:
    write_seeds()
    assert cli.main(["report", "--keep", "runs/deep", "--under=results/toy", "--name=deep one"]) == 0
    kept = capsys.readouterr().out.splitlines()
    assert kept == ["kept results/toy/deep-one/1", "kept results/toy/deep-one/2"]
    assert cli.main(["report", "results"]) == 0
    assert "| deep one | .3000 ± .0000 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], ["no runs; expected run folders, or folders above them"]),
        (["rnus"], ["rnus: no such folder; did you mean 'runs'?"]),
        (["runs", "--otu=x"], ["unknown argument '--otu'; did you mean '--out'?"]),
        (["runs", "--by=seed"], ["--by: invalid choice: 'seed'", "try recmodels report --help"]),
        (["runs", "--metrics=recal@10"], ["recal@10: no run has it; did you mean 'recall@10'?"]),
        (["runs", "--metrics="], ["metrics: got '', expected names such as recall@10"]),
        (["runs", "--metrics=,"], ["metrics: got '', expected names such as recall@10"]),
        (["runs", "--keep", "--under=kept", "--metrics="], ["--keep makes no table; leave out --metrics"]),
        (["runs/plain/1/result.json"], ["runs/plain/1/result.json: got a file, expected a folder"]),
        (["runs", "--sort=x"], ["x: no run has it"]),
        (["runs", "--against=NLC"], ["against: no rows are named 'NLC'"]),
        (["runs", "--against=NCL"], ["against: 2 rows are named 'NCL'", "expected one of 'NCL, n_layers 3'"]),
        (["runs", "--published=ml1m"], ["published: got 'ml1m'", "did you mean 'ml-1m'?"]),
        (["runs", "--keep", "--out=x"], ["2 problems", "--keep needs --under=DIR", "leave out --out"]),
        (["runs", "--under=x", "--name=a/b"], ["2 problems", "--under belongs to --keep", "--name: got 'a/b'"]),
        (
            ["runs", "--out=runs/plain/1/config.yaml/x"],
            ["--out: runs/plain/1/config.yaml: got a file, expected a folder; name another one"],
        ),
        (
            ["runs/deep", "--keep", "--under=runs/plain/1/config.yaml"],
            ["--under: runs/plain/1/config.yaml: got a file, expected a folder"],
        ),
        (["runs", "--keep", "--under=kept"], ["got 2 rows, expected one: NCL, n_layers 3; NCL, n_layers 9"]),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_written(
    words: list[str], message: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_seeds()
    found = refused(capsys, *words)
    assert [expected for expected in message if expected not in found] == []


def test_trials_of_a_search_are_told_from_unfinished_runs_and_not_to_be_tested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seeds()
    for number in range(3):
        (write_run(f"tune/trials/trial-{number:04d}", 0.2, seed=number) / "result.json").unlink()
    (write_run("begun", 0.2, seed=9) / "result.json").unlink()
    Path("tune/study.json").write_text("{}")
    told = "tune/trials: 3 trials of a search, which are not tested; recmodels tune --report=tune ranks them"
    assert cli.main(["report", "runs", "tune"]) == 0
    assert f"- not shown: {told}" in capsys.readouterr().out
    message = refused(capsys, "tune", "begun")
    assert "report: no finished run; expected a folder with result.json: 2 problems" in message
    assert f"\n  - {told}" in message
    assert "\n  - begun: unfinished, no result.json yet; recmodels train --resume=begun continues it" in message
    assert "resume=tune" not in message
    monkeypatch.chdir("tune/trials")
    assert "../trials: 1 trials of a search" in refused(capsys, "trial-0001")
    assert (finished.STUDY, finished.TRIALS) == (study.STUDY, study.TRIALS)


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "--help"]) == 0
    out = capsys.readouterr().out
    names = ("--out", "--name", "--metrics", "--sort", "--by", "--published", "--against", "--keep", "--under")
    assert [name for name in names if name not in out] == []


@pytest.mark.usefixtures("undrawn")
def test_real_runs_of_two_seeds_are_one_row_that_names_its_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        run.train(resolve_train(options(Path.cwd(), model="LightGCN", epochs=1, seed=seed)), f"runs/{seed}")
    capsys.readouterr()
    assert cli.main(["report", "runs", "--against=LightGCN"]) == 0
    out = capsys.readouterr().out
    assert "2: [1](runs/1/config.yaml), [2](runs/2/config.yaml) |" in out
    assert "- hardware A: " in out
    assert "not recorded" not in out
    assert "torch threads 1\n" in out


@pytest.mark.usefixtures("undrawn")
def test_a_run_from_before_a_key_that_it_does_not_read_is_of_the_same_row(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        run.train(resolve_train(options(Path.cwd(), model="LightGCN", epochs=1, seed=seed)), f"runs/{seed}")
    config = Path("runs/1/config.yaml")
    values = load_yaml(config.read_text(encoding="utf-8"), "")
    older = {key: value for key, value in values.items() if not key.startswith(("table", "adae_", "slk_"))}
    assert len(older) < len(values) - 20
    config.write_text(dump_yaml(older), encoding="utf-8")
    result = json.loads(Path("runs/1/result.json").read_text())
    Path("runs/1/result.json").write_text(json.dumps(result | {"config_sha256": values_sha256(older)}))
    capsys.readouterr()
    assert cli.main(["report", "runs"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| LightGCN")]
    assert "adae_" not in row


def test_committed_pages_are_what_the_kept_results_give(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = sorted(path for path in (checkout / "results").glob("*") if any(path.rglob("result.json")))
    if not kept:
        pytest.skip("no results are kept")
    monkeypatch.chdir(checkout)
    pages = {path: path.read_text(encoding="utf-8") for path in Path("docs/results").glob("*.md")}
    commands = {
        line for text in pages.values() for line in text.splitlines() if line.startswith("recmodels report results/")
    }
    assert {f"results/{path.name}" for path in kept} == {shlex.split(command)[2] for command in commands}
    for command in commands:
        for path, text in report.files(shlex.split(command)[2:]).items():
            assert path.read_bytes().decode() == text, f"{path} is out of date; run make tables"
