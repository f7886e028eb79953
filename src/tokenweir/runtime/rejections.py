"""Tells of rejected records in the log, without letting a flood of them flood it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tokenweir.core.batches import OutputBatch
from tokenweir.core.outcome import Reason
from tokenweir.runtime.batch import WorkBatch

_PAUSE_SECONDS: Final = 10.0


class Origin(NamedTuple):
    """Where a record stands, and the schema id in its frame."""

    partition: int
    offset: int
    schema_id: int


@dataclass(slots=True)
class _Untold:
    """Records that were rejected for one reason since the last line about it; ``first`` is the first of them."""

    first: Origin
    field_path: str
    records: int = 0


class RejectionLog:
    """One line for each reason at once, then one every ten seconds as long as there is something to tell.

    Args:
        tell: Writes a line: the reason, the first record, the path in its schema, and how many records it is about.
        monotonic: A clock in seconds.
    """

    def __init__(self, tell: Callable[[Reason, Origin, str, int], None], monotonic: Callable[[], float]) -> None:
        self._tell = tell
        self._monotonic = monotonic
        self._untold: dict[Reason, _Untold] = {}
        self._told_at: dict[Reason, float] = {}

    def note(self, batch: WorkBatch, outcomes: Sequence[OutputBatch]) -> None:
        """Note the rejected records of a batch that is committed, each once for each reason."""
        rejected = {(entry.row, entry.reason): entry.field_path for output in outcomes for entry in output.rejected}
        for (row, reason), field_path in sorted(rejected.items()):
            untold = self._untold.get(reason)
            if untold is None:
                first = Origin(batch.partitions[row], batch.offsets[row], batch.schema_id(row))
                untold = self._untold[reason] = _Untold(first, field_path)
            untold.records += 1
        self.tick()

    def tick(self) -> None:
        """Tell what is due."""
        if not self._untold:
            return
        now = self._monotonic()
        for reason, untold in list(self._untold.items()):
            if now - self._told_at.get(reason, -_PAUSE_SECONDS) >= _PAUSE_SECONDS:
                del self._untold[reason]
                self._told_at[reason] = now
                self._tell(reason, untold.first, untold.field_path, untold.records)
