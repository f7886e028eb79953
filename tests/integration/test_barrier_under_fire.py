"""Thousands of withdrawals while gateways come, go, freeze and are killed: none is called enforced too early.

The seed is TOKENWEIR_SEED, the number of withdrawals TOKENWEIR_REVOKES.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]  # Not in its stub's __all__.
from tests.support.barrierfire import Crowd, Fire, Place, Revoked, findings, judge, note_visible, phases, read_outputs
from tests.support.faults import Action, Fault, FaultBox
from tests.support.gatewayrun import GatewayRun
from tests.support.rig import Broker, SchemaRegistry
from tests.support.worlds import World, until

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.topicwriter import Acknowledged, TopicWriter
from tokenweir.app.consentwriter import withdrawn
from tokenweir.app.enforcement import await_enforcement
from tokenweir.config import load_config
from tokenweir.core.consent import SourceState, read_value, to_value
from tokenweir.core.policy.loader import load_policy
from tokenweir.runtime.barrier import Cause, Report, State, Withdrawal

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

SEED = int(os.environ.get("TOKENWEIR_SEED", "31"))
REVOKES = int(os.environ.get("TOKENWEIR_REVOKES", "2000"))
_PARTITIONS = 4
_WORKERS = 2
_EVENTS_PER_SECOND = 400
_PATIENCE_SECONDS = 120
_OPEN_SECONDS = 12
"""Longer than a session of 3 s, shorter than the 15 s after which a broker ends a transaction."""
_THREADS = 8
_CALM_THREADS = 4
"""Where times are measured, fewer wait at once, as they share the machine with the gateways and the broker."""
_AT_ONCE = 10
"""So many subjects withdraw in one moment, where a thread does it for several."""
_BY_COMMAND = 100
"""Of so many withdrawals one is made on the command line."""
_LOOKED_AT = 20
"""Of so many withdrawals one has what can be seen below H looked at when it is called enforced."""


class Scene:
    """One stream with two gateways, a crowd of its subjects, and withdrawals of them; the first meets faults."""

    def __init__(self, directory: Path, bootstrap: str, registry_url: str) -> None:
        self.world = World(directory, f"fire-{uuid.uuid4().hex[:8]}", bootstrap, registry_url, _WORKERS)
        self.bootstrap = bootstrap
        _add_partitions(bootstrap, self.world.source, _PARTITIONS)
        fixed = self.world.cli("doctor", "--fix", "--format", "json")
        assert fixed.returncode == 0, fixed.stdout
        self.config = load_config(self.world.config, {})
        self.loaded = load_policy((directory / "policy.yaml").read_text(), "policy.yaml")
        self.outputs = {
            "email_marketing": f"{self.world.source}.crm",
            "ad_measurement": f"{self.world.source}.ads",
        }
        self.topic_id = self.world.admin.describe_topic(self.config.consent.topic).topic_id
        self.box = FaultBox(directory / "faults")
        self.gateways = [
            self._gateway(directory / f"gateway-{number}", number, registry_url, faults)
            for number, faults in enumerate([self.box, None])
        ]
        self.crowd = Crowd(self.world, bootstrap, _PARTITIONS, _EVENTS_PER_SECOND)
        self.revoked: list[Revoked] = []
        self._of_thread = threading.local()

    def _gateway(self, directory: Path, ordinal: int, registry_url: str, faults: FaultBox | None) -> GatewayRun:
        keys = self.world.directory / "keys"
        settings: dict[str, Any] = {
            "kafka": {
                "bootstrap_servers": self.bootstrap,
                "properties": {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500},
            },
            "consent": {"topic": self.config.consent.topic, "max_staleness_seconds": 2},
            "gateway": {"group_prefix": self.world.name, "workers": _WORKERS, "ordinal": ordinal},
            "keys": {"directory": str(keys), "kek": {"file": str(keys / "kek.key")}},
            "logging": {"format": "json"},
        }
        policy = (self.world.directory / "policy.yaml").read_text()
        return GatewayRun(directory, policy, self.bootstrap, registry_url, settings, faults=faults)

    def allow_all(self, count: int) -> None:
        """Let so many customers allow everything, before the gateways run."""
        value = to_value(_allowed())
        records = [(_key(customer), value) for customer in range(count)]
        self._writer().write_all(records, lambda _key, _place: None)

    def wait_ready(self, count: int = 2) -> None:
        """Wait until so many gateways are."""
        for gateway in self.gateways[:count]:
            until(gateway.ready, gateway.last_words, 120)

    def revoke_all(self, phase: str, customers: Sequence[int], at_once: int, threads: int = _THREADS) -> None:
        """Let customers withdraw, some threads at a time, each for so many of them at once."""
        groups = [customers[start : start + at_once] for start in range(0, len(customers), at_once)]
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(self._revoke, phase, group) for group in groups]:
                self.revoked += done.result()

    def _revoke(self, phase: str, customers: Sequence[int]) -> list[Revoked]:
        self.crowd.join(customers)
        time.sleep(0.3)
        if customers[0] % _BY_COMMAND == 0:
            revoked = [self._revoke_by_command(f"{phase}, by command", customer) for customer in customers]
        else:
            revoked = [self._await(each) for each in self.withdraw(phase, customers)]
        time.sleep(0.5)
        self.crowd.leave(customers)
        return revoked

    def withdraw(self, phase: str, customers: Sequence[int]) -> list[Revoked]:
        """Write the withdrawals of customers and note where they are."""
        places: dict[bytes, Acknowledged] = {}
        now_ms = time.time_ns() // 1_000_000
        values = {
            _key(customer): to_value(withdrawn(_allowed(), _purposes(customer), now_ms)) for customer in customers
        }
        writer = self._warm_writer()
        asked = time.monotonic()
        writer.write_all(values.items(), places.__setitem__)
        written = self._ends()
        return [
            Revoked(
                customer,
                self._silenced(customer),
                phase,
                Withdrawal(self.config.consent.topic, self.topic_id, *places[_key(customer)]),
                written,
                asked,
            )
            for customer in customers
        ]

    def _await(self, revoked: Revoked) -> Revoked:
        self.ask(revoked, _PATIENCE_SECONDS)
        if revoked.customer % _LOOKED_AT == 1 and revoked.state is State.ENFORCED:
            note_visible(self.config.kafka.client_properties(), revoked)
        return revoked

    def ask(self, revoked: Revoked, seconds: float) -> Report:
        """Wait so long for a withdrawal, and note and return the last answer."""
        report = await_enforcement(self.config, self.loaded, revoked.withdrawal, seconds, revoked.waits)
        revoked.told(report)
        return report

    def _revoke_by_command(self, phase: str, customer: int) -> Revoked:
        asked = time.monotonic()
        written = self._ends()
        command = [sys.executable, "-m", "tokenweir", "consent", "revoke", _key(customer).decode()]
        command += [*_purposes(customer), "--wait", str(_PATIENCE_SECONDS), "--format", "json"]
        done = subprocess.run(
            [*command, "--config", str(self.world.config)], capture_output=True, text=True, check=False
        )
        assert done.stdout, done.stderr
        told = json.loads(done.stdout)
        withdrawal = Withdrawal(told["topic"], told["topic_id"], told["partition"], told["offset"])
        enforcement = told["enforcement"]
        return Revoked(
            customer,
            self._silenced(customer),
            phase,
            withdrawal,
            written,
            asked,
            told_seconds=time.monotonic(),
            state=State(enforcement["state"]),
            evidence={(each["topic"], each["partition"]): each["high_watermark"] for each in enforcement["outputs"]},
        )

    def _silenced(self, customer: int) -> tuple[str, ...]:
        return tuple(self.outputs[purpose] for purpose in _purposes(customer) or self.outputs)

    def _ends(self) -> dict[Place, int]:
        admin = Admin({"bootstrap.servers": self.bootstrap})
        return {
            (topic, number): end
            for topic in self.outputs.values()
            for number, end in admin.high_watermarks(topic, range(_PARTITIONS)).items()
        }

    def _warm_writer(self) -> TopicWriter:
        """Return this thread's writer: whoever writes withdrawals all day has one that is connected."""
        if not hasattr(self._of_thread, "writer"):
            self._of_thread.writer = self._writer()
        return cast("TopicWriter", self._of_thread.writer)

    def _writer(self) -> TopicWriter:
        return TopicWriter(self.config.kafka.client_properties(), self.config.consent.topic, "test")

    def drained(self) -> bool:
        """Whether every event has been processed."""
        # The world's own client still knows the source with fewer partitions.
        admin, numbers = Admin({"bootstrap.servers": self.bootstrap}), range(_PARTITIONS)
        ends = admin.high_watermarks(self.world.source, numbers)
        answers = admin.committed_each(f"{self.world.name}.interactions", self.world.source, numbers)
        return all(getattr(answers[number], "offset", None) == end for number, end in ends.items())


def _key(customer: int) -> bytes:
    return f"customer:{customer:010}".encode()


def _purposes(customer: int) -> list[str]:
    """Return what a customer withdraws: everything, or one purpose, so that an output goes on."""
    return ([], ["email_marketing"], ["ad_measurement"])[customer % 3]


def _allowed() -> SourceState:
    moment = "2026-01-01T00:00:00Z"
    decisions = {"email_marketing": "allow", "ad_measurement": "allow"}
    value = {"version": 1, "decided_at": moment, "decisions": decisions}
    return read_value(json.dumps(value).encode(), time.time_ns() // 1_000_000)


def _add_partitions(bootstrap: str, topic: str, count: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_partitions([NewPartitions(topic, count)])[topic].result(20)


@pytest.fixture
def scene(kafka: Broker, registry: SchemaRegistry, tmp_path: Path) -> Iterator[Scene]:
    """A scene, nothing of which outlives the test."""
    scene = Scene(tmp_path, kafka.bootstrap, registry.url)
    yield scene
    for gateway in scene.gateways:
        gateway.end()


def test_nothing_leaves_at_or_past_the_evidence_whatever_strikes(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """First all workers are up, which is measured alone; then kills, freezes, joins and leaves.

    Afterwards the outputs are read to their ends: no record of somebody who has withdrawn, in an output that needs it,
    lies at or past the offsets of the evidence, and what lies below them could be seen when ENFORCED was said.
    """
    calm = REVOKES // 4
    scene.allow_all(REVOKES)
    for gateway in scene.gateways:
        gateway.start()
    scene.wait_ready()
    fire = Fire(scene.gateways, random.Random(SEED))
    with scene.crowd:
        scene.revoke_all("calm", range(calm), at_once=1, threads=_CALM_THREADS)
        with fire:
            scene.revoke_all("fire", range(calm, REVOKES), _AT_ONCE)
        scene.wait_ready()
        pending = [each for each in scene.revoked if each.state is not State.ENFORCED]
        first_answers = phases(scene.revoked)
        later = [scene.ask(each, _PATIENCE_SECONDS).state for each in pending]
    until(scene.drained, scene.gateways[0].last_words, 120)
    verdict = judge(read_outputs(scene.world, scene.outputs.values()), scene.revoked, scene.crowd.customers)
    with capsys.disabled():
        print(f"\n{first_answers}\n{findings(verdict, fire.strikes)}")  # noqa: T201

    assert len(scene.revoked) == REVOKES
    assert verdict.violations == []
    assert (verdict.doubled, verdict.surfaced) == (0, 0)
    assert set(later) <= {State.ENFORCED}
    assert not [each for each in pending if each.phase.startswith("calm")]
    # The run was no tame one: without the barrier it would have failed, and it was struck in every way.
    assert verdict.after_writing > REVOKES / 10
    assert verdict.unhurt > REVOKES / 10
    assert len(fire.strikes) >= 6
    assert [gateway.stop() for gateway in scene.gateways] == [0, 0]


@pytest.mark.parametrize(("point", "cause"), [("after_offsets", Cause.OFFSETS_UNSTABLE), ("after_produce", None)])
def test_a_worker_that_stands_still_in_its_transaction_is_waited_for(
    scene: Scene, point: str, cause: Cause | None
) -> None:
    """Never ENFORCED before the broker has ended what it left open, though others have its partitions long since.

    With its offsets sent, nobody can take them over so long; without, they go on, and the output waits. When it wakes
    up as a zombie, nothing of it leaves.
    """
    scene.allow_all(2)
    gateway = scene.gateways[0]
    gateway.start()
    scene.wait_ready(1)
    with scene.crowd:
        scene.crowd.join(range(2))
        # It sleeps first, so that what it has handed to librdkafka reaches the broker.
        scene.box.arm(Fault(point, Action.SLEEP, seconds=10))
        until(lambda: len(scene.box.struck()) == 1, gateway.last_words)
        (struck,) = scene.box.struck()
        time.sleep(0.5)
        os.kill(struck.pid, signal.SIGSTOP)
        (revoked,) = scene.withdraw("frozen", [1])
        reports = []
        try:
            while time.monotonic() - struck.seconds < _OPEN_SECONDS:
                reports.append(scene.ask(revoked, 0.5))
            while scene.ask(revoked, 5).state is not State.ENFORCED:
                assert time.monotonic() - struck.seconds < _PATIENCE_SECONDS
        finally:
            os.kill(struck.pid, signal.SIGCONT)
        scene.wait_ready(1)
        time.sleep(2)
    until(scene.drained, gateway.last_words)
    verdict = judge(read_outputs(scene.world, scene.outputs.values()), [revoked], scene.crowd.customers)

    assert {report.state for report in reports} == {State.PENDING}
    # For longer than a session, so that the others have taken over what they could.
    last = {holdup.cause for holdup in reports[-1].holdups}
    assert last == {cause or Cause.OPEN_TRANSACTION}
    assert all("restart the worker" in holdup.remedy for holdup in reports[-1].holdups)
    assert revoked.told_seconds - struck.seconds > _OPEN_SECONDS
    assert (verdict.violations, verdict.doubled) == ([], 0)
    assert verdict.unhurt > 0
