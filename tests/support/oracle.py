"""What must have become of every record: its one fate in each output, recomputed from the ledger alone.

What is proven of the fates, for each record and output:

- A broken record has exactly one dead letter with an expected reason, and no sanitized record.
- A record without a customer is withheld: nothing of it is anywhere.
- For every other record the consent of its customer decides. Consent changes while records flow, so a record may be
  decided with the consent before or after a change. The states of a customer are numbered in the order of the consent
  topic, and the numbers that a record may have been decided with are bounded from both sides:

  - not *older* than any change that the broker had acknowledged ``staleness_seconds`` before the record was written
    (the gateway promises to stop when its consent is staler than it is allowed to be);
  - not *newer* than any change that was sent after a reader had seen a record of the same source partition with the
    same or a higher offset (records are decided in the order of their offsets).

  One choice of a number per record must explain all outputs of all records of this customer, and it may never fall
  within a source partition: once a withdrawal has been applied it stays applied, through kills and takeovers. A record
  of which nothing is found is lost unless such a choice withholds it.

- For records whose bounds leave one state, which are all of the customers who change nothing, the fate is exact. Only
  between the bounds of a change would the loss of a record look like a withdrawal that was applied early; the share of
  such pairs of record and output is reported.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support.consents import ANALYTICS, EMAIL, PHONE, UNKNOWN, ConsentState
from tests.support.events import ADS, AUDIENCES
from tests.support.ledger import ConsentChange, InputRecord, Ledger, ordered


class Violation(NamedTuple):
    """One thing that must not be: its kind, and where."""

    kind: str
    where: str


class Shape(NamedTuple):
    """Which of the fields that depend on consent are in a sanitized record; None where the event has no such value."""

    phone: bool | None
    position: bool


class Seen(NamedTuple):
    """A sanitized record that was found in an output."""

    partition: int
    offset: int
    shape: Shape


@dataclass(slots=True)
class Found:
    """Everything that was found of the records: by record number and audience."""

    sanitized: Mapping[str, Mapping[int, Seen]]
    rejected: Mapping[str, Mapping[int, str]]


def expected_shape(audience: str, state: ConsentState, event_time_ms: int) -> Shape | None:
    """Return what of a record leaves for an audience under a state, or None if it is withheld."""
    analytics = state.passes(ANALYTICS, event_time_ms)
    if audience == ADS:
        return Shape(phone=False, position=True) if analytics else None
    if not state.passes(EMAIL, event_time_ms):
        return None
    return Shape(phone=state.passes(PHONE, event_time_ms), position=analytics)


class Frontier:
    """How far the records of each source partition had been decided, as a reader saw it at every time."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._offsets: dict[tuple[str, int], list[int]] = defaultdict(list)

    def saw(self, stream: str, partition: int, offset: int, seconds: float) -> None:
        """Note that a reader had an output of this source record at this time; times must not fall."""
        offsets = self._offsets[stream, partition]
        if not offsets or offset > offsets[-1]:
            offsets.append(offset)
            self._seconds[stream, partition].append(seconds)

    def decided_before(self, stream: str, partition: int, seconds: float) -> int:
        """Return the highest offset of a record that was seen before this time, or -1."""
        index = bisect.bisect_left(self._seconds[stream, partition], seconds)
        return self._offsets[stream, partition][index - 1] if index else -1


@dataclass(slots=True)
class FateReport:
    """What the check of the fates found. Pairs are pairs of record and output."""

    violations: list[Violation] = field(default_factory=list)
    pairs: int = 0
    racing: int = 0
    """Pairs for which the bounds left states with different fates."""
    sanitized: int = 0
    withheld: int = 0
    rejected: int = 0


class FateOracle:
    """Compares what was found with what must be."""

    def __init__(self, ledger: Ledger, frontier: Frontier, staleness_seconds: float) -> None:
        self._states = ledger.states_of()
        self._records = ledger.records
        self._frontier = frontier
        self._staleness_seconds = staleness_seconds
        self._report = FateReport()

    def check(self, found: Found) -> FateReport:
        """Return the violations and the numbers."""
        self._count(found)
        sound = []
        for record in self._records:
            if record.defect:
                self._check_defect(record, found)
            else:
                sound.append(record)
        for (_stream, customer, _partition), records in ordered(sound):
            self._check_customer(self._states.get(customer) or [ConsentChange(customer, UNKNOWN)], records, found)
        return self._report

    def _count(self, found: Found) -> None:
        report = self._report
        report.pairs = len(self._records) * len(AUDIENCES)
        report.sanitized = sum(len(seen) for seen in found.sanitized.values())
        report.rejected = sum(len(letters) for letters in found.rejected.values())
        report.withheld = report.pairs - report.sanitized - report.rejected

    def _violation(self, kind: str, record: InputRecord, audience: str, what: str) -> None:
        where = f"{record.stream}-{record.partition}@{record.offset} for {audience}: {what}"
        self._report.violations.append(Violation(kind, where))

    def _check_defect(self, record: InputRecord, found: Found) -> None:
        for audience in AUDIENCES:
            reason = found.rejected[audience].get(record.number)
            if record.number in found.sanitized[audience]:
                self._violation("unpermitted", record, audience, f"sanitized though {record.defect}")
            if record.reasons and reason is None:
                self._violation("loss", record, audience, f"no dead letter though {record.defect}")
            elif reason is not None and reason not in record.reasons:
                self._violation("fate", record, audience, f"rejected as {reason}, but it is {record.defect}")

    def _check_customer(self, states: Sequence[ConsentChange], records: Sequence[InputRecord], found: Found) -> None:
        """Choose the lowest state that explains each record; that is best, since choices may only rise."""
        chosen = 0
        for record in records:
            seen = {audience: found.sanitized[audience].get(record.number) for audience in AUDIENCES}
            for audience in AUDIENCES:
                if (reason := found.rejected[audience].get(record.number)) is not None:
                    self._violation("fate", record, audience, f"a sound record was rejected as {reason}")
                    return
            lowest, highest = self._bounds(states, record)
            self._count_racing(states[lowest : highest + 1], record)
            fitting = (
                index
                for index in range(max(lowest, chosen), highest + 1)
                if all(_explains(states[index].state, record, *item) for item in seen.items())
            )
            choice = next(fitting, None)
            if choice is None:
                self._explain(states, (lowest, highest), record, seen)
                return
            chosen = choice

    def _bounds(self, states: Sequence[ConsentChange], record: InputRecord) -> tuple[int, int]:
        lowest = highest = 0
        for index, change in enumerate(states):
            if record.written_seconds > change.stored_seconds + self._staleness_seconds:
                lowest = index
            if record.offset > self._frontier.decided_before(record.stream, record.partition, change.sent_seconds):
                highest = index
        return lowest, max(lowest, highest)

    def _count_racing(self, states: Sequence[ConsentChange], record: InputRecord) -> None:
        for audience in AUDIENCES:
            shapes = {expected_shape(audience, change.state, record.facts.time_ms) for change in states}
            self._report.racing += len(shapes) > 1

    def _explain(
        self,
        states: Sequence[ConsentChange],
        bounds: tuple[int, int],
        record: InputRecord,
        seen: Mapping[str, Seen | None],
    ) -> None:
        """Say what is wrong with a record that no permitted state explains."""
        permitted = states[bounds[0] : bounds[1] + 1]
        before = len(self._report.violations)
        for audience, one in seen.items():
            shapes = {expected_shape(audience, change.state, record.facts.time_ms) for change in permitted}
            if one is None and None not in shapes:
                self._violation("loss", record, audience, "nothing was found of it")
            elif one is not None and shapes == {None}:
                self._violation("unpermitted", record, audience, "it left though consent withholds it")
            elif not any(_explains(change.state, record, audience, one) for change in permitted):
                self._violation("shape", record, audience, f"{one and one.shape} instead of one of {shapes}")
        if len(self._report.violations) == before:
            what = f"no state from {bounds[0]} to {bounds[1]} explains all outputs, or consent went back"
            self._violation("consent", record, "all", what)


def _explains(state: ConsentState, record: InputRecord, audience: str, seen: Seen | None) -> bool:
    """Say whether what was found of a record for an audience follows from a state."""
    shape = expected_shape(audience, state, record.facts.time_ms)
    if seen is None or shape is None:
        return seen is None and shape is None
    return seen.shape.position == shape.position and seen.shape.phone in (None, shape.phone)
