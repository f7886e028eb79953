"""Faults on the way to consent and in its store, with the real gateway: it pauses, repairs itself, and leaks nothing.

All of the gateway's connections go through a proxy. Events have numbers that are kept in the output, so that each can
be told to be lost, doubled or out of order; and no event may leave that was written later than the allowed staleness
after its customer's withdrawal. TOKENWEIR_SEED chooses other places and moments.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.consentscene import (
    CONSENT_PARTITIONS,
    LIMIT_SECONDS,
    PURPOSE,
    STEADY,
    STRANGER,
    Make,
    Scene,
    consent_key,
    making,
    open_transaction,
    tell,
)
from tests.support.countedevents import CountedEvents, OutputWatch
from tests.support.proxied import APPLIER, SEED, ProxiedBroker, proxied_broker
from tests.support.proxy import LIST_OFFSETS, Action
from tests.support.rig import SchemaRegistry
from tests.support.worlds import until

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.core.subjects import partition_of

integration = pytest.mark.integration
chaos = pytest.mark.chaos


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedBroker]:
    """A broker behind a proxy."""
    with proxied_broker(tmp_path_factory.mktemp("kafka") / "broker") as made:
        yield made


@pytest.fixture(scope="module")
def make(rig: ProxiedBroker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Starts gateways."""
    with making(rig, registry, lambda: tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def shared(make: Make) -> Scene:
    """A scene that tests share; each has customers of its own."""
    return make()


@pytest.fixture
def scene(shared: Scene) -> Scene:
    """The shared scene, ready."""
    until(shared.gateway.ready, shared.gateway.log)
    return shared


# The way to the consent topic


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(Action.CUT, marks=chaos),
        pytest.param(Action.DROP, marks=integration),
        pytest.param(Action.HOLD, marks=chaos),
    ],
)
def test_without_the_way_to_consent_nothing_leaves_and_it_goes_on_by_itself(scene: Scene, action: Action) -> None:
    """The applier's connections alone are cut, swallow everything, or deliver it later; the workers' work.

    Nothing leaves later than the allowed staleness and a second; the workers live on and stay in their group; the probe
    says so; a withdrawal that was written meanwhile holds for everything that was written after the limit.
    """
    gateway, proxy = scene.gateway, scene.rig.proxy
    customer = 10 + list(Action).index(action)
    scene.allow(customer)
    assignments = len(gateway.events("partitions_assigned"))
    rebuilt = len(gateway.events("consent_store_rebuilt"))
    with OutputWatch(scene.world) as watch, scene.events.flowing(STEADY, STRANGER, customer):
        until(lambda: watch.visible > 0, gateway.log)
        rule = proxy.rule(action, lambda frame: frame.client_id == APPLIER)
        cut_seconds = time.monotonic()
        if action is Action.CUT:
            proxy.cut(lambda client_id: client_id == APPLIER)
        scene.withdraw(customer)
        until(lambda: not gateway.ready(), gateway.log)
        told = gateway.get("/readyz?verbose")[1]
        time.sleep(LIMIT_SECONDS)
        last_seconds = watch.changed_seconds - cut_seconds
        rule.lift()
        passes_seconds = time.monotonic()
        ready_after = scene.ready_after(passes_seconds)
        until(lambda: watch.changed_seconds > passes_seconds, gateway.log)

    verdict = scene.assert_exact()
    assert last_seconds < LIMIT_SECONDS + 1
    assert "[-]consent failed" in told
    assert len(gateway.events("partitions_assigned")) == assignments
    # What was never answered proves nothing, neither that the store is fresh nor that it is wrong.
    assert len(gateway.events("consent_store_rebuilt")) == rebuilt
    tell(f"applier's connections: {action.value}", 1, verdict, ready_after)


@integration
def test_a_question_that_times_out_has_no_answer(rig: ProxiedBroker) -> None:
    """Librdkafka reports offsets of -1001 for it, and no error; as ends of a topic they would prove anything."""
    rig.broker.create_topic("asked")
    admin = Admin({"bootstrap.servers": rig.proxy.address}, "asker", 1)
    assert admin.high_watermarks("asked", [0]) == {0: 0}
    rule = rig.proxy.rule(Action.DROP, lambda frame: (frame.client_id, frame.api) == ("asker", LIST_OFFSETS))
    for ask in (admin.high_watermarks, admin.low_watermarks):
        with pytest.raises(KafkaFault, match="_TIMED_OUT") as caught:
            ask("asked", [0])
        assert caught.value.retriable
    rule.lift()


# Transactions of other producers on the consent topic


@integration
def test_an_open_transaction_on_the_topic_lets_nothing_leave_until_it_is_decided(
    rig: ProxiedBroker, registry: SchemaRegistry, tmp_path: Path
) -> None:
    """A restore that ends at the last stable offset (KIP-98) would miss the withdrawal behind it.

    The same gateway then sees its topic deleted and created again, and ends with what to do.
    """
    world = rig.world(tmp_path, registry)
    world.allow(STEADY, PURPOSE)
    world.allow(3, PURPOSE)
    # In the partition of customer 3, before the withdrawal.
    transaction = open_transaction(world, rig.broker.bootstrap, 3)
    gateway = world.start()
    scene = Scene(rig, world, gateway, CountedEvents(world, rig.broker.bootstrap))
    try:
        scene.withdraw(3)
        with OutputWatch(world) as watch:
            scene.events.send(*[STEADY, 3] * 10)
            until(lambda: bool(gateway.events("partitions_assigned")), gateway.log)
            time.sleep(3)
            seen, ready = watch.visible, gateway.ready()
            transaction.abort_transaction(30)
            recovered = scene.ready_after(time.monotonic())
        until(scene.events.drained, gateway.log)
        verdict = scene.events.judge(lambda event: event.customer == STEADY, lambda _event: False)

        assert (seen, ready) == (0, False)
        assert verdict.exact, verdict
        assert verdict.sanitized == 10
        tell("open transaction on the consent topic at start", 1, verdict, recovered)
        _replace_the_topic(scene)
    finally:
        gateway.stop()


def _replace_the_topic(scene: Scene) -> None:
    """Delete the consent topic and create it again under the running gateway, and wait until that has ended."""
    topic = f"{scene.world.name}.consent"
    scene.world.admin.delete_topic(topic)
    until(lambda: topic not in scene.world.admin.topics(), scene.gateway.log)
    scene.rig.broker.create_topic(topic, CONSENT_PARTITIONS, {"cleanup.policy": "compact"})
    assert scene.gateway.process.wait(60) == 3
    assert f"error: the consent topic {topic} was replaced" in scene.gateway.log()
    assert "tokenweir consent import" in scene.gateway.log()


@chaos
def test_a_topic_that_was_created_again_is_taken_once_a_person_has_done_as_told(make: Make) -> None:
    """Without that every start is refused: the new topic may lack withdrawals."""
    scene = make()
    world = scene.world
    until(scene.gateway.ready, scene.gateway.log)
    scene.events.send(STEADY)
    scene.assert_exact()
    _replace_the_topic(scene)
    scene.gateway.stop()

    again = world.start()
    code, told = again.process.wait(60), again.log()
    again.stop()
    world.allow(STEADY, PURPOSE)
    # What kafka-consumer-groups.sh does: it writes offsets, and no metadata.
    group, offsets = f"{world.name}.interactions", world.admin.high_watermarks(world.source, range(2))
    world.admin.set_committed(group, world.source, {number: (offset, "") for number, offset in offsets.items()})
    scene.gateway = world.start()
    until(scene.gateway.ready, scene.gateway.log)
    scene.events.send(STEADY)

    assert code == 3
    assert "deleted and created again" in told
    assert scene.assert_exact().sanitized == 2


@chaos
@pytest.mark.parametrize("committed", [True, False])
def test_an_undecided_withdrawal_pauses_a_running_gateway(scene: Scene, *, committed: bool) -> None:
    """As long as the last stable offset lies below the high watermark; how it ends decides what leaves afterwards."""
    customer = 20 + committed
    scene.allow(customer)
    with OutputWatch(scene.world) as watch, scene.events.flowing(STEADY, customer):
        until(lambda: watch.visible > 0, scene.gateway.log)
        opened_seconds = time.monotonic()
        transaction = open_transaction(scene.world, scene.rig.broker.bootstrap, customer)
        open_seconds = time.monotonic() - opened_seconds
        until(lambda: not scene.gateway.ready(), scene.gateway.log)
        time.sleep(LIMIT_SECONDS)
        last_seconds = watch.changed_seconds - opened_seconds
        if committed:
            transaction.commit_transaction(30)
            scene.withdrawn_seconds[customer] = time.monotonic()
        else:
            transaction.abort_transaction(30)
        recovered = scene.ready_after(time.monotonic())
        time.sleep(LIMIT_SECONDS + 1 if committed else 0)

    verdict = scene.assert_exact()
    assert last_seconds < LIMIT_SECONDS + 1 + open_seconds
    tell(f"open transaction while running, then {'committed' if committed else 'aborted'}", 1, verdict, recovered)


# What cannot be read


@integration
def test_what_cannot_be_read_denies_its_subject_or_everyone_until_a_person_accepts_it(scene: Scene) -> None:
    """Random bytes as value deny that customer, as key everyone; ``consent acknowledge`` ends the latter."""
    dice = random.Random(SEED)
    gateway, world, events = scene.gateway, scene.world, scene.events
    garbled = range(100, 120)
    scene.allow(*garbled)
    for customer in garbled:
        key = consent_key(customer)
        world.write("consent", key, dice.randbytes(dice.randrange(60)), partition_of(key, CONSENT_PARTITIONS))
        scene.withdrawn_seconds[customer] = -LIMIT_SECONDS
    gateway.wait_for_consent()
    events.send(STEADY, *garbled)
    until(events.drained, gateway.log)
    scene.assert_exact()
    denied = len(gateway.events("consent_undecodable"))

    nobody = bytes([0, *dice.randbytes(12)])
    world.write("consent", nobody, b"{}", 5)
    gateway.wait_for_consent()
    before = {number for number, event in events.events.items() if event.customer == STEADY}
    events.send(*[STEADY] * 5)
    until(events.drained, gateway.log)
    withheld = scene.judge()

    alarm = gateway.events("consent_undecodable")[-1]
    assert denied >= 1
    assert len(withheld.lost) == 5
    assert not before.intersection(withheld.lost)
    assert (alarm["partition"], alarm["reason"], alarm["level"]) == (5, "key_unreadable", "error")

    place = [str(alarm["partition"]), str(alarm["offset"])]
    _assert_told(scene, 5, f"tokenweir consent acknowledge {' '.join(place)}")
    unasked = world.cli("consent", "acknowledge", *place)
    done = world.cli("consent", "acknowledge", *place, "--yes")
    until(lambda: bool(gateway.events("consent_acknowledged")), gateway.log)
    for number in withheld.lost:
        del events.events[number]
    events.send(*[STEADY] * 5)

    assert (unasked.returncode, done.returncode) == (2, 0), done.stderr
    (accepted,) = gateway.events("consent_acknowledged")
    assert (accepted["partition"], accepted["offset"]) == (5, alarm["offset"])
    _assert_over(scene, 5)
    scene.assert_exact()
    assert nobody.hex() not in gateway.log()


def _verbs() -> list[list[str]]:
    return [["doctor"], ["consent", "status"], ["consent", "get", consent_key(STEADY).decode()], ["preview"]]


def _assert_told(scene: Scene, partition: int, command: str) -> None:
    """Metric and verbs say that everybody is denied, and how it ends."""
    for number in range(CONSENT_PARTITIONS):
        series = f'tokenweir_consent_unreadable_keys{{partition="{number}"}}'
        assert scene.gateway.metric(series) == (number == partition)
    done = [scene.world.cli(*verb) for verb in _verbs()]
    assert [command in each.stderr for each in done] == [True] * len(done)
    assert [each.returncode for each in done] == [3, 0, 0, 0]


def _assert_over(scene: Scene, partition: int) -> None:
    """None of them says so any more, and they answer what the gateway does."""
    world, gateway = scene.world, scene.gateway
    until(lambda: gateway.metric(f'tokenweir_consent_unreadable_keys{{partition="{partition}"}}') == 0, gateway.log)
    done = [world.cli(*verb) for verb in _verbs()]
    assert ["acknowledge" in each.stderr for each in done] == [False] * len(done)
    answered = json.loads(world.cli("consent", "get", consent_key(STEADY).decode(), "--format", "json").stdout)
    assert answered["answers"][PURPOSE]["answer"] == "allow"
    shown = json.loads(world.cli("preview", "--format", "json").stdout)["records"]
    assert "sanitized" in {output["fate"] for record in shown for output in record["outputs"]}


# The applier and its store


@pytest.mark.parametrize("kills", [pytest.param(3, marks=integration), pytest.param(20, marks=chaos)])
@pytest.mark.timeout(900)
def test_kills_of_the_applier_cost_time_and_nothing_else(scene: Scene, kills: int) -> None:
    """At random moments, with withdrawals before and after each; the workers live through all of them."""
    dice = random.Random(SEED)
    gateway = scene.gateway
    customers = list(range(200 + kills, 200 + 3 * kills))
    scene.allow(*customers)
    workers = len([event for event in gateway.events("process_started") if event["kind"] == "worker"])
    recovered: list[float] = []
    with scene.events.flowing(STEADY, STRANGER, *customers, pause_seconds=0.05):
        for kill in range(kills):
            time.sleep(dice.random())
            scene.withdraw(customers[2 * kill])
            time.sleep(dice.random() * 0.1)
            killed_seconds = time.monotonic()
            killed = gateway.pid("applier")
            os.kill(killed, signal.SIGKILL)
            scene.withdraw(customers[2 * kill + 1])
            until(lambda killed=killed: gateway.pid("applier") != killed, gateway.log)  # type: ignore[misc]  # As above.
            recovered.append(_fresh_after(scene, killed_seconds))

    verdict = scene.assert_exact()
    assert len([event for event in gateway.events("process_started") if event["kind"] == "worker"]) == workers
    tell("SIGKILL of the applier", kills, verdict, *recovered)


def _fresh_after(scene: Scene, since_seconds: float) -> float:
    """Wait until the newest applier has restored the store and the gateway is ready."""

    def restored() -> bool:
        started = scene.gateway.log().rfind(f'"pid":{scene.gateway.pid("applier")}')
        return '"consent_restored"' in scene.gateway.log()[started:]

    until(restored, scene.gateway.log, 60)
    return scene.ready_after(since_seconds)
