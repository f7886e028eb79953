"""An erasure on a real broker: read everything again, replay, restart, and the person does not come back."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer
from tests.support.canaries import Canary, leaked
from tests.support.replays import Letters
from tests.support.rig import Broker, SchemaRegistry
from tests.support.scan import plain_segments
from tests.support.worlds import World, until

from tokenweir.adapters.keysource import load_keyset
from tokenweir.adapters.topicreader import read_until
from tokenweir.core.policy.loader import load_policy

pytestmark = pytest.mark.integration

#: Who is erased, and somebody who is not. No other number here has these digits.
ERASED: Final = 7391846205
STAYS: Final = 4810273956
_PURPOSES: Final = ("email_marketing", "ad_measurement")
_ASKED: Final = ("--reason", "request of the person", "--ticket", "DSR-7", "--yes", "--format", "json")
#: Small segments and short memories, so that the broker compacts within a test.
_SOON: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.001",
    "delete.retention.ms": "1000",
    "max.compaction.lag.ms": "1000",
}


def _canary() -> Canary:
    return Canary.of_text("the id of the erased person", f"{ERASED:010}")


class _Scene:
    """A world with a running gateway, and a person who may be erased."""

    def __init__(self, world: World, broker: Broker) -> None:
        self.world, self.broker = world, broker
        self.properties = {"bootstrap.servers": broker.bootstrap}
        self.gateway = world.start()
        self._producer = Producer({**self.properties, "partitioner": "murmur2_random"})
        policy = load_policy((world.directory / "policy.yaml").read_text(), "policy.yaml").policy
        keyset = load_keyset(world.directory / "keys" / "keyset.json", world.directory / "keys" / "kek.key")
        self.tokens = {
            audience: keyset.tokenizer(audience, "customer", policy.tokens["customer"])
            .tokenize(f"{ERASED:010}")
            .encode()
            for audience in ("crm", "ads")
        }

    def consent(self, key: str, word: str = "allow", ago_seconds: float = 3600) -> None:
        """Let a source say something."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago_seconds))
        state = {"version": 1, "decided_at": moment, "decisions": dict.fromkeys(_PURPOSES, word)}
        self._producer.produce(f"{self.world.name}.consent", json.dumps(state).encode(), key.encode())
        assert self._producer.flush(20) == 0

    def erase(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run the verb; its document is what it says."""
        done = self.world.cli("erase", f"customer:{ERASED:010}", *arguments)
        assert not leaked([_canary()], (done.stdout + done.stderr).encode())
        return done.returncode, json.loads(done.stdout)["payload"]

    def keys(self, audience: str) -> list[tuple[int, int, bytes]]:
        """Return partition, offset and key of every committed record of an output."""
        topic = f"{self.world.source}.{audience}"
        ends = self.world.admin.high_watermarks(topic, range(self.world.admin.topics()[topic]), "read_committed")
        messages = read_until(self.properties, topic, {number: (0, end) for number, end in ends.items()})
        return [(each.partition() or 0, each.offset() or 0, bytes(each.key() or b"")) for each in messages]

    def count(self, audience: str, key: bytes) -> int:
        """Return how many records of an output have a key."""
        return sum(found == key for _partition, _offset, found in self.keys(audience))

    def restart(self, *, afresh: bool) -> None:
        """Stop the gateway and start it again, with its state or without any."""
        self.gateway.stop()
        if afresh:
            shutil.rmtree(self.world.directory / "state")
        self.gateway = self.world.start()
        until(self.gateway.ready, self.gateway.log, 120)


@pytest.fixture
def scene(kafka: Broker, registry: SchemaRegistry, tmp_path: Path) -> Iterator[_Scene]:
    """Make it, with the topics on which readers are told."""
    name = f"erase-{uuid.uuid4().hex[:8]}"
    world = World(tmp_path, name, kafka.bootstrap, registry.url)
    world.admin.create_topic(f"{name}.consent", 4, config=_SOON)
    fixed = world.cli("doctor", "--fix", "--format", "json")
    assert fixed.returncode == 0, fixed.stdout
    for audience in ("crm", "ads"):
        world.admin.create_topic(f"{world.source}.{audience}.erasures", 1, config={"cleanup.policy": "compact"})
    made = _Scene(world, kafka)
    try:
        until(made.gateway.ready, made.gateway.log, 120)
        yield made
    finally:
        made.gateway.stop()


def _segments(broker: Broker, topic: str) -> bytes:
    """Return what the broker has on its disk of a topic, unpacked."""
    files = [path for path in broker.log_directory.glob(f"{topic}-[0-9]*/*.log") if path.is_file()]
    assert files, topic
    data = [path.read_bytes() for path in files]
    assert all(plain_segments(each) for each in data)
    return b"".join(data)


def _assert_reported(scene: _Scene) -> None:
    """The report of a leak counts both people, and knows that one of them was erased."""
    since = ("--since", "2026-01-01T00:00:00Z", "--format", "json")
    leak = json.loads(scene.world.cli("report", "breach", *since).stdout)
    assert {each["audience"]: (each["subjects"], each["erased_since"]) for each in leak["outputs"]} == {
        "crm": (2, 1),
        "ads": (2, 1),
    }
    assert [bool(each["ended_at"]) for each in leak["policies"]] == [False]
    assert {"customer_id", "email"} <= {row["path"] for row in leak["outputs"][0]["fields"]}


def _assert_without_id(scene: _Scene) -> None:
    """Neither segments of outputs, nor the state directory, nor the log have the id."""
    world = scene.world
    for topic in (f"{world.source}.crm", f"{world.source}.ads", f"{world.source}.crm.erasures"):
        assert not leaked([_canary()], _segments(scene.broker, topic))
    state = world.directory / "state"
    for path in [*state.rglob("*"), world.directory / "run.log"]:
        if path.is_file():
            assert not leaked([_canary()], path.read_bytes()), path.name


def test_reading_everything_again_does_not_bring_the_person_back(scene: _Scene) -> None:
    """Neither the source, nor a replay, nor a restored store, nor a new allow; the files and logs have no id."""
    world = scene.world
    for key in (f"customer:{ERASED:010}", f"customer:{ERASED:010}#web", f"customer:{STAYS:010}"):
        scene.consent(key)
    scene.gateway.wait_for_consent()
    for _ in range(4):
        world.send(ERASED, 2)
        world.send(STAYS, 2)
    until(lambda: scene.count("crm", scene.tokens["crm"]) == 8, scene.gateway.log, 90)
    until(lambda: len(scene.keys("crm")) == 16 == len(scene.keys("ads")), scene.gateway.log, 90)
    before = {audience: scene.keys(audience) for audience in ("crm", "ads")}

    code, document = scene.erase(*_ASKED)
    ends = document["steps"]["enforced"]["none_at_or_past"]
    assert (code, document["state"]) == (1, "PENDING")
    assert [name for name, step in document["steps"].items() if step["progress"] == "done"] == [
        "denied",
        "enforced",
        "forgotten",
        "signalled",
    ]
    for audience in ("crm", "ads"):
        (told,) = world.read(f"raw.{audience}.erasures")
        assert told.key == scene.tokens[audience]
        topic = f"{world.source}.{audience}"
        assert json.loads(told.value)["none_at_or_past"] == {topic: ends[topic]}

    # A source that knows nothing of it allows anew; events go on; then everything is read again, twice.
    scene.consent(f"customer:{ERASED:010}#shop", ago_seconds=0)
    world.send(ERASED, 4)
    world.send(STAYS, 4)
    until(lambda: len(scene.keys("crm")) == 20, scene.gateway.log, 90)
    refused = world.cli("consent", "set", f"customer:{ERASED:010}", "email_marketing=allow")
    known = json.loads(world.cli("consent", "get", f"customer:{ERASED:010}", "--format", "json").stdout)
    assert (refused.returncode, "was erased" in refused.stderr) == (3, True)
    assert known["answers"]["email_marketing"]["answer"] == "deny"
    for afresh in (False, True):
        already = len(scene.keys("crm"))
        scene.gateway.stop()
        moved = world.cli("offsets", "set", "interactions", "--all", "--to", "earliest", "--yes")
        assert moved.returncode == 0, moved.stderr
        scene.restart(afresh=afresh)
        until(lambda already=already: len(scene.keys("crm")) == already + 12, scene.gateway.log, 120)  # type: ignore[misc]

    # A dead letter of the person is replayed beside the gateway.
    letters = Letters(world, scene.broker.bootstrap)
    rejected = letters.write_events([(0, ERASED, "late"), (0, STAYS, "late")])
    letters.write_letters(rejected, ("crm", "ads"))
    replayed = json.loads(world.cli("replay", "interactions", "--yes", "--format", "json").stdout)
    assert (replayed["sanitized"], replayed["withheld"]) == (2, 2)

    for audience in ("crm", "ads"):
        after = scene.keys(audience)
        assert scene.count(audience, scene.tokens[audience]) == 8
        assert [row for row in after if row in before[audience]] == before[audience]
        late = [key for number, at, key in after if at >= ends[f"{world.source}.{audience}"][str(number)]]
        assert len(late) > 20
        assert scene.tokens[audience] not in late
    assert len(scene.keys("crm")) > len(before["crm"])
    _assert_reported(scene)
    scene.gateway.stop()
    _assert_without_id(scene)


@pytest.mark.chaos
def test_it_is_complete_when_the_broker_has_forgotten_the_id(scene: _Scene) -> None:
    """Until then it is PENDING, and the segments have the id; afterwards no byte of the consent topic has it."""
    scene.consent(f"customer:{ERASED:010}")
    scene.gateway.wait_for_consent()
    assert scene.erase(*_ASKED)[0] == 1
    assert leaked([_canary()], _segments(scene.broker, f"{scene.world.name}.consent"))
    deadline = time.monotonic() + 240
    code, number = 1, 0
    while code and time.monotonic() < deadline:
        for _ in range(12):
            # An active segment is never compacted: only a new record rolls it.
            number += 1
            scene.consent(f"customer:{number:010}")
        time.sleep(5)
        code, document = scene.erase("--status", "--format", "json")
        pending = [name for name, step in document["steps"].items() if step["progress"] != "done"]
        assert pending in ([], ["compacted"])
    assert (code, document["state"]) == (0, "COMPLETE")

    def gone() -> bool:
        # A cleaned segment stays under another name until file.delete.delay.ms is over.
        return not leaked([_canary()], _segments(scene.broker, f"{scene.world.name}.consent"))

    until(gone, scene.gateway.log, 120)
    assert len(list((scene.world.directory / "state" / "erasures").iterdir())) == 1


def test_nothing_is_forgotten_where_no_gateway_runs(scene: _Scene) -> None:
    """A worker that was restored earlier may still join. The next run goes on with the first deny once one runs."""
    scene.consent(f"customer:{ERASED:010}")
    scene.gateway.wait_for_consent()
    scene.gateway.stop()
    code, document = scene.erase(*_ASKED, "--wait", "1")
    assert (code, document["steps"]["enforced"]["progress"]) == (1, "pending")
    assert document["steps"]["forgotten"]["progress"] == "not_begun"
    first = document["steps"]["denied"]

    scene.restart(afresh=True)
    code, document = scene.erase(*_ASKED)
    assert document["steps"]["forgotten"]["progress"] == "done"
    assert document["steps"]["denied"] == first
