"""The parent of a replay: runs it in a hardened child, sees to it that there is consent, and sums up.

Like the supervisor of a gateway it holds no Kafka client and sees no record.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import IO, Final

from tokenweir.adapters.consentstore import boot_id
from tokenweir.adapters.freshness import FILE_NAME, Freshness
from tokenweir.config.models import LoggingSection
from tokenweir.errors import RefusedError
from tokenweir.runtime.casualties import Casualties, Verdict
from tokenweir.runtime.children import ChildSpec
from tokenweir.runtime.endings import ExitCode
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.replaychild import SLOT, ReplayOrder, suspects_name
from tokenweir.runtime.replayledger import Account, chosen
from tokenweir.runtime.replayletters import Counts
from tokenweir.runtime.statelock import holder, open_lock, try_lock
from tokenweir.runtime.status import Sign
from tokenweir.runtime.tendedprocess import TendedProcess
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

_POLL_SECONDS: Final = 0.1
#: A gateway that restarts has restored its consent long before this.
_NO_CONSENT_SECONDS: Final = 60.0


class End(Enum):
    """How a replay ended."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    TAKEN_OVER = "taken_over"
    """Another replay of this stream was started."""
    NO_CONSENT = "no_consent"
    """The gateway whose consent was used has stopped, or gets no consent itself."""
    REFUSED = "refused"
    """A child has said why on standard error."""
    FAILED = "failed"
    """A child ended again and again without getting any further."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay did: letters by kind, how it ended, and how many letters more may have been done or not."""

    end: End
    counts: Counts
    uncertain: int


class Replay:
    """Runs one replay in the foreground.

    Args:
        gateway: The configuration, policy and keyset.
        stream: The stream whose dead letters are replayed.
        order: What is to be done.
        on_progress: Given the counts whenever they have changed.
    """

    def __init__(
        self, gateway: Gateway, stream: str, order: ReplayOrder, on_progress: Callable[[Counts], None] = lambda _: None
    ) -> None:
        self._gateway = gateway
        self._order = order
        self._on_progress = on_progress
        self._account = Account()
        self._stopping = threading.Event()
        self._name = suspects_name(stream)
        self._casualties = Casualties(gateway.config.state.directory, [self._name], gateway.engine)
        self._child = TendedProcess(ChildSpec(gateway, "replay", stream, SLOT, replay=order))

    @property
    def logging(self) -> LoggingSection:
        """How its processes log."""
        return self._gateway.config.logging

    def stop(self) -> None:
        """Begin to stop; safe to call from a signal handler."""
        self._stopping.set()

    def run(self) -> Outcome:
        """Replay until it is done or told to stop.

        Raises:
            RefusedError: if the state directory cannot be used, or a gateway of another engine has it.
        """
        consent = _Consent(self._gateway)
        try:
            consent.open()
            self._child.start()
            end = self._watch(consent)
        finally:
            # The store is used to the end.
            self._child.stop()
            consent.close()
        self._hear()
        unsettled = self._account.unsettled
        uncertain = 0 if unsettled is None else unsettled.counted().total()
        return Outcome(end, self._account.counts, uncertain)

    def _watch(self, consent: _Consent) -> End:
        """Keep the processes alive until there is an end."""
        while not self._stopping.wait(_POLL_SECONDS):
            self._hear()
            self._child.tend()
            end = self._ended() or consent.tend()
            if end is not None:
                return end
        code = self._child.stop()
        return End.INTERRUPTED if code in (None, ExitCode.DONE) else _END_BY_CODE.get(code, End.INTERRUPTED)

    def _hear(self) -> None:
        """Take the child's lines into account; what it settles also shows that it gets on."""
        if self._account.hear(self._child.lines()):
            self._child.deaths = 0
            self._on_progress(self._account.counts)
        self._casualties.settle(self._name, SLOT)

    def _ended(self) -> End | None:
        """Return how the replay ended with its child, None where the child lives or is to be started again."""
        sign = self._child.sign()
        code = self._child.poll()
        if code is None:
            return None
        self._hear()
        if code in _END_BY_CODE:
            return _END_BY_CODE[code]
        # A letter that kills the child becomes a dead letter undecoded at its third death, as a record of the gateway.
        if self._count_death(sign, code).stops or self._child.failed:
            return End.FAILED
        limit = self._order.limit
        left = None if limit is None else max(limit - chosen(self._account.counts), 0)
        order = replace(self._order, limit=left, unsettled=self._account.unsettled)
        self._child.spec = replace(self._child.spec, replay=order)
        return None

    def _count_death(self, sign: Sign | None, code: int) -> Verdict:
        try:
            return self._casualties.died(self._name, SLOT, sign, code)
        except OSError as error:
            # A full disk: the letter is tried again, and counted once there is room.
            log(Event.EXCEPTION_RAISED, error=error, kind="replay", slot=SLOT)
            return Verdict()


_END_BY_CODE: Final = {
    int(ExitCode.DONE): End.DONE,
    int(ExitCode.REFUSED): End.REFUSED,
    int(ExitCode.FENCED): End.TAKEN_OVER,
}


class _Consent:
    """Sees to it that the child has consent: from the gateway that runs on this state directory, or else its own."""

    def __init__(self, gateway: Gateway) -> None:
        self._directory = gateway.config.state.directory
        self._engine = gateway.engine
        self._max_staleness_seconds = gateway.config.consent.max_staleness_seconds
        self._freshness = Freshness(self._directory / FILE_NAME, boot_id())
        self._applier = TendedProcess(ChildSpec(gateway, "applier"))
        self._lock: IO[str] | None = None
        self._is_ours = False
        self._fresh_at_seconds = time.monotonic()

    def open(self) -> None:
        """Take the lock of the state directory and start an applier, unless the directory is in use.

        The lock of a gateway is tried this once and then left alone: were it taken while the gateway restarts, the
        gateway would be refused.

        Raises:
            RefusedError: if the state directory cannot be used, or a gateway of another engine has it.
        """
        self._lock = open_lock(self._directory)
        self._take(self._lock)
        if not self._is_ours:
            self._refuse_other_engine(self._lock)

    def tend(self) -> End | None:
        """Keep the applier alive; return how the replay must end if there is no consent to be had.

        Raises:
            RefusedError: if a gateway of another engine has the state directory by now.
        """
        if self._is_ours:
            self._applier.tend()
            refused = self._applier.poll() == ExitCode.REFUSED
            return End.REFUSED if refused else End.FAILED if self._applier.failed else None
        if self._lock is not None:
            if holder(self._lock).passing:
                # It is another replay, or 'offsets set', that has the lock, and it ends some time.
                self._take(self._lock)
            else:
                self._refuse_other_engine(self._lock)
        now = time.monotonic()
        if self._freshness.staleness_seconds(time.monotonic_ns()) <= self._max_staleness_seconds:
            self._fresh_at_seconds = now
        return End.NO_CONSENT if now - self._fresh_at_seconds > _NO_CONSENT_SECONDS else None

    def close(self) -> None:
        """Stop the applier and give the lock back."""
        self._applier.stop()
        if self._lock is not None:
            self._lock.close()

    def _take(self, lock: IO[str]) -> None:
        if try_lock(lock, passing=True):
            self._is_ours = True
            self._applier.start()

    def _refuse_other_engine(self, lock: IO[str]) -> None:
        """Refuse to wait for a store that nobody fills: each engine has its own, and a gateway keeps only one.

        The freshness file is the same for both, so that the replay would take that gateway's consent for its own.
        """
        who = holder(lock)
        if who.engine and not who.passing and who.engine != self._engine:
            raise RefusedError(
                f"{self._directory}: the gateway that uses this state directory ({who.words}) keeps consent for the "
                f"{who.engine} engine, and this replay has the {self._engine} engine: set gateway.engine to "
                f"{who.engine} (TOKENWEIR__GATEWAY__ENGINE={who.engine}), or stop the gateway"
            )
