"""Consent as JSON lines: ``{"subject": "customer:1#web", …the value of a consent record}``, one line a state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tokenweir.core import strictjson
from tokenweir.core.consent import (
    EVERY_PURPOSE,
    UNKNOWN,
    ConsentKey,
    ConsentKeyError,
    SourceState,
    SubjectConsent,
    is_reserved,
    merge,
    parse_key,
    read_state,
)
from tokenweir.core.outcome import Reason
from tokenweir.core.policy.models import Policy
from tokenweir.core.subjects import Subject, canonical_id
from tokenweir.errors import DecodeError, Finding, FindingsError, InvalidValueError
from tokenweir.validation import suggest

#: What a member takes, by its name in the path of an error.
_WANTED: Final[dict[str, str]] = {
    "version": "must be 1",
    "decided_at": "RFC 3339 with time and zone, such as 2026-01-31T12:00:00Z",
    "expires_at": "RFC 3339 with time and zone, or null",
    "jurisdiction": "a code such as US-CA, or null",
    "minor": "true or false",
    "decisions": "a mapping of purposes to allow or deny",
    "decisions{}": "a name that cannot be decided, or more than decision, decided_at, expires_at, notice and evidence",
    "decision": "only allow or deny; '*' and a single recipient can only be denied",
    "notice": "text or null",
    "evidence": "text or null",
}


#: What is wrong with a line as a whole, by the reason of an error without a path.
_LINE_FAULTS: Final[dict[str, str]] = {
    Reason.SCHEMA_MISMATCH: "unknown key: a line takes subject, version, decided_at, expires_at, jurisdiction, minor "
    "and decisions",
    Reason.MALFORMED: "the line is not JSON",
    Reason.TRAILING_BYTES: "text follows the JSON object",
    Reason.DUPLICATE_KEY: "a key stands twice",
    Reason.INVALID_UTF8: "a text holds half of a surrogate pair",
    Reason.NON_FINITE: "a number is not finite",
    Reason.TOO_DEEP: "the line is nested too deep",
    Reason.TOO_LARGE: "the line, or a number in it, is too long",
    Reason.TOO_MANY_ELEMENTS: "the line has too many elements",
}


class ConsentLine(NamedTuple):
    """One line: its number, whose decisions, at which source, and what they are (None forgets)."""

    number: int
    key: ConsentKey
    state: SourceState | None


@dataclass(slots=True)
class ConsentLines:
    """What all lines together say; later lines win."""

    subjects: dict[Subject, SubjectConsent] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, file: str, now_ms: int, policy: Policy) -> ConsentLines:
        """Return what a file says.

        Raises:
            FindingsError: as :func:`known_lines`.
        """
        lines = cls()
        for line in known_lines(text, file, now_ms, policy):
            lines.add(line)
        return lines

    def lookup(self, subject: Subject) -> SubjectConsent:
        """Return what is known of a subject."""
        return self.subjects.get(subject, UNKNOWN)

    def add(self, line: ConsentLine) -> None:
        """Let a line replace what its source said before."""
        subject = line.key.subject
        states = self.subjects.get(subject, UNKNOWN).states
        self.subjects[subject] = SubjectConsent(merge(states, line.key.source, line.state))


def read_lines(text: str, file: str, now_ms: int) -> Iterator[ConsentLine]:
    """Yield the states of a file; ``now_ms`` stands for the records' timestamps.

    Raises:
        FindingsError: at the first line that cannot be read, with line and column; a file is taken whole or not at
            all, because a line that is skipped may be a withdrawal.
    """
    # Only line feeds end a line: other separators that Python knows may stand inside of a JSON text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _read_line(line.rstrip("\r"), file, number, now_ms)


def known_lines(text: str, file: str, now_ms: int, policy: Policy) -> list[ConsentLine]:
    """Return the states of a file, all of which a gateway with this policy could ask for.

    Raises:
        FindingsError: as :func:`read_lines`, or with every line that names a subject or decision that the policy does
            not know: it would never be found, and what it denies would be allowed.
    """
    lines: list[ConsentLine] = []
    findings: list[Finding] = []
    remedy = "correct the line, or the policy; nothing of the file was used"
    for line in read_lines(text, file, now_ms):
        lines.append(line)
        problems = _problems(line.key, line.state, policy)
        findings += [Finding(file, line.number, 1, "consent-line", problem, remedy) for problem in problems]
    if findings:
        raise FindingsError(findings)
    return lines


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


def unknown_type(name: str, policy: Policy) -> str:
    """Return what is wrong with the type of a subject, or ""."""
    if name in policy.subjects:
        return ""
    hint = suggest(name, policy.subjects) or f"it has {', '.join(policy.subjects)}"
    return f"the policy has no subject type '{name}': {hint}"


def _problems(key: ConsentKey, state: SourceState | None, policy: Policy) -> list[str]:
    problems = [] if state is None else [unknown_name(name, policy) for name in state.decisions]
    unknown = unknown_type(key.subject.type, policy)
    if unknown:
        problems.append(unknown)
    elif is_reserved(key.subject):
        problems.append("the key is that of an erasure, and only `tokenweir erase` writes those")
    elif not _fits(policy, key.subject):
        problems.append(f"the id does not have the form of a {key.subject.type} in the policy")
    return [problem for problem in problems if problem]


def _read_line(line: str, file: str, number: int, now_ms: int) -> ConsentLine:
    try:
        value = strictjson.parse(line.encode("utf-8"), numbers="python")
        if not isinstance(value, dict) or not isinstance(value.get("subject"), str):
            raise _bad(file, number, 1, 'the line is no object with a "subject"')
        key = parse_key(value.pop("subject").encode("utf-8"))
        if not key.canonical:
            raise _bad(file, number, 1, "the subject is not written in its canonical form")
        forgets = value.get("decisions", ...) is None
        return ConsentLine(number, key, None if forgets else read_state(value, now_ms))
    except DecodeError as error:
        raise _bad(file, number, max(error.position, 0) + 1, _in_words(error)) from None
    except ConsentKeyError as error:
        raise _bad(file, number, 1, str(error)) from None


def _in_words(error: DecodeError) -> str:
    """Return what is wrong with a line for its author; the path of the error names a place and never a value."""
    path = error.path
    if not path:
        return _LINE_FAULTS.get(error.reason, error.reason)
    if error.reason == Reason.OUT_OF_RANGE:
        return f"{path}: the time is too far ahead of this machine's clock"
    return f"{path}: {_WANTED.get(path.rpartition('.')[2], error.reason)}"


def _fits(policy: Policy, subject: Subject) -> bool:
    try:
        return canonical_id(policy.subjects[subject.type].form, subject.id) == subject.id
    except InvalidValueError:
        return False


def _bad(file: str, line: int, column: int, message: str) -> FindingsError:
    remedy = "see the consent record's format; nothing of the file was used"
    return FindingsError([Finding(file, line, column, "consent-line", message, remedy)])
