"""Files that are never half-written."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes to a temporary name in the same folder, then renames; a reader sees the old file or the new one.

    Args:
        path: file to replace or create; its folder exists.
        text: whole content, UTF-8.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
