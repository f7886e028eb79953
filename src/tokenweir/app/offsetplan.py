"""What setting offsets is to do: where to go on, which records that skips or repeats, and what it rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tokenweir.adapters.admin import TopicDescription
from tokenweir.core.timestamps import parse_date_time
from tokenweir.errors import InvalidValueError, UsageError
from tokenweir.runtime.offsets import OffsetState, PartitionOffset
from tokenweir.runtime.position import ConsentPosition
from tokenweir.words import counted

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
        source: Its source topic, as it was when this was planned.
        found: Every partition of it, as it was then.
        moves: What happens to each partition, in their order.
        warnings: What else it accepts.
        position: The consent position that is written beside every offset.
    """

    stream: str
    group: str
    source: TopicDescription
    found: tuple[PartitionOffset, ...]
    moves: tuple[Move, ...]
    warnings: tuple[str, ...]
    position: ConsentPosition

    @property
    def topic(self) -> str:
        """The name of the source topic."""
        return self.source.name

    def outdated(self, source: TopicDescription, found: Sequence[PartitionOffset]) -> str:
        """Return in words what is no longer as it was when this was planned, "" where all is."""
        if (source.topic_id, source.partitions) != (self.source.topic_id, self.source.partitions):
            return f"{source.name} was deleted and created again, or has another number of partitions"
        for before, now in zip(self.found, found, strict=True):
            place = f"{now.topic}-{now.partition}"
            if now.state is OffsetState.UNSTABLE:
                return f"the offset of {place} hangs on an undecided transaction"
            if now.committed != before.committed:
                was, is_ = ("none" if offset is None else offset for offset in (before.committed, now.committed))
                return f"the committed offset of {place} was {was}, and is {is_} now"
            if now.metadata != before.metadata:
                return f"another consent position stands beside the committed offset of {place}"
        for move in self.moves:
            now = found[move.place.partition]
            if not now.low <= move.to <= now.high:
                return f"{now.topic}-{now.partition} has the offsets {now.low} to {now.high}, and not {move.to}"
        return ""
