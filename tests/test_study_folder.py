"""The folder of a study: any path will do, its database may be damaged or lost, those of others are left alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from recmodels import cli
from recmodels.config import Resolved
from recmodels.errors import UserError
from recmodels.experiments.folder import CONFIG
from recmodels.files import write_text
from recmodels.tuning import tune as tuning
from recmodels.tuning.report import write_report
from recmodels.tuning.space import Choices, Space
from recmodels.tuning.study import Study, load
from recmodels.tuning.trial import Watcher
from recmodels.tuning.tune import tune
from tests.runs import files_of
from tests.studies import full_databases, search, work

IDENTITY: dict[str, Any] = {CONFIG: {"seed": 1}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials fail at once, with a run folder; and reading all sources for every study takes long."""

    def fail(resolved: Resolved, folder: Path, watcher: Watcher) -> None:
        folder.mkdir(parents=True)
        write_text(folder / CONFIG, resolved.dump())
        raise ValueError("any")

    monkeypatch.setattr(tuning, "run_trial", fail)
    monkeypatch.setattr(tuning, "code_fingerprint", lambda: "code")


def test_a_damaged_database_is_one_line_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work(tmp_path, 1)
    database = tmp_path / "study" / "study.db"
    whole = database.read_bytes()
    database.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"study\.db: not the database of a study: .*; put back a copy of it"):
        write_report(tmp_path / "study")
    database.write_bytes(b"junk" * 1000)
    remedy = "put back a copy of it, or choose another folder with --study=DIR"
    assert cli.main(["tune", f"--report={tmp_path / 'study'}"]) == 2
    expected = f"error: {database}: not the database of a study: file is not a database; {remedy}\n"
    assert capsys.readouterr().err == expected
    with pytest.raises(UserError, match="not the database of a study: file is not a database; put back a copy of it"):
        work(tmp_path, 2)
    database.write_bytes(b"")  # of SQLite's a database, of no study
    with pytest.raises(UserError, match=r"not the database of a study: Record does not exist\.; put back a copy"):
        load(tmp_path / "study")
    database.unlink()
    with pytest.raises(UserError, match=f"study.db is missing; {remedy}"):
        write_report(tmp_path / "study")
    assert not database.exists()


def test_a_database_that_cannot_grow_is_one_line_and_the_trial_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(tmp_path, 1)

    def fail(resolved: Resolved, folder: Path, watcher: Watcher) -> None:
        raise ValueError("a long reason" * 1000)

    with monkeypatch.context() as patch, full_databases():
        patch.setattr(tuning, "run_trial", fail)
        with pytest.raises(UserError) as caught:
            work(tmp_path, 2)
    remedy = "see that the file may be written and the disk has room, then the same command continues"
    assert str(caught.value) == f"{tmp_path / 'study' / 'study.db'}: database or disk is full; {remedy}"
    assert [trial.state.name for trial in load(tmp_path / "study").get_trials()] == ["FAIL", "RUNNING"]
    assert [trial.state.name for trial in work(tmp_path, 2)] == ["FAIL", "FAIL"]


def test_more_trials_than_settings_are_told(tmp_path: Path) -> None:
    of, told = search(tmp_path, Space({"n_layers": Choices((1, 2))}, {})), list[str]()
    tune(of, tmp_path / "study", 3, told.append)
    assert told[0] == "the space has 2 settings, so some of 3 trials repeat others, with equal results"
    assert len(told) == 4


def test_trials_whose_database_is_gone_are_not_taken_for_those_of_a_new_one(tmp_path: Path) -> None:
    work(tmp_path, 1)
    folder = tmp_path / "study"
    (folder / "study.db").unlink()
    before = files_of(folder)
    with pytest.raises(UserError) as caught:
        work(tmp_path, 2)
    assert str(caught.value) == (
        f"{folder}/study.db is missing, which has the values of the trials in {folder}/trials; put back a copy of it, "
        f"or choose another folder with --study=DIR, or remove {folder}"
    )
    assert files_of(folder) == before


@pytest.mark.parametrize("name", ["50%25", "a?b#c", "{x} y", "ü&="])
def test_a_study_may_be_under_any_path(tmp_path: Path, name: str) -> None:
    claim = Study(tmp_path / name / "study", IDENTITY, True, None).claim(1)
    assert claim is not None
    assert (tmp_path / name / "study" / "study.db").is_file()
    assert len(load(tmp_path / name / "study").get_trials()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_refused_search_writes_nothing_into_a_folder_of_something_else(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "thesis.tex").write_text("")
    for study in ({}, {"study.json": json.dumps({"model": "NCL"})}):
        for name, text in study.items():
            (folder / name).write_text(text)
        before = sorted(folder.iterdir())
        with pytest.raises(UserError, match=r"is not empty and not a study: it has thesis.tex|something else"):
            Study(folder, IDENTITY, True, None)
        assert sorted(folder.iterdir()) == before


def test_a_folder_that_cannot_be_made_is_named_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, why in ((Path("/proc/x"), "No such file or directory"), (tmp_path / "file", "Not a directory")):
        with pytest.raises(UserError) as caught:
            Study(folder, IDENTITY, True, None)
        expected = f"cannot create the study folder {folder}: {why}; choose another one with --study=DIR"
        assert str(caught.value) == expected
