"""One process at a time writes into a run folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from recmodels.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a run folder while the block runs; the kernel lets go when the process ends, however it ends.

    The file stays, because removing a lock that another process may be waiting for is a race. It holds the process id.

    Args:
        folder: the run folder.

    Raises:
        UserError: another process holds the folder.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        if not _take(file):
            file.seek(0)
            raise UserError(
                f"{folder} is being written by process {file.read() or '(unknown)'}; wait until it ends, or end it and "
                f"continue with --resume={folder}"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _take(file: IO[str]) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
