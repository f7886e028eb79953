"""The revoke barrier against recorded answers: every state of the cluster that must hold a withdrawal up does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenweir.adapters.admin import Isolation, Member, TopicDescription
from tokenweir.adapters.consumer import Committed
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.runtime.barrier import GONE_SECONDS, REMEDIES, Barrier, Cause, Report, State, Withdrawal, wait
from tokenweir.runtime.position import ConsentPosition
from tokenweir.runtime.survey import Flow

_K, _R = 1, 7
_WITHDRAWAL = Withdrawal("consent", "id-1", _K, _R)
_FLOWS = (
    Flow("clicks", "gw.clicks", "raw.clicks", ("clicks.crm", "clicks.ads"), "clicks.letters"),
    Flow("orders", "gw.orders", "raw.orders", ("orders.crm",), "orders.letters"),
)
_UNSTABLE = UnstableOffsetsError("read committed offsets", "UNSTABLE_OFFSET_COMMIT", retriable=True)


def _metadata(applied: int = _R + 1, topic_id: str = "id-1", digest: str = "policy-1") -> str:
    return ConsentPosition(topic_id, digest, {0: 3, _K: applied}).encode()


def _committed(applied: int = _R + 1) -> Committed:
    return Committed(100, _metadata(applied))


@dataclass
class Clock:
    """A clock that moves when it is told to, and by a millisecond at each look at the time of day."""

    ns: int = 1_000_000_000

    def now_ms(self) -> int:
        """Wall clock."""
        self.ns += 1_000_000
        return self.ns // 1_000_000

    def monotonic_ns(self) -> int:
        """Monotonic clock."""
        return self.ns

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.ns += int(seconds * 1e9)


@dataclass
class Cluster:
    """The answers of a cluster in which everything is through; a test spoils what it is about."""

    partitions: dict[str, int] = field(
        default_factory=lambda: {
            "consent": 2,
            "raw.clicks": 2,
            "raw.orders": 1,
            "clicks.crm": 2,
            "clicks.ads": 1,
            "orders.crm": 1,
            "clicks.letters": 2,
        }
    )
    topic_ids: dict[str, str] = field(default_factory=lambda: {"consent": "id-1"})
    group_members: dict[str, tuple[Member, ...]] = field(
        default_factory=lambda: {
            "gw.clicks": (
                Member("gw.clicks.0", "/10.0.0.1", frozenset({("raw.clicks", 0)})),
                Member("gw.clicks.1", "/10.0.0.2", frozenset({("raw.clicks", 1)})),
            ),
            "gw.orders": (Member("gw.orders.0", "/10.0.0.1", frozenset({("raw.orders", 0)})),),
        }
    )
    offsets: dict[tuple[str, str, int], Committed | KafkaFault] = field(
        default_factory=lambda: {
            ("gw.clicks", "raw.clicks", 0): _committed(),
            ("gw.clicks", "raw.clicks", 1): _committed(),
            ("gw.orders", "raw.orders", 0): _committed(),
        }
    )
    high: dict[tuple[str, int], int] = field(
        default_factory=lambda: {
            ("clicks.crm", 0): 50,
            ("clicks.crm", 1): 0,
            ("clicks.ads", 0): 60,
            ("orders.crm", 0): 70,
        }
    )
    stable: dict[tuple[str, int], int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name.partition(" ")[0] in self.failing:
            raise KafkaFault(name, "_TIMED_OUT", retriable=True)

    def describe_topic(self, name: str) -> TopicDescription:
        """Id and partitions."""
        self._called(f"describe {name}")
        if name in self.gone:
            raise KafkaFault(f"describe {name}", "UNKNOWN_TOPIC_OR_PART")
        return TopicDescription(name, self.topic_ids.get(name, f"id of {name}"), self.partitions[name], None)

    def groups(self, prefix: str = "") -> dict[str, bool]:
        """Groups under a prefix."""
        self._called("groups")
        return {group: bool(members) for group, members in self.group_members.items() if group.startswith(prefix)}

    def members(self, group: str) -> tuple[Member, ...]:
        """Members of a group."""
        self._called(f"members {group}")
        return self.group_members[group]

    def committed_topics(self, group: str) -> set[str]:
        """Topics with offsets."""
        self._called(f"topics {group}")
        return {topic for owner, topic, _ in self.offsets if owner == group} - self.unlisted

    def committed_each(self, group: str, topic: str, partitions: Iterable[int]) -> Mapping[int, Committed | KafkaFault]:
        """Offsets of partitions."""
        self._called(f"committed {group} {topic}")
        return {number: self.offsets.get((group, topic, number), Committed(None, "")) for number in partitions}

    def high_watermarks(
        self, topic: str, partitions: Iterable[int], isolation: Isolation = "read_uncommitted"
    ) -> Mapping[int, int]:
        """High watermarks or last stable offsets; the latter are the former where a test says nothing."""
        self._called(f"{'stable' if isolation == 'read_committed' else 'high'} {topic}")
        found = self.high if isolation == "read_uncommitted" else {**self.high, **self.stable}
        return {number: found[topic, number] for number in partitions if (topic, number) in found}


def _barrier(cluster: Cluster, clock: Clock | None = None) -> Barrier:
    return Barrier(cluster, clock or Clock(), _WITHDRAWAL, _FLOWS, "gw", "policy-1")


def _only(report: Report) -> tuple[Cause, str, str, int | None]:
    (holdup,) = report.holdups
    return holdup.place


# Enforced


def test_it_is_enforced_when_everything_is_through_and_the_evidence_says_so() -> None:
    """The report holds each position with its time, and H and the last stable offset of every output partition."""
    report = _barrier(Cluster()).look()

    assert (report.state, report.holdups, report.not_known) == (State.ENFORCED, (), ())
    readings = {
        (group.group, found.topic, found.partition): found for group in report.groups for found in group.partitions
    }
    assert set(readings) == set(Cluster().offsets)
    assert {found.position and found.position.offsets[_K] for found in readings.values()} == {_R + 1}
    assert readings["gw.clicks", "raw.clicks", 1].worker == "gw.clicks.1 on 10.0.0.2"
    outputs = {(found.topic, found.partition): found for found in report.outputs}
    assert {place: found.high_watermark for place, found in outputs.items()} == Cluster().high
    for output in report.outputs:
        asked = max(found.read_at_ms for found in readings.values())
        assert asked < output.high_watermark_at_ms < output.last_stable_offset_at_ms <= report.at_ms


def test_the_questions_are_asked_in_the_order_of_the_proof() -> None:
    """All committed offsets, then all high watermarks, then all last stable offsets; partitions just before each."""
    cluster = Cluster()
    _barrier(cluster).look()

    kinds = [call.partition(" ")[0] for call in cluster.calls]
    last_committed = max(index for index, kind in enumerate(kinds) if kind == "committed")
    high = [index for index, kind in enumerate(kinds) if kind == "high"]
    stable = [index for index, kind in enumerate(kinds) if kind == "stable"]
    assert last_committed < min(high)
    assert max(high) < min(stable)
    for topic in ("raw.clicks", "raw.orders"):
        described = cluster.calls.index(f"describe {topic}")
        assert described < next(
            i for i, call in enumerate(cluster.calls) if call.endswith(f" {topic}") and i > described
        )


def test_h_is_fixed_when_the_groups_are_through_and_then_waited_for() -> None:
    """Later records raise the high watermark, not H; the last stable offset must reach H and need not pass it."""
    cluster = Cluster(stable={("clicks.ads", 0): 59})
    barrier = _barrier(cluster)
    first = barrier.look()
    cluster.high["clicks.ads", 0] = 1_000
    cluster.calls.clear()
    second = barrier.look()
    cluster.stable["clicks.ads", 0] = 60
    third = barrier.look()

    assert _only(first) == _only(second) == (Cause.OPEN_TRANSACTION, "", "clicks.ads", 0)
    assert (first.state, second.state, third.state) == (State.PENDING, State.PENDING, State.ENFORCED)
    assert {found.high_watermark for found in third.outputs if found.topic == "clicks.ads"} == {60}
    assert not [call for call in cluster.calls if call.startswith("high")]


def test_h_is_read_after_the_groups_are_through() -> None:
    """Records that an older transaction adds while a group is behind lie below H."""
    cluster = Cluster()
    cluster.offsets["gw.clicks", "raw.clicks", 0] = _committed(_R)
    barrier = _barrier(cluster)
    held = barrier.look()
    cluster.high["clicks.crm", 0] = 51
    cluster.offsets["gw.clicks", "raw.clicks", 0] = _committed()
    through = barrier.look()

    assert (held.state, held.outputs) == (State.PENDING, ())
    assert next(found for found in through.outputs if found.topic == "clicks.crm").high_watermark == 51


# Each row of the table: spoil one thing, and it is held up there and nowhere else.


def _spoil_offset(
    value: Committed | KafkaFault, place: tuple[str, str, int] = ("gw.clicks", "raw.clicks", 1)
) -> Callable[[Cluster], None]:
    return lambda cluster: cluster.offsets.__setitem__(place, value)


_CLICKS_1 = ("gw.clicks", "raw.clicks", 1)
_FAULT = KafkaFault("read committed offsets", "GROUP_AUTHORIZATION_FAILED")


@pytest.mark.parametrize(
    ("spoil", "cause", "place", "state"),
    [
        (_spoil_offset(_UNSTABLE), Cause.OFFSETS_UNSTABLE, _CLICKS_1, State.PENDING),
        (_spoil_offset(_FAULT), Cause.KAFKA_FAULT, _CLICKS_1, State.PENDING),
        (_spoil_offset(Committed(None, "")), Cause.NOT_COMMITTED, _CLICKS_1, State.PENDING),
        (_spoil_offset(Committed(None, _metadata())), Cause.NOT_COMMITTED, _CLICKS_1, State.PENDING),
        (_spoil_offset(Committed(5, "")), Cause.POSITION_MISSING, _CLICKS_1, State.PENDING),
        (_spoil_offset(Committed(5, "somebody else's")), Cause.POSITION_MISSING, _CLICKS_1, State.PENDING),
        (
            _spoil_offset(Committed(5, _metadata(topic_id="id-0"))),
            Cause.OTHER_CONSENT_TOPIC,
            _CLICKS_1,
            State.PENDING,
        ),
        (_spoil_offset(_committed(_R)), Cause.BEHIND, _CLICKS_1, State.PENDING),
        (_spoil_offset(_committed(0)), Cause.BEHIND, _CLICKS_1, State.PENDING),
        (_spoil_offset(Committed(5, "tw1;id-1;policy-1;0:99")), Cause.BEHIND, _CLICKS_1, State.PENDING),
        (
            _spoil_offset(_committed(_R), ("gw.orders", "raw.orders", 0)),
            Cause.BEHIND,
            ("gw.orders", "raw.orders", 0),
            State.PENDING,
        ),
        (
            lambda cluster: cluster.partitions.update({"raw.orders": 2}),
            Cause.NOT_COMMITTED,
            ("gw.orders", "raw.orders", 1),
            State.PENDING,
        ),
        (
            lambda cluster: cluster.group_members.update({"gw.orders": ()}),
            Cause.GROUP_EMPTY,
            ("gw.orders", "", None),
            State.NOT_RUNNING,
        ),
        (
            lambda cluster: cluster.group_members.pop("gw.orders"),
            Cause.GROUP_MISSING,
            ("gw.orders", "", None),
            State.NOT_RUNNING,
        ),
        (
            lambda cluster: cluster.topic_ids.update({"consent": "id-2"}),
            Cause.CONSENT_TOPIC_CHANGED,
            ("", "", None),
            State.PENDING,
        ),
        (
            lambda cluster: cluster.stable.update({("clicks.crm", 0): 49}),
            Cause.OPEN_TRANSACTION,
            ("", "clicks.crm", 0),
            State.PENDING,
        ),
        (
            lambda cluster: cluster.stable.update({("orders.crm", 0): 69}),
            Cause.OPEN_TRANSACTION,
            ("", "orders.crm", 0),
            State.PENDING,
        ),
    ],
)
def test_one_thing_that_is_not_through_holds_it_up_and_is_named(
    spoil: Callable[[Cluster], object], cause: Cause, place: tuple[str, str, int | None], state: State
) -> None:
    """With everything else as it must be, the answer is not ENFORCED, at the first look and at later ones."""
    cluster = Cluster()
    spoil(cluster)
    barrier = _barrier(cluster)

    reports = [barrier.look() for _ in range(3)]

    assert {report.state for report in reports} == {state}
    assert {_only(report) for report in reports} == {(cause, *place)}
    assert REMEDIES[cause]


def test_every_cause_has_a_remedy() -> None:
    """The list is closed."""
    assert set(REMEDIES) == set(Cause)


# Groups that replay dead letters


def _replay_cluster(*members: Member, offsets: Mapping[int, Committed | KafkaFault]) -> Cluster:
    """Return a cluster in which dead letters of the clicks are or were replayed."""
    cluster = Cluster()
    cluster.group_members["gw.clicks.replay"] = members
    for number, committed in offsets.items():
        cluster.offsets["gw.clicks.replay", "clicks.letters", number] = committed
    return cluster


@pytest.mark.parametrize(
    "offsets",
    [{}, {0: _committed(_R), 1: _committed(0)}, {0: Committed(5, ""), 1: Committed(None, "")}, {1: _committed()}],
)
def test_a_replay_group_without_members_holds_nothing_up(offsets: Mapping[int, Committed | KafkaFault]) -> None:
    """Wherever it stopped: a replay that joins it later waits for all consent that there is by then."""
    report = _barrier(_replay_cluster(offsets=offsets)).look()
    assert (report.state, report.holdups) == (State.ENFORCED, ())
    (resting,) = [group for group in report.groups if group.replay]
    assert (resting.stream, resting.members, len(resting.partitions)) == ("clicks", 0, 2)


@pytest.mark.parametrize("known", [{}, {0: _committed(), 1: _committed()}])
@pytest.mark.parametrize("fault", [_UNSTABLE, _FAULT])
def test_offsets_of_a_replay_that_are_not_decided_hold_it_up(
    known: Mapping[int, Committed | KafkaFault], fault: KafkaFault
) -> None:
    """With the very first transaction too, whose topic the group does not list before it is decided."""
    cluster = _replay_cluster(offsets={**known, 1: fault})
    cluster.unlisted = set() if known else {"clicks.letters"}
    barrier = _barrier(cluster)
    first = barrier.look()
    cluster.offsets["gw.clicks.replay", "clicks.letters", 1] = _committed(_R)
    second = barrier.look()

    cause = Cause.OFFSETS_UNSTABLE if fault is _UNSTABLE else Cause.KAFKA_FAULT
    assert (first.state, first.outputs) == (State.PENDING, ())
    assert _only(first) == (cause, "gw.clicks.replay", "clicks.letters", 1)
    assert second.state is State.ENFORCED


def test_a_replay_at_work_is_a_group_like_any_other() -> None:
    """Its positions must be beyond the withdrawal, in every partition of the letters."""
    member = Member("gw.clicks.replay.0", "/h", frozenset({("clicks.letters", 0), ("clicks.letters", 1)}))
    cluster = _replay_cluster(member, offsets={0: _committed(), 1: _committed(_R)})
    behind = _barrier(cluster).look()
    cluster.offsets["gw.clicks.replay", "clicks.letters", 1] = Committed(None, "")
    not_begun = _barrier(cluster).look()
    cluster.offsets["gw.clicks.replay", "clicks.letters", 1] = _committed()
    through = _barrier(cluster).look()

    assert (behind.state, not_begun.state, through.state) == (State.PENDING, State.PENDING, State.ENFORCED)
    assert _only(behind) == (Cause.BEHIND, "gw.clicks.replay", "clicks.letters", 1)
    assert _only(not_begun) == (Cause.NOT_COMMITTED, "gw.clicks.replay", "clicks.letters", 1)


def test_a_replay_group_is_asked_for_members_before_offsets() -> None:
    """With the questions the other way round a transaction could slip in between them."""
    cluster = _replay_cluster(offsets={0: _committed(_R), 1: _committed(_R)})
    _barrier(cluster).look()
    asked = [call for call in cluster.calls if "gw.clicks.replay" in call]
    assert asked == [
        "members gw.clicks.replay",
        "topics gw.clicks.replay",
        "committed gw.clicks.replay clicks.letters",
    ]


def test_a_replay_that_begins_while_an_answer_is_awaited_does_not_pass_for_the_one_that_rested() -> None:
    """What was read of a resting group is no proof for a running one."""
    cluster = _replay_cluster(offsets={0: _committed(_R), 1: _UNSTABLE})
    barrier = _barrier(cluster)
    resting = barrier.look()
    cluster.group_members["gw.clicks.replay"] = (Member("gw.clicks.replay.0", "/h", frozenset()),)
    cluster.offsets["gw.clicks.replay", "clicks.letters", 1] = _committed()
    running = barrier.look()

    assert _only(resting) == (Cause.OFFSETS_UNSTABLE, "gw.clicks.replay", "clicks.letters", 1)
    assert _only(running) == (Cause.BEHIND, "gw.clicks.replay", "clicks.letters", 0)


def test_a_replay_group_of_no_stream_counts_like_any_unknown_group() -> None:
    """Its name alone proves nothing: it may belong to a gateway with another prefix."""
    cluster = Cluster()
    cluster.group_members["gw.gone.replay"] = ()
    report = _barrier(cluster).look()
    assert (report.state, _only(report)) == (State.NOT_RUNNING, (Cause.GROUP_EMPTY, "gw.gone.replay", "", None))


def test_an_unknown_group_counts_until_it_is_deleted() -> None:
    """Whether its stream was removed from the policy or is new: empty, running and behind, running, and gone."""
    cluster = Cluster()
    cluster.group_members["gw.gone"] = ()
    cluster.offsets["gw.gone", "raw.gone", 0] = _committed(_R)
    cluster.partitions["raw.gone"] = 1
    empty = _barrier(cluster).look()
    cluster.group_members["gw.gone"] = (Member("gw.gone.0", "/h", frozenset()),)
    behind = _barrier(cluster).look()
    cluster.offsets["gw.gone", "raw.gone", 0] = _committed()
    through = _barrier(cluster).look()
    del cluster.group_members["gw.gone"]
    deleted = _barrier(cluster).look()

    assert (empty.state, behind.state) == (State.NOT_RUNNING, State.PENDING)
    assert _only(behind) == (Cause.BEHIND, "gw.gone", "raw.gone", 0)
    assert through.state is State.ENFORCED
    assert "gw.gone" in through.not_known[0]
    assert (deleted.state, deleted.not_known) == (State.ENFORCED, ())


def test_an_unknown_group_of_which_nothing_shows_what_it_reads_holds_it_up() -> None:
    """It may be about to read."""
    cluster = Cluster()
    cluster.group_members["gw.new"] = (Member("gw.new.0", "/h", frozenset()),)
    report = _barrier(cluster).look()
    assert (report.state, _only(report)[0]) == (State.PENDING, Cause.SOURCE_UNKNOWN)


def test_a_stream_counts_with_its_source_though_the_group_has_nothing_to_do_with_it_yet() -> None:
    """The policy was given another source, and the gateway was not started again."""
    cluster = Cluster()
    cluster.partitions["raw.new"] = 1
    flows = (_FLOWS[0], Flow("orders", "gw.orders", "raw.new", ("orders.crm",), "orders.letters"))
    report = Barrier(cluster, Clock(), _WITHDRAWAL, flows, "gw", "policy-1").look()
    assert (report.state, _only(report)) == (
        State.PENDING,
        (Cause.NOT_COMMITTED, "gw.orders", "raw.new", 0),
    )


@pytest.mark.parametrize("how", ["committed", "assigned"])
def test_a_group_counts_with_every_topic_that_it_has_to_do_with(how: str) -> None:
    """A source that the policy no longer names counts while the group has its offsets or a member reads it."""
    cluster = Cluster()
    cluster.partitions["raw.old"] = 1
    if how == "committed":
        cluster.offsets["gw.orders", "raw.old", 0] = _committed(_R)
    else:
        old = Member("gw.orders.1", "/h", frozenset({("raw.old", 0)}))
        cluster.group_members["gw.orders"] += (old,)
    report = _barrier(cluster).look()
    assert report.state is State.PENDING
    assert _only(report)[1:] == ("gw.orders", "raw.old", 0)


def test_groups_of_another_prefix_do_not_count() -> None:
    """`gw2.…` is another gateway, and so is `gw-…`."""
    cluster = Cluster()
    cluster.group_members |= {"gw2.clicks": (), "gw-reader": ()}
    assert _barrier(cluster).look().state is State.ENFORCED


def test_without_any_group_nothing_is_enforced() -> None:
    """An empty list of conditions is not a proof."""
    report = Barrier(Cluster(group_members={}), Clock(), _WITHDRAWAL, (), "gw", "policy-1").look()
    assert report.state is State.NOT_RUNNING


def test_another_policy_is_told() -> None:
    """A group that runs with another policy may write outputs that this one does not name."""
    cluster = Cluster()
    cluster.offsets["gw.orders", "raw.orders", 0] = Committed(1, _metadata(digest="policy-0"))
    report = _barrier(cluster).look()
    assert report.state is State.ENFORCED
    assert "gw.orders runs with another policy" in report.not_known[0]


# Key epochs


_ROTATED = (
    Flow("clicks", "gw.clicks", "raw.clicks", ("clicks.crm.e2", "clicks.crm", "clicks.ads"), "clicks.letters", (),
         (frozenset({1, 2}), frozenset({1}))),
    _FLOWS[1],
)  # fmt: skip


def _rotated(cluster: Cluster, epochs: str = "2+1,1") -> Cluster:
    """Give a cluster the topic of the second epoch, and gateways that feed some epochs."""
    cluster.partitions["clicks.crm.e2"] = 1
    cluster.high["clicks.crm.e2", 0] = 5
    for number in (0, 1):
        position = ConsentPosition("id-1", "policy-1", {0: 3, _K: _R + 1}, epochs=epochs)
        cluster.offsets["gw.clicks", "raw.clicks", number] = Committed(100, position.encode())
    return cluster


def test_the_topics_of_every_epoch_count() -> None:
    """While two epochs are fed, a withdrawal is enforced only once the outputs of both are through."""
    cluster = _rotated(Cluster(stable={("clicks.crm.e2", 0): 4}))
    barrier = Barrier(cluster, Clock(), _WITHDRAWAL, _ROTATED, "gw", "policy-1")

    held = barrier.look()
    cluster.stable.clear()

    assert _only(held) == (Cause.OPEN_TRANSACTION, "", "clicks.crm.e2", 0)
    report = barrier.look()
    assert (report.state, report.not_known) == (State.ENFORCED, ())
    assert {"clicks.crm.e2", "clicks.crm", "clicks.ads"} <= {output.topic for output in report.outputs}


@pytest.mark.parametrize("epochs", ["3,1", "2+1", "2,2"])
def test_epochs_that_are_not_known_here_are_told(epochs: str) -> None:
    """A gateway with a newer keyset feeds topics that this answer does not cover."""
    barrier = Barrier(_rotated(Cluster(), epochs), Clock(), _WITHDRAWAL, _ROTATED, "gw", "policy-1")

    assert "feeds key epochs" in barrier.look().not_known[0]


def test_a_former_epoch_counts_as_long_as_its_topic_is_there() -> None:
    """A gateway that was not restarted since may write it; once it is deleted for good there is nothing to wait for."""
    flows = (
        Flow("clicks", "gw.clicks", "raw.clicks", ("clicks.crm.e2",), "clicks.letters", ("clicks.crm",)),
        _FLOWS[1],
    )
    cluster, clock = _rotated(Cluster(stable={("clicks.crm", 0): 49})), Clock()
    held = Barrier(cluster, clock, _WITHDRAWAL, flows, "gw", "policy-1").look()
    cluster.gone.add("clicks.crm")
    barrier = Barrier(cluster, clock, _WITHDRAWAL, flows, "gw", "policy-1")

    first = barrier.look()
    clock.sleep(GONE_SECONDS + 1)
    second = barrier.look()

    assert _only(held) == (Cause.OPEN_TRANSACTION, "", "clicks.crm", 0)
    assert {holdup.cause for holdup in first.holdups} == {Cause.KAFKA_FAULT}
    assert second.state is State.ENFORCED
    assert "clicks.crm" not in {output.topic for output in second.outputs}


# What is not a clear answer


@pytest.mark.parametrize("failing", ["describe", "groups", "members", "topics", "committed", "high", "stable"])
def test_a_question_that_fails_is_waited_for(failing: str) -> None:
    """Nothing is raised, the fault is named, and the next look goes on where this one ended."""
    cluster = Cluster(failing={failing})
    barrier = _barrier(cluster)
    report = barrier.look()
    cluster.failing.clear()

    assert report.state is State.PENDING
    assert {holdup.cause for holdup in report.holdups} == {Cause.KAFKA_FAULT}
    assert "_TIMED_OUT" in report.holdups[0].text
    assert barrier.look().state is State.ENFORCED


def test_an_output_partition_that_is_missing_from_an_answer_is_not_taken_for_reached() -> None:
    """Neither in the high watermarks nor in the last stable offsets."""
    cluster = Cluster()
    del cluster.high["clicks.crm", 1]
    without_high = _barrier(cluster).look()
    cluster = Cluster()
    barrier = _barrier(cluster)
    cluster.stable["clicks.ads", 0] = 0
    barrier.look()
    del cluster.high["clicks.crm", 0]
    cluster.stable.clear()
    without_stable = barrier.look()

    assert (without_high.state, _only(without_high)[0]) == (State.PENDING, Cause.KAFKA_FAULT)
    assert _only(without_stable) == (Cause.OPEN_TRANSACTION, "", "clicks.crm", 0)


def test_a_partition_that_was_through_stays_so_and_keeps_its_evidence() -> None:
    """Busy workers are hardly ever all without a pending transaction; each needs to be caught once."""
    cluster = Cluster()
    cluster.offsets["gw.clicks", "raw.clicks", 1] = _UNSTABLE
    barrier = _barrier(cluster)
    first = barrier.look()
    cluster.offsets["gw.clicks", "raw.clicks", 0] = _UNSTABLE
    cluster.offsets["gw.clicks", "raw.clicks", 1] = _committed()
    second = barrier.look()

    assert _only(first)[-1] == 1
    assert second.state is State.ENFORCED
    assert first.groups[0].partitions[0] == second.groups[0].partitions[0]


# Alarms and waiting


@pytest.mark.parametrize("where", ["offsets", "output"])
def test_a_transaction_that_stays_undecided_raises_an_alarm(where: str) -> None:
    """Not within 30 s, twice the time after which a broker aborts one; and never again after it was decided."""
    cluster, clock = Cluster(), Clock()
    if where == "offsets":
        cluster.offsets["gw.clicks", "raw.clicks", 1] = _UNSTABLE
    else:
        cluster.stable["clicks.ads", 0] = 0
    barrier = _barrier(cluster, clock)
    alarms = []
    for seconds in (0, 29.9, 0.2):
        clock.sleep(seconds)
        alarms.append(barrier.look().holdups[0].alarm)
    last = barrier.look().holdups[0]

    assert alarms == [False, False, True]
    assert "for 30 s" in last.text
    assert "restart" in last.remedy


def test_what_is_only_behind_raises_no_alarm() -> None:
    """It may be because of a transaction elsewhere, or a worker that is stopped: it is named anyway."""
    cluster, clock = Cluster(), Clock()
    cluster.offsets["gw.clicks", "raw.clicks", 1] = _committed(_R)
    barrier = _barrier(cluster, clock)
    barrier.look()
    clock.sleep(100)
    assert not barrier.look().holdups[0].alarm


def test_an_undecided_transaction_is_looked_at_again_after_50_ms() -> None:
    """And as soon as it is decided, the wait ends."""
    cluster, clock = Cluster(), Clock()
    cluster.offsets["gw.clicks", "raw.clicks", 1] = _UNSTABLE
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.sleep(seconds)
        if len(pauses) == 3:
            cluster.offsets["gw.clicks", "raw.clicks", 1] = _committed()

    report = wait(_barrier(cluster, clock), 10, sleep=sleep)
    assert report.state is State.ENFORCED
    assert pauses == [0.05, 0.05, 0.05]


def test_when_the_time_is_up_the_last_report_is_returned() -> None:
    """With what holds it up; every report before it was told, and an empty group is asked for to the end."""
    cluster, clock = Cluster(), Clock()
    cluster.group_members["gw.orders"] = ()
    told: list[Report] = []
    begun_ns = clock.ns

    report = wait(_barrier(cluster, clock), 2, sleep=clock.sleep, on_report=told.append)

    assert (report.state, _only(report)[0]) == (State.NOT_RUNNING, Cause.GROUP_EMPTY)
    assert 2 <= (clock.ns - begun_ns) / 1e9 < 2.1
    assert len(told) > 3


def test_a_group_that_comes_back_within_the_wait_is_enough() -> None:
    """NOT_RUNNING is said at the end only."""
    cluster, clock = Cluster(), Clock()
    members = cluster.group_members["gw.orders"]
    cluster.group_members["gw.orders"] = ()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        cluster.group_members["gw.orders"] = members

    assert wait(_barrier(cluster, clock), 2, sleep=sleep).state is State.ENFORCED


def test_a_wait_of_no_time_looks_once() -> None:
    """For who only wants to know."""
    cluster = Cluster()
    report = wait(_barrier(cluster), 0, sleep=lambda _seconds: pytest.fail("it waited"))
    assert report.state is State.ENFORCED
    assert cluster.calls.count("groups") == 1


# Never early, whatever the cluster answers

_answers = st.one_of(
    st.just(_UNSTABLE),
    st.just(Committed(None, "")),
    st.just(Committed(5, "")),
    st.integers(_R - 1, _R + 2).map(_committed),
    st.integers(_R, _R + 1).map(lambda applied: Committed(5, _metadata(applied, topic_id="id-0"))),
)


@settings(max_examples=50, deadline=None)
@given(
    offsets=st.fixed_dictionaries(dict.fromkeys(Cluster().offsets, _answers | st.just(_committed()))),
    stable=st.fixed_dictionaries({place: st.integers(high - 1, high + 1) for place, high in Cluster().high.items()}),
    members=st.sampled_from([0, 1, 1, 1]),
)
def test_it_is_enforced_exactly_when_every_condition_holds(
    offsets: dict[tuple[str, str, int], Committed | KafkaFault], stable: dict[tuple[str, int], int], members: int
) -> None:
    """The rule once more, written as one expression."""
    cluster = Cluster(offsets=offsets, stable=stable)
    cluster.group_members["gw.orders"] = cluster.group_members["gw.orders"][:members]
    through = all(
        isinstance(found, Committed)
        and found.offset is not None
        and (position := ConsentPosition.parse(found.metadata)) is not None
        and position.topic_id == "id-1"
        and position.offsets[_K] > _R
        for found in offsets.values()
    )
    visible = all(stable[place] >= high for place, high in cluster.high.items())

    state = _barrier(cluster).look().state

    assert (state is State.ENFORCED) == (bool(members) and through and visible)
    assert (state is State.NOT_RUNNING) == (not members)
