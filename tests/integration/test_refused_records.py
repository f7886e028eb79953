"""What the broker refuses of a transaction costs the record that is to blame, and nothing else."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import fastavro
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # Public names that its typing does not list.
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from tests.support.rig import Broker, SchemaRegistry
from tests.support.worlds import RunningGateway, World, until

from tokenweir.core import deadletter

pytestmark = pytest.mark.integration

_TWO_DAYS_MS = 2 * 24 * 3_600_000
_LETTER = fastavro.parse_schema(json.loads(deadletter.SCHEMA))

Start = Callable[[dict[str, dict[str, str]]], tuple[World, RunningGateway]]


@pytest.fixture
def start(kafka: Broker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start a gateway with everybody's consent; given are settings of topics, by what follows ``raw`` in their name."""
    gateways: list[RunningGateway] = []

    def new(settings: dict[str, dict[str, str]]) -> tuple[World, RunningGateway]:
        name = f"refused-{uuid.uuid4().hex[:8]}"
        world = World(tmp_path_factory.mktemp(name), name, kafka.bootstrap, registry.url)
        fixed = world.cli("doctor", "--fix", "--format", "json")
        assert fixed.returncode == 0, fixed.stdout
        for suffix, entries in settings.items():
            _configure(kafka, f"{world.source}{suffix}", entries)
        world.allow(1, "email_marketing", "ad_measurement")
        gateways.append(world.start())
        until(gateways[-1].ready, gateways[-1].log)
        return world, gateways[-1]

    yield new
    for gateway in gateways:
        gateway.stop()


def _configure(kafka: Broker, topic: str, entries: dict[str, str]) -> None:
    changes = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in entries.items()]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for answer in client.incremental_alter_configs([resource]).values():
        answer.result(20)


def _letters(world: World) -> Counter[tuple[int, str]]:
    """Return offset and reason of all dead letters."""
    found: Counter[tuple[int, str]] = Counter()
    for record in world.read("raw.dead-letters"):
        letter: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), _LETTER, None)
        found[letter["source_offset"], letter["reason"]] += 1
    return found


def test_a_timestamp_that_an_output_refuses_becomes_a_dead_letter(start: Start) -> None:
    """Kafka refuses what is more than an hour ahead (KIP-937); what stands around it flows, in its order."""
    world, gateway = start({"": {"message.timestamp.after.max.ms": str(2**63 - 1)}})
    world.send(1, 5, partition=0)
    world.send(1, 1, partition=0, timestamp_ms=time.time_ns() // 1_000_000 + _TWO_DAYS_MS)
    world.send(1, 5, partition=0)

    until(lambda: len(world.read("raw.crm")) == 10, gateway.log, 60)

    assert _letters(world) == {(5, "output_refused"): 2}
    assert len(world.read("raw.ads")) == 10
    assert gateway.process.poll() is None


def test_a_topic_that_takes_small_batches_gets_small_batches(start: Start) -> None:
    """A broker measures a whole batch by max.message.bytes."""
    world, gateway = start({".crm": {"max.message.bytes": "20000"}, ".dead-letters": {"max.message.bytes": "10000"}})
    world.send(1, 1_000, partition=0)

    until(lambda: len(world.read("raw.crm")) == 1_000, gateway.log, 60)

    assert not _letters(world)
    assert not gateway.events("transaction_aborted")
