"""What a worker counts: each number only once its transaction is committed, so that a retried batch counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tokenweir.core.batches import OutputBatch
from tokenweir.core.context import EpochOutput
from tokenweir.core.outcome import Fate, Reason, Treated
from tokenweir.runtime.status import ChildState, StatusWriter
from tokenweir.telemetry import metrics
from tokenweir.telemetry.metrics import TransactionOutcome
from tokenweir.telemetry.slots import SlotWriter


class Tally:
    """Counts for one worker, into its slot file, and gives its life signs."""

    def __init__(
        self,
        slot: SlotWriter,
        status: StatusWriter,
        stream: str,
        outputs: Sequence[EpochOutput],
        *,
        keys_made_at_ms: int | None = None,
    ) -> None:
        """Count into a slot; ``keys_made_at_ms`` is when the oldest of the stream's active key epochs began.

        Each record counts once for each audience: by what became of it in the active epoch. What is fed beside it has
        numbers of its own.
        """
        self._keys_made_at_ms = keys_made_at_ms
        self._slot = slot
        self._status = status
        self._stream = stream
        self._outputs = outputs
        self._shown: set[int] = set()

    def heartbeat(self) -> None:
        """Say that the loop turns."""
        self._status.beat()

    def state(self, state: ChildState) -> None:
        """Say how far the worker has come."""
        self._status.state(state)

    @property
    def status(self) -> StatusWriter:
        """The life signs, for what marks the worker's progress in more detail."""
        return self._status

    def committed(
        self,
        *,
        outcomes: Sequence[OutputBatch],
        timestamps_ms: Sequence[int],
        now_ms: int,
        duration_seconds: float,
    ) -> None:
        """Count a committed batch: its records, their fates, rejections and fields, and their ages."""
        slot, stream = self._slot, self._stream
        slot.add(slot.index(metrics.RECORDS_CONSUMED, stream), len(timestamps_ms))
        quarantined = 0
        for index, output in enumerate(self._outputs):
            # A record is quarantined for all outputs.
            quarantined = self._output(output, outcomes[index])
        slot.add(slot.index(metrics.QUARANTINED, stream), quarantined)
        slot.observe(slot.index(metrics.BATCH_DURATION), duration_seconds)
        slot.observe_ages(slot.index(metrics.EVENT_AGE), timestamps_ms, now_ms)
        self.transaction(TransactionOutcome.COMMITTED)

    def _output(self, output: EpochOutput, outcomes: OutputBatch) -> int:
        """Count what became of the records of a batch in one output, and return how many are quarantined."""
        slot, stream, audience, epoch = self._slot, self._stream, output.audience, str(output.epoch)
        fates = {
            Fate.SANITIZED: len(outcomes.values),
            Fate.WITHHELD: outcomes.withheld,
            Fate.REJECTED: len(outcomes.rejected),
        }
        for fate, count in fates.items():
            if count:
                slot.add(slot.index(metrics.EPOCH_RECORDS, stream, audience, epoch, fate.value), count)
                if output.active:
                    slot.add(slot.index(metrics.RECORDS, stream, audience, fate.value), count)
        reasons = Counter(entry.reason for entry in outcomes.rejected)
        if not output.active:
            return reasons[Reason.QUARANTINED]
        for reason, count in reasons.items():
            slot.add(slot.index(metrics.REJECTIONS, stream, reason.value), count)
        for treated, count in zip(Treated, outcomes.treated, strict=True):
            if count:
                slot.add(slot.index(metrics.FIELDS, stream, audience, treated.value), count)
        return reasons[Reason.QUARANTINED]

    def transaction(self, outcome: TransactionOutcome) -> None:
        """Count a transaction by how it ended."""
        self._slot.add(self._slot.index(metrics.TRANSACTIONS, outcome.value))

    def registry_error(self, kind: str) -> None:
        """Count a failed request to the registry."""
        self._slot.add(self._slot.index(metrics.REGISTRY_ERRORS, kind))

    def unclassified(self, fields: int) -> None:
        """Show how many fields without a class the schemas of the stream have."""
        self._slot.set(self._slot.index(metrics.UNCLASSIFIED_FIELDS, self._stream), fields)

    def staleness(self, seconds: float) -> None:
        """Show how stale consent is as this worker sees it."""
        self._slot.set(self._slot.index(metrics.CONSENT_STALENESS), seconds)

    def key_age(self, now_ms: int) -> None:
        """Show how old the oldest active key epoch is."""
        if self._keys_made_at_ms is not None:
            self._slot.set(self._slot.index(metrics.KEY_EPOCH_AGE), max(now_ms - self._keys_made_at_ms, 0) / 1000)

    def lag(self, records: Mapping[int, int]) -> None:
        """Show how far each owned partition is behind; partitions that are no longer owned are no longer shown."""
        self._slot.ensure(metrics.lag_series(self._stream, records))
        for partition in self._shown - records.keys():
            self._slot.unset(self._slot.index(metrics.CONSUMER_LAG, self._stream, str(partition)))
        for partition, count in records.items():
            self._slot.set(self._slot.index(metrics.CONSUMER_LAG, self._stream, str(partition)), max(count, 0))
        self._shown = set(records)
