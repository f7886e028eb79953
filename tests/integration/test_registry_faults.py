"""Faults of the schema registry: known ids flow, unknown ones wait or are rejected, and a changed one stops everything.

Partition 1 has records of known schemas only and must come out whatever happens; partition 0 meets the fault. Each test
has canaries in every field that must not leave, and searches outputs, dead letters, logs, metrics and state files.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.support.registryproxy import Mode
from tests.support.rig import Broker, SchemaRegistry
from tests.support.schemaworld import Judgement, SchemaWorld, optional, schema_of
from tests.support.worlds import SCHEMA, RunningGateway, until

SEED = int(os.environ.get("TOKENWEIR_SEED", "1"))

Make = Callable[[], SchemaWorld]

#: The longest that the gateway leaves a registry alone after a fault, and two time-outs.
_RECOVERY_SECONDS = 5 + 2 * 3
#: On a machine with much else to do.
_PATIENCE = 3


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


class _Canary(ThreadingHTTPServer):
    """A host that nobody may ask anything."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        super().__init__(("127.0.0.1", 0), _CanaryHandler)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _CanaryHandler(BaseHTTPRequestHandler):
    server: _Canary

    def _serve(self) -> None:
        self.server.hits.append(self.path)
        self.send_error(404)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - names that http.server looks for.

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def canary() -> Iterator[_Canary]:
    """A host that nobody may ask anything."""
    with _Canary() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _new_version(world: SchemaWorld, number: int) -> tuple[int, dict[str, object]]:
    schema = dict(
        schema_of(optional(f"field_{number}", "string", "event.detail"), optional("memo", "string", "text.free"))
    )
    return world.register(schema), schema


def _tell(**numbers: object) -> None:
    sys.stdout.write(f"\nregistry: {json.dumps(numbers)}\n")


def _tell_judgement(fault: str, trials: int, judgement: Judgement, recovery_seconds: list[float]) -> None:
    _tell(
        fault=fault,
        trials=trials,
        records=judgement.records,
        lost=len(judgement.lost),
        doubled=len(judgement.doubled),
        leaked=len(judgement.leaks),
        recovery_seconds=[round(seconds, 1) for seconds in recovery_seconds],
    )


def _outage(world: SchemaWorld, mode: Mode, number: int, linger_seconds: float = 0) -> float:
    """Let the registry be out of order while a new id comes; return how long it took to recover."""
    gateway, first = world.gateways[-1], world.world.schema_id
    schema_id, schema = _new_version(world, number)
    world.proxy.become(mode)
    world.send(first, SCHEMA, partition=0, count=20)
    world.send(schema_id, schema, partition=0, count=20)
    world.send(first, SCHEMA, partition=1, count=20)
    until(lambda: bool(world.proxy.asked) or mode is Mode.REFUSE, gateway.log)

    # Partition 1 goes on, and partition 0 up to the first record of the new id.
    world.seconds_to_drain(1)
    until(lambda: world.committed(0) == _offset_of_first(world, 20), gateway.log)
    world.send(first, SCHEMA, partition=1, count=20)
    world.seconds_to_drain(1)
    time.sleep(linger_seconds)  # Faults of different lengths end at different points of the waits between attempts.
    assert world.committed(0) == _offset_of_first(world, 20)

    world.proxy.become(Mode.PASS)
    return world.seconds_to_drain(0, within_seconds=_PATIENCE * _RECOVERY_SECONDS)


def _offset_of_first(world: SchemaWorld, count: int) -> int:
    """Return the offset of the first of the last records of partition 0."""
    return [sent.offset for sent in world.sent if sent.partition == 0][-count]


def _assert_only_known_hosts(canary: _Canary) -> None:
    assert canary.hits == []


@pytest.mark.integration
def test_a_hanging_registry_holds_up_new_ids_only_and_a_start_needs_none(make: Make) -> None:
    """A partition with a new id waits and goes on by itself; the next start finds every answer on the disk."""
    world = make()
    gateway = world.start()
    recovery = _outage(world, Mode.HANG, 0)
    assert gateway.stop() == 0

    world.proxy.become(Mode.REFUSE)
    gateway = world.start()
    last = world.sent[-1].number
    world.send(world.world.schema_id, SCHEMA, partition=0, count=10)
    schema = schema_of(optional("field_0", "string", "event.detail"), optional("memo", "string", "text.free"))
    known = world.direct.lookup(f"{world.world.source}-value", json.dumps(schema), "AVRO")
    world.send(known, schema, partition=1, count=10)
    world.seconds_to_drain(0, 1)

    judgement = world.judge()
    _tell_judgement("hang, then a start with the registry down", 1, judgement, [recovery])
    judgement.assert_clean()
    assert any(number > last for number in judgement.outputs["crm"])
    assert "warning: the registry does not answer" in gateway.log()
    assert gateway.events("registry_failed")
    assert gateway.stop() == 0
    assert world.gateways[0].events("registry_recovered")
    assert all(path.stat().st_mode & 0o077 == 0 for path in (world.state / "registry").rglob("*"))


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.PASS], ids=lambda mode: mode.value)
def test_each_fault_pauses_only_the_partition_with_the_new_id(make: Make, canary: _Canary, mode: Mode) -> None:
    """Again and again: known ids flow meanwhile, and the partition goes on by itself when the fault is over."""
    world = make()
    world.proxy.redirect_to = canary.url
    gateway = world.start()

    recovery = [_outage(world, mode, number, world.dice.uniform(0, 4)) for number in range(5)]

    judgement = world.judge()
    _tell_judgement(mode.value, len(recovery), judgement, recovery)
    judgement.assert_clean()
    _assert_only_known_hosts(canary)
    assert gateway.events("registry_recovered")
    assert not gateway.events("process_died")
    assert gateway.stop() == 0


@pytest.mark.chaos
def test_a_first_start_without_a_registry_is_refused(make: Make) -> None:
    """Nothing is known of it yet: exit 3 and a message that says what to do; a silent and a lying one alike."""
    world = make()
    for mode in (Mode.REFUSE, Mode.HANG, Mode.ERROR, Mode.REDIRECT):
        world.proxy.become(mode)
        done = world.world.refused_run()
        assert done.returncode == 3
        assert "stream interactions: " in done.stderr
        assert "registry.url" in done.stderr


@pytest.mark.chaos
def test_what_is_torn_or_changed_on_the_disk_is_not_trusted(make: Make) -> None:
    """With the registry down it is missing, so that the start is refused; with the registry up it is fetched again."""
    world = make()
    gateway = world.start()
    assert gateway.stop() == 0
    [path] = world.state.rglob(f"schema-{world.world.schema_id}.json")
    sound = path.read_bytes()
    for damaged in (sound[: len(sound) // 2], b"", sound.replace(b"contact.email", b"event.detail!", 1)):
        path.write_bytes(damaged)
        world.proxy.become(Mode.REFUSE)
        assert world.world.refused_run().returncode == 3
        world.proxy.become(Mode.PASS)
        gateway = world.start()
        assert gateway.stop() == 0
        assert path.read_bytes() == sound


def _swap(world: SchemaWorld) -> None:
    """Let the registry give the first id a schema in which the e-mail address is a detail, which would leave."""
    text = json.dumps(SCHEMA).replace("contact.email", "event.detail")
    world.proxy.swapped[world.world.schema_id] = text


def _exit_code(gateway: RunningGateway, within_seconds: float) -> int:
    until(lambda: gateway.process.poll() is not None, gateway.log, within_seconds)
    return gateway.stop()


@pytest.mark.chaos
def test_an_id_with_another_schema_stops_the_gateway_at_start_and_while_it_runs(make: Make) -> None:
    """Exit 3, an event, and a message that says what to do; nothing is processed with the other schema."""
    world = make()
    gateway = world.start()
    world.send(world.world.schema_id, SCHEMA, partition=0, count=50)
    world.seconds_to_drain(0, 1)
    _swap(world)
    began = time.monotonic()
    assert _exit_code(gateway, 90) == 3
    noticed_seconds = time.monotonic() - began
    assert [event["schema_id"] for event in gateway.events("schema_changed")] == [world.world.schema_id]
    offset = world.committed(0)
    world.send(world.world.schema_id, SCHEMA, partition=0, count=50)

    done = world.world.refused_run()
    assert done.returncode == 3
    assert "schema_changed" in done.stderr
    assert f"schema id {world.world.schema_id} is another schema than it was" in done.stderr
    assert world.committed(0) == offset

    world.proxy.swapped.clear()
    world.start()
    world.seconds_to_drain(0, 1)
    judgement = world.judge()
    _tell_judgement("another schema for a known id", 2, judgement, [noticed_seconds])
    judgement.assert_clean()


@pytest.mark.chaos
def test_an_id_that_is_known_from_before_is_compared_when_it_is_seen_again(make: Make) -> None:
    """Also one that is no version of the topic any more, as after the registry was set up anew."""
    world = make()
    world.start()
    schema_id, schema = _new_version(world, 0)
    world.send(schema_id, schema, partition=0)
    world.seconds_to_drain(0, 1)
    assert world.gateways[-1].stop() == 0
    subject = world.world.source
    [number] = [
        version
        for version in world.direct.versions(f"{subject}-value")
        if world.direct.version(f"{subject}-value", version).id == schema_id
    ]
    world.proxy.hidden_versions.add(number)
    world.proxy.swapped[schema_id] = json.dumps(schema).replace("field_0", "memo_0")
    gateway = world.start()
    world.send(schema_id, schema, partition=0)

    assert _exit_code(gateway, 60) == 3
    assert [event["schema_id"] for event in gateway.events("schema_changed")] == [schema_id]

    world.proxy.swapped.clear()
    world.start()
    world.seconds_to_drain(0, 1)
    world.judge().assert_clean()


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_flood_of_unknown_ids_neither_floods_the_registry_nor_stops_others(make: Make) -> None:
    """300 made-up ids are dead letters after a while; partition 1 flows, and the registry has a few questions only."""
    world = make()
    gateway = world.start()
    began = time.monotonic()
    unknown = [1_000_000 + number for number in range(300)]
    world.write((schema_id, SCHEMA, 0, "schema_unknown") for schema_id in unknown)
    times = []
    while not world.drained(0):
        world.send(world.world.schema_id, SCHEMA, partition=1, count=20)
        times.append(world.seconds_to_drain(1))
        assert time.monotonic() - began < 240
    seconds = time.monotonic() - began
    world.send(unknown[-1], SCHEMA, partition=0, count=200, reason="schema_unknown")
    asked = len(world.proxy.asked)
    world.seconds_to_drain(0, 1)

    judgement = world.judge()
    _tell_judgement("flood of 300 unknown ids", 1, judgement, [seconds])
    _tell(
        most_requests_per_second=world.proxy.most_per_second(began),
        requests=len(world.proxy.asked),
        other_partition_seconds=round(statistics.median(times), 2),
        worst_seconds=round(max(times), 2),
    )
    judgement.assert_clean()
    assert world.proxy.most_per_second(began) <= 30
    # The negative cache answers for all records of one id; what may come is the watch over the known ids.
    assert len(world.proxy.asked) - asked <= 3
    assert len(gateway.events("schema_unknown")) <= 4
    assert gateway.stop() == 0


@pytest.mark.chaos
def test_references_and_redirects_lead_to_no_other_host(make: Make, canary: _Canary) -> None:
    """Neither an address as a reference's subject, nor a cycle, nor a redirect makes the gateway ask anybody else."""
    world = make()
    world.proxy.redirect_to = canary.url
    gateway = world.start()
    for number, subject in enumerate((f"{canary.url}/x", "../../../x", f"{world.world.source}-value")):
        schema_id, schema = _new_version(world, number)
        world.proxy.references[schema_id] = [{"name": f"{canary.url}/y", "subject": subject, "version": 1}]
        own = subject.endswith("-value")
        # A reference to a version that is there is resolved; as Avro it then is the same name a second time.
        world.send(schema_id, schema, partition=0, count=3, reason="schema_refused" if own else "schema_unknown")
        world.seconds_to_drain(0, 1)
    _outage(world, Mode.REDIRECT, 9)

    judgement = world.judge()
    judgement.assert_clean()
    _assert_only_known_hosts(canary)
    assert gateway.stop() == 0


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_registry_that_hangs_costs_known_ids_nothing(make: Make) -> None:
    """As many records per second with the registry hanging as without, and a worker that dies meanwhile comes back."""
    world = make()
    gateway = world.start()
    world.send(world.world.schema_id, SCHEMA, partition=0, count=500)
    world.seconds_to_drain(0, 1)

    def seconds(count: int) -> float:
        began = time.monotonic()
        for _ in range(5):
            picks = (world.dice.randrange(2) for _ in range(count // 5))
            world.write((world.world.schema_id, SCHEMA, partition, "") for partition in picks)
        world.seconds_to_drain(0, 1)
        return time.monotonic() - began

    with_registry = seconds(5_000)
    world.proxy.become(Mode.HANG)
    without = seconds(5_000)
    os.kill(gateway.pid("worker"), 9)
    began = time.monotonic()
    world.send(world.world.schema_id, SCHEMA, partition=1, count=50)
    world.seconds_to_drain(1)
    back_seconds = time.monotonic() - began

    judgement = world.judge()
    _tell_judgement("hang, known ids only, and a worker killed", 1, judgement, [back_seconds])
    _tell(seconds_with_registry=round(with_registry, 1), seconds_without=round(without, 1))
    judgement.assert_clean()
    assert without < with_registry * 1.5 + 2
    assert gateway.stop() == 0
