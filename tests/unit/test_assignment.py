"""The parts of B1 to B5 that a second one also guards: each holds by itself."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from tests.support.groupclients import use_models
from tests.support.groupmodel import CONSENT, GROUP, SOURCE, Cluster
from tests.support.groupworkers import RunningWorker

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consumer import Committed, GroupConsumer, Partition
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.errors import RefusedError
from tokenweir.runtime.position import ConsentPosition

_BOTH: list[Partition] = [(SOURCE, 0), (SOURCE, 1)]


@pytest.fixture(name="cluster")
def _cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster on which the product's clients stand."""
    cluster = Cluster()
    use_models(monkeypatch, lambda: cluster)
    return cluster


@pytest.fixture(name="worker")
def _worker(cluster: Cluster, tmp_path: Path) -> RunningWorker:
    """The only worker of a group, which has both partitions and has done a few records."""
    worker = RunningWorker(cluster, 0, tmp_path)
    cluster.add_records(3)
    for _ in range(4):
        worker.turn()
    assert set(worker.assignment.next_offsets) == set(_BOTH)
    return worker


def _turns(worker: RunningWorker, count: int = 5) -> None:
    for _ in range(count):
        worker.turn()


# B1


def test_each_offset_is_stored_with_topic_policy_and_position(cluster: Cluster, worker: RunningWorker) -> None:
    """Of every partition that it owns."""
    position = worker.assignment.position(worker.store.snapshot())  # type: ignore[arg-type]  # The model's.
    assert (position.topic_id, position.policy_digest, position.offsets) == ("id-1", "policy-1", {0: 5, 1: 5})
    assert {partition: metadata for partition, (_, metadata) in cluster.committed.items()} == dict.fromkeys(
        _BOTH, position.encode()
    )


def test_a_position_in_another_consent_topic_refuses(cluster: Cluster, worker: RunningWorker) -> None:
    """The topic was deleted and created again: what was applied before says nothing any more."""
    cluster.topic_id = "id-2"
    cluster.expel(worker.name)
    with pytest.raises(RefusedError, match=f"consent topic {CONSENT} is not the one"):
        _turns(worker)


# B2


@pytest.mark.parametrize("metadata", ["", "somebody else's", "tw1;id-1;policy-1"])
def test_without_a_known_position_all_consent_of_now_is_waited_for(
    cluster: Cluster, worker: RunningWorker, metadata: str
) -> None:
    """The high watermark from after the assignment: what comes later need not be waited for."""
    cluster.expel(worker.name)
    cluster.committed = {partition: (offset, metadata) for partition, (offset, _) in cluster.committed.items()}
    cluster.consent[1] = 8
    _turns(worker)
    assert (worker.assignment.taking, worker.assignment.next_offsets) == (True, {})

    cluster.consent[1] = 9
    worker.store.position = [5, 7]
    _turns(worker)
    assert worker.assignment.taking
    worker.store.position = [5, 8]
    _turns(worker)
    assert set(worker.assignment.next_offsets) == set(_BOTH)


def test_an_undecided_offset_is_asked_for_again(cluster: Cluster, worker: RunningWorker, tmp_path: Path) -> None:
    """It looks like a time-out. The partition begins where the transaction ends, and not where it began."""
    cluster.add_records(2)
    other = RunningWorker(cluster, 1, tmp_path)

    def others(_client: str, call: str) -> None:
        if call == "offsets sent":
            cluster.passage = lambda _client, _call: None
            cluster.expel(worker.name)
            _turns(other)
            assert other.assignment.taking

    cluster.passage = others
    worker.turn()
    _turns(other, 2)
    assert other.assignment.next_offsets == dict.fromkeys(_BOTH, 5)


# B3


def test_a_rebuilt_store_releases_every_partition(worker: RunningWorker) -> None:
    """They are read on as soon as the store is where it was."""
    worker.store.rebuild()
    _turns(worker)
    assert (worker.assignment.taking, worker.assignment.next_offsets) == (True, {})
    worker.store.apply()
    _turns(worker)
    assert set(worker.assignment.next_offsets) == set(_BOTH)


# B4


@pytest.mark.parametrize("event", ["revoked", "lost", "assigned"])
def test_a_rebalance_drops_everything_within_its_callback(worker: RunningWorker, event: str) -> None:
    """Nothing that was read or owned before it is there when the callback returns."""
    assignment = worker.assignment
    assignment.queue.append(None)  # type: ignore[arg-type]  # Whatever it is, it must go.
    getattr(assignment, event)(_BOTH)
    assert (assignment.queue, assignment.next_offsets, assignment.paused) == ([], {}, {})
    assert assignment.taking == (event == "assigned")


def test_a_read_in_which_partitions_move_returns_nothing(cluster: Cluster, worker: RunningWorker) -> None:
    """Though librdkafka returns what it fetched before."""
    cluster.add_records(2)
    cluster.expel(worker.name)
    consumer: GroupConsumer = worker.worker._consumer
    assert consumer.read(10, 0.1).records == []


def test_without_a_generation_there_are_no_metadata(cluster: Cluster, worker: RunningWorker) -> None:
    """A broker takes offsets that come with neither member nor generation from anybody."""
    consumer: GroupConsumer = worker.worker._consumer
    assert consumer.group_metadata() is not None
    cluster.expel(worker.name)
    assert consumer.group_metadata() is None


def test_a_worker_without_metadata_reads_no_record(cluster: Cluster, worker: RunningWorker) -> None:
    """What it read would not be fenced."""
    cluster.add_records(2)
    before = list(cluster.output)
    consumer: Any = worker.worker._consumer
    consumer.group_metadata = lambda: None
    _turns(worker)
    assert cluster.output == before
    del consumer.group_metadata
    _turns(worker)
    assert len(cluster.output) > len(before)


# B5


def test_offsets_of_every_owned_partition_are_committed_with_those_of_a_batch(
    cluster: Cluster, worker: RunningWorker
) -> None:
    """So that a position moves on though its partition has no data."""
    worker.store.position = [6, 5]
    cluster.add_records_to((SOURCE, 0), 1)
    worker.turn()
    assert {partition: offset for partition, (offset, _) in cluster.committed.items()} == {_BOTH[0]: 4, _BOTH[1]: 3}
    positions = [ConsentPosition.parse(metadata) for _, metadata in cluster.committed.values()]
    assert [position and position.offsets for position in positions] == [{0: 6, 1: 5}] * 2


# B6, 1: what an administrator's client asks for.


class _AdminClient:
    """Notes how offsets are asked for, and answers that there are none."""

    stable: ClassVar[list[bool]] = []

    def __init__(self, *_: object, **__: object) -> None:
        self.poll = lambda _timeout: None

    def list_consumer_group_offsets(
        self, wanted: list[ConsumerGroupTopicPartitions], *, require_stable: bool, **_: object
    ) -> dict[str, Future[ConsumerGroupTopicPartitions]]:
        self.stable.append(require_stable)
        answer = Future[ConsumerGroupTopicPartitions]()
        answer.set_result(wanted[0])
        return {GROUP: answer}


def test_the_barrier_asks_for_stable_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a broker answers with the offsets from before a transaction that is under way."""
    monkeypatch.setattr(_AdminClient, "stable", [])
    monkeypatch.setattr("tokenweir.adapters.admin.AdminClient", _AdminClient)
    monkeypatch.setattr(Admin, "_group", lambda _self, _group: None)
    assert Admin({}).committed_each(GROUP, SOURCE, [0]) == {0: Committed(None, "")}
    assert _AdminClient.stable == [True]


# Outside of the group.


def test_a_worker_that_stays_outside_of_its_group_is_given_up(cluster: Cluster, worker: RunningWorker) -> None:
    """Its supervisor starts another one, whose client is new. Until then it waits for the rebalance."""
    cluster.join("a member that never gives anything back")
    cluster.rejoined = set()
    _turns(worker)
    with pytest.raises(KafkaFault, match="join the group: NOT_JOINED") as caught:
        _turns(worker, 1_000)
    assert caught.value.fatal


def test_a_worker_that_joins_again_has_all_the_time_once_more(cluster: Cluster, worker: RunningWorker) -> None:
    """Rebalances that follow each other are no reason to give up."""
    for _ in range(40):
        cluster.rebalance()
        _turns(worker, 2)
    assert worker.assignment.joined
