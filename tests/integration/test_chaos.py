"""Kills, rebalances, zombies and twins: whatever strikes, every record has exactly one fate, and nothing leaks.

Each test runs gateways on a broker of its own, strikes them while records flow, and has the whole run judged by the
ledger and the canary scan. The first one is short; the others are the long form, one kind of fault each.
Their seed is TOKENWEIR_SEED, their sizes are the variables TOKENWEIR_CHAOS_…; each row of the table that is printed at
the end is also appended to the file TOKENWEIR_REPORT.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.capture import until
from tests.support.chaos import Chaos, Row, Verdict, report
from tests.support.faults import POINTS, FaultBox
from tests.support.feeder import Feeder
from tests.support.proof import Proof, Scale
from tests.support.rig import Broker, SchemaRegistry

SEED = int(os.environ.get("TOKENWEIR_SEED", "31"))
GRACE_SECONDS = 30
"""What Kubernetes gives a pod to end (terminationGracePeriodSeconds)."""
TRANSACTION_TIMEOUT_SECONDS = 15
JOIN_SECONDS = 2
REFUSED, FENCED = 3, 4
"""Exit codes: of a gateway that must not go on, and of a worker whose transactional id another one has taken."""
WORKERS = 4
"""Workers of a gateway with two for each stream."""
LONGEST_SECONDS = 3_600
"""There are events for so long."""
_SESSION = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 500}
"""A short session: the partitions of a killed worker move on soon."""


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    """The rows of all tests of this module; reported at its end."""
    found: list[Row] = []
    yield found
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        report(found, sys.stdout.write)


@pytest.fixture
def broker(broker_factory: Callable[..., Broker]) -> Broker:
    """A broker of the test's own, running."""
    broker = broker_factory()
    broker.start()
    return broker


@pytest.fixture
def prepare(broker: Broker, registry: SchemaRegistry, tmp_path: Path) -> Iterator[Callable[..., Chaos]]:
    """Prepare a run that lasts as long as it takes; no process of a gateway outlives the test."""
    proofs: list[Proof] = []

    def new(per_second: float = 300, workers: int = 2) -> Chaos:
        box = FaultBox(tmp_path / "faults")
        events = int(LONGEST_SECONDS * per_second)
        proof = Proof(
            Scale(seed=SEED, events=events, customers=2_000, kills=0, per_second=per_second),
            broker,
            registry,
            tmp_path / "gateways",
            settings={
                "kafka": {"bootstrap_servers": broker.bootstrap, "properties": _SESSION},
                "gateway": {"workers": workers, "ordinal": 0},
            },
            faults=box,
        )
        proofs.append(proof)
        return Chaos(proof, box, random.Random(SEED))

    yield new
    for proof in proofs:
        proof.end()


def size(name: str, default: int) -> int:
    """Return how many faults of a kind a test tries."""
    return int(os.environ.get(f"TOKENWEIR_CHAOS_{name}", default))


def conclude(chaos: Chaos, feeder: Feeder, rows: list[Row]) -> Verdict:
    """Judge a run, keep its rows, and fail where anything is wrong or the run was too tame to prove anything."""
    verdict, found = chaos.conclude(feeder)
    rows += found
    numbers = chaos.proof.numbers
    assert verdict.clean, verdict
    assert min(numbers.sanitized, numbers.withheld) > numbers.pairs / 10
    assert numbers.canaries > 7 * verdict.events
    return verdict


@pytest.mark.integration
def test_one_fault_of_each_kind(prepare: Callable[..., Chaos], rows: list[Row]) -> None:
    """A kill at each named point, of the applier and of the supervisor; a frozen worker; a restart in good order."""
    chaos = prepare(per_second=100)
    feeder = chaos.proof.begin()

    chaos.arm(POINTS)
    until(lambda: chaos.box.waiting() <= len(POINTS) // 2, 60, "half of the faults have struck", 0.02)
    chaos.kill("applier")
    chaos.crash()
    chaos.wait_for_strikes()
    chaos.wait_ready()
    chaos.freeze(["after_engine"])
    chaos.restart(chaos.gateway)

    conclude(chaos, feeder, rows)
    assert len(chaos.box.struck()) == len(POINTS) + 1


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_kills_of_every_process(prepare: Callable[..., Chaos], rows: list[Row]) -> None:
    """SIGKILL for workers at every named point and anywhere, for the applier and for the supervisor."""
    kills = size("KILLS", 300)
    chaos = prepare()
    feeder = chaos.proof.begin()

    while chaos.kills < kills:
        chaos.storm(workers=4, appliers=1, within_seconds=5)
        chaos.crash()

    chaos.wait_ready()
    conclude(chaos, feeder, rows)
    assert chaos.proof.numbers.aborted_records > 0


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_kills_of_the_broker(prepare: Callable[..., Chaos], broker: Broker, rows: list[Row]) -> None:
    """SIGKILL for the broker while transactions are open."""
    chaos = prepare()
    feeder = chaos.proof.begin()

    for _ in range(size("BROKER_KILLS", 20)):
        time.sleep(chaos.dice.uniform(0.5, 2))
        chaos.crash_broker(broker, chaos.dice.choice((0, 0, 1, 3)))

    chaos.wait_ready()
    conclude(chaos, feeder, rows)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_rolling_restarts(prepare: Callable[..., Chaos], rows: list[Row]) -> None:
    """SIGTERM for one of two gateways after the other; each ends with 0, and in a time that a deployment can wait."""
    chaos = prepare(workers=1)
    second = chaos.proof.add_gateway("second", {"ordinal": 1})
    feeder = chaos.proof.begin()
    chaos.join(second)

    for number in range(size("RESTARTS", 100)):
        chaos.restart((chaos.gateway, second)[number % 2])

    conclude(chaos, feeder, rows)
    assert max(chaos.durations["SIGTERM to exit"]) < GRACE_SECONDS


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workers", [1, 2])
def test_gateways_that_join_and_leave(prepare: Callable[..., Chaos], rows: list[Row], workers: int) -> None:
    """Beside one gateway that stays, a second and a third come and go every two seconds, some of them by SIGKILL."""
    chaos = prepare(workers=workers)
    guests = [chaos.proof.add_gateway(f"guest-{ordinal}", {"ordinal": ordinal}) for ordinal in (1, 2)]
    feeder = chaos.proof.begin()
    chaos.join(guests[0])

    for number in range(size("JOINS", 10)):
        leaving, coming = guests[number % 2], guests[1 - number % 2]
        chaos.join(coming)
        chaos.note(f"a gateway of {2 * workers} workers joined")
        time.sleep(JOIN_SECONDS)
        if chaos.dice.random() < 0.3:
            chaos.note("a gateway was killed")
            leaving.crash()
        else:
            chaos.leave(leaving, "a gateway left")
        time.sleep(JOIN_SECONDS)

    conclude(chaos, feeder, rows)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_zombies(prepare: Callable[..., Chaos], rows: list[Row]) -> None:
    """Workers that freeze at each named point until their session and transaction are over publish nothing after that.

    Three of the four workers of a stream are frozen at most, so that there is always one to take their partitions.
    """
    chaos = prepare(workers=4)
    feeder = chaos.proof.begin()

    for _ in range(size("FREEZES", 1)):
        points = list(POINTS)
        chaos.dice.shuffle(points)
        while points:
            chaos.freeze([points.pop() for _ in range(3)], TRANSACTION_TIMEOUT_SECONDS + 3)

    conclude(chaos, feeder, rows)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_twins(prepare: Callable[..., Chaos], rows: list[Row]) -> None:
    """A second gateway with the same ordinal takes the place of the first, which ends and does not come back."""
    chaos = prepare()
    first, second = chaos.gateway, chaos.proof.add_gateway("twin", {"ordinal": 0})
    feeder = chaos.proof.begin()

    for _ in range(size("TWINS", 10)):
        chaos.join(second)
        chaos.note("a twin joined")
        assert first.wait(120) == REFUSED, first.last_words()
        chaos.wait_caught_up()
        first, second = second, first

    conclude(chaos, feeder, rows)
    for gateway in chaos.proof.gateways:
        died = [entry for entry in gateway.events("process_died") if entry["kind"] == "worker"]
        started = [entry for entry in gateway.events("process_started") if entry["kind"] == "worker"]
        assert {entry.get("exit_code") for entry in died} == {FENCED}
        assert len(started) == len(gateway.lives) * WORKERS
