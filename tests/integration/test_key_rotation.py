"""A key domain is rotated while events flow: nothing is lost or doubled in either epoch, and the old root ends."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.capture import until
from tests.support.events import CRM
from tests.support.proof import Scale
from tests.support.rig import Broker, SchemaRegistry
from tests.support.rotation import MAPPINGS, Rotation

from tokenweir.adapters.admin import Admin

#: Longer than any run here; the input is cut when the last step is done.
_LONGEST_SECONDS = 1_200
_SEED = int(os.environ.get("TOKENWEIR_CHAOS_SEED", "23"))


@pytest.fixture
def prepare(
    broker_factory: Callable[..., Broker], registry: SchemaRegistry, tmp_path: Path
) -> Iterator[Callable[[float], Rotation]]:
    """Prepare a run of two gateways; no process of one outlives the test."""
    broker = broker_factory()
    broker.start()
    runs: list[Rotation] = []

    def new(per_second: float) -> Rotation:
        events = int(_LONGEST_SECONDS * per_second)
        scale = Scale(seed=_SEED, events=events, customers=2_000, kills=0, per_second=per_second)
        runs.append(Rotation(scale, broker, registry, tmp_path / "gateways"))
        return runs[-1]

    yield new
    for run in runs:
        run.end()


def _assert_clean(run: Rotation) -> None:
    """Judge a run, and fail also where it was too tame to prove anything."""
    concurrent, final = run.finish()
    violations = run.judge_restarted(concurrent, final)
    kinds = Counter(violation.kind for violation in violations)
    assert not kinds, f"violations {dict(kinds)}, the first: {violations[:20]}"
    hits = run.scan(final)
    assert not hits, hits[:20]
    run.report()
    numbers = run.numbers
    assert min(numbers.sanitized, numbers.withheld) > numbers.pairs / 10
    both, old, new = run.shares()
    assert min(both, old, new) > 100, (both, old, new)
    assert len(run.mapped["customer"]) > 100


def _end(run: Rotation, admin: Admin) -> None:
    """Destroy the root of the old epoch: refused as long as a mapping leads on from its tokens, then in two steps."""
    assert "leads from the tokens of epoch 1" in run.keys("destroy", CRM, "1", "--yes", code=3)
    for topic in MAPPINGS:
        admin.delete_topic(topic)
    until(lambda: not set(MAPPINGS) & set(admin.topics()), 30, "the mappings are deleted")
    pending = run.keys("destroy", CRM, "1", "--yes", "--format", "json", code=1)
    assert '"state": "destruction pending"' in pending
    said = "other-copies=there is no other copy; the test"
    done = json.loads(run.keys("destroy", CRM, "1", "--yes", "--format", "json", "--attest", said))
    assert done["state"] == "destroyed"
    assert len(done["not_looked_at"]) == 1, "processes that began before"


@pytest.mark.integration
@pytest.mark.timeout(1200)
def test_a_rotation_under_load_loses_and_doubles_nothing(prepare: Callable[[float], Rotation]) -> None:
    """Rotate, restart, map, retire, restart, destroy, while two gateways work; what comes too early is refused."""
    run = prepare(40)
    feeder = run.begin()
    admin = run.admin()

    run.rotate()
    assert "was not fed" in run.keys("retire", CRM, "--yes", code=3)
    run.restart(run.gateway)
    assert "was not fed" in run.keys("retire", CRM, "--yes", code=3)
    run.roll("fed")
    report = run.map_tokens()
    run.retire()
    assert "was fed" in run.keys("destroy", CRM, "1", "--yes", code=3)
    run.roll("ended")
    _end(run, admin)
    for gateway in run.gateways:
        run.restart(gateway)
    feeder.cut(120)

    assert [row["irreversible"] for row in report] == [["email"], ["email"]]
    assert not any(row["unknown_schemas"] or row["no_tokens"] for row in report)
    _assert_clean(run)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_a_rotation_survives_kills(prepare: Callable[[float], Rotation]) -> None:
    """Workers and supervisors are killed in every step; whoever starts again does so with the keyset of its tree."""
    run = prepare(40)
    dice = random.Random(_SEED)
    feeder = run.begin()
    kills = int(os.environ.get("TOKENWEIR_CHAOS_ROTATION_KILLS", "4"))

    def strike() -> None:
        for _ in range(kills):
            gateway = dice.choice(run.gateways)
            if dice.random() < 0.25:
                gateway.crash()
                gateway.start()
            else:
                until(lambda: gateway.kill_in_transaction(dice, run.watch), 60, "there is a worker to kill", 0.05)  # noqa: B023
        for gateway in run.gateways:
            until(gateway.ready, 120, "the gateway is ready", 0.05)

    strike()
    run.rotate()
    strike()
    run.roll("fed")
    strike()
    run.map_tokens()
    strike()
    run.retire()
    strike()
    run.roll("ended")
    strike()
    _end(run, run.admin())
    strike()
    feeder.cut(120)

    _assert_clean(run)
