"""What a batch of records of the consent topic changes, subject by subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tokenweir.core.consent.erased import ERASED_SOURCE, erasure_of, hashed_subject, read_key
from tokenweir.core.consent.states import EVERY_PURPOSE, UNDECODABLE, SourceState, SubjectConsent
from tokenweir.core.consent.topic import ConsentKeyError, parse_value
from tokenweir.core.subjects import Subject, partition_of


class ConsentRecord(NamedTuple):
    """A record of the consent topic as a consumer gives it; the timestamp is in milliseconds since 1970."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int

    def __repr__(self) -> str:
        return f"ConsentRecord(partition={self.partition}, offset={self.offset})"


@dataclass(frozen=True, slots=True)
class Applied:
    """What the records of a batch were.

    Attributes:
        records: All of them.
        undecodable: States that could not be read; their subjects are denied.
        misplaced: Keys in another partition or spelling than they should be; their subjects are denied.
        unreadable: Keys that name no subject; until they are acknowledged all subjects are denied.
        unknown_purposes: Decisions about purposes that no policy knows.
    """

    records: int = 0
    undecodable: int = 0
    misplaced: int = 0
    unreadable: int = 0
    unknown_purposes: int = 0

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            self.records + other.records,
            self.undecodable + other.undecodable,
            self.misplaced + other.misplaced,
            self.unreadable + other.unreadable,
            self.unknown_purposes + other.unknown_purposes,
        )


class Changes:
    """Reads records one by one, in the order of each partition, into what they change.

    Attributes:
        by_subject: The new state of each source that changed; None forgets it.
        by_digest: The same of erased people, by the digest that stands for their id.
        unreadable: By partition the offset of the last record that may have been about anybody: its key could not be
            read. A tombstone is none of these, for what is not known cannot be forgotten.
    """

    def __init__(
        self,
        partitions: int,
        name_of: Callable[[bytes], str],
        purposes: frozenset[str] | None = None,
        *,
        key_id: str = "",
    ) -> None:
        """Prepare.

        Args:
            partitions: How many the topic has.
            name_of: Gives a record key a name of at most 64 characters that does not show it.
            purposes: Those that the policy knows, to count others; None counts nothing.
            key_id: The id of the key that hides erased people here; another's erasure may be about anybody. "" believes
                all of them, for who only looks.
        """
        self.by_subject: dict[Subject, dict[str, SourceState | None]] = {}
        self.by_digest: dict[bytes, dict[str, SourceState | None]] = {}
        self.unreadable: dict[int, int] = {}
        self._partitions = partitions
        self._name_of = name_of
        self._purposes = purposes
        self._key_id = key_id
        self._records = self._undecodable = self._misplaced = self._unreadable = self._unknown_purposes = 0

    @property
    def applied(self) -> Applied:
        """What the records were."""
        return Applied(self._records, self._undecodable, self._misplaced, self._unreadable, self._unknown_purposes)

    def add(self, record: ConsentRecord) -> None:
        """Read one more record."""
        self._records += 1
        try:
            key = read_key(record.key, self._key_id)
        except ConsentKeyError:
            self._unreadable += 1
            if record.value is not None:
                self.unreadable[record.partition] = record.offset
            return
        erased = hashed_subject(key)
        source = key.source if erased is None else ERASED_SOURCE
        state = parse_value(record.value, record.timestamp_ms)
        raw_key = record.key or b""
        if not key.canonical or partition_of(raw_key, self._partitions) != record.partition:
            # It stands beside the state of the right key, under a name that no source has: which of the two is newer
            # is unknown, so the subject is denied until the wrong record is deleted by a tombstone in its place.
            source = f"!{record.partition}!{self._name_of(raw_key)}"
            if state is not None:
                state = UNDECODABLE
                self._misplaced += 1
        elif state is not None and state.undecodable:
            self._undecodable += 1
        if state is not None and self._purposes is not None:
            self._unknown_purposes += _unknown(state, self._purposes)
        if erased is None:
            self.by_subject.setdefault(key.subject, {})[source] = state
        else:
            self.by_digest.setdefault(erased.digest, {})[source] = erasure_of(state)


def misplaced_partitions(consent: SubjectConsent) -> list[int]:
    """Return the consent partitions in which a record denies this subject because its key does not belong there."""
    return sorted({int(source.split("!")[1]) for source in consent.states if source.startswith("!")})


def _unknown(state: SourceState, purposes: frozenset[str]) -> int:
    names = (name.rpartition("@")[0] or name for name in state.decisions)
    return sum(name != EVERY_PURPOSE and name not in purposes for name in names)
