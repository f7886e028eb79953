"""The registry is gone at start and for an hour, while records of known schemas flow: nobody notices.

How long is TOKENWEIR_OUTAGE_SECONDS.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.registryproxy import Mode
from tests.support.rig import Broker, SchemaRegistry
from tests.support.schemaworld import LoggedGateway, SchemaWorld, optional, schema_of
from tests.support.worlds import SCHEMA, until

_SEED = int(os.environ.get("TOKENWEIR_SEED", "1"))
_SECONDS = float(os.environ.get("TOKENWEIR_OUTAGE_SECONDS", "3600"))
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(int(_SECONDS) + 900)]

_ROUND_SECONDS = 5.0
_RECORDS_PER_ROUND = 20
#: From a record's write to its commit, on a machine with much else to do; two commit intervals are usual.
_LATEST_SECONDS = 15.0
_GROWTH_BYTES = 48 * 2**20


@pytest.fixture
def world(tmp_path: Path, kafka: Broker, registry: SchemaRegistry) -> Iterator[SchemaWorld]:
    """A world that ends with the test."""
    world = SchemaWorld(tmp_path, kafka, registry, _SEED)
    yield world
    world.close()


def test_an_hour_without_a_registry_costs_known_ids_nothing(world: SchemaWorld) -> None:
    """Known ids flow all the time, across a start and kills of workers; a new id waits for the end of the outage."""
    schema = schema_of(optional("detail", "string", "event.detail"), optional("memo", "string", "text.free"))
    known = [(world.world.schema_id, SCHEMA), (world.register(schema), schema)]
    gateway = world.start()
    for schema_id, version in known:
        world.send(schema_id, version, partition=0, count=5)
    world.seconds_to_drain(0)
    assert gateway.stop() == 0

    world.proxy.become(Mode.REFUSE)
    began = time.monotonic()
    gateway = world.start()
    first_bytes = _memory(gateway)
    # Partition 1 meets an id that nobody knows yet; partition 0 must not feel it.
    new = schema_of(optional("field_1", "string", "event.detail"))
    new_id = world.register(new)
    world.send(new_id, new, partition=1, count=10)
    slowest, kills, rounds = 0.0, 0, 0
    while time.monotonic() - began < _SECONDS:
        rounds += 1
        mode = random.Random(rounds).choice([Mode.REFUSE, Mode.HANG])
        if rounds % 12 == 0:
            world.proxy.become(mode)
        if rounds % 120 == 60:
            os.kill(gateway.pid("worker"), 9)
            kills += 1
        for schema_id, version in known:
            world.send(schema_id, version, partition=0, count=_RECORDS_PER_ROUND // 2)
        slowest = max(slowest, world.seconds_to_drain(0, within_seconds=60))
        time.sleep(max(_ROUND_SECONDS - (time.monotonic() - began) % _ROUND_SECONDS, 0.1))
    last_bytes = _memory(gateway)
    assert world.committed(1) == 0
    world.proxy.become(Mode.PASS)
    recovery = world.seconds_to_drain(1, within_seconds=60)

    judgement = world.judge()
    numbers = {
        "outage_seconds": round(time.monotonic() - began),
        "records": judgement.records,
        "lost": len(judgement.lost),
        "doubled": len(judgement.doubled),
        "wrong": len(judgement.wrong),
        "leaked": len(judgement.leaks),
        "workers_killed": kills,
        "slowest_round_seconds": round(slowest, 1),
        "recovery_seconds": round(recovery, 1),
        "memory_mib": [first_bytes >> 20, last_bytes >> 20],
    }
    sys.stdout.write(f"\nregistry outage: {json.dumps(numbers)}\n")
    judgement.assert_clean()
    until(lambda: bool(gateway.events("registry_recovered")), gateway.log)
    assert slowest < _LATEST_SECONDS * (2 if kills else 1)
    assert last_bytes < first_bytes + _GROWTH_BYTES
    assert gateway.stop() == 0


def _memory(gateway: LoggedGateway) -> int:
    """Return the bytes of the gateway's processes together."""
    kinds = {int(event["pid"]) for event in gateway.events("process_started")}
    kilobytes = 0
    for pid in {gateway.process.pid, *kinds}:
        status = Path(f"/proc/{pid}/status")
        # A worker that was killed has none, or one without memory.
        found = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.exists() else None
        kilobytes += int(found[1]) if found else 0
    return kilobytes * 1024
