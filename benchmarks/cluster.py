"""A broker and a registry of a benchmark's own, with the topics, the events and the consent that it needs."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from tests.support.rig import KafkaBroker, Registry

from benchmarks import workload

SOURCE: Final = "bench.interactions"
OUTPUT: Final = "bench.interactions.crm"
COPY: Final = "bench.copy"
CONSENT: Final = "consent.decisions"
PARTITIONS: Final = 8
_CONSENT_PARTITIONS: Final = 4
#: Events that one call makes.
_SHARE: Final = 50_000
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class Cluster:
    """What runs, and the counts that a benchmark reads from it."""

    directory: Path
    bootstrap: str
    registry_url: str
    schema_id: int
    subjects: int
    admin: AdminClient

    def ends(self, topic: str = SOURCE) -> dict[int, int]:
        """Return the end of each partition."""
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        futures = self.admin.list_offsets({place: OffsetSpec.latest() for place in places})  # type: ignore[no-untyped-call]  # Untyped there.
        return {place.partition: future.result().offset for place, future in futures.items()}

    def committed(self, group: str) -> int:
        """Return how many source records a group has committed."""
        places = [TopicPartition(SOURCE, number) for number in range(PARTITIONS)]
        answer = self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)])
        return sum(max(place.offset, 0) for place in answer[group].result().topic_partitions)

    def visible(self, topic: str, starts: Mapping[int, int]) -> int:
        """Return how many records a ``read_committed`` reader sees from some offsets to the end."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "unused",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        consumer.assign([TopicPartition(topic, number, offset) for number, offset in starts.items()])
        found = ended = 0
        while ended < len(starts):
            for message in consumer.consume(1_000, 1.0):
                error = message.error()
                found += error is None
                # Other errors are told of and then mended by the client.
                ended += error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name.
        consumer.close()
        return found

    def busy_members(self, group: str) -> int:
        """Return how many members of a group own partitions."""
        try:
            described = self.admin.describe_consumer_groups([group])[group].result()
        except KafkaException:
            return 0  # Its coordinator has only been chosen.
        return sum(bool(member.assignment.topic_partitions) for member in described.members)


@contextlib.contextmanager
def cluster(events: int, subjects: int) -> Iterator[Cluster]:
    """Start broker and registry, and fill the topics with events of people who all allow e-mail marketing."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokenweir-bench-")))
        broker, registry = KafkaBroker(directory / "kafka"), Registry(directory / "registry")
        stack.callback(broker.stop)
        broker.start()
        stack.callback(registry.stop)
        registry.start()
        found = Cluster(
            directory,
            broker.bootstrap,
            registry.url,
            _register(registry.url),
            subjects,
            AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}),
        )
        broker.create_topic(SOURCE, PARTITIONS)
        for topic in (OUTPUT, f"{SOURCE}.dead-letters", COPY):
            broker.create_topic(topic, PARTITIONS, {"retention.ms": str(_DAY_MS)})
        broker.create_topic(CONSENT, _CONSENT_PARTITIONS, {"cleanup.policy": "compact"})
        _consent(found.bootstrap, subjects)
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            for share in range(0, events, _SHARE):
                pool.submit(_events, found.bootstrap, found.schema_id, share, min(_SHARE, events - share), subjects)
        if sum(found.ends().values()) != events:
            raise RuntimeError("the events could not be produced")
        yield found


def frame(schema_id: int) -> bytes:
    """Return what stands before an event in a record."""
    return b"\x00" + schema_id.to_bytes(4, "big")


def _register(url: str) -> int:
    body = json.dumps({"schema": workload.schema_text()}).encode()
    request = urllib.request.Request(  # noqa: S310 - a registry that was just started here
        f"{url}/subjects/{SOURCE}-value/versions",
        body,
        {"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
        return int(json.load(answer)["id"])


def _producer(bootstrap: str) -> Producer:
    return Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "partitioner": "murmur2_random", "acks": "all"})


def _consent(bootstrap: str, subjects: int) -> None:
    producer = _producer(bootstrap)
    state = {"version": 1, "decided_at": "2020-01-01T00:00:00Z", "decisions": {"email_marketing": "allow"}}
    value = json.dumps(state).encode()
    for subject in range(subjects):
        _produce(producer, CONSENT, value, key=f"customer:{subject:010d}".encode())
    producer.flush()


def _events(bootstrap: str, schema_id: int, seed: int, count: int, subjects: int) -> None:
    producer, head = _producer(bootstrap), frame(schema_id)
    for number, event in enumerate(workload.events(count, subjects, time.time_ns() // 1_000_000, seed)):
        _produce(producer, SOURCE, head + event, partition=number % PARTITIONS)
    producer.flush()


def _produce(producer: Producer, topic: str, value: bytes, *, key: bytes | None = None, partition: int = -1) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return
