"""The parent of a gateway's processes: starts them, watches them, serves the admin port, and stops them in good order.

It holds no Kafka client and sees no record, so that nothing that a record does can stop it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from tokenweir import __version__
from tokenweir.adapters.consentstore import boot_id
from tokenweir.adapters.freshness import FILE_NAME, Freshness
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.errors import FileFormatError, RefusedError
from tokenweir.runtime.casualties import Casualties, Verdict
from tokenweir.runtime.children import ChildSpec
from tokenweir.runtime.endings import ExitCode
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.keywatch import KeyWatch
from tokenweir.runtime.policyarchive import PolicyArchive
from tokenweir.runtime.statelock import holder, open_lock, try_lock
from tokenweir.runtime.status import ChildState, Phase, Sign, read_sign
from tokenweir.telemetry import metrics
from tokenweir.telemetry.collector import metrics_registry
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log
from tokenweir.telemetry.server import AdminServer, Probes
from tokenweir.telemetry.slots import SlotWriter, clear_slots, drop_gauges, slot_path
from tokenweir.words import named_config

_POLL_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 30.0
_FIRST_BACKOFF_SECONDS: Final = 0.5
_MAX_BACKOFF_SECONDS: Final = 10.0
#: A child that has lived this long has proved itself: its next death counts as its first.
_SETTLED_SECONDS: Final = 30.0
#: Longer than any call to a broker that is bounded, and than transaction.timeout.ms.
_HUNG_SECONDS: Final = 60.0
#: Hundred times what the costliest record takes.
_HUNG_RECORD_SECONDS: Final = 30.0
#: The watch turns five times a second; this long without a turn, and nobody watches the children any more.
_LIVE_SECONDS: Final = 10.0


_Kept = TypeVar("_Kept")


@dataclass(slots=True)
class _Child:
    """A slot for a process that lives, is to be started again, or stays down."""

    spec: ChildSpec
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    deaths: int = 0
    killed: bool = False
    down: bool = False


class Supervisor:
    """Runs one gateway in the foreground."""

    def __init__(self, gateway: Gateway, on_listening: Callable[[int], None] = lambda _port: None) -> None:
        self._gateway = gateway
        self._loaded: LoadedPolicy = gateway.policy()
        self._on_listening = on_listening
        self._stopping = threading.Event()
        self._was_ready = False
        self._children: list[_Child] = []
        self._casualties = Casualties(gateway.config.state.directory, self._loaded.policy.streams, gateway.engine)
        self._freshness = Freshness(gateway.config.state.directory / FILE_NAME, boot_id())
        self._keys = KeyWatch(gateway.config.keys, lambda: spawn(ChildSpec(gateway, "keys")))
        self._turned_at = time.monotonic()

    def stop(self) -> None:
        """Begin to stop; safe to call from a signal handler."""
        self._stopping.set()

    def run(self) -> int:
        """Run until told to stop; return the exit code of ``tokenweir run``.

        Raises:
            RefusedError: if another gateway uses the same state directory, or the admin port cannot be opened.
        """
        state = self._gateway.config.state.directory
        with open_lock(state) as lock:
            if not try_lock(lock, passing=False, engine=self._gateway.engine):
                raise RefusedError(
                    f"{state}: another gateway, a replay or 'offsets set' uses this state directory "
                    f"({holder(lock).words})"
                )
            return self._run()

    def _run(self) -> int:
        clear_slots(self._gateway.slots_directory)
        with self._own_slot() as slot, self._admin() as server:
            log(Event.ADMIN_LISTENING, host=self._gateway.config.admin.host, port=server.port)
            self._on_listening(server.port)
            code = self._preflight()
            if code == ExitCode.DONE and not self._stopping.is_set():
                self._archive(PolicyArchive.begin, self._loaded.policy.revision, self._gateway.policy_text)
                self._make_children()
                log(
                    Event.GATEWAY_STARTED,
                    version=__version__,
                    engine=self._gateway.engine,
                    policy_digest=self._loaded.digest,
                    revision=self._loaded.policy.revision,
                    workers=len(self._children) - 1,
                )
                code = self._watch(slot)
                log(Event.GATEWAY_STOPPING)
            self._stop_children()
            if self._children:
                self._archive(PolicyArchive.end)
        log(Event.GATEWAY_STOPPED, exit_code=int(code))
        return int(code)

    def _archive(self, write: Callable[..., None], *facts: object) -> None:
        """Write down from when to when this policy decides; a full disk costs only that, and stops no stream."""
        archive = PolicyArchive(self._gateway.config.state.directory)
        try:
            write(archive, self._loaded.digest, *facts, time.time_ns() // 1_000_000)
        except OSError as error:
            log(Event.EXCEPTION_RAISED, error=error, phase="policy_archive")

    def _own_slot(self) -> SlotWriter:
        series = metrics.supervisor_series(
            self._loaded.policy.streams,
            policy_digest=self._loaded.digest,
            policy_revision=self._loaded.policy.revision,
            version=__version__,
            engine=self._gateway.engine,
        )
        slot = SlotWriter(slot_path(self._gateway.slots_directory, "supervisor", 0), series)
        slot.set(slot.index(metrics.POLICY_INFO, self._loaded.digest, str(self._loaded.policy.revision)), 1)
        slot.set(slot.index(metrics.BUILD_INFO, __version__, self._gateway.engine), 1)
        return slot

    def _admin(self) -> AdminServer:
        section = self._gateway.config.admin
        probes = Probes(
            live={"loop": self._live},
            ready={
                "workers": self._workers_ready,
                "offsets": self._offsets_decided,
                "consent": self._consent_ready,
                "keys": self._keys.confirmed,
            },
            started={"ready_once": self._ready_once},
        )
        registry = metrics_registry(self._gateway.slots_directory)
        try:
            return AdminServer(section.host, section.port, probes, registry)
        except OSError as error:
            place = f"{section.host}:{section.port}"
            raise RefusedError(
                f"admin: {place} cannot be listened on ({error.strerror}): free it, or give another admin.port "
                "(TOKENWEIR__ADMIN__PORT)"
            ) from None

    # What the probes ask; called from the admin server's threads, so nothing here changes anything but a flag.

    def _state_of(self, kind: str) -> ChildState | None:
        states = [self._state(child) for child in self._children if child.spec.kind == kind]
        return min((state for state in states if state is not None), default=None) if None not in states else None

    def _state(self, child: _Child) -> ChildState | None:
        sign = self._sign(child)
        return None if sign is None else sign.state

    def _workers_ready(self) -> bool:
        return self._state_of("worker") is ChildState.RUNNING

    def _offsets_decided(self) -> bool:
        """Whether no worker waits for a transaction that should have been decided long ago."""
        return all(self._state(child) is not ChildState.BLOCKED for child in self._children)

    def _ready_once(self) -> bool:
        self._was_ready = self._was_ready or (self._workers_ready() and self._consent_ready())
        return self._was_ready

    def _consent_ready(self) -> bool:
        """Whether consent is restored and fresh, as workers see it: an applier that hangs still says that it runs."""
        staleness_seconds = self._freshness.staleness_seconds(time.monotonic_ns())
        return staleness_seconds <= self._gateway.config.consent.max_staleness_seconds

    def _live(self) -> bool:
        return self._stopping.is_set() or time.monotonic() - self._turned_at < _LIVE_SECONDS

    # Processes.

    def _preflight(self) -> int:
        child = _Child(ChildSpec(self._gateway, "preflight"))
        self._start(child)
        process = child.process
        while process is not None and process.poll() is None:
            self._turned_at = time.monotonic()
            if self._stopping.wait(_POLL_SECONDS):
                # Each of its changes is one request, so there is nothing to finish.
                process.kill()
                process.wait()
                return ExitCode.DONE
        code = process.returncode if process is not None else ExitCode.CRASHED
        return code if code in (ExitCode.DONE, ExitCode.REFUSED) else ExitCode.CRASHED

    def _make_children(self) -> None:
        first = self._gateway.first_slot()
        specs = [ChildSpec(self._gateway, "applier")]
        specs += [
            ChildSpec(self._gateway, "worker", stream, first + number)
            for stream in self._loaded.policy.streams
            for number in range(self._gateway.config.gateway.workers)
        ]
        children = [_Child(spec) for spec in specs]
        for spec in specs:
            if spec.kind == "worker":
                self._bookkeep(
                    spec, partial(self._casualties.died_with_the_supervisor, spec.stream, spec.slot, spec.status_file)
                )
        for child in children:
            self._start(child)
        self._children = children

    def _start(self, child: _Child) -> None:
        spec = child.spec
        process = spawn(spec)
        child.process, child.started_at, child.killed = process, time.monotonic(), False
        log(Event.PROCESS_STARTED, kind=spec.kind, stream=spec.stream, slot=spec.slot, pid=process.pid)

    def _watch(self, slot: SlotWriter) -> int:
        """Keep the children alive until told to stop or until one of them refuses."""
        while not self._stopping.wait(_POLL_SECONDS):
            self._turned_at = time.monotonic()
            for child in self._children:
                if child.process is None:
                    if not child.down and time.monotonic() >= child.start_at:
                        self._start(child)
                        if child.spec.kind == "worker":
                            slot.add(slot.index(metrics.WORKER_RESTARTS, child.spec.stream))
                    continue
                self._kill_if_hung(child)
                if child.spec.kind == "worker":
                    self._bookkeep(child.spec, partial(self._casualties.settle, child.spec.stream, child.spec.slot))
                code = child.process.poll()
                if code is not None and self._died(child, code) == ExitCode.REFUSED:
                    return ExitCode.REFUSED
            workers = [child for child in self._children if child.spec.kind == "worker"]
            if all(child.down for child in workers) or not self._keys.turn():
                return ExitCode.REFUSED
            slot.set(slot.index(metrics.KEK_UNCONFIRMED), self._keys.unconfirmed_seconds())
            self._ready_once()
        return ExitCode.DONE

    def _kill_if_hung(self, child: _Child) -> None:
        sign = self._sign(child)
        if child.process is None or sign is None or child.killed:
            return
        silent_seconds = (time.monotonic_ns() - sign.heartbeat_ns) / 1e9
        if silent_seconds > (_HUNG_RECORD_SECONDS if sign.phase is Phase.ENGINE else _HUNG_SECONDS):
            child.process.kill()
            child.killed = True
            log(
                Event.PROCESS_KILLED,
                kind=child.spec.kind,
                stream=child.spec.stream,
                slot=child.spec.slot,
                phase=sign.phase.name.lower(),
                seconds=silent_seconds,
            )

    def _sign(self, child: _Child) -> Sign | None:
        """Return the life signs of a child's process, None where it has given none."""
        return None if child.process is None else sign_of(child.spec, child.process)

    def _died(self, child: _Child, code: int) -> int:
        """Note a death; return the child's exit code, or REFUSED where the gateway must stop."""
        spec = child.spec
        now = time.monotonic()
        child.deaths = 1 if now - child.started_at > _SETTLED_SECONDS else child.deaths + 1
        sign = self._sign(child)
        child.process = None
        verdict = self._verdict(spec, sign, code)
        self._tell_death(spec, sign, code, verdict)
        self._forget_gauges(spec)
        if code == ExitCode.REFUSED:
            return code
        if code == ExitCode.FENCED:
            child.down = True
            log(Event.WORKER_FENCED, kind=spec.kind, stream=spec.stream, slot=spec.slot)
            return code
        if verdict.stops:
            child.down = True
            log(
                Event.SLOT_STOPPED,
                kind=spec.kind,
                stream=spec.stream,
                slot=spec.slot,
                phase=None if sign is None else sign.phase.name.lower(),
                attempts=verdict.crashes,
            )
            return code
        if verdict.records:
            # Each such death brings the quarantine of a record nearer, so that to wait would only hold the others up.
            child.deaths = 1
        pause = min(_FIRST_BACKOFF_SECONDS * 2 ** (child.deaths - 1), _MAX_BACKOFF_SECONDS)
        child.start_at = now + pause
        log(
            Event.PROCESS_RESTARTING,
            kind=spec.kind,
            stream=spec.stream,
            slot=spec.slot,
            attempts=child.deaths,
            seconds=pause,
        )
        return code

    def _verdict(self, spec: ChildSpec, sign: Sign | None, code: int) -> Verdict:
        """Count what the death of a worker says of its records, before anything else that might fail."""
        if spec.kind != "worker":
            return Verdict()
        return self._bookkeep(spec, partial(self._casualties.died, spec.stream, spec.slot, sign, code)) or Verdict()

    def _bookkeep(self, spec: ChildSpec, change: Callable[[], _Kept]) -> _Kept | None:
        """Change the counts of records; a full disk costs only their memory, and no stream stops for it."""
        try:
            return change()
        except OSError as error:
            log(Event.EXCEPTION_RAISED, error=error, kind=spec.kind, stream=spec.stream, slot=spec.slot)
            return None

    def _tell_death(self, spec: ChildSpec, sign: Sign | None, code: int, verdict: Verdict) -> None:
        """Log a death, with the record if it was one alone."""
        place = verdict.records[0] if len(verdict.records) == 1 else None
        log(
            Event.PROCESS_DIED,
            kind=spec.kind,
            stream=spec.stream,
            slot=spec.slot,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            phase=sign.phase.name.lower() if sign is not None and spec.kind == "worker" else None,
            topic=None if place is None else self._loaded.policy.streams[spec.stream].source.topic,
            partition=None if place is None else place.partition,
            offset=None if place is None else place.offset,
        )

    def _forget_gauges(self, spec: ChildSpec) -> None:
        kind = f"{spec.kind}-{spec.stream}" if spec.stream else spec.kind
        try:
            drop_gauges(slot_path(self._gateway.slots_directory, kind, spec.slot))
        except FileNotFoundError:
            return
        except FileFormatError as error:
            # Its numbers are lost; what it did is not, so that nothing has to stop.
            log(Event.EXCEPTION_RAISED, error=error, kind=spec.kind, stream=spec.stream, slot=spec.slot)

    def _stop_children(self) -> None:
        """Ask the workers to finish, then the applier, whose store they use to the end."""
        self._keys.close()
        for kind in ("worker", "applier"):
            processes = [
                child.process for child in self._children if child.process is not None and child.spec.kind == kind
            ]
            for process in processes:
                process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + _GRACE_SECONDS
            for process in processes:
                try:
                    process.wait(max(deadline - time.monotonic(), 0.1))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def command(spec: ChildSpec) -> list[str]:
    """Return what starts a child. Its arguments name the process for people; secrets go through its standard input."""
    # With -P the working directory is no place to import from.
    names = [spec.stream, str(spec.slot)] if spec.stream else []
    return [sys.executable, "-P", "-m", "tokenweir.runtime.children", spec.kind, *names]


def spawn(spec: ChildSpec, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Start a child and tell it what it is; ``stdout`` is as for :class:`subprocess.Popen`."""
    process = subprocess.Popen(command(spec), stdin=subprocess.PIPE, stdout=stdout)  # noqa: S603 - our own interpreter and module
    if process.stdin is not None:
        try:
            process.stdin.write(pickle.dumps(replace(spec, parent=os.getpid(), config_named=named_config())))
            process.stdin.close()
        except BrokenPipeError:
            pass  # It died at once; who watches it will see it.
    return process


def sign_of(spec: ChildSpec, process: subprocess.Popen[bytes]) -> Sign | None:
    """Return the life signs of a child's process, None where it has given none."""
    sign = read_sign(spec.status_file)
    return sign if sign is not None and sign.pid == process.pid else None
