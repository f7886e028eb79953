"""Records that end their worker become dead letters after three deaths, and everything else flows."""

from __future__ import annotations

import io
import json
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from tests.support.poison import CRASH, CRASH_IN_CLIENT, HANG
from tests.support.rig import Broker, SchemaRegistry
from tests.support.worlds import RunningGateway, World, until

from tokenweir.core import deadletter
from tokenweir.runtime.quarantine import read_attempts, records_path

pytestmark = pytest.mark.integration

_POISONED = "tests.support.poison"
Start = Callable[..., tuple[World, RunningGateway]]


@pytest.fixture
def start(kafka: Broker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start gateways whose engine some records end, with everybody's consent."""
    gateways: list[RunningGateway] = []

    def new(workers: int = 1) -> tuple[World, RunningGateway]:
        name = f"quarantine-{uuid.uuid4().hex[:8]}"
        world = World(tmp_path_factory.mktemp(name), name, kafka.bootstrap, registry.url, workers)
        fixed = world.cli("doctor", "--fix", "--format", "json")
        assert fixed.returncode == 0, fixed.stdout
        for customer in range(1, 4):
            world.allow(customer, "email_marketing", "ad_measurement")
        gateways.append(world.start(_POISONED))
        return world, gateways[-1]

    yield new
    for gateway in gateways:
        gateway.stop()


_LETTER = fastavro.parse_schema(json.loads(deadletter.SCHEMA))


def _letters(world: World) -> Counter[tuple[int, int, str, int]]:
    """Return partition, offset, reason and schema id of all dead letters."""
    found: Counter[tuple[int, int, str, int]] = Counter()
    for record in world.read("raw.dead-letters"):
        letter: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), _LETTER, None)
        found[letter["source_partition"], letter["source_offset"], letter["reason"], letter["schema_id"]] += 1
    return found


def _sanitized(world: World) -> int:
    return len(world.read("raw.crm"))


def _poison(world: World, kind: bytes, *, partition: int = 0) -> None:
    """Write good events, one that ends its worker, and good ones behind it, in one partition."""
    world.send(1, 3, partition=partition)
    world.send(2, 1, partition=partition, kind=kind.decode())
    world.send(3, 3, partition=partition)


def test_a_record_that_crashes_its_worker_becomes_a_dead_letter(start: Start, each_engine: str) -> None:
    """A real SIGSEGV, three times; the record is named in the log, counted, and nothing of it leaves.

    The native engine works on many records at once, so that its first death cannot tell which of them it was.
    """
    world, gateway = start()
    _poison(world, CRASH)
    world.send(1, 5, partition=1)

    until(lambda: _letters(world).total() == 2 and _sanitized(world) == 11, gateway.log, 90)

    assert _letters(world) == {(0, 3, "quarantined", world.schema_id): 2}
    deaths = [event for event in gateway.events("process_died") if event["kind"] == "worker"]
    assert [death["signal"] for death in deaths] == [signal.SIGSEGV] * 3
    named = deaths[1:] if each_engine == "native" else deaths
    assert {death["phase"] for death in deaths} == {"engine"}
    assert {(death["partition"], death["offset"]) for death in named} == {(0, 3)}
    (quarantined,) = gateway.events("record_quarantined")
    assert (quarantined["partition"], quarantined["offset"]) == (0, 3)
    series = 'tokenweir_quarantined_total{stream="interactions"}'
    until(lambda: gateway.metric(series) == 1, gateway.log)
    until(lambda: not read_attempts(records_path(world.directory / "state", "interactions")), gateway.log)
    _assert_nothing_leaked(world, gateway)


def test_counts_survive_restarts_of_the_supervisor(start: Start) -> None:
    """Two deaths before and one after; the whole tree was killed in between."""
    world, gateway = start()
    _poison(world, CRASH)
    path = records_path(world.directory / "state", "interactions")
    until(lambda: 2 in read_attempts(path).values(), gateway.log, 60)
    os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait()

    second = world.start(_POISONED)
    try:
        until(lambda: _letters(world).total() == 2 and _sanitized(world) == 6, second.log, 90)
        deaths = [event for event in second.events("process_died") if event["kind"] == "worker"]
        assert len(deaths) <= 1
    finally:
        second.stop()


@pytest.mark.chaos
def test_a_record_that_hangs_its_worker_becomes_a_dead_letter(start: Start) -> None:
    """The supervisor kills what makes no progress; others' partitions are read by the other worker meanwhile."""
    world, gateway = start(2)
    until(gateway.ready, gateway.log, 60)
    _poison(world, HANG)
    world.send(1, 5, partition=1)

    until(lambda: _letters(world).total() == 2 and _sanitized(world) == 11, gateway.log, 120)

    assert _letters(world) == {(0, 3, "quarantined", world.schema_id): 2}
    killed = [event for event in gateway.events("process_killed") if event["kind"] == "worker"]
    assert [event["phase"] for event in killed] == ["engine"] * 3


@pytest.mark.chaos
def test_a_slot_whose_client_crashes_again_and_again_stays_down(start: Start) -> None:
    """No record can be named, so none is given up: the slot stops with an alarm, and the gateway ends without any."""
    world, gateway = start()
    until(gateway.ready, gateway.log, 60)
    world.send(2, 1, partition=0, kind=CRASH_IN_CLIENT.decode())
    started = time.monotonic()

    assert gateway.process.wait(90) == 3

    assert time.monotonic() - started < 90
    (stopped,) = gateway.events("slot_stopped")
    assert (stopped["phase"], stopped["attempts"]) == ("poll", 3)
    assert not _letters(world)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_many_records_that_end_their_worker(start: Start) -> None:
    """Ten in both partitions, crashes and hangs, each becomes a dead letter for each output and no other does."""
    world, gateway = start(2)
    for number in range(5):
        _poison(world, HANG if number % 5 == 4 else CRASH, partition=0)
        _poison(world, CRASH, partition=1)

    until(lambda: _letters(world).total() == 20 and _sanitized(world) == 60, gateway.log, 500)

    assert set(_letters(world)) == {
        (partition, 3 + 7 * number, "quarantined", world.schema_id) for partition in range(2) for number in range(5)
    }


@pytest.mark.chaos
def test_a_decompression_bomb_stops_its_slot_and_not_the_node(start: Start) -> None:
    """A batch of less than a megabyte that unpacks to 900 MiB: the memory limit ends the client, three times."""
    world, gateway = start()
    until(gateway.ready, gateway.log, 60)
    world.bomb(900)
    peak_kilobytes = 0
    deadline = time.monotonic() + 120

    while gateway.process.poll() is None and time.monotonic() < deadline:
        peak_kilobytes = max(peak_kilobytes, _resident_kilobytes(gateway.pid("worker")))
        time.sleep(0.02)

    assert gateway.process.wait(1) == 3
    assert [event["signal"] for event in gateway.events("process_died") if event["kind"] == "worker"] == [
        signal.SIGABRT
    ] * 3
    assert len(gateway.events("slot_stopped")) == 1
    assert peak_kilobytes < 1_200_000
    assert not _letters(world)


@pytest.mark.chaos
def test_a_smaller_bomb_becomes_a_dead_letter(start: Start) -> None:
    """What fits into the memory of a worker is unpacked, and is far above what a record may be."""
    world, gateway = start()
    world.bomb(200)
    world.send(1, 3, partition=0)

    until(lambda: _letters(world).total() == 2 and _sanitized(world) == 3, gateway.log, 90)

    assert {reason for _, _, reason, _ in _letters(world)} == {"too_large"}
    assert not [event for event in gateway.events("process_died") if event["kind"] == "worker"]


def _assert_nothing_leaked(world: World, gateway: RunningGateway) -> None:
    """What only the record held that ended its worker is nowhere: no output, letter, key, log, metric or state file."""
    canaries = (b"someone2@example.com", b"0000000002", CRASH)
    said = {"log": gateway.log().encode(), "metrics": gateway.get("/metrics")[1].encode()}
    files = {str(path): path.read_bytes() for path in (world.directory / "state").rglob("*") if path.is_file()}
    assert files
    records = {
        topic: b"\0".join(part for record in world.read(topic) for part in (record.key, record.value))
        for topic in ("raw.crm", "raw.ads", "raw.dead-letters")
    }
    for place, content in {**said, **files, **records}.items():
        assert not [canary for canary in canaries if canary in content], place


def _resident_kilobytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/status").read_text("ascii").partition("VmRSS:")[2].split()[0])
    except (OSError, IndexError):
        return 0
