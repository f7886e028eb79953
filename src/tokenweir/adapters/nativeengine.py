"""The native engine: the same batches in and the same outcomes out as the reference engine, made by compiled code.

The compiled module is foreign code that may be absent, so that its engine stands among the adapters and not in the
core; where it is absent, importing this module fails. What it cannot do is refused when a plan is bound; nothing is
ever done by the other engine in its place. Three things are asked of Python for a whole slice at once: consent that
does not lie in this engine's own store, ids whose canonical form depends on this Python's version of Unicode, and those
centres of cells that could be another one by a last bit, so that both engines have them from one library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tokenweir._native import Engine as CompiledEngine
from tokenweir._native import Plan as CompiledPlan
from tokenweir.adapters.consentreader import ConsentSnapshot
from tokenweir.core import nativeplan
from tokenweir.core.batches import OutputBatch, RecordBatch, Rejection
from tokenweir.core.consent import PurposeRule, SubjectConsent
from tokenweir.core.derive import Derived, derive
from tokenweir.core.engineapi import UNWATCHED, ConsentLookup, Record, Watch
from tokenweir.core.generalize.cell import centres
from tokenweir.core.generalize.specs import KeyedSpec
from tokenweir.core.keys import Keyset
from tokenweir.core.outcome import Outcome, Reason
from tokenweir.core.plan import OutputPlan, Plan
from tokenweir.core.policy.models import Policy
from tokenweir.core.schema import DEFAULT_LIMITS, Limits
from tokenweir.core.subjects import Subject, canonical_id
from tokenweir.errors import InvalidValueError, SchemaError

#: What the compiled engine tells of a slice for one output: fates; of the sanitized records values, keys, timestamps,
#: and headers by their place among them; the rejected records with reason and field path; counts of fields.
_Columns = tuple[
    bytes,
    list[bytes | None],
    list[bytes | None],
    list[int],
    list[tuple[int, list[tuple[str, bytes | None]]]],
    list[tuple[int, str, str]],
    list[int],
]

#: How many records are given away at once. The engine may take fewer, by the size of what they hold.
_SLICE_RECORDS: Final = 500


class NativeEngineError(Exception):
    """The native engine failed on a record, which is a bug; the text has nothing of the record."""


class NativeOutput:
    """One output of a plan."""

    def __init__(self, plan: Plan, output: OutputPlan) -> None:
        self.output = output
        self.derived: Derived | None = derive(plan, output)


class NativePlan:
    """A plan that is ready to run."""

    def __init__(self, plan: Plan, outputs: list[NativeOutput], compiled: CompiledPlan) -> None:
        self.plan = plan
        self.outputs = outputs
        self.compiled = compiled


class NativeEngine:
    """Sanitizes batches for one stream, as :class:`tokenweir.core.engine.ReferenceEngine` does.

    Args:
        policy: The policy; its purposes decide.
        keyset: Makes the tokens.
        limits: What one record may cost.
        max_output_bytes: The largest value that an output topic takes, framed.
        on_fault: Told of an exception that should not have happened; it must not write the exception's text anywhere.
    """

    name = "native"

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
        self._on_fault = on_fault
        self._engine = CompiledEngine(max_output_bytes)
        self._tables: dict[tuple[str, int, str], int] = {}
        self._prfs: dict[tuple[str, int, KeyedSpec], int] = {}

    def bind(self, plan: Plan) -> NativePlan:
        """Make a plan ready to run.

        Raises:
            SchemaError: if a derived schema cannot be made, or the plan has something that this engine cannot do.
            KeysError: if the keyset lacks a root that the plan needs.
        """
        outputs = [NativeOutput(plan, output) for output in plan.outputs]

        def number_of(output: OutputPlan, entry: str) -> int:
            return self._table(plan, output, entry)

        numbers = nativeplan.Numbers(number_of, self._prf)
        text = nativeplan.document(plan, [output.derived for output in outputs], self._rules, numbers, self._limits)
        try:
            return NativePlan(plan, outputs, CompiledPlan(text))
        except ValueError as error:
            raise SchemaError(f"the native engine cannot run this plan: {error}") from None

    def _table(self, plan: Plan, output: OutputPlan, entry: str) -> int:
        """Return the number of the table of an entry, which is made where it is not there yet."""
        known = (output.domain, output.epoch, entry)
        if known not in self._tables:
            spec = plan.tokens[entry]
            keys = self._keyset.entry_keys(output.domain, entry, spec, output.epoch)
            self._tables[known] = self._engine.add_table(
                spec.model_dump_json(exclude_none=True), keys.key.reveal(), keys.tweak_key.reveal()
            )
        return self._tables[known]

    def _prf(self, output: OutputPlan, spec: KeyedSpec) -> int:
        """Return the number of the keyed function of a treatment, which is made where it is not there yet."""
        known = (output.domain, output.epoch, spec)
        if known not in self._prfs:
            key = self._keyset.generalize_key(output.domain, spec, output.epoch)
            self._prfs[known] = self._engine.add_prf(key.reveal())
        return self._prfs[known]

    def run(
        self, batch: RecordBatch, consent: ConsentLookup, now_ms: int, watch: Watch = UNWATCHED
    ) -> list[OutputBatch]:
        """Return for each output, in the plan's order, what becomes of the first records; nothing for an empty batch.

        ``consent`` answers from one snapshot, and what it raises comes out as it is; a snapshot of this engine's own
        store is not asked, but read. ``now_ms`` is the gateway's clock in milliseconds of the epoch. All records are
        decided, unless ``watch`` says that it is enough; at least one is. It is asked between the slices of a batch.
        """
        host, snapshot = _Host(consent), _own(consent)
        outputs: list[OutputBatch] = []

        def work(first: int, end: int) -> tuple[int, list[str]]:
            headers = None if batch.headers is None else batch.headers[first:end]
            made, faults = self._engine.run(
                batch.plans[first:end],
                batch.values[first:end],
                batch.keys[first:end],
                batch.timestamps_ms[first:end],
                headers,
                batch.frame_bytes,
                now_ms,
                host,
                snapshot,
            )
            if not outputs:
                outputs.extend(OutputBatch() for _ in made)
            for output, columns in zip(outputs, made, strict=True):
                _add(output, columns)
            return len(outputs[0]), faults

        self._slices(len(batch), work, watch)
        return outputs

    def process(
        self,
        batch: Sequence[tuple[NativePlan, Record]],
        consent: ConsentLookup,
        now_ms: int,
        watch: Watch = UNWATCHED,
    ) -> list[list[Outcome]]:
        """Return the same record by record: for each, in order, its outcomes in the order of the plan's outputs."""
        host, snapshot = _Host(consent), _own(consent)
        records = [(bound.compiled, record) for bound, record in batch]
        outcomes: list[list[Outcome]] = []

        def work(first: int, end: int) -> tuple[int, list[str]]:
            made, faults = self._engine.process(records[first:end], now_ms, host, snapshot)
            outcomes.extend(made)
            return len(outcomes), faults

        self._slices(len(records), work, watch)
        return outcomes

    def _slices(self, records: int, work: Callable[[int, int], tuple[int, list[str]]], watch: Watch) -> None:
        """Work on slices until all records are decided, or it is enough.

        Args:
            records: How many there are.
            work: Works on the records from one place to before another; it returns how many are decided then, and on
                which faults the engine failed.
            watch: Is told of each slice, and asked after it.
        """
        first = 0
        while first < records:
            end = min(first + _SLICE_RECORDS, records)
            if end == first + 1:
                watch.alone(first)
            else:
                watch.together(first, end - first)
            first, faults = work(first, end)
            for fault in faults:
                if self._on_fault is not None:
                    self._on_fault(NativeEngineError(fault))
            if watch.enough():
                break


def _own(consent: ConsentLookup) -> ConsentSnapshot | None:
    """Return a snapshot of this engine's own store, in which it looks subjects up itself."""
    return consent if isinstance(consent, ConsentSnapshot) and consent.lookups is not None else None


def _add(output: OutputBatch, columns: _Columns) -> None:
    """Add what became of a slice."""
    fates, values, keys, timestamps_ms, headers, rejected, treated = columns
    before, sanitized = len(output), len(output.values)
    output.fates += fates
    output.values += values
    output.keys += keys
    output.timestamps_ms += timestamps_ms
    output.headers.update({sanitized + place: kept for place, kept in headers})
    output.rejected += [Rejection(before + row, Reason(reason), path) for row, reason, path in rejected]
    output.treated = [sum(counts) for counts in zip(output.treated, treated, strict=True)]


class _Host:
    """Answers what only Python can tell, for one batch."""

    def __init__(self, consent: ConsentLookup) -> None:
        self._consent = consent
        self._states: dict[Subject, SubjectConsent] = {}

    def consents(self, subjects: list[tuple[str, str]]) -> list[SubjectConsent]:
        """Return what is known of subjects, each of which is looked up once in a batch."""
        return [self._state(Subject(*subject)) for subject in subjects]

    def _state(self, subject: Subject) -> SubjectConsent:
        found = self._states.get(subject)
        if found is None:
            found = self._states[subject] = self._consent(subject)
        return found

    def canonical_ids(self, ids: list[tuple[bool, str]]) -> list[str | None]:
        """Return the canonical form of texts, each with whether it is to be in lower case; None for one without."""
        return [_canonical(text, lower=lower) for lower, text in ids]

    def centres(self, positions: list[tuple[int, float, float]]) -> list[tuple[float, float] | None]:
        """Return the centres of the cells of a resolution that positions are in."""
        return centres(positions)


def _canonical(text: str, *, lower: bool) -> str | None:
    try:
        return canonical_id("lowercase" if lower else "text", text)
    except InvalidValueError:
        return None
