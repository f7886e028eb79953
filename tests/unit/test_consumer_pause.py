"""A pause ends with the assignment in which it was made, on librdkafka's own mock broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest
from confluent_kafka import Producer

from tokenweir.adapters.consumer import GroupConsumer, Partition
from tokenweir.adapters.mockcluster import MockCluster

_SECONDS: Final = 30
_TOPIC: Final = "topic"


class _Silent:
    """Rebalance callbacks that do nothing."""

    def assigned(self, partitions: list[Partition]) -> None:
        """Do nothing."""

    def revoked(self, partitions: list[Partition]) -> None:
        """Do nothing."""

    def lost(self, partitions: list[Partition]) -> None:
        """Do nothing."""


@pytest.fixture
def member() -> Iterator[GroupConsumer]:
    """Give the only member of a group, with records in each partition of its topic."""
    cluster = MockCluster()
    count = cluster.create_topics([_TOPIC])[_TOPIC]
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    for number in range(10 * count):
        producer.produce(_TOPIC, b"value", partition=number % count)
    assert producer.flush(_SECONDS) == 0
    with closing(
        GroupConsumer({"bootstrap.servers": cluster.bootstrap_servers}, "group", "client", _Silent())
    ) as consumer:
        consumer.subscribe([_TOPIC])
        deadline = time.monotonic() + _SECONDS
        while not consumer.owned:
            assert time.monotonic() < deadline, "the member got no partition"
            consumer.read(1, 0.05)
        yield consumer


def _partitions_read(consumer: GroupConsumer) -> set[Partition]:
    """Begin with all owned partitions, and return of which of them records came, as soon as it is all."""
    consumer.begin(dict.fromkeys(consumer.owned, 0))
    found: set[Partition] = set()
    deadline = time.monotonic() + _SECONDS
    while found != consumer.owned and time.monotonic() < deadline:
        found |= {(message.topic() or "", message.partition() or 0) for message in consumer.read(100, 0.1).records}
    return found


def test_what_was_paused_is_read_when_it_is_begun_again(member: GroupConsumer) -> None:
    """A worker that begins again, after an abort or a rebalance, also reads the partition that waited for its schema.

    librdkafka keeps a pause through every assignment, so that such a partition would never be read again.
    """
    every = member.owned
    assert _partitions_read(member) == every
    member.pause(sorted(every)[:1])

    assert _partitions_read(member) == every
