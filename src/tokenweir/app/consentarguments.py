"""Reads what a person types of a subject and of decisions, for the ``consent`` verbs."""

from __future__ import annotations

from collections.abc import Sequence

from tokenweir.app.consentlines import unknown_name, unknown_type
from tokenweir.core.consent import EVERY_PURPOSE, ConsentKey, ConsentKeyError, Word, is_reserved, parse_key
from tokenweir.core.policy.models import DigitsForm, Policy
from tokenweir.core.subjects import Subject, canonical_id
from tokenweir.errors import InvalidValueError, UsageError


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
    unknown = unknown_type(key.subject.type, policy)
    if unknown:
        raise UsageError(unknown)
    if is_reserved(key.subject):
        raise UsageError("this is the key of an erasure, and none of a person: name the person to `tokenweir erase`")
    kind = policy.subjects[key.subject.type]
    try:
        subject = Subject(key.subject.type, canonical_id(kind.form, key.subject.id))
    except InvalidValueError as error:
        # Nothing is filled up: a digit that was forgotten would make the decision somebody else's.
        hint = ", leading zeros included" if isinstance(kind.form, DigitsForm) else ""
        raise UsageError(f"{key.subject.type}: {error}{hint}") from None
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
