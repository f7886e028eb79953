"""A time limit on the audit log: a disk that hangs holds up one thread, and every caller is told in time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from tokenweir.adapters.auditfiles import AuditError
from tokenweir.adapters.auditlog import AuditLog, Decide

Result = TypeVar("Result")

_WAITING: Final = 64
"""Callers that may wait at once; the next one is refused instead of being queued behind a disk that hangs."""


class _Job(Generic[Result]):
    """One transaction, and who waits for it."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._abandoned = False
        self._started = False
        self._result: Result | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Work, unless nobody waits any more."""
        with self._lock:
            if self._abandoned:
                return
            self._started = True
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller waits.
            self._error = error
        self._done.set()

    def wait(self, seconds: float) -> Result:
        """Return the result.

        Raises:
            AuditError: the time is over. What had not begun will not; what had may become durable, unanswered.
        """
        if not self._done.wait(seconds):
            with self._lock:
                self._abandoned = True
            if not self._done.is_set():
                raise AuditError("slow")
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # it is set where there is no error


class AuditThread:
    """Runs the transactions of an audit log in one daemon thread, in order, each with a time limit for its caller."""

    def __init__(self, log: AuditLog, timeout_seconds: float) -> None:
        self._log = log
        self._timeout_seconds = timeout_seconds
        self._jobs: queue.Queue[_Job[Any]] = queue.Queue(_WAITING)
        # A daemon: a thread that a disk holds must not keep the process from ending.
        threading.Thread(target=self._serve, name="audit", daemon=True).start()

    def transact(self, decide: Decide[Result]) -> Result:
        """As :meth:`AuditLog.transact`, and ``slow`` where it takes longer than the limit.

        Raises:
            AuditError: nothing may be answered.
        """
        job = _Job(lambda: self._log.transact(decide))
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise AuditError("slow", "too many callers wait") from None
        return job.wait(self._timeout_seconds)

    def _serve(self) -> None:
        while True:
            self._jobs.get().run()
