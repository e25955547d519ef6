"""The database of a study: an SQLite file under any path, and one message where it cannot be used."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import optuna
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from recmodels.errors import UserError

DATABASE = "study.db"
IN_USE = (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError)  # of a study that could be opened
_OF_OPTUNA = (RuntimeError, LookupError, ValueError)  # of a file of another version, or without a study
_ROOM = "see that the file may be written and the disk has room"
_SECONDS = 120  # how long a process waits while another one writes


def open_storage(path: Path) -> optuna.storages.RDBStorage:
    """The storage in a file, which is made when absent; inside `database_errors`."""
    # Not by a URL, in which Optuna and SQLAlchemy find a meaning for %, ? and braces of the path.
    connect = partial(sqlite3.connect, path.absolute(), timeout=_SECONDS, check_same_thread=False)
    if path.is_file():
        with closing(connect()) as connection:  # a file that is cut off opens, and fails in the middle of a study
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise ValueError(found)
    return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": QueuePool})


@contextmanager
def database_errors(path: Path, remedy: str) -> Iterator[None]:
    """Turns what Optuna and SQLAlchemy raise when they open a study into one line.

    Args:
        path: the file.
        remedy: what can be done without it.

    Raises:
        UserError: the file cannot be opened, is no database, has no study, or is of another version of Optuna.
    """
    try:
        yield
    except (OperationalError, sqlite3.OperationalError) as error:
        raise UserError(f"{path}: {_reason(error)}; {_ROOM}") from error
    except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.OptunaError, *_OF_OPTUNA) as error:
        raise UserError(f"{path}: not the database of a study: {_reason(error)}; {remedy}") from error


@contextmanager
def errors_in_use(path: Path) -> Iterator[None]:
    """Turns what Optuna and SQLAlchemy raise in the middle of a study, say when the disk is full, into one line.

    Args:
        path: the file of the study.

    Raises:
        UserError: the file cannot be read or written any more.
    """
    try:
        yield
    except IN_USE as error:
        raise UserError(f"{path}: {_reason(error)}; {_ROOM}, then the same command continues") from error


def _reason(error: BaseException) -> str:
    """What SQLite said, where it is the cause."""
    while isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(getattr(error, "orig", None) or (error.args or [error])[0]).split())
