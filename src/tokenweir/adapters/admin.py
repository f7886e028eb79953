"""Questions to a Kafka cluster about its topics, offsets and groups, each with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # Public names that its typing does not list.
    AdminClient,
    ConfigResource,
    ConsumerGroupDescription,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from confluent_kafka.admin import TopicDescription as ForeignDescription  # type: ignore[attr-defined]  # As above.

from tokenweir.adapters.consumer import Committed, Partition, committed_by_partition
from tokenweir.adapters.kafka_errors import KAFKA_LOGGER, KafkaFault, configuration_faults, error_of, fault, faults
from tokenweir.core.librdkafka import PropertyValue, for_admin

Isolation = Literal["read_uncommitted", "read_committed"]
"""``read_uncommitted`` answers the high watermark, ``read_committed`` the last stable offset."""

_ISOLATION: Mapping[Isolation, IsolationLevel] = {
    "read_uncommitted": IsolationLevel.READ_UNCOMMITTED,
    "read_committed": IsolationLevel.READ_COMMITTED,
}

_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # The library leaves it untyped.
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # The library leaves it untyped.

_GRACE_SECONDS = 2.0
"""librdkafka's own time limit fires first; waiting a little longer gives its reason instead of a bare time-out."""

_PAUSE_SECONDS = 0.05

# librdkafka's administrator keeps asking with the leader epoch that it learned first (tried with 2.16: after a restart
# of the broker it never got another answer than FENCED_LEADER_EPOCH); a new client learns the present one. It also
# finds no way to a group's coordinator any more that was killed and came back, while it answers every other question
# (tried with 2.16), so that a single time-out is enough.
_STALE: Final = frozenset(
    {
        "FENCED_LEADER_EPOCH",
        "UNKNOWN_LEADER_EPOCH",
        "NOT_LEADER_FOR_PARTITION",
        "_TIMED_OUT",
        "_TIMED_OUT_QUEUE",
        "REQUEST_TIMED_OUT",
    }
)

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as its cluster describes it.

    Attributes:
        name: The topic.
        topic_id: The id that a topic of the same name never gets again.
        partitions: How many.
        operations: What this client may do, such as ``READ`` and ``WRITE``; None where the cluster does not say.
    """

    name: str
    topic_id: str
    partitions: int
    operations: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a group: the client id that it chose, the host as the broker sees it, and what it was given."""

    client_id: str
    host: str
    partitions: frozenset[Partition]


class Admin:
    """An administrator's client. Every method raises :class:`KafkaFault`; none waits much longer than the limit.

    It may live as long as its process: after an answer that shows that librdkafka's picture of the cluster is out of
    date, and after none in time, the next question goes through a new client.
    """

    def __init__(
        self, properties: Mapping[str, PropertyValue], client_id: str = "tokenweir-admin", timeout_seconds: float = 10
    ) -> None:
        """Create the client; no broker is contacted yet.

        Args:
            properties: The user's librdkafka properties with ``bootstrap.servers``; those of consumers and producers
                are left out.
            client_id: The name in the broker's logs.
            timeout_seconds: The limit of every question.

        Raises:
            ClientConfigurationError: librdkafka refused a property.
        """
        self._configuration: dict[str, str | int | float | bool] = {
            **for_admin(properties),
            "client.id": client_id,
            "allow.auto.create.topics": "false",
        }
        self._timeout_seconds = timeout_seconds
        self._client = self._new_client()
        # One that is thrown away lives on until the next is: another thread may still wait for its answer.
        self._former: AdminClient | None = None

    def _new_client(self) -> AdminClient:
        with configuration_faults("administrator's client"):
            return AdminClient(self._configuration, logger=KAFKA_LOGGER)

    def topics(self) -> dict[str, int]:
        """Return the number of partitions of every topic that this client may see."""
        metadata = self._ask("list topics", lambda: self._client.list_topics(timeout=self._timeout_seconds))
        return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}

    def describe_topic(self, name: str) -> TopicDescription:
        """Return id, partitions and permissions of a topic; a missing one is ``UNKNOWN_TOPIC_OR_PART``."""
        found = self.describe_topics([name])[name]
        if isinstance(found, KafkaFault):
            raise found
        return found

    def describe_topics(self, names: Iterable[str]) -> dict[str, TopicDescription | KafkaFault]:
        """Return of each topic what :meth:`describe_topic` would return or raise, with one question for all.

        Raises:
            KafkaFault: The question could not be sent.
        """
        wanted = list(names)
        futures = self._ask(
            "describe topics",
            lambda: self._client.describe_topics(
                TopicCollection(wanted), include_authorized_operations=True, request_timeout=self._timeout_seconds
            ),
        )
        return {name: self._described(name, futures[name]) for name in wanted}

    def _described(self, name: str, future: Future[ForeignDescription]) -> TopicDescription | KafkaFault:
        try:
            described = self._answer(f"describe topic {name}", future)
        except KafkaFault as found:
            return found
        allowed = described.authorized_operations
        operations = None if allowed is None else frozenset(operation.name for operation in allowed)
        return TopicDescription(name, str(described.topic_id), len(described.partitions), operations)

    def topic_config(self, name: str) -> dict[str, str]:
        """Return the configuration of a topic, defaults included; sensitive entries are left out."""
        operation = f"read the configuration of topic {name}"
        resource = ConfigResource(ResourceType.TOPIC, name)
        futures = self._ask(
            operation, lambda: self._client.describe_configs([resource], request_timeout=self._timeout_seconds)
        )
        entries = self._answer(operation, futures[resource])
        return {key: entry.value for key, entry in entries.items() if entry.value is not None}

    def create_topic(
        self, name: str, partitions: int, replication: int = -1, config: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic and wait until every partition has a leader.

        -1 takes the cluster's own number of replicas. An existing topic is ``TOPIC_ALREADY_EXISTS``.
        """
        operation = f"create topic {name}"
        topic = NewTopic(name, partitions, replication, config=dict(config or {}))
        limit = self._timeout_seconds
        futures = self._ask(
            operation, lambda: self._client.create_topics([topic], operation_timeout=limit, request_timeout=limit)
        )
        self._answer(operation, futures[name])
        deadline = time.monotonic() + limit
        while not self._has_leaders(operation, name, partitions):
            if time.monotonic() > deadline:
                raise KafkaFault(operation, "LEADER_NOT_AVAILABLE", "it exists, but not all of it", retriable=True)
            time.sleep(_PAUSE_SECONDS)

    def _has_leaders(self, operation: str, name: str, partitions: int) -> bool:
        metadata = self._ask(operation, lambda: self._client.list_topics(name, timeout=self._timeout_seconds))
        topic = metadata.topics[name]
        leaders = [partition.leader for partition in topic.partitions.values()]
        return topic.error is None and len(leaders) == partitions and min(leaders) >= 0

    def delete_topic(self, name: str) -> None:
        """Delete a topic and its records for good."""
        operation = f"delete topic {name}"
        limit = self._timeout_seconds
        futures = self._ask(
            operation, lambda: self._client.delete_topics([name], operation_timeout=limit, request_timeout=limit)
        )
        self._answer(operation, futures[name])

    def delete_records(self, topic: str, before: Mapping[int, int]) -> dict[int, int]:
        """Delete the records of each partition below an offset; return the new first offsets."""
        operation = f"delete records of topic {topic}"
        places = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        limit = self._timeout_seconds
        futures = self._ask(
            operation, lambda: self._client.delete_records(places, operation_timeout=limit, request_timeout=limit)
        )
        return {place.partition: self._answer(operation, future).low_watermark for place, future in futures.items()}

    def high_watermarks(
        self, topic: str, partitions: Iterable[int], isolation: Isolation = "read_uncommitted"
    ) -> dict[int, int]:
        """Return the next offset to be written of each partition, or with ``read_committed`` the last stable offset.

        ``get_watermark_offsets`` of a read_committed consumer answers the last stable offset and calls it the high
        watermark; these two are told apart.
        """
        return self._offsets(topic, partitions, _LATEST, isolation)

    def low_watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return the first offset that is still there, of each partition."""
        return self._offsets(topic, partitions, _EARLIEST, "read_uncommitted")

    def offsets_at(self, topic: str, partitions: Iterable[int], timestamp_ms: int) -> dict[int, int | None]:
        """Return the first offset whose record has this timestamp or a later one; None where there is no such record.

        Timestamps are milliseconds since 1970, as the topic has them: of the event's producer or of the log append.
        """
        found = self._offsets(topic, partitions, OffsetSpec.for_timestamp(timestamp_ms), "read_uncommitted")
        return {partition: offset if offset >= 0 else None for partition, offset in found.items()}

    def committed(
        self, group: str, topic: str, partitions: Iterable[int], *, require_stable: bool = True
    ) -> dict[int, Committed]:
        """Return what a group has committed, for exactly these partitions of a topic.

        Raises:
            UnstableOffsetsError: With ``require_stable``, a transaction with one of these offsets is not decided.
            KafkaFault: Any other failure, of the call or of one partition.
        """
        operation = f"read committed offsets of group {group}"
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        if not wanted:
            return {}
        places = self._committed(operation, ConsumerGroupTopicPartitions(group, wanted), require_stable=require_stable)
        answers = committed_by_partition(places)
        if set(answers) != {(topic, place.partition) for place in wanted}:
            raise KafkaFault(operation, "INCOMPLETE_ANSWER", "partitions are missing", retriable=True)
        return {partition: committed for (_topic, partition), committed in answers.items()}

    def committed_each(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, Committed | KafkaFault]:
        """Return what a group has stably committed for exactly these partitions, or what is wrong with each of them.

        A partition whose offsets hang on a transaction that is not decided is an :class:`UnstableOffsetsError`.

        Raises:
            KafkaFault: The call as a whole failed.
        """
        operation = f"read committed offsets of group {group}"
        answers: dict[int, Committed | KafkaFault] = {
            number: KafkaFault(operation, "INCOMPLETE_ANSWER", "the partition is missing", retriable=True)
            for number in partitions
        }
        if not answers:
            return {}
        wanted = [TopicPartition(topic, number) for number in answers]
        for place in self._committed(operation, ConsumerGroupTopicPartitions(group, wanted), require_stable=True):
            if place.topic == topic and place.partition in answers:
                try:
                    answers[place.partition] = committed_by_partition([place])[topic, place.partition]
                except KafkaFault as found:
                    answers[place.partition] = found
        return answers

    def committed_topics(self, group: str) -> set[str]:
        """Return the topics of which a group has committed any offset, stable or not."""
        operation = f"list committed offsets of group {group}"
        places = self._committed(operation, ConsumerGroupTopicPartitions(group), require_stable=False)
        return {place.topic for place in places}

    def _committed(
        self, operation: str, wanted: ConsumerGroupTopicPartitions, *, require_stable: bool
    ) -> list[TopicPartition]:
        # librdkafka crashes the process where the answer to the next question is NOT_COORDINATOR, as it is while a
        # broker is only just starting (12 of 14 first questions to a new cluster, tried with
        # 2.16). The same coordinator answers this one first, and tells of that as a fault.
        self._group(wanted.group_id)
        futures = self._ask(
            operation,
            lambda: self._client.list_consumer_group_offsets(
                [wanted], require_stable=require_stable, request_timeout=self._timeout_seconds
            ),
        )
        return self._answer(operation, futures[wanted.group_id]).topic_partitions or []

    def members(self, group: str) -> tuple[Member, ...]:
        """Return the members of a group, none where it is empty or does not exist."""
        described = self._group(group)
        return tuple(
            Member(
                member.client_id,
                member.host,
                frozenset((place.topic, place.partition) for place in member.assignment.topic_partitions),
            )
            for member in (() if described is None else described.members)
        )

    def group_operations(self, group: str) -> frozenset[str] | None:
        """Return what this client may do with a group, such as ``READ``; None where the cluster does not say.

        It does not say it of a group that does not exist yet.
        """
        described = self._group(group)
        allowed = None if described is None else described.authorized_operations
        return None if allowed is None else frozenset(operation.name for operation in allowed)

    def _group(self, group: str) -> ConsumerGroupDescription | None:
        """Return the description of a group, None where it does not exist."""
        operation = f"describe group {group}"
        futures = self._ask(
            operation,
            lambda: self._client.describe_consumer_groups(
                [group], include_authorized_operations=True, request_timeout=self._timeout_seconds
            ),
        )
        try:
            described: ConsumerGroupDescription = self._answer(operation, futures[group])
        except KafkaFault as found:
            if found.code == "GROUP_ID_NOT_FOUND":
                return None
            raise
        return described

    def set_committed(self, group: str, topic: str, offsets: Mapping[int, tuple[int, str]]) -> None:
        """Set offset and metadata of partitions of a topic for a group, which must have no members."""
        operation = f"set committed offsets of group {group}"
        places = [TopicPartition(topic, partition, *stored) for partition, stored in offsets.items()]
        futures = self._ask(
            operation,
            lambda: self._client.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, places)], request_timeout=self._timeout_seconds
            ),
        )
        committed_by_partition(self._answer(operation, futures[group]).topic_partitions or [])

    def groups(self, prefix: str = "") -> dict[str, bool]:
        """Return the groups whose name begins with a prefix, and whether each has members (is not empty)."""
        operation = "list groups"
        future = self._ask(operation, lambda: self._client.list_consumer_groups(request_timeout=self._timeout_seconds))
        listing = self._answer(operation, future)
        if listing.errors:
            raise fault(operation, error_of(listing.errors[0]))
        without_members = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)
        return {
            group.group_id: group.state not in without_members
            for group in listing.valid
            if group.group_id.startswith(prefix)
        }

    def _offsets(self, topic: str, partitions: Iterable[int], spec: OffsetSpec, isolation: Isolation) -> dict[int, int]:
        operation = f"list offsets of topic {topic}"
        places = {TopicPartition(topic, partition): spec for partition in partitions}
        if not places:
            return {}
        futures = self._ask(
            operation,
            lambda: self._client.list_offsets(
                places, isolation_level=_ISOLATION[isolation], request_timeout=self._timeout_seconds
            ),
        )
        offsets = {place.partition: self._answer(operation, future).offset for place, future in futures.items()}
        # A request that has timed out is reported as a success with the offset -1001 (tried with librdkafka 2.16). Were
        # it taken for an end, that would prove freshness and enforcement. Only a timestamp may find nothing: -1.
        if min(offsets.values()) < (0 if spec is _LATEST or spec is _EARLIEST else -1):
            with self._watched():
                raise KafkaFault(operation, "_TIMED_OUT", "the answer has no offsets", retriable=True)
        return offsets

    def _ask(self, operation: str, question: Callable[[], _Result]) -> _Result:
        """Send a question and hand over librdkafka's log messages."""
        with self._watched(), faults(operation):
            self._client.poll(0)
            return question()

    def _answer(self, operation: str, future: Future[_Result]) -> _Result:
        with self._watched():
            try:
                return future.result(self._timeout_seconds + _GRACE_SECONDS)
            except KafkaException as error:
                raise fault(operation, error_of(error)) from error
            except FutureTimeoutError:
                raise KafkaFault(operation, "_TIMED_OUT", retriable=True) from None

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Make the client anew after a fault that asking the same one again would not cure."""
        try:
            yield
        except KafkaFault as found:
            if found.code in _STALE:
                self._former, self._client = self._client, self._new_client()
            raise
