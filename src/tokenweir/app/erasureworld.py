"""What an erasure reads from the cluster, and what it writes: the consent topic, the barrier, and topics of outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.topicreader import read_until
from tokenweir.adapters.topicwriter import Acknowledged, TopicWriter
from tokenweir.app.enforcement import await_enforcement
from tokenweir.config import Config
from tokenweir.core.consent import (
    ConsentKeyError,
    ConsentRecord,
    HashedSubject,
    SourceState,
    hashed_subject,
    parse_key,
    parse_value,
)
from tokenweir.core.consent.erased import erasure_of
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.subjects import Subject
from tokenweir.errors import RefusedError
from tokenweir.runtime.barrier import Report, Withdrawal

CLIENT_ID: Final = "tokenweir-erase"
_UNKNOWN_TOPIC: Final = "UNKNOWN_TOPIC_OR_PART"


class KeyPlace(NamedTuple):
    """A record key on the consent topic with the partition that it stands in, be it the wrong one."""

    partition: int
    key: bytes

    def __repr__(self) -> str:
        return f"KeyPlace(partition={self.partition}, key=...)"


@dataclass(slots=True)
class ConsentReading:
    """What the consent topic has of a person.

    Attributes:
        topic_id: The id of its present incarnation.
        erased_at: Where the erasure that stands was written; None where there is none, or it was lifted.
        erased_at_ms: The time of that record.
        lifted: Whether the last record of the erasure lifts it.
        speaking: Keys with the readable id whose last record is no tombstone.
        remaining: How many records have the readable id in their key, tombstones included.
        last_ms: The time of the last of them, in milliseconds since 1970; whoever wrote it has said so.
        unreadable: How many records have a key that names nobody.
        suspect: How many of these keys have the id in them all the same.
    """

    topic_id: str
    erased_at: Acknowledged | None = None
    erased_at_ms: int = 0
    lifted: bool = False
    speaking: list[KeyPlace] = field(default_factory=list)
    remaining: int = 0
    last_ms: int = 0
    unreadable: int = 0
    suspect: int = 0


class World(Protocol):
    """What an erasure needs of its surroundings. Every method may raise :class:`KafkaFault`."""

    @property
    def consent_topic(self) -> str:
        """The consent topic."""

    def read(self, subject: Subject, hashed: HashedSubject) -> ConsentReading:
        """Return what the consent topic has of a person now."""

    def write_consent(self, key: bytes, value: bytes | None, partition: int | None = None) -> Acknowledged:
        """Write a record to the consent topic, and wait until all its replicas have it."""

    def enforced(self, withdrawal: Withdrawal, seconds: float) -> Report:
        """Return what the revoke barrier says of a place of the consent topic."""

    def settings(self, topic: str) -> Mapping[str, str] | None:
        """Return the configuration of a topic, None where there is no such topic."""

    def ends(self, topic: str) -> Mapping[int, int]:
        """Return the high watermarks of a topic."""

    def signalled(self, topic: str, key: bytes) -> bool:
        """Whether the last record with a key on a topic is no tombstone."""

    def signal(self, topic: str, key: bytes, value: bytes | None, timestamp_ms: int) -> Acknowledged:
        """Write a record to a topic of signals."""


class KafkaWorld:
    """A real cluster."""

    def __init__(
        self, config: Config, loaded: LoadedPolicy, on_report: Callable[[Report], None] = lambda _report: None
    ) -> None:
        self._config = config
        self._loaded = loaded
        self._on_report = on_report
        self._properties = config.kafka.client_properties()
        self._admin = Admin(self._properties, CLIENT_ID)
        self._described = self._admin.describe_topic(config.consent.topic)

    @property
    def consent_topic(self) -> str:
        """The consent topic."""
        return self._config.consent.topic

    def require_compacted(self) -> None:
        """Refuse a topic on which a deny would not stay.

        Raises:
            RefusedError: The consent topic is not compacted, or deletes by time as well.
        """
        cleanup = (self.settings(self.consent_topic) or {}).get("cleanup.policy", "")
        if cleanup != "compact":
            raise RefusedError(
                f"the consent topic {self.consent_topic} has cleanup.policy '{cleanup}' and would lose the erasure: "
                "set cleanup.policy=compact. Nothing was written"
            )

    def read(self, subject: Subject, hashed: HashedSubject) -> ConsentReading:
        """Read the whole consent topic, once."""
        topic, numbers = self.consent_topic, range(self._described.partitions)
        low, high = self._admin.low_watermarks(topic, numbers), self._admin.high_watermarks(topic, numbers)
        messages = read_until(self._properties, topic, {number: (low[number], high[number]) for number in numbers})
        records = (
            ConsentRecord(
                message.partition() or 0,
                message.offset() or 0,
                _bytes(message.key()),
                _bytes(message.value()),
                message.timestamp()[1],
            )
            for message in messages
        )
        return reading_of(self._described.topic_id, records, subject, hashed)

    def write_consent(self, key: bytes, value: bytes | None, partition: int | None = None) -> Acknowledged:
        """Write a record to the consent topic."""
        writer = TopicWriter(self._properties, self.consent_topic, CLIENT_ID)
        return writer.write(key, value) if partition is None else writer.write(key, value, partition=partition)

    def enforced(self, withdrawal: Withdrawal, seconds: float) -> Report:
        """Ask the barrier until it says yes or the time is up."""
        return await_enforcement(self._config, self._loaded, withdrawal, seconds, self._on_report)

    def settings(self, topic: str) -> Mapping[str, str] | None:
        """Ask for the configuration of a topic."""
        try:
            return self._admin.topic_config(topic)
        except KafkaFault as fault:
            if fault.code == _UNKNOWN_TOPIC:
                return None
            raise

    def ends(self, topic: str) -> Mapping[int, int]:
        """Ask for the high watermarks of a topic."""
        return self._admin.high_watermarks(topic, range(self._admin.describe_topic(topic).partitions))

    def signalled(self, topic: str, key: bytes) -> bool:
        """Read a topic of signals to its end."""
        numbers = range(self._admin.describe_topic(topic).partitions)
        low, high = self._admin.low_watermarks(topic, numbers), self._admin.high_watermarks(topic, numbers)
        spans = {number: (low[number], high[number]) for number in numbers}
        values = [
            _bytes(message.value())
            for message in read_until(self._properties, topic, spans)
            if _bytes(message.key()) == key
        ]
        return _last(values) is not None

    def signal(self, topic: str, key: bytes, value: bytes | None, timestamp_ms: int) -> Acknowledged:
        """Write a record to a topic of signals."""
        return TopicWriter(self._properties, topic, CLIENT_ID).write(key, value, timestamp_ms=timestamp_ms)


def reading_of(
    topic_id: str, records: Iterable[ConsentRecord], subject: Subject, hashed: HashedSubject
) -> ConsentReading:
    """Return what the records of a consent topic, in the order of each partition, say of a person."""
    found = ConsentReading(topic_id)
    last: dict[KeyPlace, bool] = {}
    shows_id = _finder(subject.id)
    for record in records:
        raw_key = record.key or b""
        try:
            key = parse_key(raw_key)
        except ConsentKeyError:
            found.unreadable += 1
            found.suspect += shows_id(raw_key)
            continue
        if hashed_subject(key) == hashed:
            state = parse_value(record.value, record.timestamp_ms)
            _note_erasure(found, state, Acknowledged(record.partition, record.offset), record.timestamp_ms)
        elif key.subject == subject:
            found.remaining += 1
            found.last_ms = max(found.last_ms, record.timestamp_ms)
            last[KeyPlace(record.partition, raw_key)] = record.value is not None
    found.speaking = [place for place, speaks in last.items() if speaks]
    return found


def _finder(id_: str) -> Callable[[bytes], bool]:
    """Return whether a key that cannot be read has an id in it, as it is or with escapes, and not as part of a word."""
    named = re.compile(rb"(?<!\w)" + re.escape(id_.encode()) + rb"(?!\w)", re.IGNORECASE)
    return lambda key: any(named.search(text) is not None for text in (key, unquote_to_bytes(key)))


def _note_erasure(found: ConsentReading, state: SourceState | None, place: Acknowledged, timestamp_ms: int) -> None:
    """Take one more record of the erasure itself into account; the last one stands."""
    if erasure_of(state) is None:
        found.erased_at, found.lifted = None, True
    else:
        found.erased_at, found.erased_at_ms, found.lifted = place, timestamp_ms, False


def _last(values: Iterable[bytes | None]) -> bytes | None:
    last = None
    for value in values:
        last = value
    return last


def _bytes(part: str | bytes | None) -> bytes | None:
    return part.encode() if isinstance(part, str) else part
