"""Looks at the committed offsets of streams and sets them, saying first which records that skips or repeats."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokenweir.adapters.admin import Admin, Member, TopicDescription
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.app.cluster import unknown_partition
from tokenweir.app.offsetplan import Change, Move, Target, Where
from tokenweir.config import Config
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.errors import RefusedError, UsageError
from tokenweir.runtime.gateway import group_of
from tokenweir.runtime.offsets import (
    REFUSED,
    OffsetState,
    PartitionOffset,
    begun,
    consent_remedy,
    other_consent,
    read_offsets,
    repair,
)
from tokenweir.runtime.position import ConsentPosition, Source
from tokenweir.runtime.starts import consent_now
from tokenweir.runtime.statelock import held_in_passing
from tokenweir.words import counted

_CLIENT_ID: Final = "tokenweir-offsets-tool"
_ANSWER_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Row:
    """What is shown of one partition.

    Attributes:
        place: Its committed offset.
        consent: The consent position beside it, in words.
        policy_digest: The policy under which its last record was decided; "" where that is not known.
    """

    place: PartitionOffset
    consent: str
    policy_digest: str


@dataclass(frozen=True, slots=True)
class StreamOffsets:
    """What is shown of one stream.

    Attributes:
        stream: Its name.
        group: Its consumer group.
        topic: Its source topic.
        members: How many members the group has.
        rows: Every partition of the source.
        remedies: What to do; none where a gateway would start.
        notes: What passes by itself.
    """

    stream: str
    group: str
    topic: str
    members: int
    rows: tuple[Row, ...]
    remedies: tuple[str, ...]
    notes: tuple[str, ...]


class OffsetTool:
    """Reads and sets the offsets of one gateway's streams. Every method may raise KafkaFault."""

    def __init__(self, config: Config, loaded: LoadedPolicy, admin: Admin | None = None) -> None:
        """Put it together; nothing is asked yet."""
        self._config = config
        self._loaded = loaded
        self._admin = admin or Admin(config.kafka.client_properties(), _CLIENT_ID, _ANSWER_SECONDS)

    def show(self, streams: Sequence[str]) -> list[StreamOffsets]:
        """Return the offsets of streams."""
        return [self._show(stream) for stream in streams]

    def _show(self, stream: str) -> StreamOffsets:
        try:
            group, source, found = self._read(stream)
        except KafkaFault as fault:
            # One stream without its topic hides no other.
            if fault.code != "UNKNOWN_TOPIC_OR_PART":
                raise
            topic = self._loaded.policy.streams[stream].source.topic
            missing = f"the source topic {topic} does not exist: create it, or correct streams in the policy"
            return StreamOffsets(stream, group_of(self._config, stream), topic, 0, (), (missing,), ())
        now = self._consent_now(source, found)
        members = len(self._admin.members(group))
        unfit = [place.partition for place in found if place.state in REFUSED]
        remedies = [f"{place.problem}" for place in found if place.state in REFUSED]
        if unfit:
            remedies.append(repair(stream, unfit))
        strange = next((place for place in found if other_consent(place.position, now)), None)
        if strange is not None:
            topic = self._config.consent.topic
            remedies.append(
                f"{other_consent(strange.position, now)}: {consent_remedy(stream, topic, strange.position, now)}"
            )
        rows = tuple(Row(place, _consent(place, now), _digest(place)) for place in found)
        notes = self._notes(found, members)
        return StreamOffsets(stream, group, source.name, members, rows, tuple(remedies), tuple(notes))

    def _notes(self, found: Sequence[PartitionOffset], members: int) -> list[str]:
        notes = []
        if not members:
            notes.append("the group has no members: the gateway is not running")
        if all(place.state is OffsetState.NEW for place in found):
            notes.append(f"nothing is committed yet: gateway.start is '{self._config.gateway.start}'")
        elif any(place.state is OffsetState.NEW for place in found):
            notes.append("a new partition begins at its beginning when a worker takes it over")
        if any(place.state is OffsetState.UNSTABLE for place in found):
            notes.append(_UNSTABLE_RUNNING if members else _UNSTABLE_STOPPED)
        return notes

    def plan(self, stream: str, partitions: Collection[int] | None, target: Target) -> Change:
        """Return what setting offsets would do; None means all partitions.

        Raises:
            RefusedError: The group has members, or a transaction with its offsets is not decided.
            UsageError: A partition or an offset is outside of the topic.
        """
        group, source, found = self._read(stream)
        self._require_empty(group)
        unstable = [place.partition for place in found if place.state is OffsetState.UNSTABLE]
        if unstable:
            which = ", ".join(map(str, unstable))
            raise RefusedError(
                f"offsets of {source.name} ({which}) hang on an undecided transaction: {_UNSTABLE_STOPPED}"
            )
        unknown = sorted(set(partitions or ()) - set(range(source.partitions)))
        if unknown:
            raise unknown_partition(source, unknown[0])
        chosen = [place for place in found if partitions is None or place.partition in partitions]
        if partitions is None and target.where is Where.COMMITTED:
            # What has not begun has nothing to keep.
            chosen = [place for place in chosen if place.state is not OffsetState.NEW]
        goals = self._goals(stream, chosen, target)
        moves = tuple(Move(place, goals[place.partition]) for place in chosen)
        # That of now is only looked at here: the one that is written is read when it is written.
        position = self._consent_now(source, found, chosen)
        reasons = dict.fromkeys(filter(None, (other_consent(place.position, position) for place in chosen)))
        warnings = [
            f"{reason}; what was decided there and is not on the present one is forgotten" for reason in reasons
        ]
        return Change(stream, group, source, tuple(found), moves, tuple(warnings), position)

    def _goals(self, stream: str, chosen: Sequence[PartitionOffset], target: Target) -> Mapping[int, int]:
        """Return by partition where to go on."""
        if target.where is Where.EARLIEST:
            return {place.partition: place.low for place in chosen}
        if target.where is Where.LATEST:
            return {place.partition: place.high for place in chosen}
        if target.where is Where.TIME:
            topic, numbers = self._loaded.policy.streams[stream].source.topic, [place.partition for place in chosen]
            first = self._admin.offsets_at(topic, numbers, target.number)
            # Where nothing is so new yet, it goes on with what comes next.
            return {
                place.partition: place.high if (found := first[place.partition]) is None else found for place in chosen
            }
        return {place.partition: _goal(place, target) for place in chosen}

    def carry_out(self, change: Change) -> Change:
        """Write offsets and metadata in one request, and read back what the broker has; return what was written.

        A plan may be minutes old, because somebody was asked about it. What a gateway did meanwhile must neither be
        done again nor be undone, so everything that the plan rests on is read again directly before the write. Kafka
        has no request that sets offsets only if they are still what they were. A gateway on this state directory
        cannot start meanwhile; one on another machine would have to start, commit and leave the group within the
        milliseconds between the read and the write: while it is there, the broker refuses the write.

        Raises:
            RefusedError: The group has members, the plan is outdated, the state directory is in use, or something else
                than what was written is read back.
        """
        with held_in_passing(self._config.state.directory):
            change = self._confirmed(change)
            metadata = change.position.encode()
            wanted = {move.place.partition: (move.to, metadata) for move in change.moves}
            self._write(change, wanted)
            self._check_written(change, wanted)
        return change

    def _confirmed(self, change: Change) -> Change:
        """Return a plan with the consent position of now, unless anything that it rests on has changed.

        That the group is empty is asked first: whatever its last member committed shows in the offsets that are read
        after that. The offsets are read last, so that nothing comes between them and the write.
        """
        self._require_empty(change.group)
        now = self._consent_now(change.source, change.found, [move.place for move in change.moves])
        _group, source, found = self._read(change.stream)
        reason = other_consent(change.position, now) or change.outdated(source, found)
        if reason:
            raise RefusedError(
                f"{reason}: that is not what was shown any more, so nothing was written; give the command again, and "
                "look at what it would do now"
            )
        # A withdrawal counts as enforced once every partition's position is past it, so that none may ever go back.
        return replace(change, position=now.at_least(place.position for place in found))

    def _write(self, change: Change, wanted: Mapping[int, tuple[int, str]]) -> None:
        try:
            self._admin.set_committed(change.group, change.topic, wanted)
        except KafkaFault as fault:
            if fault.retriable:
                raise RefusedError(
                    f"the broker did not answer ({fault.code}), so it is not known whether the offsets were set: "
                    f"{_look(change)}, and set them again"
                ) from fault
            self._require_empty(change.group)
            raise

    def _check_written(self, change: Change, wanted: Mapping[int, tuple[int, str]]) -> None:
        """Refuse to call it done unless the broker confirms it, and nobody has come meanwhile who may not know it."""
        try:
            members = self._admin.members(change.group)
            found = self._admin.committed(change.group, change.topic, wanted)
        except KafkaFault as fault:
            raise RefusedError(
                f"the offsets were set, but cannot be read back ({fault.code}): {_look(change)}"
            ) from fault
        if members:
            raise RefusedError(
                f"the offsets were set, but group {change.group} has got {_named(members)} meanwhile, and it is not "
                f"known from where that goes on: {_look(change)}"
            )
        if found != wanted:
            raise RefusedError(
                f"the offsets of group {change.group} are not what was written: something else writes them too; "
                f"{_look(change)}"
            )

    def _require_empty(self, group: str) -> None:
        members = self._admin.members(group)
        if members:
            raise RefusedError(
                f"group {group} has {_named(members)}, which would go on from their own offsets: stop every instance "
                "of the gateway first; a killed one leaves the group after session.timeout.ms (10 s by default)"
            )

    def _read(self, stream: str) -> tuple[str, TopicDescription, list[PartitionOffset]]:
        group = group_of(self._config, stream)
        source = self._admin.describe_topic(self._loaded.policy.streams[stream].source.topic)
        return group, source, read_offsets(self._admin, group, source)

    def _consent_now(
        self, source: TopicDescription, found: Sequence[PartitionOffset], chosen: Sequence[PartitionOffset] = ()
    ) -> ConsentPosition:
        # Partitions without an offset stay new or not, as they are; a group that has nothing at all begins as a whole.
        count = max([begun(found), *(place.partition + 1 for place in chosen)]) if begun(found) else source.partitions
        topic = self._config.consent.topic
        return consent_now(topic, self._admin, self._loaded, Source(source.topic_id, count))


#: Only a worker with the same transactional id decides a transaction, and it does so when it starts.
_UNSTABLE_STOPPED: Final = (
    "an undecided transaction ends by itself after 15 seconds; if it stays, start the gateway and stop it again, which "
    "decides the transactions of its workers"
)
_UNSTABLE_RUNNING: Final = (
    "the gateway is up, and an undecided transaction ends by itself after 15 seconds; if it stays, restart the "
    "instance of the gateway whose worker began it"
)


def _look(change: Change) -> str:
    return f"look at 'tokenweir offsets show --stream {change.stream}'"


def _named(members: Collection[Member]) -> str:
    names = ", ".join(sorted(f"{member.client_id} on {member.host.removeprefix('/')}" for member in members))
    return f"{counted(len(members), 'member')} ({names})"


def _goal(place: PartitionOffset, target: Target) -> int:
    name = f"{place.topic}-{place.partition}"
    if target.where is Where.OFFSET:
        if not place.low <= target.number <= place.high:
            raise UsageError(f"{name} has the offsets {place.low} to {place.high}, and not {target.number}")
        return target.number
    if place.committed is None or place.state is not OffsetState.OK:
        problem = place.problem or f"{name} has no committed offset"
        raise UsageError(f"{problem}: there is nothing to keep by --to committed")
    return place.committed


def _consent(place: PartitionOffset, now: ConsentPosition) -> str:
    """Return in words how much consent was applied when the last record of a partition was decided."""
    if place.committed is None:
        return ""
    position = place.position
    if position is None:
        return "none: set by another tool"
    if position.topic_id != now.topic_id:
        return "of another consent topic"
    if len(position.offsets) != len(now.offsets):
        return f"of {counted(len(position.offsets), 'consent partition')}"
    behind = sum(max(0, end - position.offsets.get(number, 0)) for number, end in now.offsets.items())
    return f"{behind:,} behind" if behind else "up to date"


def _digest(place: PartitionOffset) -> str:
    return "" if place.position is None else place.position.policy_digest
