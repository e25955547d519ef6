"""Freed memory is kept for the next tensor, unless the user chose otherwise."""

import os
import subprocess
import sys

import pytest

from recmodels import allocator
from recmodels.allocator import keep_freed_memory

_FAULTS = """
import resource, sys, torch
from recmodels.allocator import keep_freed_memory
print(keep_freed_memory(48 << 20) if sys.argv[1] == "keep" else None)
def work():
    x = torch.ones(12 << 20)  # 48 MB, above what glibc maps anew each time
    y = x * 2
    del x
    y + 1

for _ in range(10):  # until the memory at hand is enough
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(choice: str, **environment: str) -> tuple[str, int]:
    """What the function returned, and the page faults of five rounds after the first ten."""
    clean = {name: value for name, value in os.environ.items() if name not in allocator._SET_BY_USER}
    command = [sys.executable, "-c", _FAULTS, choice]
    done = subprocess.run(command, capture_output=True, text=True, env=clean | environment, check=True)
    returned, faults = done.stdout.split()
    return returned, int(faults)


@pytest.mark.skipif(not hasattr(allocator.ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_a_tensor_takes_the_pages_of_the_one_before() -> None:
    _, mapped_anew = _run("leave")
    returned, kept = _run("keep")
    assert returned == "True"
    assert kept < mapped_anew / 10


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_the_users_own_choice_stays(name: str) -> None:
    assert _run("keep", **{name: "131072"})[0] == "False"


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory(allocator.LARGE_BYTES) is False


def test_small_tensors_change_nothing() -> None:
    assert keep_freed_memory(allocator.LARGE_BYTES - 1) is False
