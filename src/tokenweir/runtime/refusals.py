"""Records that a topic does not take, though they are sanitized: found one by one, so that they hold up no other.

A broker refuses a whole transaction for one record whose timestamp, key or size its topic does not allow. What exactly
it does not allow is the topic's configuration, which may change at any time. So a batch that fails twice is done again
record by record; a record that fails alone, for a reason that lies in it, becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tokenweir.adapters.consumer import Partition
from tokenweir.errors import RefusedError
from tokenweir.runtime.batch import WorkBatch

#: What a broker, or librdkafka before it, says of a record that will never be taken as it is.
_OF_THE_RECORD: Final = frozenset(
    {"INVALID_TIMESTAMP", "INVALID_RECORD", "MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_MSG_SIZE"}
)
#: One failure may pass by itself.
_FAILURES_OF_A_BATCH: Final = 2
_FAILURES_OF_A_RECORD: Final = 5


class Refusals:
    """What a worker has learned from transactions that were aborted."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self._outputs = outputs
        self._failures = 0
        self._failed_at: Mapping[Partition, int] = {}
        self._alone_before: dict[Partition, int] = {}
        self._refused: set[tuple[Partition, int]] = set()

    def __bool__(self) -> bool:
        """Whether any record is treated in another way than the rest."""
        return bool(self._alone_before or self._refused)

    def alone(self, partition: Partition, offset: int) -> bool:
        """Return whether a record is to have a transaction of its own."""
        return offset < self._alone_before.get(partition, 0)

    def refused(self, partition: Partition, offset: int) -> bool:
        """Return whether a record is known not to be taken."""
        return (partition, offset) in self._refused

    def failed(self, code: str, batch: WorkBatch | None, next_offsets: Mapping[Partition, int]) -> None:
        """Note that the transaction of a batch, or one without records, was aborted.

        ``next_offsets`` are those from before it.

        Raises:
            RefusedError: The same is tried again and again, and nothing in the records explains it.
        """
        here = dict(next_offsets)
        self._failures = self._failures + 1 if here == self._failed_at else 1
        self._failed_at = here
        if self._failures < _FAILURES_OF_A_BATCH:
            return
        if batch is not None and len(batch) > 1:
            for partition, end in batch.next_offsets({}).items():
                self._alone_before[partition] = max(end, self._alone_before.get(partition, 0))
            self._failures = 0
        elif code in _OF_THE_RECORD and batch is not None and len(batch) and not batch.reasons:
            self._refused.add(((batch.topic, batch.partitions[0]), batch.offsets[0]))
            self._failures = 0
        elif self._failures >= _FAILURES_OF_A_RECORD:
            raise RefusedError(
                f"the same batch failed {self._failures} times ({code}): are {', '.join(self._outputs)} and the "
                "dead-letter topic writable? 'tokenweir doctor' looks"
            )

    def committed(self, next_offsets: Mapping[Partition, int]) -> None:
        """Forget what lies behind."""
        self._failures = 0
        if self._alone_before:
            self._alone_before = {
                partition: offset
                for partition, offset in self._alone_before.items()
                if offset > next_offsets.get(partition, 0)
            }
        if self._refused:
            self._refused = {
                (partition, offset) for partition, offset in self._refused if offset >= next_offsets.get(partition, 0)
            }
