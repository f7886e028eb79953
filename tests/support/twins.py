"""Both engines as one: whatever a test gives to the reference engine, the native engine must make the same of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenweir.adapters.nativeengine import NativeEngine, NativePlan
from tokenweir.core import wire
from tokenweir.core.batches import RecordBatch, output_batches
from tokenweir.core.consent import SubjectConsent
from tokenweir.core.engine import BoundPlan, ReferenceEngine
from tokenweir.core.engineapi import UNWATCHED, ConsentLookup, Record, Watch
from tokenweir.core.keys import Keyset
from tokenweir.core.outcome import Outcome
from tokenweir.core.plan import Plan
from tokenweir.core.policy.models import Policy
from tokenweir.core.subjects import Subject


class TwinEngine(ReferenceEngine):
    """The reference engine, which fails a test where the native engine differs from it."""

    def __init__(self, policy: Policy, keyset: Keyset, **options: Any) -> None:  # noqa: ANN401 - those of both engines
        super().__init__(policy, keyset, **options)
        self.native_faults: list[Exception] = []
        self._native = NativeEngine(policy, keyset, **{**options, "on_fault": self.native_faults.append})
        self._twins: dict[int, NativePlan] = {}

    def bind(self, plan: Plan) -> BoundPlan:
        """Make a plan ready to run in both engines."""
        bound = super().bind(plan)
        twin = self._native.bind(plan)
        texts = [[output.derived and output.derived.text for output in made.outputs] for made in (bound, twin)]
        assert texts[0] == texts[1]
        # Where the plan is kept, no other can come to stand at its address.
        bound.twin = twin  # type: ignore[attr-defined]  # Only twins have one.
        self._twins[id(bound)] = twin
        return bound

    def process(
        self,
        batch: Sequence[tuple[BoundPlan, Record]],
        consent: ConsentLookup,
        now_ms: int,
        watch: Watch = UNWATCHED,
    ) -> list[list[Outcome]]:
        """Return what the reference engine makes of a batch, after comparing it with what the native engine makes."""
        asked: list[list[Subject]] = [[], []]

        def asking(place: int) -> ConsentLookup:
            def ask(subject: Subject) -> SubjectConsent:
                asked[place].append(subject)
                return consent(subject)

            return ask

        outcomes = super().process(batch, asking(0), now_ms, watch)
        self.native_faults.clear()
        twins = [(self._twins[id(bound)], record) for bound, record in batch]
        theirs = self._native.process(twins, asking(1), now_ms)
        assert theirs[: len(outcomes)] == outcomes
        if len(theirs) == len(outcomes):
            assert asked[1] == asked[0]
        failures = sum(outcome.reason == "engine_error" for row in theirs for outcome in row)
        assert len(self.native_faults) == failures
        self._compare_columns(batch, consent, now_ms, theirs)
        return outcomes

    def _compare_columns(
        self,
        batch: Sequence[tuple[BoundPlan, Record]],
        consent: ConsentLookup,
        now_ms: int,
        outcomes: Sequence[Sequence[Outcome]],
    ) -> None:
        """Check that the native engine makes the same of the batch as columns, framed as a worker has it."""
        plans = {id(bound): _Framed(self._twins[id(bound)]) for bound, _ in batch}
        records = [record for _, record in batch]
        headers = [record.headers for record in records]
        framed = RecordBatch(
            [plans[id(bound)] for bound, _ in batch],
            [None if record.value is None else wire.frame(7, record.value) for record in records],
            [record.key for record in records],
            [record.timestamp_ms for record in records],
            headers if any(headers) else None,
            wire.FRAME_BYTES,
        )
        made = self._native.run(framed, consent, now_ms)
        assert made == output_batches(framed, outcomes)
        assert [len(output) for output in made] == [len(batch)] * len(made)


class _Framed:
    """A plan of the native engine, and other frames for its outputs than for what is read."""

    def __init__(self, bound: NativePlan) -> None:
        self.bound = bound
        self.prefixes = [wire.frame(number, b"") for number, _ in enumerate(bound.outputs, 100)]
