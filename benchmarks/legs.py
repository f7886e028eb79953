"""The programs that are compared on a broker: the gateway with either engine, a mirror, and what a team would write."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import cluster, machine, workload
from benchmarks.cluster import Cluster
from tokenweir.runtime.status import read_sign

_START_SECONDS: Final = 300
_STOP_SECONDS: Final = 60
#: After the last member has joined, until the figures count.
_WARM_UP_SECONDS: Final = 2.0
_GROUPS: Final = itertools.count()


@dataclass(frozen=True)
class Leg:
    """A program with a number of workers: ``copy``, ``plain``, or an engine of the gateway."""

    kind: str
    workers: int

    @property
    def name(self) -> str:
        """How it is called in results."""
        return f"{self.kind}, {self.workers} worker{'s' if self.workers > 1 else ''}"

    @property
    def is_gateway(self) -> bool:
        """Whether it is the gateway."""
        return self.kind in {"native", "reference"}

    @property
    def output(self) -> str:
        """The topic that it writes."""
        return cluster.OUTPUT if self.is_gateway else cluster.COPY


@dataclass(frozen=True)
class Running:
    """A leg that runs: its consumer group, the processes that were started, and the directory of a gateway."""

    leg: Leg
    group: str
    processes: list[subprocess.Popen[bytes]]
    home: Path | None = None

    def check(self) -> None:
        """Say so if it has ended.

        Raises:
            RuntimeError: It has.
        """
        if any(process.poll() is not None for process in self.processes):
            raise RuntimeError(f"{self.leg.name} has ended")

    def workers(self) -> list[int]:
        """Return the ids of the processes that treat records."""
        if self.home is None:
            return [process.pid for process in self.processes]
        slots = self.home / "state" / "slots"
        signs = [read_sign(slots / f"worker-interactions-{slot}.status") for slot in range(self.leg.workers)]
        return [sign.pid for sign in signs if sign is not None]

    def worker_seconds(self) -> float:
        """Return the CPU time of all workers so far."""
        return sum(map(machine.cpu_seconds, self.workers()))


@contextlib.contextmanager
def running(place: Cluster, leg: Leg, *, start: str = "earliest") -> Iterator[Running]:
    """Start a leg with a new group, wait until each worker owns partitions, warm up, and stop it in the end.

    Args:
        place: Where.
        leg: What.
        start: ``earliest`` or ``latest``: where the group begins.

    Raises:
        RuntimeError: It ended, or did not start in time.
    """
    group = f"bench{next(_GROUPS)}"
    if leg.is_gateway:
        found = _gateway(place, leg, group, start)
    else:
        command = [sys.executable, "-m", "benchmarks.pipeline", leg.kind, place.bootstrap, group]
        workers = [subprocess.Popen([*command, str(slot), start]) for slot in range(leg.workers)]
        found = Running(leg, group, workers)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while place.busy_members(found.group) < leg.workers or (
            start == "earliest" and not place.committed(found.group)
        ):
            found.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{leg.name} did not start within {_START_SECONDS} s")
            time.sleep(0.1)
        time.sleep(_WARM_UP_SECONDS)
        yield found
    finally:
        for process in found.processes:
            process.terminate()
        for process in found.processes:
            process.wait(_STOP_SECONDS)


def _gateway(place: Cluster, leg: Leg, group: str, start: str) -> Running:
    """Start the gateway; all legs share its keys, and the consent store that the first of them restores."""
    home = place.directory / "gateway"
    command = [sys.executable, "-m", "tokenweir"]
    config = ["--config", str(home / "tokenweir.yaml")]
    if not home.exists():
        home.mkdir()
        (home / "policy.yaml").write_text(workload.POLICY)
        (home / "tokenweir.yaml").write_text(
            f"version: 1\nkafka: {{bootstrap_servers: '{place.bootstrap}'}}\n"
            f"registry: {{url: '{place.registry_url}'}}\n"
            "gateway: {commit: {interval_ms: 100}}\nadmin: {port: 0}\nlogging: {level: error}\n"
        )
        subprocess.run([*command, "keys", "init", *config], check=True, stdout=subprocess.DEVNULL)
    chosen: Mapping[str, str] = {
        "TOKENWEIR__GATEWAY__ENGINE": leg.kind,
        "TOKENWEIR__GATEWAY__WORKERS": str(leg.workers),
        "TOKENWEIR__GATEWAY__GROUP_PREFIX": group,
        "TOKENWEIR__GATEWAY__START": start,
    }
    process = subprocess.Popen([*command, "run", *config], env=os.environ | chosen)
    return Running(leg, f"{group}.interactions", [process], home)
