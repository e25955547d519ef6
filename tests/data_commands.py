"""`recmodels data` as a user types it, for its tests."""

from pathlib import Path

import pandas as pd
import pytest

from recmodels import cli
from tests.runs import files_of


def data(*words: str) -> int:
    """Runs one command; the exit code."""
    return cli.main(["data", *words])


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The message of a mistake: the only output, with exit code 2, and nothing changed on disk."""
    before = files_of(Path()), sorted(Path().rglob("*"))
    assert data(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("error: ") == 1
    assert (files_of(Path()), sorted(Path().rglob("*"))) == before
    return err


def frame_of(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """A table of interactions as the readers make it."""
    return pd.DataFrame(pairs, columns=["user_id", "item_id"], dtype="category")
