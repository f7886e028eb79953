"""Runs the gateway as a user would, from the command line, and kills its workers; writes the input meanwhile."""

from __future__ import annotations

import functools
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # Not in its stub's __all__.
from tests.support.capture import TransactionWatch
from tests.support.counters import Scrape, parse_metrics
from tests.support.events import source_topic
from tests.support.generator import Encoder, Raw
from tests.support.ledger import ConsentChange, InputRecord, Ledger
from tests.support.processes import free_port

_PRODUCER: Final[dict[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 5,
    "partitioner": "murmur2_random",
    "queue.buffering.max.messages": 200_000,
    "log_level": 0,
}
_SCRAPE_SECONDS: Final = 0.5
_FREEZES: Final = 20
_FROZEN_SECONDS: Final = 0.15
"""Longer than a transaction of another worker, which is not frozen, stays open."""
_BURST: Final = 20
"""Events that are written at once."""


class GatewayRun:
    """One gateway in a directory of its own: configuration, policy, keys, state and everything that it says.

    Args:
        directory: An empty directory.
        policy: The text of the policy.
        bootstrap: The broker.
        registry_url: The registry.
        settings: Further sections of the configuration.
    """

    def __init__(
        self, directory: Path, policy: str, bootstrap: str, registry_url: str, settings: Mapping[str, Any]
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
        self.scrapes: list[Scrape] = []
        self._process: subprocess.Popen[bytes] | None = None
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
        """Start ``tokenweir run`` and read its admin port all the time from then on."""
        with (
            (self.output_directory / "run.out").open("wb") as out,
            (self.output_directory / "run.err").open("wb") as err,
        ):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tokenweir", "run", "--config", str(self._config)],
                cwd=self.config_directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self._scraper.start()

    def ready(self) -> bool:
        """Say whether the gateway is ready.

        Raises:
            AssertionError: It has ended.
        """
        assert self._process is not None
        assert self._process.poll() is None, self.last_words()
        return self._get("/readyz?verbose")[0] == http.client.OK

    def last_words(self) -> str:
        """Return the end of what the gateway said."""
        return (self.output_directory / "run.err").read_text(errors="replace")[-6000:]

    def workers(self) -> list[int]:
        """Return the process ids of the workers that live and were not killed."""
        found = (pid for pid in _descendants(self._pid) if b"worker" in _command_line(pid))
        return sorted(pid for pid in found if pid not in self._killed)

    def kill_a_worker(self, dice: random.Random) -> bool:
        """End a worker with SIGKILL; return False if there is none at the moment."""
        workers = self.workers()
        return bool(workers) and self._kill(dice.choice(workers))

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
        """Read the metrics once more, send SIGTERM and return the exit code."""
        process = self._process
        assert process is not None
        self._stopping.set()
        self._scraper.join(30)
        self._read_admin()
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout_seconds)

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        self._stopping.set()
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _scrape(self) -> None:
        while not self._stopping.wait(_SCRAPE_SECONDS):
            self._read_admin()

    def _read_admin(self) -> None:
        for path in ("/metrics", "/readyz?verbose", "/livez", "/startupz", "/nothing"):
            status, body = self._get(path)
            self.bodies.append(body)
            if path == "/metrics" and status == http.client.OK:
                self.scrapes.append(parse_metrics(body.decode()))

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


class Feeder:
    """Writes events at a steady rate, and each change of consent before its event.

    Args:
        ledger: What to write; places and times are noted in it.
        encoder: Makes the bytes.
        bootstrap: The broker.
        consent_topic: Where changes are written.
        per_second: Events per second.
    """

    def __init__(self, ledger: Ledger, encoder: Encoder, bootstrap: str, consent_topic: str, per_second: float) -> None:
        self._ledger = ledger
        self._per_second = per_second
        self._consent_topic = consent_topic
        self._events = Producer({**_PRODUCER, "bootstrap.servers": bootstrap})
        self._consent = Producer({**_PRODUCER, "linger.ms": 0, "bootstrap.servers": bootstrap})
        self._raw: list[Raw] = [encoder.encode(record) for record in ledger.records]
        self._changes = [
            (change, encoder.encode_change(change, number)) for number, change in enumerate(ledger.changes)
        ]
        self._failures: list[str] = []
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    @property
    def raw_bytes(self) -> int:
        """Bytes of all values."""
        return sum(len(raw.value or b"") for raw in self._raw)

    def write_initial_consent(self) -> None:
        """Write what people decided before the gateway runs, and wait until the broker has it."""
        for change, (key, value) in self._changes:
            if change.after_number < 0:
                self._consent.produce(self._consent_topic, value, key, on_delivery=self._note_failure)
                self._consent.poll(0)
        self._finish(self._consent)

    def start(self) -> None:
        """Begin to write events."""
        self._thread.start()

    def wait(self, timeout_seconds: float) -> None:
        """Wait until everything is written and acknowledged.

        Raises:
            AssertionError: Something could not be written.
        """
        self._thread.join(timeout_seconds)
        assert not self._thread.is_alive(), "the input was not written in time"
        assert not self._failures, self._failures[:3]

    @property
    def writing(self) -> bool:
        """Whether there is more to come."""
        return self._thread.is_alive()

    def _run(self) -> None:
        changes = iter([entry for entry in self._changes if entry[0].after_number >= 0])
        upcoming = next(changes, None)
        started = time.monotonic()
        for record, raw in zip(self._ledger.records, self._raw, strict=True):
            while upcoming is not None and upcoming[0].after_number <= record.number:
                self._write_change(*upcoming)
                upcoming = next(changes, None)
            self._write(record, raw)
            if record.number % _BURST == 0:
                self._consent.poll(0)
                self._poll_until(started + record.number / self._per_second)
        self._finish(self._consent)
        self._finish(self._events)

    def _poll_until(self, seconds: float) -> None:
        """Serve deliveries until a time; one call of poll ends with the first of them."""
        self._events.poll(0)
        while (rest := seconds - time.monotonic()) > 0:
            self._events.poll(rest)

    def _write(self, record: InputRecord, raw: Raw) -> None:
        record.written_seconds = time.monotonic()
        note = functools.partial(self._note_place, record)
        topic = source_topic(record.stream)
        self._events.produce(topic, raw.value, raw.key, partition=raw.partition, headers=raw.headers, on_delivery=note)

    def _write_change(self, change: ConsentChange, encoded: tuple[bytes, bytes]) -> None:
        key, value = encoded
        change.sent_seconds = time.monotonic()
        change.stored_seconds = float("inf")
        note = functools.partial(self._note_stored, change)
        self._consent.produce(self._consent_topic, value, key, on_delivery=note)
        self._consent.poll(0)

    def _note_place(self, record: InputRecord, error: KafkaError | None, message: Message) -> None:
        self._note_failure(error, message)
        record.partition = _number(message.partition())
        record.offset = _number(message.offset())
        record.timestamp_ms = message.timestamp()[1]

    def _note_stored(self, change: ConsentChange, error: KafkaError | None, message: Message) -> None:
        self._note_failure(error, message)
        change.stored_seconds = time.monotonic()

    def _note_failure(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failures.append(error.name())

    def _finish(self, producer: Producer) -> None:
        if producer.flush(60):
            self._failures.append("not everything was acknowledged")


def _number(value: int | None) -> int:
    return -1 if value is None else value


class Progress:
    """Compares the committed offsets of consumer groups with the ends of their topics."""

    def __init__(self, bootstrap: str, groups: Mapping[str, tuple[str, int]]) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._groups = groups

    def done(self) -> bool:
        """Say whether every partition of every group's topic was committed to its end, and nothing is pending."""
        return all(
            self._committed(group, topic, count) == self._ends(topic, count)
            for group, (topic, count) in self._groups.items()
        )

    def _committed(self, group: str, topic: str, count: int) -> Sequence[int] | None:
        request = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, number) for number in range(count)])]
        future = self._admin.list_consumer_group_offsets(request, require_stable=True, request_timeout=10)[group]
        try:
            found = {partition.partition: partition.offset for partition in future.result(20).topic_partitions}
        except KafkaException:
            return None  # Offsets of an open transaction are pending.
        return [found.get(number, -1) for number in range(count)]

    def _ends(self, topic: str, count: int) -> Sequence[int]:
        request = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(count)}  # type: ignore[no-untyped-call]  # Untyped there.
        answer = self._admin.list_offsets(request, request_timeout=10)
        ends = {at.partition: future.result(20).offset for at, future in answer.items()}
        return [ends[number] for number in range(count)]
