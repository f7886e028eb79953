"""Which dead letters a replay takes, which it puts back, and which are none of its business; and counts of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tokenweir.core import deadletter
from tokenweir.core.context import EpochOutput, epoch_outputs
from tokenweir.core.deadletter import ReadLetter
from tokenweir.core.epochs import reserved_by
from tokenweir.core.policy.check_streams import topic_of
from tokenweir.core.policy.models import Policy
from tokenweir.errors import DecodeError


class Handled(StrEnum):
    """What a replay did with a letter; every letter that it read has exactly one of these."""

    SANITIZED = "sanitized"
    WITHHELD = "withheld"
    REJECTED = "rejected"
    """The record was rejected again: there is a new letter."""
    GONE = "gone"
    """The source topic has the record no longer."""
    PUT_BACK = "put_back"
    """It was not chosen and stands at the end of the topic again."""
    FOREIGN = "foreign"
    """It belongs to another stream that shares the topic, or is no letter: it stays where it is."""


class Kind(NamedTuple):
    """What letters are counted by: the audience ("" where no output of the policy has the topic) and the reason."""

    audience: str
    reason: str
    handled: Handled


Counts = Counter[Kind]
"""Letters by kind."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The letters that are chosen: those that fulfil every condition.

    Attributes:
        reasons: With one of these reasons; any where there are none.
        audiences: For the output of one of these audiences; any where there are none.
        partition: Of a record of this source partition.
        first_offset: At or past this source offset.
        last_offset: At or before this source offset.
    """

    reasons: frozenset[str] = frozenset()
    audiences: frozenset[str] = frozenset()
    partition: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None

    def takes(self, letter: ReadLetter, audience: str) -> bool:
        """Whether a letter is chosen."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.audiences or audience in self.audiences)
            and (self.partition is None or letter.source_partition == self.partition)
            and (self.first_offset is None or letter.source_offset >= self.first_offset)
            and (self.last_offset is None or letter.source_offset <= self.last_offset)
        )


class Lot(StrEnum):
    """What is to be done with a letter."""

    CHOSEN = "chosen"
    PUT_BACK = "put_back"
    FOREIGN = "foreign"


class Sorted(NamedTuple):
    """A letter, None where the record is none; the audience that it is about; and what is to be done with it."""

    letter: ReadLetter | None
    audience: str
    lot: Lot

    @property
    def reason(self) -> str:
        """Why the record was rejected."""
        return "" if self.letter is None else self.letter.reason


class Desk:
    """Sorts the records of a dead-letter topic for one stream.

    Several streams may share a dead-letter topic, and each is replayed by a group of its own. So each letter must
    belong to exactly one of them: what a replay puts back although another one reads it too would be there twice.

    Args:
        policy: The policy; it decides which stream a letter belongs to.
        stream: The stream that is replayed.
        choice: Which of its letters are chosen.
        outputs: The outputs that are fed, each in its epochs; without, each in its first. A letter for an epoch that
            is fed no longer cannot be replayed: its topic is complete, and nothing is written to it any more.
    """

    def __init__(
        self, policy: Policy, stream: str, choice: Choice, outputs: Sequence[EpochOutput] | None = None
    ) -> None:
        self._stream = stream
        self._choice = choice
        self._source = policy.streams[stream].source.topic
        readers = {name: found for name, found in policy.streams.items() if found.source.topic == self._source}
        self._owners = {topic_of(found, output): name for name, found in readers.items() for output in found.outputs}
        # A letter for an output that the policy has no longer belongs to the first stream of its source.
        self._heir = next(iter(readers))
        fed = epoch_outputs(policy, stream, {}, {}) if outputs is None else outputs
        self._audiences = {output.topic: output.audience for output in fed}

    def sort(self, value: bytes | None) -> Sorted:
        """Return what a record of the dead-letter topic is, and what is to be done with it."""
        try:
            letter = deadletter.read(value or b"")
        except DecodeError:
            return Sorted(None, "", Lot.FOREIGN)
        audience = self._audiences.get(letter.output, "")
        output = reserved_by(letter.output, self._owners) or letter.output
        if letter.source_topic != self._source or self._owners.get(output, self._heir) != self._stream:
            return Sorted(letter, audience, Lot.FOREIGN)
        chosen = bool(audience) and self._choice.takes(letter, audience)
        return Sorted(letter, audience, Lot.CHOSEN if chosen else Lot.PUT_BACK)
