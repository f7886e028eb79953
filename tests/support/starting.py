"""What tests of starts and of topics that change share: the preflight in this process, offsets, and topics that go."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # Public names that its typing does not list.
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewPartitions,
    ResourcePatternType,
    ResourceType,
)
from tests.support.worlds import RunningGateway, World, until

from tokenweir.adapters.consumer import Committed
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.config import load_config
from tokenweir.errors import PreflightError
from tokenweir.runtime.children import ChildSpec, _preflight
from tokenweir.runtime.gateway import Gateway

GUARDED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
"""Settings of a broker that asks its access lists; what is on none of them is open to everybody."""


def group_of(world: World) -> str:
    """Return the consumer group of the world's stream."""
    return f"{world.name}.interactions"


def committed(world: World, partitions: int = 2) -> dict[int, Committed]:
    """Return what the group has committed, which must be decided."""
    return world.admin.committed(group_of(world), world.source, range(partitions))


def committed_offsets(world: World, partitions: int = 2) -> list[int | None]:
    """Return the committed offsets."""
    return [found.offset for found in committed(world, partitions).values()]


def has_committed(world: World, *offsets: int) -> Callable[[], bool]:
    """Return what says whether exactly these offsets are committed, and decided."""

    def reached() -> bool:
        try:
            return committed_offsets(world, len(offsets)) == list(offsets)
        except UnstableOffsetsError:
            return False

    return reached


def refusals(world: World) -> list[str]:
    """Return what the preflight of a gateway refuses; it runs as in its own process, which would end with 3."""
    gateway = Gateway.open(load_config(world.config, {}))
    try:
        _preflight(ChildSpec(gateway, "preflight"), threading.Event())
    except PreflightError as error:
        return error.problems
    return []


def replace_topic(world: World, topic: str, partitions: int, config: dict[str, str] | None = None) -> None:
    """Delete a topic and create another one of its name."""
    world.admin.delete_topic(topic)
    until(lambda: topic not in world.admin.topics())
    world.admin.create_topic(topic, partitions, config=config)


def last_words_of(gateway: RunningGateway, seconds: float = 60) -> str:
    """Wait until a gateway has ended by itself with 3, and return what it said to the person who started it."""
    until(lambda: gateway.process.poll() is not None, gateway.log, seconds)
    assert gateway.process.returncode == 3, gateway.log()
    return "\n".join(line for line in gateway.log().splitlines() if line.startswith("error: "))


def forget_offsets(world: World, partition: int) -> None:
    """Make a group lose one offset: its others are set in a group of the same name after it was deleted."""
    group = group_of(world)
    kept = {number: found for number, found in committed(world).items() if number != partition}
    client = AdminClient({"bootstrap.servers": world._bootstrap})
    client.delete_consumer_groups([group])[group].result(20)
    world.admin.set_committed(
        group, world.source, {number: (found.offset or 0, found.metadata) for number, found in kept.items()}
    )


def add_partitions(world: World, total: int, topic: str = "") -> None:
    """Give a topic more partitions, the source if none is named."""
    topic = topic or world.source
    client = AdminClient({"bootstrap.servers": world._bootstrap})
    client.create_partitions([NewPartitions(topic, total)])[topic].result(20)
    until(lambda: world.admin.describe_topic(topic).partitions == total)


def send_anew(world: World, *counts: tuple[int, int]) -> None:
    """Send records of a client that has not seen the topic before: so many to each partition."""
    fresh = copy.copy(world)
    fresh._producer = Producer({"bootstrap.servers": world._bootstrap, "partitioner": "murmur2_random"})
    for partition, count in counts:
        fresh.send(1, count, partition=partition)


def created(world: World, topic: str, partitions: int = 2, config: dict[str, str] | None = None) -> bool:
    """Create a topic whose namesake may still be about to go; return whether it is there."""
    try:
        world.admin.create_topic(topic, partitions, config=config)
    except KafkaFault as fault:
        return fault.code != "TOPIC_ALREADY_EXISTS"
    return True


def refused_without(world: World, operation: AclOperation) -> str:
    """Take a permission on the group away; return what is refused then."""
    assert refusals(world) == []
    deny(world, group_of(world), operation, ResourceType.GROUP)
    until(lambda: bool(refusals(world)))
    (refused,) = refusals(world)
    assert refused.startswith(f"offsets of group {group_of(world)}: ")
    return refused


def deny(world: World, name: str, operation: AclOperation, kind: ResourceType = ResourceType.TOPIC) -> None:
    """Let everybody do everything with a resource, but one thing."""
    pattern = ResourcePatternType.LITERAL
    bindings = [
        AclBinding(kind, name, pattern, "User:*", "*", AclOperation.ALL, AclPermissionType.ALLOW),
        AclBinding(kind, name, pattern, "User:*", "*", operation, AclPermissionType.DENY),
    ]
    client = AdminClient({"bootstrap.servers": world._bootstrap})
    for answer in client.create_acls(bindings).values():
        answer.result(20)
