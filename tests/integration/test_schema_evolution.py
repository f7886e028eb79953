"""Schemas that change while the gateway runs: what is classified leaves, what is not never does, and no record is lost.

Each test has canaries in every field that must not leave, and searches outputs, dead letters, logs, metrics and state
files for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.rig import Broker, SchemaRegistry
from tests.support.schemaworld import Schema, SchemaWorld, optional, schema_of
from tests.support.worlds import SCHEMA, until

SEED = int(os.environ.get("TOKENWEIR_SEED", "1"))

Make = Callable[[], SchemaWorld]

ADDED = schema_of(
    optional("detail", "string", "event.detail"),
    optional("memo", "string", "text.free"),
    optional("second_email", "string", "contact.email"),
)
UNCLASSIFIED = schema_of(optional("secret", "string", None))
REMOVED = schema_of(without="email")
RENAMED = schema_of(optional("remark", "string", "event.detail", aliases=["detail"]))
RENAMED_UNCLASSIFIED = schema_of(optional("mail", "string", None, aliases=["email"]), without="email")
RETYPED = schema_of(optional("detail", "long", "event.detail"))


@pytest.fixture
def make(tmp_path: Path, kafka: Broker, registry: SchemaRegistry) -> Iterator[Make]:
    """Make worlds that end with the test."""
    worlds: list[SchemaWorld] = []

    def new() -> SchemaWorld:
        directory = tmp_path / f"world-{len(worlds)}"
        directory.mkdir()
        worlds.append(SchemaWorld(directory, kafka, registry, SEED))
        return worlds[-1]

    yield new
    for world in worlds:
        world.close()


def _evolve(world: SchemaWorld, count: int) -> dict[str, int]:
    """Register one version after the other in mid-stream, then mix records of all of them."""
    first = world.world.schema_id
    known: list[tuple[int, Schema, str]] = [(first, SCHEMA, "")]
    ids = {}
    for name, schema, reason in (
        ("added", ADDED, ""),
        ("unclassified", UNCLASSIFIED, ""),
        ("removed", REMOVED, ""),
        ("renamed", RENAMED, ""),
        ("renamed_unclassified", RENAMED_UNCLASSIFIED, ""),
        ("retyped", RETYPED, "schema_incompatible"),
    ):
        world.send(first, SCHEMA, partition=0)
        ids[name] = world.register(schema)
        known.append((ids[name], schema, reason))
        world.send(ids[name], schema, partition=world.dice.randrange(2), reason=reason)
    picks = (world.dice.choice(known) for _ in range(count))
    world.write((schema_id, schema, world.dice.randrange(2), reason) for schema_id, schema, reason in picks)
    return ids


@pytest.mark.integration
def test_versions_that_come_in_mid_stream(make: Make) -> None:
    """New classified fields leave, others never; fields may go and be renamed; a retyped one is rejected."""
    world = make()
    gateway = world.start()
    _evolve(world, 300)
    world.seconds_to_drain(0, 1)

    judgement = world.judge()

    judgement.assert_clean()
    crm, ads = judgement.outputs["crm"], judgement.outputs["ads"]
    assert any(value.get("detail") == f"detail {number}" for number, value in crm.items())
    assert any(value.get("remark") == f"detail {number}" for number, value in ads.items())
    assert any(value.get("second_email") for value in crm.values())
    names = {name for value in (*crm.values(), *ads.values()) for name in value}
    assert names.isdisjoint({"memo", "secret", "mail"})
    assert len(gateway.events("fields_unclassified")) == 2
    assert [event["schema_id"] for event in gateway.events("schema_incompatible")]
    assert gateway.stop() == 0


@pytest.mark.chaos
def test_an_id_that_is_registered_later(make: Make) -> None:
    """Within the wait its records are sanitized; after it they are dead letters, and a minute later sanitized again."""
    world = make()
    gateway = world.start()
    soon, late = world.register(ADDED), world.register(UNCLASSIFIED)
    world.proxy.hidden_ids.update({soon, late})
    world.send(soon, ADDED, partition=0)
    until(lambda: bool(world.proxy.asked_for(f"/ids/{soon}")), gateway.log)
    world.proxy.hidden_ids.remove(soon)
    world.seconds_to_drain(0, 1)

    world.send(late, UNCLASSIFIED, partition=0, count=5, reason="schema_unknown")
    world.seconds_to_drain(0, 1)
    world.proxy.hidden_ids.remove(late)
    world.send(late, UNCLASSIFIED, partition=0, count=5, reason="schema_unknown")
    world.seconds_to_drain(0, 1)
    # From the negative cache until its minute is over; the record that finds it too old still is a dead letter.
    asked = len(world.proxy.asked_for(f"/ids/{late}"))
    until(lambda: _is_asked_again(world, late, asked), gateway.log, 120)
    until(lambda: late in [event.get("schema_id") for event in gateway.events("schema_planned")], gateway.log)
    world.send(late, UNCLASSIFIED, partition=0, count=5)
    world.seconds_to_drain(0, 1)

    world.judge().assert_clean()
    assert len(gateway.events("schema_unknown")) == 1
    assert gateway.stop() == 0


def _is_asked_again(world: SchemaWorld, schema_id: int, asked: int) -> bool:
    """Say whether the registry was asked for an id again; write a record of it if not."""
    if len(world.proxy.asked_for(f"/ids/{schema_id}")) > asked:
        return True
    world.send(schema_id, UNCLASSIFIED, partition=0, reason="schema_unknown")
    world.seconds_to_drain(0)
    return False


@pytest.mark.chaos
def test_an_id_of_another_topic_is_foreign(make: Make) -> None:
    """Whatever its schema is, here even the same fields with other classes."""
    world = make()
    gateway = world.start()
    other = {**ADDED, "name": "Other"}
    foreign = world.register(other, topic=f"{world.world.name}.other")
    world.send(foreign, other, partition=0, count=20, reason="schema_foreign")
    world.send(world.world.schema_id, SCHEMA, partition=0, count=20)
    world.seconds_to_drain(0, 1)

    world.judge().assert_clean()
    # It leaves nothing behind, not even its text.
    assert not list(world.state.rglob(f"schema-{foreign}.json"))
    assert gateway.stop() == 0


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_many_versions_in_random_order_with_restarts(make: Make) -> None:
    """Versions and restarts in turn; the schemas that come later are known at the next start."""
    world = make()
    gateway = world.start()
    versions: list[tuple[int, Schema]] = [(world.world.schema_id, SCHEMA)]
    for turn in range(12):
        extra = [
            optional(
                f"field_{turn}_{number}", "string", world.dice.choice(["event.detail", "text.free", "contact.email"])
            )
            for number in range(world.dice.randrange(1, 5))
        ]
        schema = schema_of(*extra)
        versions.append((world.register(schema), schema))
        picks = (world.dice.choice(versions) for _ in range(100))
        world.write((schema_id, schema, world.dice.randrange(2), "") for schema_id, schema in picks)
        if turn % 4 == 3:
            assert gateway.stop() == 0
            gateway = world.start()
    world.seconds_to_drain(0, 1)

    world.judge().assert_clean()
    assert gateway.stop() == 0
