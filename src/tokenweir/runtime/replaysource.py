"""The source records that dead letters are about, read again; and the certainty that a record is gone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol

from confluent_kafka import Message

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.recordreader import RecordPlace, RecordReader
from tokenweir.core.deadletter import ReadLetter

#: Records that are kept for the letters of one transaction, and for those that are put off to the next.
_KEPT_BYTES: Final = 64 << 20


class Sources(Protocol):
    """Where an intake finds source records."""

    def fetch(self, letters: Iterable[ReadLetter]) -> None:
        """Read ahead what these letters are about, all at once."""

    def get(self, letter: ReadLetter) -> Message | None:
        """Return the record that a letter is about, None where it is gone."""


class SourceRecords:
    """The records of one source topic by place. Not thread-safe.

    Args:
        admin: Knows where partitions begin.
        topic: The source topic.
        new_reader: Makes readers of the topic.
        kept_bytes: How much is kept at most.
    """

    def __init__(
        self, admin: Admin, topic: str, new_reader: Callable[[], RecordReader], *, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        self._admin = admin
        self._topic = topic
        self._new_reader = new_reader
        self._kept_bytes = kept_bytes
        self._partitions = admin.describe_topic(topic).partitions
        self._reader = new_reader()
        self._records: OrderedDict[RecordPlace, Message | None] = OrderedDict()
        self._bytes = 0

    def fetch(self, letters: Iterable[ReadLetter]) -> None:
        """Read what these letters are about, all at once, and keep it.

        Raises:
            KafkaFault: The broker does not answer, or answers with an error that does not pass.
        """
        places = {(letter.source_partition, letter.source_offset) for letter in letters} - self._records.keys()
        if not places:
            return
        there = self._not_deleted(places)
        found = self._reader.read(there)
        missing = there - found.keys()
        if missing:
            # "Gone" is final for a letter, so it must not rest on what a client may still have had in its queue from
            # before a jump: a client that never read anything is asked as well.
            second = self._new_reader()
            try:
                found |= second.read(missing)
            finally:
                second.close()
        for place in sorted(places):
            self._keep(place, found.get(place))

    def get(self, letter: ReadLetter) -> Message | None:
        """Return the record that a letter is about, None where it is gone.

        Raises:
            KafkaFault: as :meth:`fetch`.
        """
        place = (letter.source_partition, letter.source_offset)
        if place not in self._records:
            self.fetch([letter])
        record = self._records[place]
        if record is None:
            return None
        _kind, timestamp_ms = record.timestamp()
        # In a topic that was deleted and created again another record stands there, and that one has had its own fate.
        return record if timestamp_ms in (letter.source_timestamp_ms, -1) else None

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()

    def _not_deleted(self, places: Collection[RecordPlace]) -> set[RecordPlace]:
        """Return the places that retention has not passed."""
        numbers = {partition for partition, _ in places if 0 <= partition < self._partitions}
        lows = self._admin.low_watermarks(self._topic, numbers)
        return {(partition, offset) for partition, offset in places if partition in lows and offset >= lows[partition]}

    def _keep(self, place: RecordPlace, record: Message | None) -> None:
        self._records[place] = record
        self._bytes += _size(record)
        while self._bytes > self._kept_bytes and len(self._records) > 1:
            _place, dropped = self._records.popitem(last=False)
            self._bytes -= _size(dropped)


def _size(record: Message | None) -> int:
    return 0 if record is None else len(record)
