"""How the C library treats freed memory, which decides what large tensors cost on a CPU."""

import ctypes
import os
import sys

# Names of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1
_SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES", "LD_PRELOAD")
# Below, the C library keeps memory by itself, and keeping all of it only spreads tensors over more than a cache holds.
LARGE_BYTES = 8 << 20


def keep_freed_memory(tensor_bytes: int) -> bool:
    """Lets the C library keep freed memory for the next tensor, for the life of the process.

    It otherwise maps every tensor above 32 MB anew and returns it when it is freed, and the system clears each page
    before it hands it out again: on graphs of more than 100,000 nodes most of a step went there. The process then
    never shrinks below its peak, which training reaches again at every step.

    Args:
        tensor_bytes: of the largest tensor that is made again and again; nothing is done below `LARGE_BYTES`.

    Returns:
        Whether it was done: not where the user chose by environment (`MALLOC_*_`, `GLIBC_TUNABLES`, `LD_PRELOAD`), and
        not without glibc.
    """
    if tensor_bytes < LARGE_BYTES or sys.platform != "linux" or any(os.environ.get(name) for name in _SET_BY_USER):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
