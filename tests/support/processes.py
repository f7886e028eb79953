"""A server process that can be killed, started again, and never outlives the test run."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

_GUARD = 'read -r _ignored; kill -s KILL -- "-$1" 2>/dev/null; exit 0'
"""Waits for the end of its input, which comes when the test process is gone by whatever means, then kills a group."""


class DidNotStartError(Exception):
    """A server did not answer in time; the text holds the end of its log."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on.

    It lies below the range from which the kernel takes ports for outgoing connections (32768 and up on Linux), so
    that a killed server finds its port free when it is started again.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Guard:
    """Kills a process group when the test process is gone before it, by whatever means."""

    def __init__(self, group: int) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(group)], stdin=subprocess.PIPE, start_new_session=True
        )

    def dismiss(self) -> None:
        """Guard it no longer: the group has ended, and its id may be taken again."""
        # Killed before its input ends, so that it does not signal anyone.
        self._shell.kill()
        self._shell.wait(30)
        _close(self._shell.stdin)


class Server:
    """One command that runs in its own process group and writes to a log file."""

    def __init__(self, command: Sequence[str], directory: Path, log: Path) -> None:
        self._command = list(command)
        self._directory = directory
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    @property
    def pid(self) -> int:
        """The process id; raises LookupError when the server is not running."""
        if self._process is None:
            raise LookupError("the server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, answers: Callable[[], bool], timeout_seconds: float = 90) -> None:
        """Start the command and wait until ``answers`` is true; on failure the process is killed.

        Raises:
            DidNotStartError: The process ended or did not answer in time.
        """
        if self.running:
            raise RuntimeError("the server is already running")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._guard = Guard(self._process.pid)
        deadline = time.monotonic() + timeout_seconds
        while not answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise DidNotStartError(f"{self.log}:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the whole process group at once (SIGKILL), as a crash of the machine would."""
        self._end(signal.SIGKILL, 30)

    def stop(self, timeout_seconds: float = 30) -> None:
        """Ask the server to end (SIGTERM); kill it if it takes too long."""
        self._end(signal.SIGTERM, timeout_seconds)

    def suspend(self) -> None:
        """Freeze the process group (SIGSTOP), as a long pause of the machine would."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process group go on (SIGCONT)."""
        os.killpg(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals, timeout_seconds: float) -> None:
        process, self._process = self._process, None
        if process is not None:
            # The process is not reaped before it is waited for, so its id cannot belong to anyone else yet.
            if process.returncode is None:
                os.killpg(process.pid, number)
            try:
                process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.dismiss()


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()
