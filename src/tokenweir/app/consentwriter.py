"""Reads and writes decisions on the consent topic, for the ``consent`` verbs: whole states, one record per key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.topicwriter import Acknowledged, TopicWriter
from tokenweir.app.cluster import read_until
from tokenweir.app.consentlines import read_lines
from tokenweir.config import Config
from tokenweir.core.consent import (
    EVERY_PURPOSE,
    Changes,
    ConsentKey,
    ConsentKeyError,
    ConsentRecord,
    SourceState,
    SubjectConsent,
    Verdict,
    Word,
    answer,
    format_key,
    parse_key,
    to_value,
    with_decisions,
)
from tokenweir.core.policy.models import DigitsForm, Policy
from tokenweir.core.subjects import Subject, canonical_id, partition_of
from tokenweir.errors import Finding, FindingsError, InvalidValueError, RefusedError, UsageError
from tokenweir.validation import suggest

_CLIENT_ID: Final = "tokenweir-consent-tool"
_SHOW_EVERY: Final = 10_000


def subject_of(text: str, policy: Policy) -> tuple[ConsentKey, bool]:
    """Return the key that a person means, with the id in its canonical form, and whether it had to be changed.

    Raises:
        UsageError: The text is no ``type:id`` or ``type:id#source``, the policy has no such type, or the id does not
            fit the type's form. The error does not hold the id.
    """
    try:
        key = parse_key(text.encode())
    except ConsentKeyError as error:
        hint = "write type:id, and percent-encode everything in the id but letters, digits and ._~@+-"
        raise UsageError(f"the subject cannot be read: {error}; {hint}") from None
    kind = policy.subjects.get(key.subject.type)
    if kind is None:
        hint = suggest(key.subject.type, policy.subjects) or f"the policy has {', '.join(policy.subjects)}"
        raise UsageError(f"there is no subject type '{key.subject.type}' in the policy: {hint}")
    found = key.subject.id
    if isinstance(kind.form, DigitsForm) and found.isascii() and found.isdigit():
        found = found.zfill(kind.form.digits)
    try:
        subject = Subject(key.subject.type, canonical_id(kind.form, found))
    except InvalidValueError as error:
        raise UsageError(f"{key.subject.type}: {error}") from None
    changed = not key.canonical or subject.id != key.subject.id
    return ConsentKey(subject, key.source), changed


def decisions_of(texts: Sequence[str], policy: Policy) -> dict[str, Word]:
    """Return what ``PURPOSE=allow`` and ``PURPOSE=deny`` arguments say.

    Raises:
        UsageError: One cannot be read, names a purpose or recipient that the policy does not know, says something
            twice, or allows what can only be denied.
    """
    words: dict[str, Word] = {}
    for text in texts:
        name, equals, word = text.rpartition("=")
        if not equals or not name:
            raise UsageError(f"'{text}' is no decision: write PURPOSE=allow or PURPOSE=deny")
        problem = unknown_name(name, policy)
        if problem:
            raise UsageError(problem)
        if name in words:
            raise UsageError(f"'{name}' is decided twice")
        if word == "deny":
            words[name] = "deny"
        elif word != "allow":
            raise UsageError(f"'{name}={word}': a decision is allow or deny")
        elif name == EVERY_PURPOSE or "@" in name:
            said = "all purposes" if name == EVERY_PURPOSE else "one recipient"
            raise UsageError(f"'{name}=allow': {said} can only be denied; allow purposes by name")
        else:
            words[name] = "allow"
    return words


def unknown_name(name: str, policy: Policy) -> str:
    """Return what is wrong with the name of a decision: a purpose, ``*``, or either with ``@recipient``; or ""."""
    purpose, at, recipient = name.rpartition("@")
    if not at:
        purpose = name
    if purpose != EVERY_PURPOSE and purpose not in policy.purposes:
        hint = suggest(purpose, policy.purposes) or f"it has {', '.join(policy.purposes)}"
        return f"the policy has no purpose '{purpose}': {hint}"
    recipients = {found.id for audience in policy.audiences.values() for found in audience.recipients}
    if at and recipient not in recipients:
        hint = suggest(recipient, recipients) or f"it has {', '.join(sorted(recipients))}"
        return f"the policy has no recipient '{recipient}': {hint}"
    return ""


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


@dataclass(frozen=True, slots=True)
class Answered:
    """What the decisions of a subject say about one purpose, and since when and until when."""

    purpose: str
    verdict: Verdict
    since_ms: int | None
    expires_at_ms: int | None


def answers(consent: SubjectConsent, policy: Policy, now_ms: int) -> list[Answered]:
    """Return the answer for every purpose of the policy, before legal bases and event times are looked at."""
    found = []
    for purpose in policy.purposes:
        verdict, since_ms = answer(consent, purpose, now_ms)
        expires_at_ms = None
        decisions = [
            decision
            for state in consent.states.values()
            for name in (purpose, EVERY_PURPOSE)
            if (decision := state.decisions.get(name)) is not None and decision.decision == verdict.value
        ]
        if verdict is Verdict.DENY:
            since_ms = max((decision.decided_at_ms for decision in decisions), default=None)
        elif verdict is Verdict.ALLOW:
            expiries = [decision.expires_at_ms for decision in decisions if decision.decided_at_ms == since_ms]
            expires_at_ms = None if None in expiries else max(expiry for expiry in expiries if expiry is not None)
        found.append(Answered(purpose, verdict, since_ms, expires_at_ms))
    return found


@dataclass(slots=True)
class Found:
    """What a read of the consent topic found.

    Attributes:
        subjects: The consent of the wanted subjects of whom the topic says anything.
        records: How many records were read.
        unreadable: Records whose key cannot be read; until they are acknowledged, a gateway denies every subject.
    """

    subjects: dict[Subject, SubjectConsent] = field(default_factory=dict)
    records: int = 0
    unreadable: int = 0


class ConsentTopic:
    """The consent topic of a gateway, for tools. Every method may raise :class:`KafkaFault`."""

    def __init__(self, config: Config) -> None:
        self._properties = config.kafka.client_properties()
        self._topic = config.consent.topic
        self._admin = Admin(self._properties)
        self._partitions = self._admin.describe_topic(self._topic).partitions

    @property
    def name(self) -> str:
        """The topic."""
        return self._topic

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
        changes = Changes(self._partitions, lambda key: hashlib.sha256(key).hexdigest())
        found = Found()
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
        found.unreadable = len(changes.unreadable)
        for subject, by_source in changes.by_subject.items():
            states = {source: state for source, state in by_source.items() if state is not None}
            if states:
                found.subjects[subject] = SubjectConsent(states)
        return found

    def state(self, key: ConsentKey) -> SourceState | None:
        """Return the present state of one source of a subject, None where it has none."""
        partition = partition_of(format_key(key.subject, key.source), self._partitions)
        found = self.read(lambda subject: subject == key.subject, [partition])
        consent = found.subjects.get(key.subject)
        return None if consent is None else consent.states.get(key.source)

    def change(self, key: ConsentKey, change: Change, now_ms: int) -> tuple[SourceState, Acknowledged]:
        """Merge a change into the state of its own source, write it, and return it with its place.

        Raises:
            RefusedError: The present state cannot be read.
        """
        new = change.apply(self.state(key), now_ms)
        place = self._writer().write(format_key(key.subject, key.source), to_value(new))
        return new, place

    def import_states(
        self,
        states: Mapping[ConsentKey, SourceState | None],
        on_written: Callable[[int], None] = lambda _written: None,
    ) -> int:
        """Write whole states, None as a tombstone, and return how many were acknowledged.

        Raises:
            RefusedError: A tombstone would forget a deny that stands; nothing is written then.
        """
        self._refuse_forgotten_denials([key for key, state in states.items() if state is None])
        written = 0

        def count(_key: bytes, _place: Acknowledged) -> None:
            nonlocal written
            written += 1
            if written % _SHOW_EVERY == 0:
                on_written(written)

        records = (
            (format_key(key.subject, key.source), None if state is None else to_value(state))
            for key, state in states.items()
        )
        self._writer().write_all(records, count)
        return written

    def _refuse_forgotten_denials(self, keys: Sequence[ConsentKey]) -> None:
        if not keys:
            return
        subjects = {key.subject for key in keys}
        partitions = {partition_of(format_key(key.subject, key.source), self._partitions) for key in keys}
        found = self.read(lambda subject: subject in subjects, partitions)
        standing = 0
        for key in keys:
            consent = found.subjects.get(key.subject)
            state = None if consent is None else consent.states.get(key.source)
            standing += state is not None and _denies(state)
        if standing:
            raise RefusedError(
                f"{standing} of the tombstones would forget a deny that stands: to lift a deny, write an allow. "
                "Nothing was written"
            )

    def _writer(self) -> TopicWriter:
        return TopicWriter(self._properties, self._topic, _CLIENT_ID)


def states_in(text: str, file: str, now_ms: int, policy: Policy) -> tuple[dict[ConsentKey, SourceState | None], int]:
    """Return the states that a file of JSON lines says, later lines over earlier ones, and its number of lines.

    Raises:
        FindingsError: A line cannot be read, or names a subject or decision that the policy does not know.
    """
    states: dict[ConsentKey, SourceState | None] = {}
    findings: list[Finding] = []
    lines = 0
    for line in read_lines(text, file, now_ms):
        lines += 1
        problems = _problems(line.key, line.state, policy)
        remedy = "correct the line, or the policy; nothing of the file was used"
        findings += [Finding(file, line.number, 1, "consent-line", problem, remedy) for problem in problems]
        # Later lines win, so they are also written later.
        states.pop(line.key, None)
        states[line.key] = line.state
    if findings:
        raise FindingsError(findings)
    return states, lines


def _problems(key: ConsentKey, state: SourceState | None, policy: Policy) -> list[str]:
    problems = [] if state is None else [unknown_name(name, policy) for name in state.decisions]
    kind = policy.subjects.get(key.subject.type)
    if kind is None:
        problems.append(f"the policy has no subject type '{key.subject.type}'")
    else:
        try:
            fits = canonical_id(kind.form, key.subject.id) == key.subject.id
        except InvalidValueError:
            fits = False
        if not fits:
            problems.append(f"the id does not have the form of a {key.subject.type} in the policy")
    return [problem for problem in problems if problem]


def _denies(state: SourceState) -> bool:
    return state.undecodable or any(decision.decision == "deny" for decision in state.decisions.values())


def _is_wanted(key: bytes | None, wanted: Callable[[Subject], bool]) -> bool:
    """Say whether a record may matter: a key that cannot be read may be about anybody."""
    try:
        return wanted(parse_key(key).subject)
    except ConsentKeyError:
        return True
