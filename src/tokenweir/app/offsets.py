"""Looks at the committed offsets of streams and sets them, saying first which records that skips or repeats."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tokenweir.adapters.admin import Admin, TopicDescription
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.config import Config
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.timestamps import parse_date_time
from tokenweir.errors import InvalidValueError, RefusedError, UsageError
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
from tokenweir.words import counted

_CLIENT_ID: Final = "tokenweir-offsets-tool"
_ANSWER_SECONDS: Final = 10.0
_OFFSET: Final = re.compile(r"[0-9]{1,18}")


class Where(StrEnum):
    """The kinds of places to which an offset can be set."""

    EARLIEST = "earliest"
    LATEST = "latest"
    COMMITTED = "committed"
    OFFSET = "offset"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to go on: a kind of place, and the offset or the milliseconds since 1970 where it has a number."""

    where: Where
    number: int = 0


def target_of(text: str) -> Target:
    """Return the target that a person names.

    Raises:
        UsageError: It is none of them.
    """
    if text in {Where.EARLIEST, Where.LATEST, Where.COMMITTED}:
        return Target(Where(text))
    if _OFFSET.fullmatch(text):
        return Target(Where.OFFSET, int(text))
    try:
        return Target(Where.TIME, parse_date_time(text))
    except InvalidValueError:
        kinds = "earliest, latest, committed, an offset, or an RFC 3339 time such as 2026-11-22T10:00:00Z"
        raise UsageError(f"--to takes {kinds}") from None


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


@dataclass(frozen=True, slots=True)
class Move:
    """What setting the offset of one partition does.

    Attributes:
        place: Where it is now.
        to: The next offset to process.
    """

    place: PartitionOffset
    to: int

    @property
    def _from(self) -> int | None:
        """Up to where records are known to be processed, as far as the topic still has them."""
        place = self.place
        if place.committed is None or place.former or place.committed > place.high:
            return None
        return max(place.committed, place.low)

    @property
    def skipped(self) -> int:
        """How many records are passed over at most, some of which may have been processed where that is not known."""
        return max(0, self.to - (self.place.low if self._from is None else self._from))

    @property
    def repeated(self) -> int:
        """How many records are processed a second time at most, if they were at all where that is not known."""
        return max(0, (self.place.high if self._from is None else self._from) - self.to)

    @property
    def effect(self) -> str:
        """All of it in words."""
        if self._from is None:
            return self._effect_unknown()
        parts = []
        if self.place.committed is not None and self.place.committed < self.place.low:
            gone = counted(self.place.low - self.place.committed, "record")
            parts.append(f"up to {gone} were deleted before anyone read them")
        if self.skipped:
            parts.append(f"skips up to {counted(self.skipped, 'record')}: they will never be sanitized")
        if self.repeated:
            parts.append(
                f"processes up to {counted(self.repeated, 'record')} again: their sanitized records will be doubled"
            )
        if not parts:
            parts.append("stays where it is; only the consent position is written anew")
        return "; ".join(parts)

    def _effect_unknown(self) -> str:
        parts = ["what was processed is not known"]
        if self.skipped:
            parts.append(
                f"skips up to {counted(self.skipped, 'record')}: those that were not sanitized yet never will be"
            )
        if self.repeated:
            parts.append(
                f"processes up to {counted(self.repeated, 'record')}: if they were already, "
                "their sanitized records will be doubled"
            )
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Change:
    """Offsets that are to be set in one request, for a group without members.

    Attributes:
        stream: The stream.
        group: Its consumer group.
        topic: Its source topic.
        moves: What happens to each partition, in their order.
        warnings: What else it accepts.
        position: The consent position that is written beside every offset.
    """

    stream: str
    group: str
    topic: str
    moves: tuple[Move, ...]
    warnings: tuple[str, ...]
    position: ConsentPosition


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
            notes.append(_UNSTABLE_REMEDY)
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
                f"offsets of {source.name} ({which}) hang on an undecided transaction: {_UNSTABLE_REMEDY}"
            )
        unknown = sorted(set(partitions or ()) - set(range(source.partitions)))
        if unknown:
            raise UsageError(f"{source.name} has the partitions 0 to {source.partitions - 1}, and not {unknown[0]}")
        chosen = [place for place in found if partitions is None or place.partition in partitions]
        if partitions is None and target.where is Where.COMMITTED:
            # What has not begun has nothing to keep.
            chosen = [place for place in chosen if place.state is not OffsetState.NEW]
        goals = self._goals(stream, chosen, target)
        moves = tuple(Move(place, goals[place.partition]) for place in chosen)
        position = self._consent_now(source, found, chosen)
        reasons = dict.fromkeys(filter(None, (other_consent(place.position, position) for place in chosen)))
        warnings = [
            f"{reason}; what was decided there and is not on the present one is forgotten" for reason in reasons
        ]
        return Change(stream, group, source.name, moves, tuple(warnings), position)

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

    def carry_out(self, change: Change) -> None:
        """Write offsets and metadata in one request, and read back what the broker has.

        Raises:
            RefusedError: The group got members meanwhile, or something else than what was written is read back.
        """
        metadata = change.position.encode()
        wanted = {move.place.partition: (move.to, metadata) for move in change.moves}
        try:
            self._admin.set_committed(change.group, change.topic, wanted)
        except KafkaFault as fault:
            if fault.retriable:
                raise RefusedError(
                    f"the broker did not answer ({fault.code}), so it is not known whether the offsets were set: look "
                    f"at 'tokenweir offsets show --stream {change.stream}', and set them again"
                ) from fault
            self._require_empty(change.group)
            raise
        if self._admin.committed(change.group, change.topic, wanted) != wanted:
            raise RefusedError(
                f"the offsets of group {change.group} are not what was written: something else writes them too; look "
                f"at 'tokenweir offsets show --stream {change.stream}'"
            )

    def _require_empty(self, group: str) -> None:
        members = self._admin.members(group)
        if members:
            names = ", ".join(sorted(f"{member.client_id} on {member.host.removeprefix('/')}" for member in members))
            raise RefusedError(
                f"group {group} has {counted(len(members), 'member')} ({names}), which would go on from their own "
                "offsets: stop every instance of the gateway first; a killed one leaves the group after "
                "session.timeout.ms (10 s by default)"
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


_UNSTABLE_REMEDY: Final = (
    "an undecided transaction ends by itself after 15 seconds; if it stays, start the gateway and stop it again, which "
    "decides the transactions of its workers"
)


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
