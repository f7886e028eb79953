"""Batches as columns: the records that an engine is given, and what becomes of them in each output.

A worker handles thousands of records at a time. An object for each of them and for each of its outcomes costs as much
as treating it does, so that a batch is a few lists instead, in which a record has the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from tokenweir.core.outcome import Fate, Outcome, Reason, Treated

Headers = Sequence[tuple[str, bytes | None]]

#: The fate that each byte of :attr:`OutputBatch.fates` stands for.
FATES: Final = tuple(Fate)
_CODES: Final = {fate: code for code, fate in enumerate(FATES)}
_TREATED: Final = tuple(Treated)


class Record(NamedTuple):
    """A raw record: the datum without its frame, the raw key, the Kafka timestamp and the headers."""

    value: bytes | None
    key: bytes | None
    timestamp_ms: int
    headers: Headers = ()

    def __repr__(self) -> str:
        return f"Record(timestamp_ms={self.timestamp_ms})"


class FramedPlan(Protocol):
    """A plan that is ready to run, and what each value of its outputs begins with."""

    @property
    def bound(self) -> Any:  # noqa: ANN401 - each engine runs only what it has bound itself.
        """The plan, as the engine that runs it has bound it."""

    @property
    def prefixes(self) -> Sequence[bytes]:
        """The bytes before each value, by output in the plan's order."""


@dataclass(frozen=True, slots=True, repr=False)
class RecordBatch:
    """Records of one stream.

    Attributes:
        plans: The plan of each.
        values: Each as it came, so many bytes of a frame and then the datum; None for a tombstone.
        keys: The raw keys.
        timestamps_ms: Kafka's timestamps, in milliseconds of the epoch.
        headers: The headers of each; None where no record has any.
        frame_bytes: The bytes before the datum of each value, which is never shorter than they are.
    """

    plans: Sequence[FramedPlan]
    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    timestamps_ms: Sequence[int]
    headers: Sequence[Headers] | None = None
    frame_bytes: int = 0

    def __len__(self) -> int:
        return len(self.plans)

    def records(self) -> list[tuple[Any, Record]]:
        """Return each record by itself, with the plan that an engine has bound."""
        headers: Iterable[Headers] = self.headers or [()] * len(self)
        data = [None if value is None else value[self.frame_bytes :] for value in self.values]
        records = map(Record, data, self.keys, self.timestamps_ms, headers)
        return [(plan.bound, record) for plan, record in zip(self.plans, records, strict=True)]

    def of_rows(self, rows: Sequence[int]) -> RecordBatch:
        """Return the batch of the records at these places."""
        return RecordBatch(
            [self.plans[row] for row in rows],
            [self.values[row] for row in rows],
            [self.keys[row] for row in rows],
            [self.timestamps_ms[row] for row in rows],
            None if self.headers is None else [self.headers[row] for row in rows],
            self.frame_bytes,
        )


class Rejection(NamedTuple):
    """A record that an output rejects: its place in the batch, and why."""

    row: int
    reason: Reason
    field_path: str


class Leaving(NamedTuple):
    """What leaves of a record."""

    value: bytes | None
    key: bytes | None
    timestamp_ms: int
    headers: Headers

    def __repr__(self) -> str:
        return f"Leaving(timestamp_ms={self.timestamp_ms})"


@dataclass(slots=True, repr=False)
class OutputBatch:
    """What becomes of the first records of a batch in one output.

    Attributes:
        fates: A byte for each of these records, which is its fate's place in :data:`FATES`.
        values: Of each sanitized record, in order, what leaves, with what the plan's values begin with; None for a
            tombstone.
        keys: Of each sanitized record the key.
        timestamps_ms: Of each sanitized record the timestamp; -1 for none.
        headers: Of the sanitized records that keep some, by their place among the sanitized.
        rejected: The rejected records, in order.
        treated: How many field values were treated in each way, in the order of :class:`Treated`.
    """

    fates: bytearray = field(default_factory=bytearray)
    values: list[bytes | None] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    headers: dict[int, Headers] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    treated: list[int] = field(default_factory=lambda: [0] * len(_TREATED))

    def __len__(self) -> int:
        return len(self.fates)

    @property
    def withheld(self) -> int:
        """How many records are withheld."""
        return len(self.fates) - len(self.values) - len(self.rejected)

    def add(self, outcome: Outcome, prefix: bytes) -> None:
        """Add the outcome of the next record; ``prefix`` is what its value begins with."""
        if outcome.fate is Fate.SANITIZED:
            if outcome.headers:
                self.headers[len(self.values)] = outcome.headers
            self.values.append(None if outcome.value is None else prefix + outcome.value)
            self.keys.append(outcome.key)
            self.timestamps_ms.append(outcome.timestamp_ms)
        elif outcome.reason is not None:
            self.rejected.append(Rejection(len(self.fates), outcome.reason, outcome.field_path))
        self.fates.append(_CODES[outcome.fate])
        for treated, count in outcome.treated.items():
            self.treated[_TREATED.index(treated)] += count

    def with_rejected(self, rows: Sequence[int], reasons: Mapping[int, Reason]) -> OutputBatch:
        """Return what becomes of a larger batch: of these rows what became of this one, the others rejected.

        Args:
            rows: The rows of which this is about, in order; there may be more of them than outcomes.
            reasons: Why each of the other rows is rejected.
        """
        end = rows[len(self)] if len(self) < len(rows) else len(rows) + len(reasons)
        others = [Rejection(row, reason, "") for row, reason in reasons.items() if row < end]
        own = [entry._replace(row=rows[entry.row]) for entry in self.rejected]
        fates = bytearray([_CODES[Fate.REJECTED]]) * end
        for row, code in zip(rows, self.fates, strict=False):
            fates[row] = code
        return OutputBatch(
            fates, self.values, self.keys, self.timestamps_ms, self.headers, sorted(own + others), self.treated
        )

    def leaving(self) -> dict[int, Leaving]:
        """Return the sanitized records by their place in the batch."""
        sanitized = _CODES[Fate.SANITIZED]
        rows = [row for row, code in enumerate(self.fates) if code == sanitized]
        parts = zip(rows, self.values, self.keys, self.timestamps_ms, strict=True)
        return {
            row: Leaving(value, key, timestamp_ms, self.headers.get(place, ()))
            for place, (row, value, key, timestamp_ms) in enumerate(parts)
        }


def output_batches(batch: RecordBatch, outcomes: Sequence[Sequence[Outcome]]) -> list[OutputBatch]:
    """Return for each output what becomes of the first records of a batch, which have these outcomes."""
    outputs = [OutputBatch() for _ in (batch.plans[0].prefixes if batch.plans else ())]
    for plan, entries in zip(batch.plans, outcomes, strict=False):
        for output, outcome, prefix in zip(outputs, entries, plan.prefixes, strict=True):
            output.add(outcome, prefix)
    return outputs
