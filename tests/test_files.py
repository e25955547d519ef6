"""Files and folders of a run: never half-written, never mixed up."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from recmodels.errors import CheckpointError, UserError
from recmodels.experiments.folder import existing_run_folder, logging_to, new_run_folder, write_arrays
from recmodels.files import write_text


def test_text_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "eins, zwei, größer\n")
    write_text(path, "new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_write_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new and longer")
    assert path.read_text() == "old"


def test_arrays_come_back_without_pickles(tmp_path: Path) -> None:
    arrays = {"user": np.array(["a", "ü"]), "ndcg@10": np.array([0.1, 1 / 3])}
    write_arrays(tmp_path / "users.npz", arrays)
    with np.load(tmp_path / "users.npz", allow_pickle=False) as back:
        assert {name: back[name].tolist() for name in back.files} == {k: v.tolist() for k, v in arrays.items()}
    assert os.listdir(tmp_path) == ["users.npz"]


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hold Python objects"):
        write_arrays(tmp_path / "users.npz", {"user": np.array([{}], dtype=object)})
    assert os.listdir(tmp_path) == []


def test_folders_that_start_in_the_same_second_differ(tmp_path: Path) -> None:
    folders = {new_run_folder("NCL", "toy", str(tmp_path / "runs"), None) for _ in range(20)}
    assert len(folders) == 20
    assert all(folder.is_dir() and folder.name.startswith("NCL-toy-") for folder in folders)


def test_an_empty_folder_is_taken_and_one_with_files_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    assert new_run_folder("NCL", "toy", "runs", str(folder)) == folder
    (folder / "notes.txt").touch()
    with pytest.raises(UserError, match="the folder is not empty; choose another folder"):
        new_run_folder("NCL", "toy", "runs", str(folder))
    (folder / "config.yaml").touch()
    with pytest.raises(UserError, match=f"not empty; --resume={folder} continues it"):
        new_run_folder("NCL", "toy", "runs", str(folder))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for runs_dir, run_dir in ((str(tmp_path / "file"), None), ("runs", str(tmp_path / "file")), ("runs", "/proc/run")):
        with pytest.raises(UserError, match=r"cannot create the run folder .*; choose another --run_dir"):
            new_run_folder("NCL", "toy", runs_dir, run_dir)


def test_an_earlier_run_is_known_by_its_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="is not a run folder: it has no config.yaml"):
        existing_run_folder(str(folder))
    (folder / "config.yaml").touch()
    assert existing_run_folder(str(folder)) == folder
    with pytest.raises(CheckpointError, match=r"no run folder .*run-2; runs in .*: run-1"):
        existing_run_folder(str(tmp_path / "run-2"))


def test_the_log_is_continued_and_the_root_logger_left_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)

    def log(text: str) -> None:
        with logging_to(tmp_path, "INFO"):
            logging.getLogger("recmodels.x").info(text)
            logging.getLogger("recmodels.x").debug("hidden")
            raise KeyError(text)

    for text in ("one", "two"):
        with pytest.raises(KeyError, match=text):
            log(text)
    assert (root.level, list(root.handlers)) == before
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split()[-2:] for line in lines] == [["INFO", "one"], ["INFO", "two"]]
