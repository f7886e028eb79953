"""Reads and writes decisions on the consent topic, for the ``consent`` verbs: whole states, one record per key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consentfiles import Seal
from tokenweir.adapters.topicreader import read_until
from tokenweir.adapters.topicwriter import Acknowledged, TopicWriter
from tokenweir.app.consentlines import ConsentLine, known_lines
from tokenweir.config import Config
from tokenweir.core.consent import (
    ERASED_SOURCE,
    EVERY_PURPOSE,
    UNDECODABLE,
    UNKNOWN,
    Changes,
    ConsentKey,
    ConsentKeyError,
    ConsentRecord,
    Hasher,
    SourceState,
    SubjectConsent,
    Word,
    format_key,
    hashed_subject,
    misplaced_partitions,
    parse_key,
    to_value,
    with_decisions,
)
from tokenweir.core.policy.models import Policy
from tokenweir.core.subjects import Subject, partition_of
from tokenweir.errors import RefusedError
from tokenweir.runtime.blocks import Blocks, blocks_of

_CLIENT_ID: Final = "tokenweir-consent-tool"
_SHOW_EVERY: Final = 10_000
_SHOWN_LINES: Final = 5

#: What is said to whoever would bring somebody back without meaning to.
ERASED: Final = (
    "this person was erased and stays denied whatever is decided; to begin anew with their consent, lift the erasure "
    "first with 'tokenweir erase --lift'"
)


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be changed in one source's state; None leaves a thing as it is."""

    words: Mapping[str, Word]
    expires_at_ms: int | None = None
    notice: str | None = None
    evidence: str | None = None
    minor: bool | None = None
    jurisdiction: str | None = None

    def apply(self, state: SourceState | None, now_ms: int) -> SourceState:
        """Return the new state; decisions that are not mentioned keep everything, their ``decided_at`` too.

        Raises:
            RefusedError: The present state cannot be read.
        """
        new = with_decisions(
            state,
            self.words,
            now_ms,
            expires_at_ms=self.expires_at_ms,
            notice=self.notice,
            evidence=self.evidence,
        )
        return replace(
            new,
            minor=new.minor if self.minor is None else self.minor,
            jurisdiction=new.jurisdiction if self.jurisdiction is None else self.jurisdiction,
        )


def withdrawn(state: SourceState | None, names: Sequence[str], now_ms: int) -> SourceState:
    """Return a source's state after its subject withdrew consent: from some purposes, or without names from all.

    The withdrawal is never older than what the same source said before, be it by a clock that is ahead: of two
    decisions the newest wins, and deny on a tie.

    Raises:
        RefusedError: The present state cannot be read.
    """
    said_ms = [] if state is None else [decision.decided_at_ms for decision in state.decisions.values()]
    return Change(dict.fromkeys(names or [EVERY_PURPOSE], "deny")).apply(state, max([now_ms, *said_ms]))


@dataclass(slots=True)
class Found:
    """What a read of the consent topic found.

    Attributes:
        subjects: The consent of the wanted subjects of whom the topic says anything.
        records: How many records were read.
        blocks: Keys that cannot be read and nobody has acknowledged; a gateway denies every subject for them.
        erased: The digests of all erased people in the partitions that were read.
        hasher: Tells whose digests these are, None where there are no keys.
    """

    subjects: dict[Subject, SubjectConsent] = field(default_factory=dict)
    records: int = 0
    blocks: Blocks = field(default_factory=Blocks)
    erased: frozenset[bytes] = frozenset()
    hasher: Hasher | None = None

    def consent(self, subject: Subject) -> SubjectConsent:
        """Return what a gateway would know of a wanted subject: one that was erased is denied, whatever else is said.

        Without a hasher nobody can tell who was erased.
        """
        known = self.subjects.get(subject, UNKNOWN)
        if self.hasher is None or not self.erased or self.hasher(subject).digest not in self.erased:
            return known
        return SubjectConsent({**known.states, ERASED_SOURCE: UNDECODABLE})


@dataclass(frozen=True, slots=True)
class Written:
    """A change that was written, and what keeps its subject denied nevertheless.

    Attributes:
        state: The new state of the source.
        place: Where it is on the topic.
        misplaced: Consent partitions in which a record of the subject has a key that does not belong there.
        blocks: As in :class:`Found`.
    """

    state: SourceState
    place: Acknowledged
    misplaced: Sequence[int] = ()
    blocks: Blocks = field(default_factory=Blocks)


class ConsentTopic:
    """The consent topic of a gateway, for tools. Every method may raise :class:`KafkaFault`."""

    def __init__(self, config: Config, seal: Seal | None = None) -> None:
        """Look at the topic; ``seal`` is that of the keyset, without which erased people cannot be told."""
        self._config = config
        self._seal = seal
        self._properties = config.kafka.client_properties()
        self._topic = config.consent.topic
        self._admin = Admin(self._properties)
        description = self._admin.describe_topic(self._topic)
        self._partitions, self._topic_id = description.partitions, description.topic_id

    @property
    def name(self) -> str:
        """The topic."""
        return self._topic

    @property
    def topic_id(self) -> str:
        """The id of the topic's incarnation that was there when this was made."""
        return self._topic_id

    def read(
        self,
        wanted: Callable[[Subject], bool],
        partitions: Iterable[int] | None = None,
        on_progress: Callable[[int], None] = lambda _records: None,
    ) -> Found:
        """Read partitions, all of them if None, up to their present ends, and return what they say of some subjects.

        The state of each source is what a gateway would have: a misplaced or misspelled key denies.
        """
        numbers = range(self._partitions) if partitions is None else sorted(set(partitions))
        low = self._admin.low_watermarks(self._topic, numbers)
        high = self._admin.high_watermarks(self._topic, numbers)
        key_id = "" if self._seal is None else self._seal.key_id
        changes = Changes(self._partitions, lambda key: hashlib.sha256(key).hexdigest(), key_id=key_id)
        found = Found(hasher=None if self._seal is None else self._seal.hashed)
        spans = {number: (low[number], high[number]) for number in numbers}
        for message in read_until(self._properties, self._topic, spans):
            found.records += 1
            if found.records % _SHOW_EVERY == 0:
                on_progress(found.records)
            key = message.key()
            raw_key = key.encode() if isinstance(key, str) else key
            if _is_wanted(raw_key, wanted):
                value = message.value()
                raw_value = value.encode() if isinstance(value, str) else value
                place = message.partition() or 0, message.offset() or 0
                changes.add(ConsentRecord(*place, raw_key, raw_value, message.timestamp()[1]))
        found.blocks = blocks_of(self._config, self._topic_id, changes.unreadable)
        found.erased = frozenset(
            digest for digest, by_source in changes.by_digest.items() if any(map(_stands, by_source.values()))
        )
        for subject, by_source in changes.by_subject.items():
            states = {source: state for source, state in by_source.items() if state is not None}
            if states:
                found.subjects[subject] = SubjectConsent(states)
        return found

    def state(self, key: ConsentKey) -> SourceState | None:
        """Return the present state of one source of a subject, None where it has none."""
        partition = partition_of(_raw_key(key), self._partitions)
        found = self.read(lambda subject: subject == key.subject, [partition])
        consent = found.subjects.get(key.subject)
        return None if consent is None else consent.states.get(key.source)

    def change(
        self,
        key: ConsentKey,
        change: Change,
        now_ms: int,
        on_progress: Callable[[int], None] = lambda _records: None,
    ) -> Written:
        """Merge a change into the state of its own source, write it, and say whether it can have an effect.

        The whole topic is read: what keeps the subject denied may be in any partition.

        Raises:
            RefusedError: The subject was erased, its present state cannot be read, or the topic is not compacted.
        """
        self._require_compacted()
        writer = self._writer()
        found = self.read(lambda subject: subject == key.subject, on_progress=on_progress)
        consent = found.consent(key.subject)
        if ERASED_SOURCE in consent.states:
            raise RefusedError(ERASED)
        new = change.apply(consent.states.get(key.source), now_ms)
        return Written(new, writer.write(_raw_key(key), to_value(new)), misplaced_partitions(consent), found.blocks)

    def withdraw(self, key: ConsentKey, names: Sequence[str], now_ms: int) -> tuple[SourceState, Acknowledged]:
        """Write a withdrawal as :func:`withdrawn` makes it, and return the new state with its place.

        Raises:
            RefusedError: The present state cannot be read, or the topic is not compacted.
        """
        self._require_compacted()
        writer = self._writer()
        new = withdrawn(self.state(key), names, now_ms)
        return new, writer.write(_raw_key(key), to_value(new))

    def import_states(
        self,
        lines: Iterable[ConsentLine],
        on_written: Callable[[int], None] = lambda _written: None,
    ) -> int:
        """Write whole states, None as a tombstone, and return how many were acknowledged; each key comes once.

        Raises:
            RefusedError: A tombstone would forget a deny that stands, a state is older than the one that it would
                replace, or the topic is not compacted; nothing is written then.
        """
        lines = list(lines)
        self._require_compacted()
        self._refuse_harm(lines)
        written = 0

        def count(_key: bytes, _place: Acknowledged) -> None:
            nonlocal written
            written += 1
            if written % _SHOW_EVERY == 0:
                on_written(written)

        records = ((_raw_key(line.key), None if line.state is None else to_value(line.state)) for line in lines)
        self._writer().write_all(records, count)
        return written

    def _refuse_harm(self, lines: Sequence[ConsentLine]) -> None:
        """Refuse what would undo a decision that stands: the last record of a key wins, whatever its dates say."""
        subjects = {line.key.subject for line in lines}
        partitions = {partition_of(_raw_key(line.key), self._partitions) for line in lines}
        if self._seal is not None:
            keys = {self._seal.hashed(subject).canonical.encode() for subject in subjects}
            partitions |= {partition_of(key, self._partitions) for key in keys}
        found = self.read(lambda subject: subject in subjects, partitions)
        erased = [line.number for line in lines if ERASED_SOURCE in found.consent(line.key.subject).states]
        if erased:
            raise RefusedError(f"{_numbered(erased)}: {ERASED}. Nothing was written")
        forgetting, older = [], []
        for line in lines:
            consent = found.subjects.get(line.key.subject)
            standing = None if consent is None else consent.states.get(line.key.source)
            if standing is None:
                continue
            if line.state is None:
                if _denies(standing):
                    forgetting.append(line.number)
            elif is_older(line.state, standing):
                older.append(line.number)
        if forgetting:
            raise RefusedError(
                f"{len(forgetting)} of the tombstones would forget a deny that stands ({_numbered(forgetting)}): to "
                "lift a deny, write an allow. Nothing was written"
            )
        if older:
            raise RefusedError(
                f"{len(older)} of the states would undo newer decisions of the same source ({_numbered(older)}): "
                "remove these lines, or decide anew with 'tokenweir consent set'. Nothing was written"
            )

    def _require_compacted(self) -> None:
        """Refuse a topic that would lose decisions with time, or that is none for decisions at all."""
        cleanup = self._cleanup_policy()
        if cleanup != "compact":
            raise RefusedError(
                f"the consent topic {self._topic} has cleanup.policy '{cleanup}' and would lose decisions: "
                "correct consent.topic, or set cleanup.policy=compact. Nothing was written"
            )

    def _cleanup_policy(self) -> str:
        return self._admin.topic_config(self._topic).get("cleanup.policy", "")

    def _writer(self) -> TopicWriter:
        """Return a writer that begins to connect: made before the topic is read, it is ready when it is needed.

        librdkafka asks for the id of an idempotent producer half a second after it has found no broker yet.
        """
        return TopicWriter(self._properties, self._topic, _CLIENT_ID)


def states_in(text: str, file: str, now_ms: int, policy: Policy) -> tuple[dict[ConsentKey, ConsentLine], int]:
    """Return the last line about each key of a file of JSON lines, and its number of lines.

    Raises:
        FindingsError: A line cannot be read, or names a subject or decision that the policy does not know.
    """
    states: dict[ConsentKey, ConsentLine] = {}
    lines = known_lines(text, file, now_ms, policy)
    for line in lines:
        # Later lines win, so they are also written later.
        states.pop(line.key, None)
        states[line.key] = line
    return states, len(lines)


def is_older(new: SourceState, standing: SourceState) -> bool:
    """Whether a state would bring back an older one of its source: itself, or in any decision that stands.

    An allow of the same instant as a standing deny counts as older, as deny wins a tie.
    """
    if new.decided_at_ms < standing.decided_at_ms:
        return True
    for name, old in standing.decisions.items():
        decision = new.decisions.get(name)
        decided_at_ms = new.decided_at_ms if decision is None else decision.decided_at_ms
        lifts = old.decision == "deny" and (decision is None or decision.decision != "deny")
        if decided_at_ms < old.decided_at_ms or (lifts and decided_at_ms == old.decided_at_ms):
            return True
    return False


def _raw_key(key: ConsentKey) -> bytes:
    return format_key(key.subject, key.source)


def _numbered(lines: Sequence[int]) -> str:
    """Name lines by their numbers, the first few of them."""
    shown = ", ".join(str(number) for number in lines[:_SHOWN_LINES])
    more = ", ..." if len(lines) > _SHOWN_LINES else ""
    return f"line{'' if len(lines) == 1 else 's'} {shown}{more}"


def _stands(state: SourceState | None) -> bool:
    return state is not None


def _denies(state: SourceState) -> bool:
    return state.undecodable or any(decision.decision == "deny" for decision in state.decisions.values())


def _is_wanted(key: bytes | None, wanted: Callable[[Subject], bool]) -> bool:
    """Say whether a record may matter: a key that cannot be read, or that is hidden, may be about anybody."""
    try:
        parsed = parse_key(key)
        return hashed_subject(parsed) is not None or wanted(parsed.subject)
    except ConsentKeyError:
        return True
