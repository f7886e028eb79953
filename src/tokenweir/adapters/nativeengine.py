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
from tokenweir.core.consent import PurposeRule, SubjectConsent
from tokenweir.core.derive import Derived, derive
from tokenweir.core.engineapi import UNWATCHED, ConsentLookup, Record, Watch
from tokenweir.core.generalize.cell import centres
from tokenweir.core.keys import Keyset
from tokenweir.core.outcome import Outcome
from tokenweir.core.plan import OutputPlan, Plan
from tokenweir.core.policy.models import Policy
from tokenweir.core.schema import DEFAULT_LIMITS, Limits
from tokenweir.core.subjects import Subject, canonical_id
from tokenweir.errors import InvalidValueError, SchemaError

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

    def bind(self, plan: Plan) -> NativePlan:
        """Make a plan ready to run.

        Raises:
            SchemaError: if a derived schema cannot be made, or the plan has something that this engine cannot do.
            KeysError: if the keyset lacks a root that the plan needs.
        """
        outputs = [NativeOutput(plan, output) for output in plan.outputs]

        def number_of(output: OutputPlan, entry: str) -> int:
            return self._table(plan, output, entry)

        text = nativeplan.document(plan, [output.derived for output in outputs], self._rules, number_of, self._limits)
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

    def process(
        self,
        batch: Sequence[tuple[NativePlan, Record]],
        consent: ConsentLookup,
        now_ms: int,
        watch: Watch = UNWATCHED,
    ) -> list[list[Outcome]]:
        """Return for each record, in order, its outcomes in the order of the plan's outputs.

        ``consent`` answers from one snapshot, and what it raises comes out as it is; a snapshot of this engine's own
        store is not asked, but read. ``now_ms`` is the gateway's clock in milliseconds of the epoch. Where ``watch``
        says that it is enough, only the first records have outcomes, at least one; it is asked between the slices of a
        batch.
        """
        host = _Host(consent)
        snapshot = consent if isinstance(consent, ConsentSnapshot) and consent.lookups is not None else None
        records = [(bound.compiled, record) for bound, record in batch]
        outcomes: list[list[Outcome]] = []
        while (first := len(outcomes)) < len(records):
            count = min(_SLICE_RECORDS, len(records) - first)
            if count == 1:
                watch.alone(first)
            else:
                watch.together(first, count)
            made, faults = self._engine.process(records, first, count, now_ms, host, snapshot)
            outcomes += made
            for fault in faults:
                if self._on_fault is not None:
                    self._on_fault(NativeEngineError(fault))
            if watch.enough():
                break
        return outcomes


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
