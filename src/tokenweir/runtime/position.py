"""The consent position in the metadata of committed offsets.

``tw1;<consent topic id>;<policy digest>;<k>:<offset>,…;<source topic id>:<partitions>;<epochs>``. Whoever takes a
partition over learns from it how much consent was applied when its last record was decided, and to which topic the
offset belongs. The epochs that were fed are missing where each output is in its first one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

PREFIX: Final = "tw1"
MAX_BYTES: Final = 4095
_PARTS: Final = 6


class Source(NamedTuple):
    """What an offset belongs to.

    Attributes:
        topic_id: The id of the source topic, which no later topic of the same name has.
        partitions: How many partitions the group had begun; one without an offset is new from this number on.
    """

    topic_id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class ConsentPosition:
    """Next offset to apply per partition of one incarnation of the consent topic, under one policy.

    Attributes:
        topic_id: The id of the consent topic.
        policy_digest: The policy under which records were decided.
        offsets: By partition of the consent topic, the next offset to apply.
        source: What the committed offset belongs to; None where that was not written.
        epochs: Of each output of the stream the key epochs that were fed (:func:`tokenweir.core.epochs.shown_epochs`).
    """

    topic_id: str
    policy_digest: str
    offsets: Mapping[int, int]
    source: Source | None = None
    epochs: str = ""

    def encode(self) -> str:
        """Return the metadata text.

        Raises:
            ValueError: if it is longer than the 4,095 bytes that brokers store by default.
        """
        offsets = ",".join(f"{partition}:{offset}" for partition, offset in sorted(self.offsets.items()))
        text = f"{PREFIX};{self.topic_id};{self.policy_digest};{offsets}"
        if self.source is not None:
            text += f";{self.source.topic_id}:{self.source.partitions}"
        if self.epochs:
            text += f"{'' if self.source is not None else ';'};{self.epochs}"
        if len(text) > MAX_BYTES:
            raise ValueError("the consent position does not fit the offset metadata; use fewer consent partitions")
        return text

    @classmethod
    def parse(cls, text: str) -> ConsentPosition | None:
        """Return the position that a metadata text holds, or None where it is missing or was written by others."""
        parts = text.split(";")
        if len(parts) not in {4, 5, 6} or parts[0] != PREFIX:
            return None
        offsets: dict[int, int] = {}
        for entry in parts[3].split(",") if parts[3] else []:
            partition, _, offset = entry.partition(":")
            if not (partition.isdecimal() and offset.isdecimal()):
                return None
            offsets[int(partition)] = int(offset)
        found = cls(parts[1], parts[2], offsets, epochs=parts[5] if len(parts) == _PARTS else "")
        if len(parts) == 4 or (len(parts) == _PARTS and not parts[4]):
            return found
        source_id, _, partitions = parts[4].partition(":")
        return replace(found, source=Source(source_id, int(partitions))) if partitions.isdecimal() else None

    def covers(self, required: Mapping[int, int]) -> bool:
        """Return whether this position is at or past ``required`` in every component."""
        return all(self.offsets.get(partition, 0) >= offset for partition, offset in required.items())

    def at_least(self, others: Iterable[ConsentPosition | None]) -> ConsentPosition:
        """Return this position, but nowhere lower than others of the same incarnation of the consent topic."""
        offsets = dict(self.offsets)
        for other in others:
            if other is not None and other.topic_id == self.topic_id:
                offsets |= {number: max(offset, other.offsets.get(number, 0)) for number, offset in offsets.items()}
        return replace(self, offsets=offsets)
