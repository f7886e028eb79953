"""The reference engine: batches of raw records and one consent snapshot in, one outcome per record and output out.

It is the oracle for every other engine: pure Python, no input or output, no clock. A record passes five steps:
decode, find out whom it is about and when it happened, decide per output whether it leaves, make the tokens of the
whole batch together, then treat and encode. Whatever is wrong with a record ends as an outcome with a reason; nothing
that a record contains can end as an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from tokenweir.core import timestamps
from tokenweir.core.batches import OutputBatch, RecordBatch, output_batches
from tokenweir.core.bound import BoundOutput, BoundPlan
from tokenweir.core.consent import PurposeRule, SubjectConsent, passing
from tokenweir.core.engineapi import UNWATCHED, ConsentLookup, Record, Watch
from tokenweir.core.generalize.keyed import Prf
from tokenweir.core.generalize.specs import KeyedSpec
from tokenweir.core.keys import Keyset
from tokenweir.core.outcome import Fate, Outcome, Reason, Treated
from tokenweir.core.plan import Plan, SubjectSource
from tokenweir.core.policy.models import Policy
from tokenweir.core.program import GONE, Program, RejectedValueError
from tokenweir.core.schema import ABSENT, DEFAULT_LIMITS, Limits
from tokenweir.core.subjects import Subject, canonical_id
from tokenweir.core.tokens.specs import TokenSpec
from tokenweir.core.tokentable import TokenTable
from tokenweir.core.withheld import why_withheld
from tokenweir.errors import DecodeError, InvalidValueError

__all__ = ["BoundOutput", "BoundPlan", "ReferenceEngine", "totals"]

Value = Any

#: A batch is worked on in slices, of which only one is decoded at a time. A slice ends with the record that fills it.
_SLICE_RECORDS: Final = 500
_SLICE_BYTES: Final = 1_000_000
#: For how many bytes of data a value stands here that may have no byte of its own.
_ELEMENT_BYTES: Final = 10


class _Moment(NamedTuple):
    """What consent says, and the gateway's clock, for all records of one batch."""

    state: ConsentLookup
    now_ms: int


@dataclass(frozen=True, slots=True)
class _FoundSubject:
    index: int
    subject: Subject


@dataclass(slots=True, repr=False)
class _Pending:
    """A record that leaves one output, between the decision and its encoding; a tombstone has no program."""

    program: Program | None
    value: Value
    subject: Subject | None = None
    key_table: TokenTable | None = None
    key_place: str = ""
    anonymous: bool = False


class _Decided(NamedTuple):
    """A record and what each of its outputs gets."""

    bound: BoundPlan
    record: Record
    entries: list[Outcome | _Pending]


@dataclass(slots=True, repr=False)
class _Facts:
    """What a record says before any consent is asked."""

    value: Value
    subjects: list[_FoundSubject] = field(default_factory=list)
    event_time_ms: int = 0


class ReferenceEngine:
    """Sanitizes batches for one stream.

    Args:
        policy: The policy; its purposes decide.
        keyset: Makes the tokens.
        limits: What one record may cost.
        max_output_bytes: The largest value that an output topic takes, framed.
        on_fault: Told of an exception that should not have happened; it must not write the exception's text anywhere.
    """

    name = "reference"

    def __init__(
        self,
        policy: Policy,
        keyset: Keyset,
        *,
        limits: Limits = DEFAULT_LIMITS,
        max_output_bytes: int = 1_000_000,
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        self._rules = {name: PurposeRule.of(name, purpose) for name, purpose in policy.purposes.items()}
        self._keyset = keyset
        self._limits = limits
        self._max_output_bytes = max_output_bytes
        self._on_fault = on_fault
        self._tables: dict[tuple[str, int, str], TokenTable] = {}
        self._prfs: dict[tuple[str, int, KeyedSpec], Prf] = {}

    def bind(self, plan: Plan) -> BoundPlan:
        """Make a plan ready to run.

        Raises:
            SchemaError: if a derived schema cannot be made.
            KeysError: if the keyset lacks a root that the plan needs.
        """
        return BoundPlan(plan, self._table, self._prf, self._limits)

    def _table(self, domain: str, epoch: int, entry: str, spec: TokenSpec) -> TokenTable:
        table = self._tables.get((domain, epoch, entry))
        if table is None:
            table = TokenTable(self._keyset.tokenizer(domain, entry, spec, epoch))
            self._tables[domain, epoch, entry] = table
        return table

    def _prf(self, domain: str, epoch: int, spec: KeyedSpec) -> Prf:
        prf = self._prfs.get((domain, epoch, spec))
        if prf is None:
            prf = self._prfs[domain, epoch, spec] = Prf(self._keyset.generalize_key(domain, spec, epoch))
        return prf

    def run(
        self, batch: RecordBatch, consent: ConsentLookup, now_ms: int, watch: Watch = UNWATCHED
    ) -> list[OutputBatch]:
        """Return for each output what becomes of the first records of a batch, as :meth:`process` finds it."""
        return output_batches(batch, self.process(batch.records(), consent, now_ms, watch))

    def process(
        self,
        batch: Sequence[tuple[BoundPlan, Record]],
        consent: ConsentLookup,
        now_ms: int,
        watch: Watch = UNWATCHED,
    ) -> list[list[Outcome]]:
        """Return for each record, in order, its outcomes in the order of the plan's outputs.

        ``consent`` answers from one snapshot, and what it raises comes out as it is; ``now_ms`` is the gateway's clock
        in milliseconds of the epoch. Where ``watch`` says that it is enough, only the first records have outcomes, at
        least one.
        """
        states: dict[Subject, SubjectConsent] = {}

        def state(subject: Subject) -> SubjectConsent:
            found = states.get(subject)
            if found is None:
                try:
                    found = states[subject] = consent(subject)
                except Exception as error:
                    raise _LookupFailedError from error
            return found

        moment = _Moment(state, now_ms)
        outcomes: list[list[Outcome]] = []
        try:
            while len(outcomes) < len(batch):
                decided = self._decide_slice(batch, len(outcomes), moment, watch)
                # What was decided is finished also when it is enough: it would only have to be decided once more.
                outcomes += self._finish_slice(decided, len(outcomes), watch)
                if watch.enough():
                    break
        except _LookupFailedError as failed:
            # That consent cannot be asked is no fault of a record: the whole batch waits.
            raise (failed.__cause__ or failed) from None
        return outcomes

    def why_withheld(
        self, bound: BoundPlan, output: BoundOutput, record: Record, consent: ConsentLookup, now_ms: int
    ) -> str:
        """Return in words why :meth:`process` withholds a record from an output, for people who look."""
        facts = self._facts(bound, record)
        return why_withheld(
            bound,
            output,
            [self._rules[name] for name in bound.plan.purposes],
            [found.subject for found in facts.subjects],
            consent,
            event_time_ms=facts.event_time_ms,
            now_ms=now_ms,
        )

    def _decide_slice(
        self, batch: Sequence[tuple[BoundPlan, Record]], first: int, moment: _Moment, watch: Watch
    ) -> list[_Decided]:
        """Decide about the records from ``first`` on, at least one and as many as may be decoded at a time."""
        decided: list[_Decided] = []
        size = 0
        for position in range(first, min(first + _SLICE_RECORDS, len(batch))):
            watch.alone(position)
            bound, record = batch[position]
            entries = self._decide(bound, record, moment)
            decided.append(_Decided(bound, record, entries))
            if any(isinstance(entry, _Pending) for entry in entries):
                size += len(record.value or b"") + _ELEMENT_BYTES * bound.elements_read()
            if size >= _SLICE_BYTES or watch.enough():
                break
        return decided

    def _finish_slice(self, decided: Sequence[_Decided], first: int, watch: Watch) -> list[list[Outcome]]:
        """Make the tokens of these records at once, then treat and encode each."""
        watch.together(first, len(decided))
        # Another thread may bind a plan meanwhile, and add a table that nothing here needs.
        for table in list(self._tables.values()):
            table.resolve()
        outcomes: list[list[Outcome]] = []
        for position, (bound, record, entries) in enumerate(decided, first):
            watch.alone(position)
            outcomes.append(
                [
                    entry if isinstance(entry, Outcome) else self._finish(bound.outputs[index], record, entry)
                    for index, entry in enumerate(entries)
                ]
            )
        for table in list(self._tables.values()):
            table.trim()
        return outcomes

    def _decide(self, bound: BoundPlan, record: Record, moment: _Moment) -> list[Outcome | _Pending]:
        """Decode a record and decide what each output gets, without making tokens yet."""
        try:
            facts = self._facts(bound, record)
        except DecodeError as error:
            reason, path = error.reason, error.path
        except _RejectedRecordError as error:
            reason, path = error.reason, error.path
        except MemoryError:
            raise  # That may be the doing of other records.
        except Exception as error:  # noqa: BLE001 - a record must never stop the stream; the fault is reported
            fault = self._fault(error)
            reason, path = fault.reason or Reason.ENGINE_ERROR, ""
        else:
            return [self._decide_output(bound, output, record, facts, moment) for output in bound.outputs]
        return [Outcome.rejected(Reason(reason), path) for _ in bound.outputs]

    def _fault(self, error: Exception) -> Outcome:
        if self._on_fault is not None:
            self._on_fault(error)
        return Outcome.rejected(Reason.ENGINE_ERROR)

    def _facts(self, bound: BoundPlan, record: Record) -> _Facts:
        value = None if record.value is None else bound.read(record.value)
        facts = _Facts(value, event_time_ms=record.timestamp_ms)
        for index, (source, read) in enumerate(zip(bound.plan.subjects, bound.subject_readers, strict=True)):
            try:
                raw = read(value, record)
                if raw is None or raw is ABSENT or raw in ("", b"") or raw in source.null_values:
                    continue
                canonical = canonical_id(source.form, raw)
            except InvalidValueError:
                raise _RejectedRecordError(Reason.SUBJECT_INVALID, _place(source)) from None
            if canonical not in source.null_values:
                facts.subjects.append(_FoundSubject(index, Subject(source.type, canonical)))
        # Without a subject nothing depends on the time: such a record is withheld, or leaves without being asked for.
        if bound.event_time is not None and value is not None and facts.subjects:
            try:
                event_time_ms = bound.event_time(value)
            except InvalidValueError:
                raise _RejectedRecordError(Reason.EVENT_TIME_INVALID, bound.plan.event_time) from None
            if event_time_ms is not None:
                facts.event_time_ms = min(event_time_ms, record.timestamp_ms)
        return facts

    def _decide_output(
        self,
        bound: BoundPlan,
        output: BoundOutput,
        record: Record,
        facts: _Facts,
        moment: _Moment,
    ) -> Outcome | _Pending:
        try:
            if record.value is None and not (output.output.tombstones and facts.subjects):
                return Outcome.rejected(Reason.TOMBSTONE)
            if not facts.subjects:
                if not bound.plan.anonymous:
                    return Outcome(Fate.WITHHELD)
                return self._pend(output.program(0, anonymous=True), _Pending(None, facts.value, anonymous=True))
            return self._decide_known(bound, output, record, facts, moment)
        except (_LookupFailedError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a record must never stop the stream; the fault is reported
            return self._fault(error)

    def _decide_known(
        self,
        bound: BoundPlan,
        output: BoundOutput,
        record: Record,
        facts: _Facts,
        moment: _Moment,
    ) -> Outcome | _Pending:
        """Decide about a record of somebody: by the decisions of its primary subject and of the others."""
        plan = bound.plan
        primary, *others = facts.subjects
        passed = output.output.served & passing(
            [self._rules[name] for name in plan.purposes],
            moment.state(primary.subject),
            [moment.state(other.subject) for other in others],
            # No event is from the future: where a producer says so, it must not outlive retention or predate consent.
            event_time_ms=min(facts.event_time_ms, moment.now_ms),
            now_ms=moment.now_ms,
            recipients=frozenset(output.output.recipients),
        )
        if not output.output.requires.met(passed):
            return Outcome(Fate.WITHHELD)
        key_table = output.key_table(primary.index, passed)
        pending = _Pending(None, facts.value, primary.subject, key_table, _place(plan.subjects[primary.index]))
        if record.value is None:
            if key_table is None or plan.subjects[primary.index].origin != "key":
                return Outcome(Fate.WITHHELD)
            decided: Outcome | _Pending = pending
        else:
            decided = self._pend(output.program(passed, anonymous=False), pending)
        if key_table is not None and isinstance(decided, _Pending):
            key_table.want(primary.subject.id)
        return decided

    def _pend(self, program: Program | None, pending: _Pending) -> Outcome | _Pending:
        """Ask for the tokens of a record that leaves; where nothing of its schema can, it is withheld."""
        if program is None:
            return Outcome(Fate.WITHHELD)
        if program.collect is not None:
            program.collect(pending.value)
        pending.program = program
        return pending

    def _finish(self, output: BoundOutput, record: Record, pending: _Pending) -> Outcome:
        """Treat and encode one record for one output."""
        try:
            return self._sanitized(output, record, pending)
        except (RejectedValueError, _RejectedRecordError) as error:
            return Outcome.rejected(error.reason, error.path)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a record must never stop the stream; the fault is reported
            return self._fault(error)

    def _sanitized(self, output: BoundOutput, record: Record, pending: _Pending) -> Outcome:
        outcome = Outcome(Fate.SANITIZED)
        if pending.program is not None:
            counts = pending.program.counts
            counts[:] = [0] * len(counts)
            pending.program.person.subject = pending.subject
            sanitized = pending.program.transform(pending.value)
            outcome.treated = {treated: count for treated, count in zip(Treated, counts, strict=True) if count}
            if sanitized is GONE or output.write is None:
                # Withheld wins: whether key, timestamp and size would have been right does not matter any more.
                return Outcome(Fate.WITHHELD, treated=outcome.treated)
            outcome.value = output.write(sanitized)
        if pending.key_table is not None and pending.subject is not None:
            token = pending.key_table.tokens[pending.subject.id]
            if token is None:
                raise _RejectedRecordError(Reason.SUBJECT_INVALID, pending.key_place)
            outcome.key = token.encode("utf-8")
        plan = output.output
        outcome.timestamp_ms = _timestamp(record.timestamp_ms, plan.timestamp)
        hidden = plan.person_headers if pending.anonymous else ()
        outcome.headers = [entry for entry in record.headers if entry[0] in plan.headers and entry[0] not in hidden]
        if _size(outcome) > self._max_output_bytes:
            raise _RejectedRecordError(Reason.OUTPUT_TOO_LARGE, "")
        return outcome


_FRAME_BYTES = 5
#: The two lengths of a header, as varints.
_HEADER_BYTES = 10


def _size(outcome: Outcome) -> int:
    """Return the bytes of a record as the broker counts them: framed value, key and headers."""
    size = len(outcome.value or b"") + len(outcome.key or b"") + _FRAME_BYTES
    return size + sum(
        len(name.encode("utf-8", "surrogatepass")) + len(header or b"") + _HEADER_BYTES
        for name, header in outcome.headers
    )


def _timestamp(timestamp_ms: int, keep: Literal["keep", "hour", "day"]) -> int:
    """Return what stays of a record's timestamp; a record that has none (-1) still has none."""
    if keep == "keep" or timestamp_ms < 0:
        return timestamp_ms
    try:
        return timestamps.floor_ms(timestamp_ms, keep)
    except InvalidValueError:
        raise _RejectedRecordError(Reason.EVENT_TIME_INVALID, "") from None


class _LookupFailedError(Exception):
    """The consent lookup raised; its exception is the cause."""


class _RejectedRecordError(Exception):
    """A record is rejected for every output, for a reason found before any treatment."""

    def __init__(self, reason: Reason, path: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


def _place(source: SubjectSource) -> str:
    return {"value": source.path, "key": "$key", "header": f"$headers{{{source.path}}}"}[source.origin]


def totals(outcomes: Iterable[Outcome]) -> Mapping[Fate, int]:
    """Count outcomes by fate."""
    counts = dict.fromkeys(Fate, 0)
    for outcome in outcomes:
        counts[outcome.fate] += 1
    return counts
