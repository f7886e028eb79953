"""Faults that wait in a directory until a process passes the named point at which each of them strikes.

The driver of a test arms them while the processes run. A fault is claimed by moving its file, so that it strikes once,
whichever of several processes comes first, and never again in the process that is started in place of a killed one.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

VARIABLE: Final = "TOKENWEIR_TEST_FAULTS"
"""The environment variable that names the directory to the processes."""

POINTS: Final = (
    "after_poll",
    "after_snapshot",
    "after_engine",
    "after_begin",
    "mid_produce",
    "after_produce",
    "after_offsets",
    "before_commit",
    "after_commit",
)
"""The points of a worker's transaction, in the order in which it passes them."""


class Action(StrEnum):
    """What a fault does to the process."""

    KILL = "kill"
    STOP = "stop"
    SLEEP = "sleep"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        point: Where it strikes.
        action: What it does.
        passage: At which passage of the point, counted in each process from when it sees the fault.
        seconds: How long it sleeps; otherwise how long after the passage it strikes.
        meanwhile: Whether the process goes on until then. If not, only the threads of librdkafka do, which send what
            they were given.
    """

    point: str
    action: Action = Action.KILL
    passage: int = 1
    seconds: float = 0.0
    meanwhile: bool = False


class Struck(NamedTuple):
    """A fault that has struck: which process, and when on the monotonic clock, which all processes share."""

    fault: Fault
    pid: int
    seconds: float


class FaultBox:
    """The driver's side of the directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._armed, self._claimed, self._struck = (directory / name for name in ("armed", "claimed", "struck"))
        for path in (self._armed, self._claimed, self._struck):
            path.mkdir(parents=True)
        self._count = 0

    def arm(self, fault: Fault) -> None:
        """Let a fault wait for the next process that passes its point."""
        self._count += 1
        name = f"{self._count:05}.json"
        _write(self._armed / name, asdict(fault))

    def waiting(self) -> int:
        """Return how many faults no process has met yet."""
        return sum(1 for path in self._armed.iterdir() if path.suffix == ".json")

    def disarm(self) -> None:
        """Take back every fault that no process has met yet."""
        for path in self._armed.iterdir():
            path.unlink(missing_ok=True)

    def struck(self) -> list[Struck]:
        """Return the faults that have struck, in the order in which they were armed."""
        found = []
        for path in sorted(self._struck.glob("*.json")):
            content = json.loads(path.read_text())
            fault = content.pop("fault")
            found.append(Struck(Fault(**{**fault, "action": Action(fault["action"])}), **content))
        return found


class Trigger:
    """The process's side: told of each passage, it lets the fault strike that is due."""

    def __init__(self, directory: Path) -> None:
        self._armed, self._claimed, self._struck = (directory / name for name in ("armed", "claimed", "struck"))
        self._known: dict[str, Fault] = {}
        self._passages: Counter[str] = Counter()

    def passage(self, point: str) -> None:
        """Note that the process passes a point; it may not survive that."""
        for name in sorted(path.name for path in self._armed.iterdir()):
            fault = self._fault(name)
            if fault is None or fault.point != point:
                continue
            self._passages[name] += 1
            if self._passages[name] >= fault.passage and self._claim(name):
                self._strike(name, fault)

    def _fault(self, name: str) -> Fault | None:
        if name not in self._known and name.endswith(".json"):
            try:
                content = json.loads((self._armed / name).read_text())
            except FileNotFoundError:
                return None  # Another process was faster.
            self._known[name] = Fault(**{**content, "action": Action(content["action"])})
        return self._known.get(name)

    def _claim(self, name: str) -> bool:
        try:
            (self._armed / name).rename(self._claimed / name)
        except FileNotFoundError:
            return False
        return True

    def _strike(self, name: str, fault: Fault) -> None:
        def note(then: Callable[[], None]) -> None:
            content = {"fault": asdict(fault), "pid": os.getpid(), "seconds": time.monotonic()}
            _write(self._struck / name, content)
            then()

        match fault.action:
            case Action.SLEEP:
                note(lambda: time.sleep(fault.seconds))
            case Action.KILL | Action.STOP:
                number = signal.SIGKILL if fault.action is Action.KILL else signal.SIGSTOP
                if fault.meanwhile:
                    later = threading.Timer(fault.seconds, note, [lambda: os.kill(os.getpid(), number)])
                    later.daemon = True
                    later.start()
                else:
                    time.sleep(fault.seconds)
                    note(lambda: os.kill(os.getpid(), number))


def _write(path: Path, content: object) -> None:
    """Write a file that is never seen half written."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(content))
    temporary.rename(path)
