"""Files that are never half-written."""

import os
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Writes to a temporary name in the same folder, then renames; a reader sees the old file or the new one.

    Args:
        path: file to replace or create; its folder exists.
        content: whole content.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def in_the_way(folder: Path) -> Path | None:
    """What stands where a folder, or one above it, would be made and is no folder; None if nothing does."""
    return next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
