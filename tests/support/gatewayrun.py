"""Runs the gateway as a user would, from the command line; stops it, kills it or its parts, and starts it again."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # Not in its stub's __all__.
from tests.support.capture import TransactionWatch
from tests.support.counters import Scrape, parse_metrics
from tests.support.faults import VARIABLE, FaultBox
from tests.support.processes import Guard, free_port

_SCRAPE_SECONDS: Final = 0.5
_FREEZES: Final = 20
_FROZEN_SECONDS: Final = 0.15
"""Longer than a transaction of another worker, which is not frozen, stays open."""
_ORPHAN_SECONDS: Final = 20
"""In this time the kernel has ended every child of a killed supervisor."""
_LEADER_SECONDS: Final = 60
_COMMITTED_SECONDS: Final = 5
_ROOT: Final = Path(__file__).parents[2]


class GatewayRun:
    """One gateway in a directory of its own: configuration, policy, keys, state and everything that it says.

    Args:
        directory: An empty directory.
        policy: The text of the policy.
        bootstrap: The broker.
        registry_url: The registry.
        settings: Further sections of the configuration.
        faults: Faults that its child processes meet; without, they are the product's own in every respect.
    """

    def __init__(
        self,
        directory: Path,
        policy: str,
        bootstrap: str,
        registry_url: str,
        settings: Mapping[str, Any],
        *,
        faults: FaultBox | None = None,
    ) -> None:
        self.config_directory = directory / "config"
        self.state_directory = directory / "state"
        self.output_directory = directory / "said"
        for path in (self.config_directory, self.output_directory):
            path.mkdir(parents=True)
        self._port = free_port()
        self._config = self.config_directory / "tokenweir.yaml"
        # JSON is YAML.
        self._config.write_text(
            json.dumps(
                {
                    "version": 1,
                    "kafka": {"bootstrap_servers": bootstrap, "properties": {"session.timeout.ms": 6000}},
                    "registry": {"url": registry_url, "unknown_schema_seconds": 1},
                    "policy": {"file": "policy.yaml"},
                    "state": {"directory": str(self.state_directory)},
                    "admin": {"port": self._port},
                    **settings,
                },
                indent=2,
            )
        )
        (self.config_directory / "policy.yaml").write_text(policy)
        self.bodies: list[bytes] = []
        self.lives: list[list[Scrape]] = []
        self.faults = faults
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self._killed: set[int] = set()
        self._stopping = threading.Event()
        self._scraper = threading.Thread(target=self._scrape, name="scraper", daemon=True)

    def command(self, *arguments: str) -> None:
        """Run a verb of the command line to its end.

        Raises:
            AssertionError: It failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "tokenweir", *arguments, "--config", str(self._config)],
            cwd=self.config_directory,
            capture_output=True,
            check=False,
            timeout=120,
        )
        name = "-".join(arguments)
        (self.output_directory / f"{name}.out").write_bytes(done.stdout)
        (self.output_directory / f"{name}.err").write_bytes(done.stderr)
        assert done.returncode == 0, done.stderr.decode(errors="replace")

    def start(self) -> None:
        """Start ``tokenweir run``, again if it has ended, and read its admin port all the time from then on."""
        assert not self.running
        self.lives.append([])
        module, environment = "tokenweir", dict(os.environ)
        if self.faults is not None:
            module = "tests.support.faultygateway"
            paths = [str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
            environment |= {VARIABLE: str(self.faults.directory), "PYTHONPATH": os.pathsep.join(paths)}
        with (
            (self.output_directory / "run.out").open("ab") as out,
            (self.output_directory / "run.err").open("ab") as err,
        ):
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, "run", "--config", str(self._config)],
                cwd=self.config_directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self._guard = Guard(self._process.pid)
        if not self._scraper.is_alive():
            self._scraper.start()

    @property
    def scrapes(self) -> list[Scrape]:
        """The metrics since the last start, which sets the counters to zero, in the order of the scrapes."""
        return self.lives[-1] if self.lives else []

    @property
    def running(self) -> bool:
        """Whether its supervisor lives."""
        return self._process is not None and self._process.poll() is None

    def ready(self) -> bool:
        """Say whether the gateway is ready.

        Raises:
            AssertionError: It has ended.
        """
        assert self.running, self.last_words()
        return self._get("/readyz?verbose")[0] == http.client.OK

    def events(self, *names: str) -> Iterator[dict[str, Any]]:
        """Yield what was logged of some kinds of events, since the first start."""
        for line in (self.output_directory / "run.err").read_text(errors="replace").splitlines():
            if line.startswith("{") and any(f'"{name}"' in line for name in names):
                entry = json.loads(line)
                if entry["event"] in names:
                    yield entry

    def last_words(self) -> str:
        """Return the end of what the gateway said."""
        return (self.output_directory / "run.err").read_text(errors="replace")[-6000:]

    def workers(self) -> list[int]:
        """Return the process ids of the workers that live and were not killed."""
        return self.children("worker")

    def children(self, kind: str) -> list[int]:
        """Return the process ids of the children of a kind that live and were not killed."""
        found = (pid for pid in _descendants(self._pid) if kind.encode() in _command_line(pid))
        return sorted(pid for pid in found if pid not in self._killed)

    def kill_a_child(self, kind: str, dice: random.Random) -> bool:
        """End a child of a kind with SIGKILL; return False if there is none at the moment."""
        children = self.children(kind)
        return bool(children) and self._kill(dice.choice(children))

    def kill_a_worker(self, dice: random.Random) -> bool:
        """End a worker with SIGKILL; return False if there is none at the moment."""
        return self.kill_a_child("worker", dice)

    def kill_in_transaction(self, dice: random.Random, watch: TransactionWatch) -> bool:
        """End a worker with SIGKILL while its transaction is open, or at last whatever it does; False if there is none.

        The worker is frozen at random moments until one is found at which a transaction stays open while it is frozen.
        """
        workers = self.workers()
        if not workers:
            return False
        worker = dice.choice(workers)
        for _ in range(_FREEZES):
            if not _signal(worker, signal.SIGSTOP):
                return False
            if watch.held(_FROZEN_SECONDS):
                return self._kill(worker)
            _signal(worker, signal.SIGCONT)
            time.sleep(dice.random() * _FROZEN_SECONDS)
        return self._kill(worker)

    def _kill(self, worker: int) -> bool:
        # A process that is killed is still there for a moment, and must not be chosen again.
        self._killed.add(worker)
        return _signal(worker, signal.SIGKILL)

    def stop(self, timeout_seconds: float = 60) -> int:
        """Read the metrics once more, send SIGTERM for the last time and return the exit code."""
        self._stopping.set()
        self._scraper.join(30)
        self._read_admin()
        return self.terminate(timeout_seconds)

    def terminate(self, timeout_seconds: float = 60) -> int:
        """Send SIGTERM and return the exit code; it can be started again."""
        os.kill(self._pid, signal.SIGTERM)
        return self.wait(timeout_seconds)

    def wait(self, timeout_seconds: float = 60) -> int:
        """Wait until the gateway ends and return the exit code."""
        assert self._process is not None
        code = self._process.wait(timeout_seconds)
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None
        return code

    def crash(self) -> None:
        """End the supervisor with SIGKILL; it can be started again.

        Raises:
            AssertionError: A child has outlived it.
        """
        children = _descendants(self._pid)
        os.kill(self._pid, signal.SIGKILL)
        self.wait()
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while left := [pid for pid in children if _command_line(pid)]:
            assert time.monotonic() < deadline, f"children have outlived their supervisor: {left}"
            time.sleep(0.02)

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        self._stopping.set()
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._pid, signal.SIGKILL)
            self.wait(30)

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _scrape(self) -> None:
        while not self._stopping.wait(_SCRAPE_SECONDS):
            self._read_admin()

    def _read_admin(self) -> None:
        life = self.scrapes
        for path in ("/metrics", "/readyz?verbose", "/livez", "/startupz", "/nothing"):
            status, body = self._get(path)
            self.bodies.append(body)
            if path == "/metrics" and status == http.client.OK:
                life.append(parse_metrics(body.decode()))

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return []
    return children + [below for child in children for below in _descendants(child)]


def _command_line(pid: int) -> list[bytes]:
    """Return the arguments of a process; none for one that has ended and was not waited for yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


class Progress:
    """Compares the committed offsets of consumer groups with the ends of their topics."""

    def __init__(self, bootstrap: str, groups: Mapping[str, tuple[str, int]]) -> None:
        self._groups = groups
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        # Consumers that never join: an AdminClient that asks a broker for offsets while it starts ends the process
        # (librdkafka 2.16, issue 5040).
        self._consumers = {
            group: Consumer(
                {
                    "bootstrap.servers": bootstrap,
                    "group.id": group,
                    "enable.auto.commit": False,
                    "isolation.level": "read_committed",
                    "log_level": 0,
                }
            )
            for group in groups
        }

    def done(self) -> bool:
        """Say whether every partition of every group's topic was committed to its end, and nothing is pending."""
        return self.reached(self.ends())

    def ends(self) -> dict[str, Sequence[int]]:
        """Return the ends of all partitions as they are now, by group."""
        return {group: self._ends(topic, count) for group, (topic, count) in self._groups.items()}

    def reached(self, ends: Mapping[str, Sequence[int]]) -> bool:
        """Say whether every partition was committed to an end that it once had, and nothing is pending."""
        return not self.missing(ends)

    def missing(self, ends: Mapping[str, Sequence[int]]) -> list[str]:
        """Say what was not committed yet."""
        found = []
        for group, (topic, count) in self._groups.items():
            committed = self._committed(group, topic, count)
            if committed is None:
                found.append(f"offsets of {group} are pending")
                continue
            pairs = enumerate(zip(committed, ends[group], strict=True))
            found += [f"{topic}-{number}: {at} of {end}" for number, (at, end) in pairs if at < end]
        return found

    def _committed(self, group: str, topic: str, count: int) -> Sequence[int] | None:
        wanted = [TopicPartition(topic, number) for number in range(count)]
        try:
            found = self._consumers[group].committed(wanted, timeout=_COMMITTED_SECONDS)
        except KafkaException:
            return None  # Offsets of an open transaction are pending.
        offsets = {partition.partition: partition.offset for partition in found if partition.error is None}
        return [offsets.get(number, -1) for number in range(count)]

    def _ends(self, topic: str, count: int) -> Sequence[int]:
        """Return the ends; a broker that has just been started is asked until it leads its partitions again."""
        deadline = time.monotonic() + _LEADER_SECONDS
        while True:
            request = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(count)}  # type: ignore[no-untyped-call]  # Untyped there.
            answer = self._admin.list_offsets(request, request_timeout=10)
            # All of them, so that none is left in flight when one fails.
            concurrent.futures.wait(answer.values(), 20)
            try:
                ends = {at.partition: future.result(0).offset for at, future in answer.items()}
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                # Otherwise the client would ask with the leader's epoch from before the start for minutes.
                self._admin.list_topics(topic, timeout=10)
                time.sleep(0.1)
            else:
                return [ends[number] for number in range(count)]
