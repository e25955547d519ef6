"""Whose a study's folder is: what all its processes agree on, and that the folders of others are left alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recmodels.errors import UserError
from recmodels.experiments.folder import CONFIG, STUDY
from recmodels.training.checkpoint import differences

LOCKS = "locks"
_MOST_SHOWN = 20


def read_identity(folder: Path) -> dict[str, Any]:
    """What a study was made with.

    Raises:
        UserError: the folder is not a study's.
    """
    try:
        return dict(json.loads((folder / STUDY).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise UserError(f"{folder} is not the folder of a study: it has no readable {STUDY}") from None


def check_identity(folder: Path, identity: Mapping[str, Any], option: str, may_have_runs: bool = False) -> None:
    """Checks that a study may be in a folder; writes nothing.

    Args:
        folder: may be absent.
        identity: plain data as JSON gives it.
        option: that names the folder.
        may_have_runs: whether the folder of a new study may hold run folders.

    Raises:
        UserError: it holds another study, or something else.
    """
    # Listed before the look for a study, which another process may begin meanwhile.
    there = list(folder.iterdir()) if folder.is_dir() else []
    if (folder / STUDY).exists():
        found = differences(dict(identity), read_identity(folder))
        if found:
            raise UserError(
                f"{folder} is the study of something else; choose another folder with {option}=DIR. "
                f"What differs:{listed(found)}"
            )
        return
    own = (LOCKS, f".{STUDY}.tmp")
    others = sorted(p.name for p in there if p.name not in own and not (may_have_runs and (p / CONFIG).is_file()))
    if others:
        raise UserError(
            f"{folder} is not empty and not a study: it has {', '.join(others[:5])}; choose another {option}"
        )


def listed(problems: list[str]) -> str:
    """The first differences, a line each."""
    return "\n  - ".join(["", *problems[:_MOST_SHOWN]])
