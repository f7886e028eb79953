"""Consent as JSON lines: ``{"subject": "customer:1#web", …the value of a consent record}``, one line a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tokenweir.core import strictjson
from tokenweir.core.consent import (
    UNKNOWN,
    ConsentKey,
    ConsentKeyError,
    SourceState,
    SubjectConsent,
    merge,
    parse_key,
    read_state,
)
from tokenweir.core.policy.models import SubjectType
from tokenweir.core.subjects import Subject, canonical_id
from tokenweir.errors import DecodeError, Finding, FindingsError, InvalidValueError


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
    def read(cls, text: str, file: str, now_ms: int, types: Mapping[str, SubjectType]) -> ConsentLines:
        """Return what a file says; see :func:`read_lines`. ``types`` are the policy's kinds of data subject.

        Raises:
            FindingsError: as :func:`read_lines`; also for an id that does not have the form that its type has in the
                policy: it would never be found, and what it denies would be allowed.
        """
        lines = cls()
        for line in read_lines(text, file, now_ms):
            subject = line.key.subject
            if subject.type in types and not _fits(types[subject.type], subject.id):
                raise _bad(file, line.number, 1, f"the id does not have the form of a {subject.type} in the policy")
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
        place = f" at {error.path}" if error.path else ""
        raise _bad(file, number, max(error.position, 0) + 1, f"{error.reason}{place}") from None
    except ConsentKeyError as error:
        raise _bad(file, number, 1, str(error)) from None


def _fits(kind: SubjectType, subject_id: str) -> bool:
    try:
        return canonical_id(kind.form, subject_id) == subject_id
    except InvalidValueError:
        return False


def _bad(file: str, line: int, column: int, message: str) -> FindingsError:
    remedy = "see the consent record's format; nothing of the file was used"
    return FindingsError([Finding(file, line, column, "consent-line", message, remedy)])
