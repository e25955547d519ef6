"""One job in a process of its own that works only while it is asked."""

import logging
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, TypeVar

from benchmarks import machine
from recmodels.cli import Remedies, shortage
from recmodels.errors import TrainingError, UserError

T = TypeVar("T")
_SECONDS_TO_END = 10
_KILLED = -9  # exit code of a process that got SIGKILL, which the kernel sends where memory ends


class Worker:
    """A job that lives in a fresh, spawned process until the worker is left.

    Args:
        job: class of the job; the process imports its module first.
        *args: its arguments, sent to the process.
        name: what is measured, for errors.
        remedies: what to do where the machine refuses.

    Attributes:
        baseline_mb: resident size of the process after its imports, before the job; None without /proc.

    Raises:
        UserError: from the job's constructor, as are all the errors of `run`.
    """

    def __init__(self, job: Callable[..., Any], *args: Any, name: str, remedies: Remedies) -> None:
        context = get_context("spawn")
        self._name, self._remedies = name, remedies
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job, args, name, remedies), daemon=True)
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
            UserError: as raised there, or the machine refused memory, disk space or a file.
            TrainingError: as raised there, or the process ended, say for want of memory.
            RuntimeError: any other error of the action, with its traceback as the message.
        """
        with suppress(OSError):  # the process has ended, which the answer tells
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
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            reason = f", killed for want of memory it seems; lower {self._remedies.memory}" if code == _KILLED else ""
            raise TrainingError(f"{self._name}: its process ended by itself with exit code {code}{reason}") from None
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


def _serve(pipe: Connection, job: Callable[..., Any], args: tuple[Any, ...], name: str, remedies: Remedies) -> None:
    """The life of the process: its size, the job, then one answer for every action."""
    baseline = machine.resident_mb()
    warnings.simplefilter("ignore")  # RecBole's calls of torch, deprecated since
    logging.getLogger().setLevel(logging.ERROR)
    with suppress(KeyboardInterrupt, EOFError, OSError):  # the other side is gone, or ended by hand with it
        pipe.send((True, baseline))
        jobs: list[Any] = []
        pipe.send(_answer_of(lambda: jobs.append(job(*args)), name, remedies))
        while (message := pipe.recv()) is not None:
            action, given = message
            pipe.send(_answer_of(partial(action, jobs[0], *given), name, remedies))


def _answer_of(action: Callable[[], Any], name: str, remedies: Remedies) -> tuple[bool, Any]:
    """Whether an action succeeded, and its result, or the error that the other side raises."""
    try:
        return True, action()
    except (UserError, TrainingError) as error:
        return False, error
    except Exception as error:  # it goes to the other side, where it is raised
        refused = shortage(error, remedies)
        return False, RuntimeError(traceback.format_exc()) if refused is None else UserError(f"{name}: {refused}")
