"""Where a gateway starts, what it refuses to start from, what it does when topics change under it, and the repair."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # Public names that its typing does not list.
    AclOperation,
)
from tests.support.rig import Broker, SchemaRegistry
from tests.support.starting import (
    GUARDED,
    add_partitions,
    committed,
    committed_offsets,
    deny,
    forget_offsets,
    group_of,
    has_committed,
    refusals,
    refused_without,
    replace_topic,
)
from tests.support.worlds import RunningGateway, World, until

from tokenweir.config import load_config
from tokenweir.errors import KeysError
from tokenweir.runtime import starts
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.position import ConsentPosition, Source

pytestmark = pytest.mark.integration

Make = Callable[..., World]
_DAY_MS = 86_400_000


@pytest.fixture
def make(kafka: Broker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make worlds with names of their own, on the shared broker or another one."""

    def new(workers: int = 1, start: str = "earliest", *, broker: Broker = kafka, fixed: bool = True) -> World:
        name = f"start-{uuid.uuid4().hex[:8]}"
        world = World(tmp_path_factory.mktemp(name), name, broker.bootstrap, registry.url, workers, start)
        if fixed:
            done = world.cli("doctor", "--fix", "--format", "json")
            assert "created" in done.stdout, done.stderr
        return world

    return new


@pytest.fixture
def run() -> Iterator[Callable[[World], RunningGateway]]:
    """Start gateways; none outlives the test."""
    running: list[RunningGateway] = []

    def start(world: World) -> RunningGateway:
        running.append(world.start())
        until(running[-1].ready, running[-1].log)
        return running[-1]

    yield start
    for gateway in running:
        gateway.stop()


# What is missing or unfit


def test_missing_topics_are_refused_together_and_none_is_created(make: Make) -> None:
    """Source, outputs, dead letters and consent, each with what to do."""
    world = make(fixed=False)
    world.admin.delete_topic(world.source)
    until(lambda: world.source not in world.admin.topics())

    refused = refusals(world)

    fix = "(create it, or run 'tokenweir doctor --fix')"
    assert refused == [
        (
            f"consent topic {world.name}.consent: does not exist "
            "(create it with cleanup.policy=compact, or run 'tokenweir doctor --fix')"
        ),
        f"source topic {world.source}: does not exist (create it, or correct streams in the policy)",
        f"output topic {world.source}.crm: does not exist {fix}",
        f"output topic {world.source}.ads: does not exist {fix}",
        f"dead-letter topic {world.source}.dead-letters: does not exist {fix}",
    ]
    assert not [topic for topic in world.admin.topics() if topic.startswith(world.name)]


def test_topics_that_do_not_fit_the_policy_are_refused_together(make: Make) -> None:
    """Too many consent partitions, records kept too long, and compaction where records have no key."""
    world = make(fixed=False)
    world.admin.create_topic(f"{world.name}.consent", 129, config={"cleanup.policy": "compact"})
    world.admin.create_topic(f"{world.source}.crm", 2, config={"retention.ms": "-1"})
    world.admin.create_topic(f"{world.source}.ads", 2, config={"retention.ms": str(31 * _DAY_MS)})
    world.admin.create_topic(f"{world.source}.dead-letters", 2, config={"cleanup.policy": "compact"})

    refused = refusals(world)

    assert refused == [
        f"consent topic {world.name}.consent: has 129 partitions (at most 128 fit the offset metadata)",
        (
            f"retention of {world.source}.crm: kept for ever, but no purpose of audience 'crm' allows more than "
            f"365 days (set retention.ms={365 * _DAY_MS} or less)"
        ),
        (
            f"retention of {world.source}.ads: kept 31 days, but no purpose of audience 'ads' allows more than 30 days "
            f"(set retention.ms={30 * _DAY_MS} or less)"
        ),
        (
            f"retention of {world.source}.dead-letters: is compacted, but dead letters have no key "
            "(set cleanup.policy=delete)"
        ),
    ]


def test_a_consent_topic_that_forgets_and_a_lost_keyset_are_refused(make: Make) -> None:
    """Decisions would be deleted by age; without keys no token can be made."""
    world = make(fixed=False)
    world.admin.create_topic(f"{world.name}.consent", 1)
    world.cli("doctor", "--fix")

    assert refusals(world) == [
        (
            f"consent topic {world.name}.consent: cleanup.policy is 'delete' "
            "(set cleanup.policy=compact, or decisions are lost)"
        )
    ]
    (world.directory / "keys" / "keyset.json").unlink()
    with pytest.raises(KeysError, match="there is no keyset; make one with 'tokenweir keys init'") as refused:
        refusals(world)
    assert refused.value.exit_code == 3


# Where a group begins


def test_a_group_that_never_began_begins_where_the_setting_says(make: Make) -> None:
    """Earliest and latest are committed with the consent position; refuse waits for the operator, and only once."""
    for start, expected in (("earliest", [0, 0]), ("latest", [3, 0])):
        world = make(start=start)
        world.send(1, 3, partition=0)
        assert refusals(world) == []
        assert committed_offsets(world) == expected
        position = ConsentPosition.parse(committed(world)[0].metadata)
        assert position is not None
        assert position.source == Source(world.admin.describe_topic(world.source).topic_id, 2)

    world = make(start="refuse")
    world.send(1, 3, partition=0)
    assert refusals(world) == [
        (
            f"offsets of group {group_of(world)}: the group has no committed offsets, and gateway.start is 'refuse' "
            "(say where to begin: 'tokenweir offsets set interactions --all --to earliest|latest|OFFSET|TIME')"
        )
    ]
    assert world.cli("offsets", "set", "interactions", "--all", "--to", "earliest", "--yes").returncode == 0
    assert refusals(world) == []
    assert committed_offsets(world) == [0, 0]


def test_a_partition_that_lost_its_offset_is_refused_and_a_new_one_is_not(make: Make) -> None:
    """The repair is one command; what it does is said before."""
    world = make()
    world.send(1, 5, partition=0)
    assert refusals(world) == []
    forget_offsets(world, 0)

    refused = refusals(world)
    done = world.cli("offsets", "set", "interactions", "0", "--to", "2", "--yes")

    assert refused == [
        (
            f"offsets of group {group_of(world)}: {world.source}-0 has no committed offset, though it is not new "
            "(stop the gateway, look at 'tokenweir offsets show --stream interactions', and say where to go on: "
            "'tokenweir offsets set interactions 0 --to earliest|latest|OFFSET|TIME')"
        )
    ]
    assert done.returncode == 0, done.stderr
    assert "skips up to 2 records: those that were not sanitized yet never will be" in done.stderr
    assert committed_offsets(world) == [2, 0]
    add_partitions(world, 4)
    assert refusals(world) == []


def test_offsets_outside_of_the_topic_are_refused_before_a_worker_starts(make: Make) -> None:
    """Deleted records, an end that went back, and a topic of the same name that was created again."""
    world = make()
    world.send(1, 8, partition=0)
    assert refusals(world) == []
    old = committed(world)
    world.admin.delete_records(world.source, {0: 6})
    world.admin.set_committed(group_of(world), world.source, {1: (7, old[1].metadata)})

    (refused,) = refusals(world)
    assert f"the committed offset 0 of {world.source}-0 lies before its first record (6): up to 6 records" in refused
    assert f"the committed offset 7 of {world.source}-1 lies beyond its end (0)" in refused
    assert "'tokenweir offsets set interactions 0 1 --to earliest|latest|OFFSET|TIME'" in refused
    assert world.cli("offsets", "show").returncode == 3
    assert world.cli("offsets", "set", "interactions", "--all", "--to", "earliest", "--yes").returncode == 0
    assert refusals(world) == []
    assert world.cli("offsets", "show").returncode == 0

    replace_topic(world, world.source, 2)
    until(lambda: committed_offsets(world) == [None, None])
    world.send(1, 9, partition=0)
    # What a worker of the old topic would have committed in that moment lies within the new one.
    world.admin.set_committed(group_of(world), world.source, {0: (6, old[0].metadata), 1: (0, old[1].metadata)})
    (refused,) = refusals(world)
    assert f"the committed offset 6 of {world.source}-0 is of a topic that was deleted and created again" in refused


def test_offsets_can_be_set_to_a_time(make: Make) -> None:
    """It is the first record that was written then or later, of each partition by itself."""
    world = make()
    world.send(1, 2, partition=0)
    time.sleep(0.05)
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    time.sleep(0.05)
    world.send(1, 2, partition=0)
    done = world.cli("offsets", "set", "interactions", "--all", "--to", moment, "--yes")
    assert done.returncode == 0, done.stderr
    assert committed_offsets(world) == [2, 0]


def test_another_consent_topic_is_refused_until_it_is_accepted(make: Make) -> None:
    """A restart must not forget every withdrawal because somebody made the topic anew."""
    world = make()
    consent = f"{world.name}.consent"
    assert refusals(world) == []
    replace_topic(world, consent, 8, {"cleanup.policy": "compact"})

    assert refusals(world) == [
        (
            f"consent of group {group_of(world)}: the consent topic is another one: it was deleted and created again, "
            f"or consent.topic was changed (write every decision and withdrawal to {consent} again, then accept it: "
            "'tokenweir offsets set interactions --all --to committed' moves no offset)"
        )
    ]
    accepted = world.cli("offsets", "set", "interactions", "--all", "--to", "committed", "--yes")
    assert accepted.returncode == 0, accepted.stderr
    assert "stays where it is" in accepted.stderr
    assert refusals(world) == []
    add_partitions(world, 9, consent)
    assert "the consent topic had 8 partitions, and now has 9" in refusals(world)[0]


def test_a_gateway_stops_for_lost_records_and_goes_on_after_the_repair(
    make: Make, run: Callable[[World], RunningGateway]
) -> None:
    """Real processes: run, stop, lose records, refuse with 3, repair, run; what is left leaves exactly once."""
    world = make()
    gateway = run(world)
    gateway.allow(1, "email_marketing")
    world.send(1, 4, partition=0)
    until(has_committed(world, 4, 0), gateway.log)
    pulled = world.cli("offsets", "set", "interactions", "--all", "--to", "earliest", "--yes")
    shown = world.cli("offsets", "show", "--format", "json")
    assert gateway.stop() == 0
    world.send(1, 6, partition=0)
    world.admin.delete_records(world.source, {0: 7})

    refused = world.refused_run()
    repaired = world.cli("offsets", "set", "interactions", "0", "--to", "earliest", "--yes")
    again = run(world)
    until(has_committed(world, 10, 0), again.log)

    assert (pulled.returncode, shown.returncode) == (3, 0)
    assert f"has 1 member ({world.name}.interactions.0 on 127.0.0.1)" in pulled.stderr
    assert refused.returncode == 3
    assert f"the committed offset 4 of {world.source}-0 lies before its first record (7)" in refused.stderr
    assert "'tokenweir offsets set interactions 0 --to earliest|latest|OFFSET|TIME'" in refused.stderr
    assert repaired.returncode == 0, repaired.stderr
    assert "up to 3 records were deleted before anyone read them" in repaired.stderr
    assert len(world.read("raw.crm")) == 4 + 3


def test_a_prompt_that_waits_undoes_nothing_that_a_gateway_does_meanwhile(
    make: Make, run: Callable[[World], RunningGateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes: what was shown is no longer so when it is answered; no record leaves twice."""
    world = make()
    world.allow(1, "email_marketing")
    world.send(1, 3, partition=0)
    assert refusals(world) == []

    def answer(*_arguments: object, **_named: object) -> str:
        gateway = run(world)
        until(has_committed(world, 3, 0), gateway.log)
        assert gateway.stop() == 0
        return "interactions"

    monkeypatch.setattr("tokenweir.cli.asking.can_ask", lambda: True)
    monkeypatch.setattr("tokenweir.cli.asking.typer.prompt", answer)
    refused = world.cli("offsets", "set", "interactions", "--all", "--to", "committed")
    after = committed(world)
    accepted = world.cli("offsets", "set", "interactions", "--all", "--to", "committed", "--yes")
    world.send(1, 1, partition=0)
    again = run(world)
    until(has_committed(world, 4, 0), again.log)
    pulled = world.cli("offsets", "set", "interactions", "--all", "--to", "earliest", "--yes")

    assert refused.returncode == 3, refused.stderr
    assert "partition 0: 0 -> 0: stays where it is" in refused.stderr
    assert f"the committed offset of {world.source}-0 was 0, and is 3 now" in refused.stderr
    assert [found.offset for found in after.values()] == [3, 0]
    assert accepted.returncode == 0, accepted.stderr
    assert pulled.returncode == 3
    assert len(world.read("raw.crm")) == 4


def test_two_instances_that_begin_a_stream_do_not_begin_it_twice(
    make: Make, run: Callable[[World], RunningGateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faster one has worked and left while the slower one was about to write where the stream begins."""
    world = make()
    world.send(1, 3, partition=0)
    consent_now = starts.consent_now

    def slow(*arguments: Any) -> ConsentPosition:  # noqa: ANN401 - whatever it takes.
        monkeypatch.undo()
        other = run(world)
        until(has_committed(world, 3, 0), other.log)
        assert other.stop() == 0
        return consent_now(*arguments)

    monkeypatch.setattr(starts, "consent_now", slow)
    gateway = Gateway.open(load_config(world.config, {}))
    starts.set_starts(gateway, world.admin, gateway.policy(), "interactions")

    assert committed_offsets(world) == [3, 0]


# What the gateway's principal may not do


@pytest.fixture
def guarded(broker_factory: Callable[..., Broker]) -> Broker:
    """A broker that asks its access lists; what is on none of them is open to everybody."""
    broker = broker_factory(GUARDED)
    broker.start()
    return broker


def test_missing_permissions_are_refused_with_what_to_grant(make: Make, guarded: Broker) -> None:
    """Each topic and the group by itself; a topic that may not even be seen is not called missing."""
    world = make(broker=guarded)
    assert refusals(world) == []
    assert world.cli("doctor").returncode == 0
    deny(world, f"{world.source}.crm", AclOperation.WRITE)
    deny(world, f"{world.source}.dead-letters", AclOperation.WRITE)
    deny(world, world.source, AclOperation.READ)
    deny(world, f"{world.name}.consent", AclOperation.READ)
    deny(world, f"{world.source}.ads", AclOperation.DESCRIBE)
    until(lambda: len(refusals(world)) == 5)

    grant = "to the gateway's principal"
    assert refusals(world) == [
        f"consent topic {world.name}.consent: may not be read (grant READ {grant})",
        f"source topic {world.source}: may not be read (grant READ {grant})",
        f"output topic {world.source}.crm: may not be written (grant WRITE {grant})",
        (
            f"output topic {world.source}.ads: cannot be looked at: the gateway's principal may not "
            "(TOPIC_AUTHORIZATION_FAILED) (grant DESCRIBE on the topic to it)"
        ),
        f"dead-letter topic {world.source}.dead-letters: may not be written (grant WRITE {grant})",
    ]

    seen = "may not be used (grant READ on the group to the gateway's principal)"
    unseen = "cannot be looked at: the gateway's principal may not (GROUP_AUTHORIZATION_FAILED)"
    assert refused_without(make(broker=guarded), AclOperation.READ).endswith(seen)
    assert unseen in refused_without(make(broker=guarded), AclOperation.DESCRIBE)
