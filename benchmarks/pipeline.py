"""A worker without the gateway: it copies records, or sanitizes them in plain Python, with exactly-once transactions.

``python -m benchmarks.pipeline copy|plain BOOTSTRAP GROUP SLOT earliest|latest``. It commits after 100 ms or 10,000
records, and its clients are set as the gateway's are. What it lacks is everything that the gateway promises.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks import cluster, workload
from benchmarks.plain import Plain

_COMMIT_SECONDS: Final = 0.1
_COMMIT_RECORDS: Final = 10_000
#: More at once fall out of the processor's caches.
_READ_RECORDS: Final = 500

#: What leaves of a record's value; None for nothing.
Treatment = Callable[[bytes], bytes | None]


class Pipeline:
    """Runs transactions until it is told to stop."""

    def __init__(self, bootstrap: str, group: str, slot: str, start: str, treat: Treatment) -> None:
        """Create the clients."""
        self._treat = treat
        self._open = False
        self._next: dict[int, int] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "auto.offset.reset": start,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "session.timeout.ms": 10_000,
            }
        )
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": f"{group}.{slot}",
                "linger.ms": 2,
                "retry.backoff.ms": 5,
                "delivery.report.only.error": True,
            }
        )

    def run(self, stopping: Callable[[], bool], before: Callable[[], object]) -> None:
        """Run until ``stopping`` says so; ``before`` is called before each transaction."""
        self._producer.init_transactions()
        self._consumer.subscribe([cluster.SOURCE], on_revoke=self._revoked, on_lost=self._revoked)
        while not stopping():
            before()
            self._transaction()
        self._consumer.close()

    def _transaction(self) -> None:
        produced = 0
        until = time.monotonic() + _COMMIT_SECONDS
        while produced < _COMMIT_RECORDS and (left := until - time.monotonic()) > 0:
            for message in self._consumer.consume(_READ_RECORDS, left):
                if message.error() is None:
                    self._produce(message)
                    produced += 1
        if self._open:
            offsets = [TopicPartition(cluster.SOURCE, number, offset) for number, offset in self._next.items()]
            self._producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata())
            self._producer.commit_transaction()
            self._close()

    def _produce(self, message: Message) -> None:
        if not self._open:
            self._producer.begin_transaction()
            self._open = True
        partition = message.partition() or 0
        value = self._treat(message.value() or b"")
        if value is not None:
            self._producer.produce(cluster.COPY, value, partition=partition, timestamp=message.timestamp()[1])
        self._next[partition] = (message.offset() or 0) + 1

    def _revoked(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        # What was read belongs to the next owner, who begins at the committed offsets.
        if self._open:
            self._producer.abort_transaction()
            self._close()

    def _close(self) -> None:
        self._open = False
        self._next.clear()


class _Decisions:
    """A dict of the consent topic that is kept up to date."""

    def __init__(self, bootstrap: str) -> None:
        self.allowed: dict[str, bool] = {}
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
        partitions = self._consumer.list_topics(cluster.CONSENT, timeout=10).topics[cluster.CONSENT].partitions
        places = [TopicPartition(cluster.CONSENT, number, 0) for number in partitions]
        left = sum(self._consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        self._consumer.assign(places)
        while left > 0:
            left -= self.follow(1.0)

    def follow(self, seconds: float = 0.0) -> int:
        """Read on; return how many decisions came."""
        messages = self._consumer.consume(10_000, seconds)
        for message in messages:
            decisions = json.loads(message.value() or b"{}").get("decisions", {})
            self.allowed[(message.key() or b"").decode()] = decisions.get("email_marketing") == "allow"
        return len(messages)


def main(kind: str, bootstrap: str, group: str, slot: str, start: str) -> None:
    """Run one worker until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if kind == "copy":
        Pipeline(bootstrap, group, slot, start, lambda value: value).run(stop.is_set, lambda: None)
        return
    plain, decisions = Plain(), _Decisions(bootstrap)
    workload.calm_collector()
    pipeline = Pipeline(bootstrap, group, slot, start, lambda value: plain.frame(value, decisions.allowed))
    pipeline.run(stop.is_set, decisions.follow)


if __name__ == "__main__":
    main(*sys.argv[1:])
