"""Source records and the dead letters that a gateway would have written of them, and replays of these letters."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro
from confluent_kafka import KafkaError, Message, Producer
from tests.support.events import MARKER, rfc3339
from tests.support.worlds import SCHEMA, Done, World

from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.adapters.topicreader import read_until
from tokenweir.core import deadletter, wire
from tokenweir.core.deadletter import DeadLetter, ReadLetter
from tokenweir.core.outcome import Reason

LETTER_SCHEMA_ID: Final = 77

#: When all events happened: the same for all, so that equal events have equal bytes.
_OCCURRED_AT_MS: Final = time.time_ns() // 1_000_000
#: When everybody allowed it: an allow does not reach back.
_ALLOWED_AT: Final = rfc3339(_OCCURRED_AT_MS - 60_000)


class Source(NamedTuple):
    """A record of the source topic: where it is, when it was written, and what it says."""

    partition: int
    offset: int
    timestamp_ms: int
    kind: str


class Placed(NamedTuple):
    """A record of an output, where it is and its key."""

    partition: int
    offset: int
    key: bytes


class Sanitized(NamedTuple):
    """A record of an output: its key, and the field that names the event, which every output keeps."""

    key: bytes
    kind: str


def event(customer: int, kind: str, schema: Mapping[str, Any] = SCHEMA, email: str | None = None) -> bytes:
    """Return the Avro datum of an event; the same arguments give the same bytes. Its e-mail address is a canary."""
    value = {
        "kind": kind,
        "customer_id": f"{customer:010}",
        "occurred_at": _OCCURRED_AT_MS,
        "email": email or f"{MARKER}{customer:06}{MARKER}@example.com",
        "second_email": None,
    }
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(json.loads(json.dumps(schema))), value)
    return data.getvalue()


class Letters:
    """Writes to the topics of a world, and reads them.

    Args:
        world: The world.
        bootstrap: Its broker.
    """

    def __init__(self, world: World, bootstrap: str) -> None:
        self.world = world
        self.topic = f"{world.source}.dead-letters"
        self._properties = {"bootstrap.servers": bootstrap}
        self._started: list[Replaying] = []
        self._producer = Producer({**self._properties, "linger.ms": 5, "partitioner": "murmur2_random"})

    def allow(self, *customers: int) -> None:
        """Let customers allow offers by e-mail, and wait until that is written."""
        state = {"version": 1, "decided_at": _ALLOWED_AT, "decisions": {"email_marketing": "allow"}}
        for customer in customers:
            key = f"customer:{customer:010}".encode()
            self._producer.produce(f"{self.world.name}.consent", json.dumps(state).encode(), key)
        assert self._producer.flush(30) == 0

    def write_events(
        self, events: Iterable[tuple[int, int, str]], *, schema_id: int | None = None, datum: bytes | None = None
    ) -> list[Source]:
        """Write events, each given by partition, customer and kind, and return where they are."""
        places: dict[int, tuple[int, int, int]] = {}
        kinds = []
        for number, (partition, customer, kind) in enumerate(events):
            found = self.world.schema_id if schema_id is None else schema_id

            def note(error: KafkaError | None, message: Message, number: int = number) -> None:
                assert error is None
                places[number] = (message.partition() or 0, message.offset() or 0, message.timestamp()[1])

            value = b"\0" + struct.pack(">I", found) + (event(customer, kind) if datum is None else datum)
            self._producer.produce(self.world.source, value, str(customer).encode(), partition, on_delivery=note)
            self._producer.poll(0)
            kinds.append(kind)
        assert self._producer.flush(30) == 0
        return [Source(*places[number], kind) for number, kind in enumerate(kinds)]

    def write_letters(
        self, sources: Sequence[Source], audiences: Sequence[str] = ("crm",), reason: Reason = Reason.SCHEMA_UNKNOWN
    ) -> None:
        """Write a letter for each record and audience, in transactions, as a gateway does."""
        producer = TransactionalProducer(self._properties, f"{self.world.name}.letters")
        producer.init_transactions()
        for first in range(0, len(sources), 100):
            producer.begin()
            for source in sources[first : first + 100]:
                for audience in audiences:
                    producer.produce(self.topic, wire.frame(LETTER_SCHEMA_ID, self._letter(source, audience, reason)))
            producer.commit()
        producer.purge()

    def _letter(self, source: Source, audience: str, reason: Reason) -> bytes:
        return DeadLetter(
            source_topic=self.world.source,
            source_partition=source.partition,
            source_offset=source.offset,
            source_timestamp_ms=source.timestamp_ms,
            schema_id=self.world.schema_id,
            output=f"{self.world.source}.{audience}",
            reason=reason,
            field_path="",
            policy_digest="digest",
            gateway_version="0",
        ).encode()

    def letters(self) -> list[ReadLetter]:
        """Return every letter that can be seen, and nothing that is none."""
        values = [record.value for record in self.world.read("raw.dead-letters")]
        return [deadletter.read(value) for value in values if value.startswith(b"\0")]

    def sanitized(self, audience: str = "crm") -> list[Sanitized]:
        """Return the records of an output, in order within each partition."""
        return [Sanitized(record.key, _kind(record.value)) for record in self.world.read(f"raw.{audience}")]

    def placed(self, audience: str = "crm") -> list[Placed]:
        """Return the records of an output with their places."""
        topic = f"{self.world.source}.{audience}"
        ends = self.world.admin.high_watermarks(topic, range(self.world.admin.topics()[topic]), "read_committed")
        found = read_until(self._properties, topic, {number: (0, end) for number, end in ends.items()})
        return [Placed(each.partition() or 0, each.offset() or 0, bytes(each.key() or b"")) for each in found]

    def publishes_more(self, audience: str = "crm") -> Callable[[], bool]:
        """Return what says whether there is more in an output than now; it reads nothing."""
        topic = f"{self.world.source}.{audience}"

        def published() -> int:
            return sum(self.world.admin.high_watermarks(topic, range(2), "read_committed").values())

        before = published()
        return lambda: published() > before

    def kinds(self, audience: str = "crm") -> Counter[str]:
        """Return how often each event is in an output."""
        return Counter(record.kind for record in self.sanitized(audience))

    # Replays.

    def start(self, *arguments: str, stderr: Path | None = None) -> Replaying:
        """Start ``tokenweir replay`` with ``--yes`` in a process of its own."""
        self._started.append(Replaying(self.world, arguments, stderr))
        return self._started[-1]

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        for replaying in self._started:
            replaying.kill()
            replaying.wait()

    def replay(self, *arguments: str) -> dict[str, Any]:
        """Replay to the end and return the report.

        Raises:
            AssertionError: It did not end well.
        """
        done = self.start(*arguments).wait()
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def replay_all(self, log: Path) -> None:
        """Replay until there is nothing left, as often as it is necessary after what a test has done."""
        deadline = time.monotonic() + 120
        while json.loads(self.world.cli("replay", "interactions", "--dry-run", "--format", "json").stdout)["chosen"]:
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            self.start(stderr=log).wait()


class Replaying:
    """A replay that runs."""

    def __init__(self, world: World, arguments: Sequence[str], stderr: Path | None) -> None:
        command = [sys.executable, "-m", "tokenweir", "replay", "interactions", "--config", str(world.config)]
        command += ["--yes", "--format", "json", *arguments]
        self._out: str | None = None
        self._stderr = stderr or world.directory / f"replay-{time.monotonic_ns()}.log"
        with self._stderr.open("ab") as log:
            self._begin = log.tell()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def log(self) -> str:
        """What it has said so far."""
        return self._stderr.read_bytes()[self._begin :].decode()

    def child(self, kind: str = "replay") -> int | None:
        """Return the process id of its newest child of a kind, None where there is none."""
        pid = self.process.pid
        try:
            found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            kinds = {int(each): Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0") for each in found}
        except (FileNotFoundError, ProcessLookupError):
            return None
        return max((each for each, words in kinds.items() if kind.encode() in words), default=None)

    def kill(self, pid: int | None = None) -> None:
        """End it, or one of its children, with SIGKILL."""
        try:
            os.kill(self.process.pid if pid is None else pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def wait(self, seconds: float = 90) -> Done:
        """Wait until it has ended; after that time, end it."""
        if self._out is None:
            timer = threading.Timer(seconds, self.process.kill)
            timer.start()
            self._out, _ = self.process.communicate()
            timer.cancel()
        return Done(self.process.returncode, self._out, self.log())


def _kind(value: bytes) -> str:
    """Return the first field of a sanitized record, a text, from behind the frame."""
    length, position, shift = 0, 5, 0
    while True:
        byte = value[position]
        length |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            break
    length >>= 1
    return value[position : position + length].decode()
