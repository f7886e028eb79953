"""Events with numbers that are kept in the output, and what became of each: lost, doubled, leaked or out of order."""

from __future__ import annotations

import functools
import io
import itertools
import json
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import fastavro
from confluent_kafka import KafkaError, Message, Producer
from tests.support.worlds import SCHEMA, World

OUTPUT: Final = "raw.crm"
_PATIENCE_SECONDS: Final = 30
_WATCH_SECONDS: Final = 0.02


@dataclass(slots=True)
class Event:
    """An event that was written.

    Attributes:
        customer: Whose it is.
        sent_seconds: When it was given to the client, on the monotonic clock: it was not on the topic before.
        stored: Whether the broker has it.
    """

    customer: int
    sent_seconds: float
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the events.

    Attributes:
        events: How many were written.
        sanitized: How many distinct ones are in the output.
        lost: Those that are missing though they had to leave.
        doubled: Those that left more than once.
        leaked: Those that left though they must not.
        disordered: Those that left before an earlier one of the same customer.
    """

    events: int
    sanitized: int
    lost: tuple[int, ...] = ()
    doubled: tuple[int, ...] = ()
    leaked: tuple[int, ...] = ()
    disordered: tuple[int, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.leaked or self.disordered)


class CountedEvents:
    """Writes events of a world, and reads its output."""

    def __init__(self, world: World, bootstrap: str) -> None:
        self._world = world
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 1,
                "log_level": 0,
            }
        )
        self._schema = fastavro.parse_schema(json.loads(json.dumps(SCHEMA)))
        self._numbers = itertools.count(1)
        self._schemas: dict[int, Any] = {}
        self.events: dict[int, Event] = {}

    def send(self, *customers: int) -> None:
        """Write one event of each customer and wait until the broker has them."""
        for customer in customers:
            self._send(customer)
        assert self._producer.flush(_PATIENCE_SECONDS) == 0

    def _send(self, customer: int) -> None:
        number = next(self._numbers)
        event = {
            "kind": f"event {number}",
            "customer_id": f"{customer:010}",
            "occurred_at": time.time_ns() // 1_000_000,
            "email": None,
        }
        data = io.BytesIO(b"\0" + struct.pack(">I", self._world.schema_id))
        data.seek(0, io.SEEK_END)
        fastavro.schemaless_writer(data, self._schema, event)
        self.events[number] = Event(customer, time.monotonic())
        note = functools.partial(self._note, number)
        self._producer.produce(self._world.source, data.getvalue(), str(customer).encode(), on_delivery=note)
        self._producer.poll(0)

    def _note(self, number: int, error: KafkaError | None, _message: Message) -> None:
        self.events[number].stored = error is None

    @contextmanager
    def flowing(self, *customers: int, pause_seconds: float = 0.01) -> Iterator[None]:
        """Write an event of each customer again and again; all are on the topic when this ends."""
        stop = threading.Event()

        def flow() -> None:
            while not stop.wait(pause_seconds):
                for customer in customers:
                    self._send(customer)

        thread = threading.Thread(target=flow, name="events")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            assert self._producer.flush(_PATIENCE_SECONDS) == 0
            assert all(event.stored for event in self.events.values())

    def drained(self) -> bool:
        """Whether every event has been processed and every transaction is decided."""
        admin, source = self._world.admin, self._world.source
        ends = admin.high_watermarks(source, range(2))
        answers = admin.committed_each(f"{self._world.name}.interactions", source, range(2))
        return all(getattr(answers[number], "offset", None) == end for number, end in ends.items())

    def judge(
        self, must: Callable[[Event], bool] = lambda _event: False, may: Callable[[Event], bool] = lambda _event: True
    ) -> Verdict:
        """Read the output to its end and compare.

        Args:
            must: Which events have to be there.
            may: Which of the others can be there.
        """
        counts: Counter[int] = Counter()
        last: dict[tuple[int, int], int] = defaultdict(int)
        disordered: list[int] = []
        for record in self._world.read(OUTPUT):
            number = self._number(record.value)
            place = (record.partition, self.events[number].customer)
            if number < last[place] and not counts[number]:
                disordered.append(number)
            last[place] = max(last[place], number)
            counts[number] += 1
        return Verdict(
            len(self.events),
            len(counts),
            tuple(number for number, event in self.events.items() if must(event) and number not in counts),
            tuple(number for number, count in counts.items() if count > 1),
            tuple(number for number in counts if not must(self.events[number]) and not may(self.events[number])),
            tuple(disordered),
        )

    def _number(self, value: bytes) -> int:
        (schema_id,) = struct.unpack_from(">I", value, 1)
        if schema_id not in self._schemas:
            text = self._world.registry.schema_by_id(schema_id).text
            self._schemas[schema_id] = fastavro.parse_schema(json.loads(text))
        event: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), self._schemas[schema_id], None)
        return int(event["kind"].rpartition(" ")[2])


class OutputWatch:
    """Notes when something became visible in the output, from a thread of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="output-watch", daemon=True)
        self.visible = 0
        """Offsets that a read_committed reader can see; markers count."""
        self.changed_seconds = 0.0
        """When that was last seen to grow, on the monotonic clock."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        topic = f"{self._world.name}.{OUTPUT}"
        partitions = range(self._world.admin.topics()[topic])
        while not self._stop.wait(_WATCH_SECONDS):
            visible = sum(self._world.admin.high_watermarks(topic, partitions, "read_committed").values())
            if visible > self.visible:
                self.visible, self.changed_seconds = visible, time.monotonic()
