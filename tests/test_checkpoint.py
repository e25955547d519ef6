import os
import pickle
import signal
import subprocess
import sys
import time
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recmodels.errors import CheckpointError
from recmodels.training.checkpoint import FORMAT, VERSION, load, load_newest, previous, save

SAVE_FOREVER = """
import itertools, sys, torch
from recmodels.training.checkpoint import save
for n in itertools.count():
    save(sys.argv[1], {"n": n, "weight": torch.full((20000,), float(n))})
    print(n, flush=True)
"""
STATE = {"model": "NCL_OT", "weight": torch.arange(12.0), "epoch": 3}


def plain_data():
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    return st.recursive(
        leaves, lambda s: st.lists(s) | st.tuples(s, s) | st.dictionaries(st.text() | st.integers(), s), max_leaves=10
    )


@given(value=plain_data())
def test_plain_data_come_back_equal_and_of_the_same_type(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("c") / "last.pt"
    save(path, {"value": value})
    back = load(path, None)
    assert back == {"value": value}
    assert repr(back["value"]) == repr(value)


def test_optimizer_and_module_states_come_back_bit_for_bit(tmp_path):
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save(tmp_path / "last.pt", {"module": module.state_dict(), "optimizer": optimizer.state_dict()})
    back = load(tmp_path / "last.pt", None)
    assert torch.equal(back["module"]["weight"], module.weight)
    assert back["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    assert torch.equal(back["optimizer"]["state"][0]["exp_avg"], optimizer.state[module.weight]["exp_avg"])


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {"b": {1, 2}}]}, r"state\.a\[1\]\.b: got builtins\.set"),
        ((np.float64(1.0),), r"state\[0\]: got numpy\.float64"),
        ({"a": {(1, 2): 3}}, r"state\.a: got builtins\.dict"),
        (b"raw", r"state: got builtins\.bytes"),
        (torch.nn.Linear(1, 1), r"state: got torch\.nn\.modules\.linear\.Linear"),
    ],
)
def test_save_names_the_key_path_of_what_is_not_plain_and_writes_nothing(tmp_path, value, where):
    with pytest.raises(TypeError, match=where):
        save(tmp_path / "last.pt", {"state": value})
    assert list(tmp_path.iterdir()) == []


def test_optional_keys_may_be_absent_and_must_agree_where_they_are(tmp_path):
    path, expected = tmp_path / "last.pt", {"config": {"weight": 0.0}}
    for stored in ({"weight": 0.0}, {"weight": 0.0, "temperature": 0.5}):
        save(path, {"config": stored})
        assert load(path, expected, {"config": {"temperature": 0.5}}) == {"config": stored}
    with pytest.raises(CheckpointError, match=r"config\.temperature: got 0\.5, expected None"):
        load(path, expected)
    with pytest.raises(CheckpointError, match=r"config\.temperature: got 0\.5, expected 0\.2"):
        load(path, expected, {"config": {"temperature": 0.2}})


def test_header_keys_are_reserved(tmp_path):
    with pytest.raises(ValueError, match="'version'"):
        save(tmp_path / "last.pt", {"version": 2})


def test_the_file_before_is_kept(tmp_path):
    path = tmp_path / "last.pt"
    for n in range(3):
        save(path, {"n": n})
    assert load(path, None) == {"n": 2}
    assert load(previous(path), None) == {"n": 1}
    assert {p.name for p in tmp_path.iterdir()} == {"last.pt", "last.prev.pt"}


def test_the_file_before_is_kept_without_hard_links(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    for n in range(3):
        save(tmp_path / "last.pt", {"n": n})
    assert load(previous(tmp_path / "last.pt"), None) == {"n": 1}
    assert {p.name for p in tmp_path.iterdir()} == {"last.pt", "last.prev.pt"}


@pytest.mark.parametrize("step", ["_write", "_keep_previous"])
def test_a_failed_save_changes_nothing(tmp_path, monkeypatch, step):
    path = tmp_path / "last.pt"
    save(path, {"n": 0})

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(f"recmodels.training.checkpoint.{step}", fail)
    with pytest.raises(OSError, match="disk full"):
        save(path, {"n": 1})
    assert load(path, None) == {"n": 0}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(("inner", "outer"), [(KeyboardInterrupt, KeyboardInterrupt), (ValueError, RuntimeError)])
def test_an_interruption_is_one_whatever_torch_makes_of_it(tmp_path, monkeypatch, inner, outer):
    path = tmp_path / "last.pt"
    save(path, {"x": 1})

    def interrupted(payload, file):
        try:
            raise inner
        except inner:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904  (as torch does, the other one behind it)

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(outer):
        save(path, {"x": 2})
    monkeypatch.undo()
    assert load(path, None) == {"x": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["last.pt"]


def test_a_kill_between_the_two_replacements_is_mended_by_the_next_save(tmp_path):
    path = tmp_path / "last.pt"
    save(path, {"n": 0})
    os.link(path, previous(path))
    (tmp_path / ".last.pt.tmp").write_bytes(b"half")
    os.link(path, tmp_path / ".last.pt.prev.tmp")
    save(path, {"n": 1})
    assert (load(path, None), load(previous(path), None)) == ({"n": 1}, {"n": 0})
    assert {p.name for p in tmp_path.iterdir()} == {"last.pt", "last.prev.pt"}


SLOW = pytest.mark.slow


@pytest.mark.parametrize("delay", [0.0007, pytest.param(0.0, marks=SLOW), pytest.param(0.0021, marks=SLOW)])
def test_a_process_killed_while_it_saves_leaves_a_loadable_file(tmp_path, delay):
    path = tmp_path / "last.pt"
    process = subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, str(path)], stdout=subprocess.PIPE, text=True)
    seen = [int(process.stdout.readline()) for _ in range(10)][-1]
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    back = load(path, None)
    assert back["n"] >= seen
    assert torch.equal(back["weight"], torch.full((20000,), float(back["n"])))
    save(path, {"n": -1})
    assert {p.name for p in tmp_path.iterdir()} == {"last.pt", "last.prev.pt"}


def test_a_file_truncated_anywhere_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    save(path, STATE)
    whole = path.read_bytes()
    for size in [0, 1, 2, 30, len(whole) // 2, len(whole) - 23, len(whole) - 22, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"last\.pt: (truncated|corrupt)"):
            load(path, None)


def test_one_flipped_bit_in_the_weights_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    save(path, {"weight": torch.full((1000,), 7.0)})
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((4,), 7.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="check sum"):
        load(path, None)


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_pickled_code_is_refused_and_not_executed(tmp_path):
    marker, path = tmp_path / "exploded", tmp_path / "last.pt"
    torch.save({"format": FORMAT, "version": VERSION, "x": Bomb(marker)}, path)
    with pytest.raises(CheckpointError, match=r"last\.pt: holds pickled code"):
        load(path, None)
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(CheckpointError, match=r"last\.pt: not a recmodels checkpoint"):
        load(path, None)
    torch.save({"format": FORMAT, "x": Bomb(marker)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"last\.pt: not a recmodels checkpoint"):
        load(path, None)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.exists()  # the bomb is live


@pytest.mark.parametrize("content", [OrderedDict(weight=torch.ones(2)), [1, 2], torch.ones(2)])
def test_a_foreign_torch_file_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"not a recmodels checkpoint: got .*expected format"):
        load(tmp_path / "last.pt", None)


def test_an_unknown_version_is_refused(tmp_path):
    torch.save({"format": FORMAT, "version": 2}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="unknown version: got 2, expected 1"):
        load(tmp_path / "last.pt", None)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pt: missing"):
        load(tmp_path / "absent.pt", None)


def test_expected_entries_must_be_present_and_equal(tmp_path):
    path = tmp_path / "last.pt"
    save(path, STATE)
    assert load(path, {"model": "NCL_OT", "epoch": 3})["epoch"] == 3
    with pytest.raises(CheckpointError, match="model: got 'NCL_OT', expected 'NCL'; dataset: got None, expected 'x'"):
        load(path, {"model": "NCL", "dataset": "x", "epoch": 3})


def test_the_newest_good_file_is_loaded_and_a_refused_one_reported(tmp_path):
    path, said = tmp_path / "last.pt", []
    save(path, {"n": 0})
    save(path, {"n": 1})
    assert load_newest(path, None, said.append) == {"n": 1}
    assert said == []
    path.write_bytes(path.read_bytes()[:-10])
    assert load_newest(path, None, said.append) == {"n": 0}
    assert len(said) == 1
    assert "last.pt: truncated" in said[0]
    assert f"using {previous(path)}" in said[0]
    previous(path).unlink()
    with pytest.raises(CheckpointError, match=r"last\.pt: truncated.*last\.prev\.pt: missing"):
        load_newest(path, None, said.append)
    assert len(said) == 1
