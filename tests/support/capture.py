"""Reads whole topics, at the end or all the time, and decodes them with the schemas that the registry has."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import fastavro
from confluent_kafka import Consumer, IsolationLevel, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # Not in its stub's __all__.
from tests.support.oracle import Violation
from tests.support.outputs import DeadLetter, Sanitized

Place = tuple[str, int]
"""Topic and partition."""
_POLL_SECONDS: Final = 0.2
_BATCH: Final = 2_000


class Captured(NamedTuple):
    """A record as a reader got it; ``read_seconds`` is a reading of the monotonic clock afterwards."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes | None], ...]
    read_seconds: float


Capture = dict[Place, list[Captured]]


class TopicReader:
    """Reads all partitions of some topics from their beginning, without a group."""

    def __init__(self, bootstrap: str, topics: Mapping[str, int], isolation: str) -> None:
        self.captured: Capture = {
            (topic, partition): [] for topic, count in topics.items() for partition in range(count)
        }
        self._ended: set[Place] = set()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": isolation,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": 32_768,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(*place, 0) for place in self.captured])

    def read(self) -> bool:
        """Take what is there; return whether the end of every partition was reached since its last record."""
        messages = self._consumer.consume(_BATCH, timeout=_POLL_SECONDS)
        now_seconds = time.monotonic()
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            error = message.error()
            if error is None:
                self._ended.discard(place)
                self.captured[place].append(_captured(message, now_seconds))
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ended.add(place)
            elif not error.retriable():
                raise AssertionError(f"a reader of {place} failed: {error.name()}")
        return len(self._ended) == len(self.captured)

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()


def _captured(message: Message[bytes, bytes], now_seconds: float) -> Captured:
    headers = tuple(cast("list[tuple[str, bytes | None]]", message.headers() or []))
    return Captured(message.offset() or 0, message.key(), message.value(), message.timestamp()[1], headers, now_seconds)


def read_to_end(bootstrap: str, topics: Mapping[str, int], isolation: str, timeout_seconds: float = 60) -> Capture:
    """Return everything that a new reader sees in some topics, given with their numbers of partitions.

    Raises:
        TimeoutError: The end was not reached, which is so while a transaction is open.
    """
    reader = TopicReader(bootstrap, topics, isolation)
    deadline = time.monotonic() + timeout_seconds
    try:
        while not reader.read():
            if time.monotonic() > deadline:
                raise TimeoutError("the reader did not reach the end of every partition")
        return reader.captured
    finally:
        reader.close()


class ContinuousReader:
    """A reader at ``read_committed`` that runs in a thread of its own all the time."""

    def __init__(self, bootstrap: str, topics: Mapping[str, int]) -> None:
        self._reader = TopicReader(bootstrap, topics, "read_committed")
        self._finishing = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """How many records were read so far."""
        return sum(len(records) for records in list(self._reader.captured.values()))

    def finish(self, timeout_seconds: float = 60) -> Capture:
        """Read to the end of every partition and return everything.

        Raises:
            TimeoutError: The end was not reached.
        """
        self._finishing.set()
        self._thread.join(timeout_seconds)
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            raise TimeoutError("the continuous reader did not reach the end of every partition")
        return self._reader.captured

    def _run(self) -> None:
        try:
            while True:
                finishing = self._finishing.is_set()
                if self._reader.read() and finishing:
                    return
        except BaseException as failure:  # noqa: BLE001 - raised again in the thread that waits for the end
            self._failure = failure
        finally:
            self._reader.close()


def compare_captures(first: Capture, second: Capture) -> list[Violation]:
    """Return where two readers saw different records, in whatever respect but the time of reading."""
    violations = []
    for place in sorted(first.keys() | second.keys()):
        pair = [[record[:-1] for record in capture.get(place, [])] for capture in (first, second)]
        if pair[0] == pair[1]:
            continue
        length = min(map(len, pair))
        at = next((index for index in range(length) if pair[0][index] != pair[1][index]), length)
        what = f"they differ from the record number {at} on, with {len(pair[0])} and {len(pair[1])} records"
        violations.append(Violation("readers", f"{place[0]}-{place[1]}: {what}"))
    return violations


class TransactionWatch:
    """Shows which partitions hold records of a transaction that is neither committed nor aborted."""

    def __init__(self, bootstrap: str, topics: Mapping[str, int]) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        places = [(topic, partition) for topic, count in topics.items() for partition in range(count)]
        self._request = {TopicPartition(*place): OffsetSpec.latest() for place in places}  # type: ignore[no-untyped-call]  # Untyped there.

    def open(self) -> dict[Place, int]:
        """Return the last stable offset of every partition that has one below its end."""
        stable = self._ends(IsolationLevel.READ_COMMITTED)
        ends = self._ends(IsolationLevel.READ_UNCOMMITTED)
        return {place: offset for place, offset in stable.items() if offset < ends[place]}

    def held(self, seconds: float) -> bool:
        """Say whether one transaction stays open for some time."""
        before = self.open()
        time.sleep(seconds)
        return any(before.get(place) == offset for place, offset in self.open().items())

    def _ends(self, level: IsolationLevel) -> dict[Place, int]:
        answer = self._admin.list_offsets(self._request, isolation_level=level, request_timeout=10)
        return {(at.topic, at.partition): future.result(20).offset for at, future in answer.items()}


class RegistryError(AssertionError):
    """The registry did not answer as it must."""


class RegistryClient:
    """As much of a registry's HTTP interface as the proof needs."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._schemas: dict[int, Any] = {}

    def register(self, subject: str, schema: Mapping[str, Any], kind: str) -> int:
        """Register a schema and return its id."""
        body = {"schema": json.dumps(schema), "schemaType": kind}
        return int(self._call("POST", f"/subjects/{subject}/versions", body)["id"])

    def schema(self, schema_id: int) -> Any:  # noqa: ANN401 - JSON
        """Return a schema by its id, asked for once, without logical types, so that values stay plain."""
        if schema_id not in self._schemas:
            answer = self._call("GET", f"/schemas/ids/{schema_id}")
            schema = json.loads(answer["schema"])
            if answer.get("schemaType", "AVRO") == "AVRO":
                schema = fastavro.parse_schema(_without_logical_types(schema))
            self._schemas[schema_id] = schema
        return self._schemas[schema_id]

    def ids_of(self, subject: str) -> set[int]:
        """Return the ids of all versions of a registry subject."""
        versions = self._call("GET", f"/subjects/{subject}/versions")
        return {int(self._call("GET", f"/subjects/{subject}/versions/{version}")["id"]) for version in versions}

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=30)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
            text = None if body is None else json.dumps(body)
            connection.request(method, self._url.path + path, text, headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status != http.client.OK:
                raise RegistryError(f"{method} {path}: {response.status} {answer[:500]!r}")
            return json.loads(answer)


class Decoder:
    """Decodes outputs; a value whose schema is not one of its topic's, or with bytes left over, is an error."""

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._ids: dict[str, set[int]] = {}

    def sanitized(self, topic: str, records: Sequence[tuple[int, Captured]], *, avro: bool) -> Iterator[Sanitized]:
        """Yield the decoded records of an output topic, given with their partitions."""
        for partition, record in records:
            schema, datum = self._unframe(topic, record.value)
            value = _read_avro(schema, datum) if avro else json.loads(datum)
            key = None if record.key is None else record.key.decode("utf-8")
            yield Sanitized(partition, record.offset, key, pruned(value), record.timestamp_ms, len(record.headers))

    def dead_letters(self, topic: str, records: Sequence[tuple[int, Captured]]) -> Iterator[DeadLetter]:
        """Yield the decoded records of a dead-letter topic."""
        for _partition, record in records:
            schema, datum = self._unframe(topic, record.value)
            value = _read_avro(schema, datum)
            yield DeadLetter(
                value["source_topic"],
                value["source_partition"],
                value["source_offset"],
                value["source_timestamp"],
                value["output"],
                value["reason"],
            )

    def _unframe(self, topic: str, value: bytes | None) -> tuple[Any, bytes]:
        if value is None or len(value) < 5 or value[0]:
            raise RegistryError(f"a record of {topic} has no frame")
        (schema_id,) = struct.unpack_from(">I", value, 1)
        if topic not in self._ids:
            self._ids[topic] = self._registry.ids_of(f"{topic}-value")
        if schema_id not in self._ids[topic]:
            raise RegistryError(f"a record of {topic} has the schema {schema_id}, which is not one of the topic's")
        return self._registry.schema(schema_id), value[5:]


def pruned(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a document without members that are null or empty; what is withheld is null in Avro and absent in JSON."""
    if isinstance(value, dict):
        kept = {name: pruned(member) for name, member in value.items()}
        return {name: member for name, member in kept.items() if member not in (None, [], {})}
    return [pruned(item) for item in value] if isinstance(value, list) else value


def in_order(capture: Capture, topic: str) -> list[tuple[int, Captured]]:
    """Return the records of a topic, partition by partition, in the order of their offsets."""
    return [(place[1], record) for place, records in sorted(capture.items()) if place[0] == topic for record in records]


def until(condition: Callable[[], bool], timeout_seconds: float, what: str, every_seconds: float = 0.1) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: It was not so in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_seconds} s")
        time.sleep(every_seconds)


def _read_avro(schema: Any, datum: bytes) -> Any:  # noqa: ANN401 - a parsed schema and a datum of it
    buffer = io.BytesIO(datum)
    value = fastavro.schemaless_reader(buffer, schema, None)
    if buffer.tell() != len(datum):
        raise RegistryError("bytes are left over after a datum")
    return value


def _without_logical_types(schema: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(schema, dict):
        return {name: _without_logical_types(member) for name, member in schema.items() if name != "logicalType"}
    return [_without_logical_types(item) for item in schema] if isinstance(schema, list) else schema
