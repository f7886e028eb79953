"""Writes the input of the proof at a steady rate while the gateway runs, and notes in the ledger where it went."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any, Final

from confluent_kafka import KafkaError, Message, Producer
from tests.support.events import source_topic
from tests.support.generator import Encoder, Raw
from tests.support.ledger import ConsentChange, InputRecord, Ledger

_PRODUCER: Final[dict[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 5,
    "partitioner": "murmur2_random",
    "queue.buffering.max.messages": 200_000,
    "log_level": 0,
}
_BURST: Final = 20
"""Events that are written at once."""


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
        self._encoder = encoder
        self._changes = [
            (change, encoder.encode_change(change, number)) for number, change in enumerate(ledger.changes)
        ]
        self._failures: list[str] = []
        self._written = 0
        self._cut = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

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

    def cut(self, timeout_seconds: float) -> None:
        """Write no more, and strike what was not written out of the ledger.

        Raises:
            AssertionError: Something could not be written, or nothing was left to write: the input was too short.
        """
        assert self.writing, "the input ended before it was cut"
        self._cut.set()
        self.wait(timeout_seconds)
        ledger = self._ledger
        del ledger.records[self._written :]
        ledger.changes[:] = [change for change in ledger.changes if change.after_number < self._written]

    def _run(self) -> None:
        changes = iter([entry for entry in self._changes if entry[0].after_number >= 0])
        upcoming = next(changes, None)
        started = time.monotonic()
        for record in self._ledger.records:
            if self._cut.is_set():
                break
            while upcoming is not None and upcoming[0].after_number <= record.number:
                self._write_change(*upcoming)
                upcoming = next(changes, None)
            self._write(record, self._encoder.encode(record))
            self._written = record.number + 1
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
        # Not taken from the report: of a batch that was sent twice, a broker gives one time for all of its records.
        record.timestamp_ms = time.time_ns() // 1_000_000
        self._events.produce(
            source_topic(record.stream),
            raw.value,
            raw.key,
            partition=raw.partition,
            headers=raw.headers,
            timestamp=record.timestamp_ms,
            on_delivery=functools.partial(self._note_place, record),
        )

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
