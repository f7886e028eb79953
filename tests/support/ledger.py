"""The ledger: every record that was written to a source topic and every change of consent, with where and when.

It is what the proof knows without the gateway. Times marked ``_seconds`` are readings of one monotonic clock.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.consents import UNKNOWN, ConsentState
from tests.support.events import Event, Facts, make_event

Coordinates = tuple[str, int, int]
"""Stream, source partition and offset."""


@dataclass(slots=True)
class InputRecord:
    """One record of a source topic.

    Attributes:
        number: Its place in the order of writing; with the seed it gives the whole event.
        defect: Name of what is broken in its bytes; empty for a sound record.
        reasons: Reasons with which a broken record may be rejected; empty if it is not to be rejected.
        partition: Where the broker put it; -1 before that.
        offset: Likewise.
        timestamp_ms: Its Kafka timestamp.
        written_seconds: When it was handed to the producer.
    """

    number: int
    facts: Facts
    defect: str = ""
    reasons: frozenset[str] = frozenset()
    partition: int = -1
    offset: int = -1
    timestamp_ms: int = -1
    written_seconds: float = math.inf

    @property
    def stream(self) -> str:
        """The stream that it belongs to."""
        return self.facts.stream


@dataclass(slots=True)
class ConsentChange:
    """One record of the consent topic.

    Attributes:
        after_number: Number of the event before which it is written; -1 for what was there before the gateway started.
        sent_seconds: When it was handed to the producer; before that nobody can know of it.
        stored_seconds: When the broker had acknowledged it.
    """

    customer: str
    state: ConsentState
    after_number: int = -1
    sent_seconds: float = -math.inf
    stored_seconds: float = -math.inf


@dataclass(slots=True)
class Ledger:
    """All records and changes of one run."""

    seed: int
    records: list[InputRecord]
    changes: list[ConsentChange]
    partitions: Mapping[str, int] = field(default_factory=dict)

    def event(self, record: InputRecord) -> Event:
        """Return the event that a record was made from."""
        return make_event(self.seed, record.number, record.facts)

    def states_of(self) -> dict[str, list[ConsentChange]]:
        """Return the states of every customer who has any, in the order in which the consent topic holds them."""
        states: dict[str, list[ConsentChange]] = defaultdict(list)
        for change in self.changes:
            found = states[change.customer]
            if not found and change.after_number >= 0:
                found.append(ConsentChange(change.customer, UNKNOWN))
            found.append(change)
        return dict(states)

    def by_coordinates(self) -> dict[Coordinates, InputRecord]:
        """Return the records by stream, partition and offset.

        Raises:
            ValueError: A record was not written, or two have the same place: the input itself is wrong.
        """
        places: dict[Coordinates, InputRecord] = {}
        for record in self.records:
            place = (record.stream, record.partition, record.offset)
            if record.offset < 0 or place in places:
                raise ValueError(f"record {record.number} was not written exactly once")
            places[place] = record
        return places


def ordered(records: Iterable[InputRecord]) -> Iterator[tuple[tuple[str, str, int], Sequence[InputRecord]]]:
    """Yield the records of each (stream, customer, source partition) in the order of their offsets."""
    groups: dict[tuple[str, str, int], list[InputRecord]] = defaultdict(list)
    for record in records:
        groups[record.stream, record.facts.customer or "", record.partition].append(record)
    for key, group in groups.items():
        yield key, sorted(group, key=lambda record: record.offset)
