"""One job in a process of its own that works only while it is asked."""

import logging
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, TypeVar

from benchmarks import machine
from recmodels.errors import TrainingError, UserError

T = TypeVar("T")
_SECONDS_TO_END = 10


class Worker:
    """A job that lives in a fresh, spawned process until the worker is left.

    Args:
        job: class of the job; the process imports its module first.
        *args: its arguments, sent to the process.

    Attributes:
        baseline_mb: resident size of the process after its imports, before the job; None without /proc.

    Raises:
        UserError: from the job's constructor, as are all the errors of `run`.
    """

    def __init__(self, job: Callable[..., Any], *args: Any) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job, args), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends the pipe
        try:
            self.baseline_mb: float | None = self._answer()
            self._answer()
        except BaseException:
            self._end()
            raise

    def run(self, action: Callable[..., T], *args: Any) -> T:
        """Calls `action(job, *args)` in the process and waits for its result.

        Args:
            action: a function of a module or a method of the job's class.
            *args: sent to the process.

        Raises:
            UserError: as raised there.
            TrainingError: as raised there, or the process ended, say for want of memory.
            RuntimeError: any other error of the action, with its traceback as the message.
        """
        self._pipe.send((action, args))
        result: T = self._answer()
        return result

    def peak_mb(self) -> float | None:
        """Largest memory since the start or the last `reset_peak`, less that after the imports; None without /proc."""
        peak = self.run(_high_water)
        return None if peak is None or self.baseline_mb is None else peak - self.baseline_mb

    def reset_peak(self) -> bool:
        """Forgets the peak so far; False where the system cannot."""
        return self.run(_reset)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _answer(self) -> Any:
        try:
            is_good, value = self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            message = f"a benchmark process ended by itself with exit code {code}; -9 is want of memory"
            raise TrainingError(message) from None
        if not is_good:
            raise value
        return value

    def _end(self) -> None:
        with suppress(OSError):  # it may have ended by itself
            self._pipe.send(None)
        self._process.join(_SECONDS_TO_END)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()
        self._pipe.close()


def _high_water(_: object) -> float | None:
    return machine.high_water_mb()


def _reset(_: object) -> bool:
    return machine.reset_high_water()


def _serve(pipe: Connection, job: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """The life of the process: its size, the job, then one answer for every action."""
    baseline = machine.resident_mb()
    warnings.simplefilter("ignore")  # RecBole's calls of torch, deprecated since
    logging.getLogger().setLevel(logging.ERROR)
    with suppress(KeyboardInterrupt, EOFError, OSError):  # the other side is gone, or ended by hand with it
        pipe.send((True, baseline))
        jobs: list[Any] = []
        _reply(pipe, lambda: jobs.append(job(*args)))
        while (message := pipe.recv()) is not None:
            _reply(pipe, lambda action, given: action(jobs[0], *given), *message)


def _reply(pipe: Connection, action: Callable[..., Any], *args: Any) -> None:
    try:
        answer = (True, action(*args))
    except (UserError, TrainingError) as error:
        answer = (False, error)
    except Exception:  # it goes to the other side, where it is raised
        answer = (False, RuntimeError(traceback.format_exc()))
    pipe.send(answer)
