"""Damage to the consent store of a real gateway: it keeps what is right, makes anew what is not, and leaks nothing.

Quick checks of the store alone are in ``tests/unit/test_consent_damage.py``. TOKENWEIR_SEED chooses other places.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # Public names that its typing does not list.
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from tests.support.consentscene import (
    CONSENT_PARTITIONS,
    LIMIT_SECONDS,
    STEADY,
    Make,
    Scene,
    consent_key,
    making,
    tell,
    withdrawal,
)
from tests.support.proxied import SEED, ProxiedBroker, proxied_broker
from tests.support.rig import SchemaRegistry
from tests.support.storedamage import after_a_reader_died, after_the_writer_died, build, do_damage
from tests.support.stores import ENGINES, store_of
from tests.support.worlds import World, until

from tokenweir.adapters import consentfiles
from tokenweir.adapters.consentfiles import Mark, Seal
from tokenweir.adapters.keysource import load_keyset
from tokenweir.adapters.topicreader import read_until
from tokenweir.core.subjects import partition_of

pytestmark = pytest.mark.chaos

Damage = Callable[[World, random.Random], None]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedBroker]:
    """A broker behind a proxy."""
    settings = {"log.cleaner.backoff.ms": "500"}
    with proxied_broker(tmp_path_factory.mktemp("kafka") / "broker", settings) as made:
        yield made


@pytest.fixture(scope="module")
def make(rig: ProxiedBroker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Starts gateways."""
    with making(rig, registry, lambda: tmp_path_factory.mktemp("world")) as made:
        yield made


def _name(value: object) -> str:
    return str(getattr(value, "__name__", value)).strip("_")


def _data(world: World) -> Path:
    # That of the engine in use.
    (found,) = (world.directory / "state").glob(f"consent-*/{consentfiles.DATA}")
    return found


def _flip(world: World, dice: random.Random) -> None:
    """Flip one bit of the store, in place."""
    with _data(world).open("r+b") as data:
        content = data.read()
        at = dice.randrange(len(content))
        data.seek(at)
        data.write(bytes([content[at] ^ 1 << dice.randrange(8)]))


def _tear(world: World, dice: random.Random) -> None:
    """Zero a part of the store."""
    with _data(world).open("r+b") as data:
        size = data.seek(0, os.SEEK_END)
        data.seek(dice.randrange(size // 512) * 512)
        data.write(bytes(2048))


def _cut_short(world: World, dice: random.Random) -> None:
    """Take the end away."""
    os.truncate(_data(world), dice.randrange(_data(world).stat().st_size))


def _crash_of_the_machine(world: World, _dice: random.Random) -> None:
    """Let the store have been open in another run of the kernel."""
    keys = world.directory / "keys"
    _, mac_key = load_keyset(keys / "keyset.json", keys / "kek.key").consent_store_keys()
    Mark("another-boot", clean=False, opens=1).write(_data(world).parent, Seal(bytes(32), mac_key.reveal()))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("damage", "trials"),
    [(_flip, 10), (_tear, 5), (_cut_short, 5), (_crash_of_the_machine, 2)],
    ids=_name,
)
def test_a_gateway_starts_on_a_damaged_store(make: Make, damage: Damage, trials: int) -> None:
    """It keeps a store that is right or makes it anew; who withdrew stays denied, and nobody crashes for ever."""
    dice = random.Random(f"{SEED}/{damage.__name__}")
    scene = make()
    until(scene.gateway.ready, scene.gateway.log)
    scene.allow(*range(300, 600))
    for customer in range(300, 600, 2):
        scene.withdraw(customer)
        scene.withdrawn_seconds[customer] -= LIMIT_SECONDS
    scene.gateway.wait_for_consent()
    reasons: Counter[str] = Counter()
    recovered: list[float] = []
    for _ in range(trials):
        assert scene.gateway.stop() == 0
        damage(scene.world, dice)
        started_seconds = time.monotonic()
        scene.gateway = scene.world.start()
        try:
            recovered.append(scene.ready_after(started_seconds))
            reasons[scene.gateway.events("consent_store_opened")[-1]["reason"]] += 1
            scene.events.send(STEADY, *dice.sample(range(300, 600), 40))
            scene.gateway.wait_for_consent()
            verdict = scene.judge()
            assert verdict.exact, (verdict, dict(reasons))
        except BaseException:
            scene.gateway.stop()
            raise
    scene.gateway.stop()
    if damage is _crash_of_the_machine:
        assert reasons == {"other_boot": trials}
    tell(f"start after {_name(damage)} {dict(reasons)}", trials, verdict, *recovered)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("damage", "trials"), [(_flip, 10), (_tear, 10), (_cut_short, 5)], ids=_name)
def test_a_store_is_damaged_under_a_running_gateway(make: Make, damage: Damage, trials: int) -> None:
    """A worker or the applier finds it or crashes of it, and the store is made anew by itself; or it was harmless."""
    dice = random.Random(f"{SEED}/{damage.__name__}")
    scene = make()
    gateway = scene.gateway
    until(gateway.ready, gateway.log)
    scene.allow(*range(300, 600))
    for customer in range(300, 600, 2):
        scene.withdraw(customer)
        scene.withdrawn_seconds[customer] -= LIMIT_SECONDS
    gateway.wait_for_consent()
    recovered: list[float] = []
    for trial in range(trials):
        damage(scene.world, dice)
        damaged_seconds = time.monotonic()
        scene.events.send(STEADY, *dice.sample(range(300, 600), 60))
        # A change goes through the applier, and through the pages that only it uses.
        scene.withdraw(301 + 2 * trial)
        until(scene.events.drained, gateway.log, 90)
        recovered.append(scene.ready_after(damaged_seconds))
        gateway.wait_for_consent()
    verdict = scene.assert_exact()
    rebuilt = Counter(event["reason"] for event in gateway.events("consent_store_rebuilt"))
    opened = Counter(event["reason"] for event in gateway.events("consent_store_opened"))
    died = Counter((event["kind"], event.get("signal")) for event in gateway.events("process_died"))
    name = f"{_name(damage)} while running: rebuilt {dict(rebuilt)}, opened {dict(opened)}, died {dict(died)}"
    tell(name, trials, verdict, *recovered)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("kind", "damage", "trials"),
    [
        ("live", "flip", 1_000),
        ("live", "tear", 200),
        ("start", "flip", 400),
        ("start", "tear", 100),
        ("start", "cut_short", 10),
    ],
)
def test_much_damage_to_a_store(tmp_path: Path, engine: str, kind: str, damage: str, trials: int) -> None:
    """As ``tests/unit/test_consent_damage.py``, many more times."""
    directory = store_of(tmp_path, engine)
    build(directory)
    after = after_a_reader_died if kind == "live" else after_the_writer_died
    outcomes = do_damage(directory, kind, damage, trials, lambda: after(directory))
    assert not outcomes["wrong"], outcomes
    print(f"\n{engine} {kind} {damage}: {json.dumps(outcomes)}")  # noqa: T201  # Shown with -s: the report of the run.


@pytest.mark.timeout(600)
def test_a_tombstone_that_was_cleaned_away_while_the_gateway_stood_still(make: Make) -> None:
    """The allow is in the store and nothing on the topic takes it back any more: only the store's age tells."""
    scene = make()
    customer = 700
    until(scene.gateway.ready, scene.gateway.log)
    scene.allow(customer)
    scene.events.send(STEADY, customer)
    assert scene.judge().sanitized == 2
    assert scene.gateway.stop() == 0
    _keep_tombstones_for_a_second(scene)
    scene.write(customer, None)
    scene.withdrawn_seconds[customer] = time.monotonic() - LIMIT_SECONDS
    _clean(scene, customer)

    started_seconds = time.monotonic()
    scene.gateway = scene.world.start()
    recovered = scene.ready_after(started_seconds)
    scene.events.send(STEADY, customer)
    verdict = scene.assert_exact()

    opened = scene.gateway.events("consent_store_opened")
    assert [event["reason"] for event in opened] == ["too_old"]
    assert verdict.sanitized == 3
    tell("tombstone cleaned away while stopped", 1, verdict, recovered)


def _keep_tombstones_for_a_second(scene: Scene) -> None:
    settings = {"delete.retention.ms": 1_000, "segment.ms": 500, "min.cleanable.dirty.ratio": 0.001}
    entries = [
        ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET) for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, f"{scene.world.name}.consent", incremental_configs=entries)
    client = AdminClient({"bootstrap.servers": scene.rig.broker.bootstrap})
    client.incremental_alter_configs([resource])[resource].result(30)


def _clean(scene: Scene, customer: int) -> None:
    """Write of other people in the customer's partition, until the cleaner has taken away the customer's records."""
    topic, key = f"{scene.world.name}.consent", consent_key(customer)
    number = partition_of(key, CONSENT_PARTITIONS)
    others = (
        each for each in range(10_000, 1_000_000) if partition_of(consent_key(each), CONSENT_PARTITIONS) == number
    )
    properties = {"bootstrap.servers": scene.rig.broker.bootstrap}

    def gone() -> bool:
        scene.write(next(others), withdrawal())
        low, high = (
            ask(topic, [number])[number]
            for ask in (scene.world.admin.low_watermarks, scene.world.admin.high_watermarks)
        )
        return key not in {message.key() for message in read_until(properties, topic, {number: (low, high)})}

    until(gone, seconds=90)
