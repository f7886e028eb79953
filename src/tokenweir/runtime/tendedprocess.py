"""A child of a replay's parent: started again when it dies, ended when it hangs, and heard line by line."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
import time
from typing import IO, Final

from tokenweir.runtime.children import ChildSpec
from tokenweir.runtime.endings import ExitCode
from tokenweir.runtime.status import Sign
from tokenweir.runtime.supervisor import sign_of, spawn
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

_FIRST_BACKOFF_SECONDS: Final = 0.5
_MAX_BACKOFF_SECONDS: Final = 10.0
#: Longer than any call to a broker that is bounded, than transaction.timeout.ms, and than the checks at the start.
_HUNG_SECONDS: Final = 90.0
_GRACE_SECONDS: Final = 30.0
#: A letter that kills is known after three deaths, and a broker that restarts answers again.
_MAX_DEATHS: Final = 6


class TendedProcess:
    """A child that is started again when it dies, a little later each time."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.deaths = 0
        self._wanted = False
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None
        self._start_at = 0.0

    @property
    def failed(self) -> bool:
        """Whether it died too often without getting any further."""
        return self.deaths >= _MAX_DEATHS

    def start(self) -> None:
        """Start it."""
        self._wanted = True
        spec = self.spec
        process = spawn(spec, subprocess.PIPE)
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()
        log(Event.PROCESS_STARTED, kind=spec.kind, stream=spec.stream or None, slot=spec.slot, pid=process.pid)

    def tend(self) -> None:
        """Start it again when it has been dead for long enough, and end it when it gives no sign of life."""
        if self._process is not None:
            self._kill_if_hung(self._process)
        elif self._wanted and time.monotonic() >= self._start_at:
            self.start()

    def poll(self) -> int | None:
        """Return the exit code if it has died just now, and then see to it that it is started again.

        All lines that it wrote can be had by then.
        """
        code = None if self._process is None else self._process.poll()
        if code is None:
            return None
        self._process = None
        if self._reader is not None:
            self._reader.join()
        self.deaths += 1
        self._start_at = time.monotonic() + min(_FIRST_BACKOFF_SECONDS * 2 ** (self.deaths - 1), _MAX_BACKOFF_SECONDS)
        if code != ExitCode.DONE:
            spec = self.spec
            log(
                Event.PROCESS_DIED,
                kind=spec.kind,
                stream=spec.stream or None,
                slot=spec.slot,
                exit_code=code if code >= 0 else None,
                signal=-code if code < 0 else None,
            )
        return code

    def _kill_if_hung(self, process: subprocess.Popen[bytes]) -> None:
        sign = self.sign()
        if sign is None:
            return
        silent_seconds = (time.monotonic_ns() - sign.heartbeat_ns) / 1e9
        if silent_seconds > _HUNG_SECONDS:
            process.kill()
            spec = self.spec
            log(
                Event.PROCESS_KILLED,
                kind=spec.kind,
                stream=spec.stream or None,
                slot=spec.slot,
                seconds=silent_seconds,
                phase=sign.phase.name.lower(),
            )

    def stop(self) -> int | None:
        """Ask it to finish, wait, and return its exit code, None where there was nothing to stop."""
        self._wanted = False
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if self._reader is not None:
            self._reader.join()
        return code

    def lines(self) -> list[str]:
        """Return what it has written since the last call."""
        found = []
        while not self._lines.empty():
            found.append(self._lines.get())
        return found

    def sign(self) -> Sign | None:
        """Return its life signs, None where it has given none."""
        return None if self._process is None else sign_of(self.spec, self._process)

    def _read(self, out: IO[bytes] | None) -> None:
        if out is None:
            return
        with out:
            for line in out:
                # A process that is killed may leave half of a line; it is worth nothing.
                if line.endswith(b"\n"):
                    self._lines.put(line.decode("ascii"))
