"""A gateway behind a proxy, events with numbers, and withdrawals whose time is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import Producer
from tests.support.countedevents import CountedEvents, Event, Verdict
from tests.support.proxied import ProxiedBroker
from tests.support.rig import SchemaRegistry
from tests.support.worlds import RunningGateway, World, until

from tokenweir.app.consentwriter import withdrawn
from tokenweir.core.consent import to_value
from tokenweir.core.subjects import partition_of

LIMIT_SECONDS: Final = 2.0
"""``consent.max_staleness_seconds`` of the worlds."""

PURPOSE: Final = "email_marketing"
CONSENT_PARTITIONS: Final = 8
STEADY, STRANGER = 1, 2
"""Who always allows, and of whom nobody knows anything."""

Make = Callable[[], "Scene"]


def consent_key(customer: int) -> bytes:
    """Return the key of a customer's consent."""
    return f"customer:{customer:010}".encode()


def withdrawal() -> bytes:
    """Return a state that denies everything from now on."""
    return to_value(withdrawn(None, [], time.time_ns() // 1_000_000))


@dataclass
class Scene:
    """A world whose gateway runs behind the proxy, and what happened to its customers."""

    rig: ProxiedBroker
    world: World
    gateway: RunningGateway
    events: CountedEvents
    withdrawn_seconds: dict[int, float] = field(default_factory=dict)

    def withdraw(self, customer: int) -> None:
        """Let a customer withdraw everything; from when it is on the topic the time counts."""
        self.write(customer, withdrawal())
        self.withdrawn_seconds[customer] = time.monotonic()

    def write(self, customer: int, value: bytes | None) -> None:
        """Write a record to the consent topic."""
        write_consent(self.world, self.rig.broker.bootstrap, customer, value)

    def allow(self, *customers: int) -> None:
        """Let customers allow, and wait until it is applied."""
        for customer in customers:
            self.world.allow(customer, PURPOSE)
        self.gateway.wait_for_consent()

    def may_leave(self, event: Event) -> bool:
        """Whether an event may have been decided before its customer's withdrawal had to be known."""
        at_seconds = self.withdrawn_seconds.get(event.customer, float("inf"))
        return event.customer != STRANGER and event.sent_seconds < at_seconds + LIMIT_SECONDS

    def judge(self) -> Verdict:
        """Wait until every event is decided, and compare."""
        until(self.events.drained, self.gateway.log)
        return self.events.judge(lambda event: event.customer == STEADY, self.may_leave)

    def ready_after(self, since_seconds: float) -> float:
        """Wait until the gateway is ready; return how long after that moment it was."""
        until(self.gateway.ready, self.gateway.log, 60)
        return time.monotonic() - since_seconds

    def assert_exact(self) -> Verdict:
        """Fail with what is wrong."""
        verdict = self.judge()
        assert verdict.exact, verdict
        assert verdict.sanitized > 0
        return verdict


def write_consent(world: World, bootstrap: str, customer: int, value: bytes | None) -> None:
    """Write a record to a world's consent topic, where Kafka's Java client would, and wait until the broker has it."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "log_level": 0, "enable.idempotence": True})
    key = consent_key(customer)
    producer.produce(f"{world.name}.consent", value, key, partition_of(key, CONSENT_PARTITIONS))
    assert producer.flush(30) == 0


def open_transaction(world: World, bootstrap: str, *customers: int) -> Producer:
    """Write withdrawals in a transaction that stays open."""
    name = f"open-{time.monotonic_ns()}"
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name, "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    for customer in customers:
        key = consent_key(customer)
        producer.produce(f"{world.name}.consent", withdrawal(), key, partition_of(key, CONSENT_PARTITIONS))
    assert producer.flush(30) == 0
    return producer


@contextmanager
def making(
    rig: ProxiedBroker,
    registry: SchemaRegistry,
    new_directory: Callable[[], Path],
    properties: Mapping[str, int] | None = None,
) -> Iterator[Make]:
    """Give what starts gateways, in worlds of their own in which the steady customer has allowed, and end them all."""
    scenes: list[Scene] = []

    def new() -> Scene:
        world = rig.world(new_directory(), registry, properties=properties)
        world.allow(STEADY, PURPOSE)
        scenes.append(Scene(rig, world, world.start(), CountedEvents(world, rig.broker.bootstrap)))
        return scenes[-1]

    try:
        yield new
    finally:
        for scene in scenes:
            scene.gateway.stop()


def tell(fault: str, trials: int, verdict: Verdict, *recovered_seconds: float) -> None:
    """Print a line of the report; shown with -s."""
    seconds = f"{min(recovered_seconds):.1f} to {max(recovered_seconds):.1f} s" if recovered_seconds else "-"
    wrong = (len(verdict.lost), len(verdict.doubled), len(verdict.leaked), len(verdict.disordered))
    print(  # noqa: T201  # As above.
        f"\n| {fault} | {trials} trials | {verdict.events} events, {verdict.sanitized} left "
        f"| lost, doubled, leaked or late, disordered: {wrong} | ready after {seconds} |"
    )
