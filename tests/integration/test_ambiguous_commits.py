"""Requests of a transaction that are late or whose answers are lost: every event leaves exactly once and in order.

librdkafka repeats such a request by itself and tells nobody. TOKENWEIR_SEED chooses other moments.
"""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections.abc import Iterator
from typing import Final

import pytest
from confluent_kafka import Consumer, TopicPartition
from tests.support.consentscene import Make, Scene, making, tell
from tests.support.countedevents import Verdict
from tests.support.proxied import SEED, ProxiedBroker, proxied_broker
from tests.support.proxy import (
    ADD_OFFSETS_TO_TXN,
    ADD_PARTITIONS_TO_TXN,
    END_TXN,
    PRODUCE,
    TXN_OFFSET_COMMIT,
    Action,
    Direction,
    Frame,
    Rule,
)
from tests.support.rig import SchemaRegistry
from tests.support.worlds import until

from tokenweir.adapters.producer import TransactionalProducer

integration = pytest.mark.integration
chaos = pytest.mark.chaos

CUSTOMERS: Final = range(1, 9)
STEPS: Final = (PRODUCE, ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN, TXN_OFFSET_COMMIT, END_TXN)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedBroker]:
    """A broker behind a proxy."""
    with proxied_broker(tmp_path_factory.mktemp("kafka") / "broker") as made:
        yield made


@pytest.fixture(scope="module")
def make(rig: ProxiedBroker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Starts gateways."""
    with making(rig, registry, lambda: tmp_path_factory.mktemp("world"), {"socket.timeout.ms": 1_500}) as made:
        yield made


@pytest.fixture(scope="module")
def scene(make: Make) -> Scene:
    """A gateway that gives a request up after a second and a half, and customers who allow."""
    made = make()
    until(made.gateway.ready, made.gateway.log)
    made.allow(*CUSTOMERS)
    return made


def _visible(bootstrap: str, topic: str) -> list[bytes]:
    """Return what a read_committed reader can see."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes] = []
    while (message := consumer.poll(20)) is not None and message.error() is None:
        found.append(message.value() or b"")
    consumer.close()
    return found


@pytest.mark.parametrize(
    ("action", "committed"),
    [
        pytest.param(Action.HOLD_AND_CUT, True, marks=integration),
        pytest.param(Action.HOLD_AND_CUT, False, marks=integration),
        pytest.param(Action.HOLD, True, marks=chaos),
        pytest.param(Action.HOLD, False, marks=chaos),
    ],
)
def test_a_late_end_of_a_transaction_does_not_end_the_next(
    rig: ProxiedBroker, action: Action, *, committed: bool
) -> None:
    """The client has lost the connection, or waited in vain, and has asked again over another one.

    Without a new epoch Kafka 4.1 ends the second transaction with the first one's late request: what was to be aborted
    becomes visible, and what was to be committed is aborted.
    """
    topic = f"late-{uuid.uuid4().hex[:8]}"
    rig.broker.create_topic(topic)
    producer = TransactionalProducer({"bootstrap.servers": rig.proxy.address, "socket.timeout.ms": 1_500}, topic)
    producer.init_transactions()
    producer.begin()
    _write(producer, topic, b"first")
    rule = rig.proxy.rule(action, lambda frame: _is(frame, "request", topic, END_TXN), limit=1)
    (producer.commit if committed else producer.abort)()
    held = rule.waiting

    producer.begin()
    _write(producer, topic, b"second")
    answered = rig.proxy.frames["response", topic, END_TXN]
    rule.lift()
    time.sleep(0.5)
    between = _visible(rig.broker.bootstrap, topic)
    (producer.abort if committed else producer.commit)()
    producer.purge()

    assert held == 1
    assert answered >= 1
    assert between == [b"first"] * committed
    assert _visible(rig.broker.bootstrap, topic) == [b"first" if committed else b"second"]


def _write(producer: TransactionalProducer, topic: str, value: bytes) -> None:
    """Add a record to the transaction and wait until the broker has it."""
    producer.produce(topic, value)
    assert producer._producer.flush(20) == 0


def _is(frame: Frame, direction: Direction, client_id: str, *apis: int) -> bool:
    return frame.direction == direction and frame.client_id == client_id and frame.api in apis


def _worker(scene: Scene) -> str:
    return f"{scene.world.name}.interactions.0"


def _assert_exact(scene: Scene) -> Verdict:
    """Every event has left once, and in the order of its customer."""
    until(scene.events.drained, scene.gateway.log, 60)
    verdict = scene.events.judge(lambda event: event.customer in CUSTOMERS, lambda _event: False)
    assert verdict.exact, verdict
    assert verdict.sanitized == len(scene.events.events)
    return verdict


@pytest.mark.parametrize(
    ("action", "apis", "trials"),
    [
        pytest.param(Action.CUT, (END_TXN,), 5, marks=integration),
        pytest.param(Action.CUT, (END_TXN,), 100, marks=chaos),
        pytest.param(Action.DROP, (END_TXN,), 30, marks=chaos),
        pytest.param(Action.CUT, (TXN_OFFSET_COMMIT,), 40, marks=chaos),
        pytest.param(Action.CUT, (ADD_OFFSETS_TO_TXN,), 40, marks=chaos),
        pytest.param(Action.CUT, (PRODUCE,), 40, marks=chaos),
        pytest.param(Action.DROP, STEPS, 40, marks=chaos),
        pytest.param(Action.CUT, STEPS, 100, marks=chaos),
        pytest.param(Action.DELAY, STEPS, 200, marks=chaos),
    ],
)
@pytest.mark.timeout(900)
def test_answers_that_are_lost_cost_time_and_nothing_else(
    scene: Scene, action: Action, apis: tuple[int, ...], trials: int
) -> None:
    """The broker has done what it was asked for, and the gateway does not know; with the connection, or without."""
    before = len(scene.events.events)
    rule = scene.rig.proxy.rule(
        action,
        lambda frame: _is(frame, "response", _worker(scene), *apis),
        chance=0.4,
        limit=trials,
        seconds=0.3,
    )
    with scene.events.flowing(*CUSTOMERS, pause_seconds=0.03):
        until(lambda: rule.hit >= trials, scene.gateway.log, 600)
    rule.lift()
    lifted_seconds = time.monotonic()

    verdict = _assert_exact(scene)
    assert len(scene.events.events) > before
    names = "all steps" if apis == STEPS else f"API {apis[0]}"
    tell(f"answers of {names}: {action.value}", trials, verdict, time.monotonic() - lifted_seconds)


@pytest.mark.parametrize(
    ("action", "trials"),
    [
        pytest.param(Action.HOLD_AND_CUT, 60, marks=chaos),
        pytest.param(Action.HOLD, 20, marks=chaos),
        pytest.param(Action.DOUBLE, 100, marks=chaos),
    ],
)
@pytest.mark.timeout(900)
def test_requests_that_are_late_or_come_twice_cost_time_and_nothing_else(
    scene: Scene, action: Action, trials: int
) -> None:
    """A request of a transaction is held, the gateway goes on, and it arrives in the midst of the next transaction.

    Every third time the worker is killed right then, so that what the late request has done is not undone by itself.
    """
    dice = random.Random(f"{SEED}/{action.value}")
    proxy, worker = scene.rig.proxy, _worker(scene)
    with scene.events.flowing(*CUSTOMERS, pause_seconds=0.03):
        for trial in range(trials):
            api = dice.choice(STEPS) if action is Action.DOUBLE else dice.choice([END_TXN, END_TXN, *STEPS])
            rule = proxy.rule(action, lambda frame, api=api: _is(frame, "request", worker, api), limit=1)  # type: ignore[misc]  # Bound per round.
            until(lambda rule=rule: rule.hit == 1, scene.gateway.log, 60)  # type: ignore[misc]  # As above.
            if action is not Action.DOUBLE:
                _wait_for_the_next_transaction(scene, rule)
            rule.lift()
            time.sleep(dice.random() * 0.2)
            if trial % 3 == 0 and action is not Action.DOUBLE:
                os.kill(scene.gateway.pid("worker"), signal.SIGKILL)
                until(scene.gateway.ready, scene.gateway.log, 60)
    ended_seconds = time.monotonic()

    verdict = _assert_exact(scene)
    tell(f"requests of a transaction: {action.value}", trials, verdict, time.monotonic() - ended_seconds)


def _wait_for_the_next_transaction(scene: Scene, rule: Rule) -> None:
    """Wait until the worker has produced again while its request is held, or for a while where it waits for that."""
    produced = scene.rig.proxy.frames["response", _worker(scene), PRODUCE]
    deadline = time.monotonic() + 6
    while scene.rig.proxy.frames["response", _worker(scene), PRODUCE] < produced + 1 and time.monotonic() < deadline:
        assert rule.waiting == 1
        time.sleep(0.002)
