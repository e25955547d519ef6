"""What the machine says about itself and about this process."""

from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Written to clear_refs, it resets the high-water mark of the resident size; see proc(5).
_RESET_HIGH_WATER = "5"


def resident_mb() -> float | None:
    """Memory of this process now, in MB of 2**20 bytes; None where the system has no /proc."""
    return _megabytes("VmRSS")


def high_water_mb() -> float | None:
    """Largest memory since the program began or since `reset_high_water`, in MB of 2**20 bytes; None without /proc.

    Not `getrusage`, whose maximum is inherited from the process that started this one.
    """
    return _megabytes("VmHWM")


def reset_high_water() -> bool:
    """Starts the high-water mark again at the present size; False where the system cannot."""
    try:
        _CLEAR.write_text(_RESET_HIGH_WATER)
    except OSError:
        return False
    return True


def _megabytes(name: str) -> float | None:
    text = _field(_STATUS, name)
    return None if text is None else int(text.split()[0]) / 1024  # "123456 kB"


def _field(path: Path, name: str) -> str | None:
    """The value of the first line `name: value` of a file of /proc."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() == name), None)
