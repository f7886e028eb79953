"""Consent: what a data subject has decided, how it is written on the topic and in the store, and what it allows."""

from __future__ import annotations

from tokenweir.core.consent.changes import Applied, Changes, ConsentRecord, misplaced_partitions
from tokenweir.core.consent.decide import Answer, PurposeRule, Verdict, answer, passing
from tokenweir.core.consent.erased import (
    ERASED_SOURCE,
    HashedSubject,
    Hasher,
    hashed_subject,
    is_reserved,
    read_key,
)
from tokenweir.core.consent.states import (
    DENIED,
    EVERY_PURPOSE,
    UNDECODABLE,
    UNKNOWN,
    Decision,
    SourceState,
    SubjectConsent,
    Word,
    merge,
    with_decisions,
)
from tokenweir.core.consent.stored import decode, encode
from tokenweir.core.consent.topic import (
    ConsentKey,
    ConsentKeyError,
    format_key,
    parse_key,
    parse_value,
    read_state,
    read_value,
    to_value,
)

__all__ = [
    "DENIED",
    "ERASED_SOURCE",
    "EVERY_PURPOSE",
    "UNDECODABLE",
    "UNKNOWN",
    "Answer",
    "Applied",
    "Changes",
    "ConsentKey",
    "ConsentKeyError",
    "ConsentRecord",
    "Decision",
    "HashedSubject",
    "Hasher",
    "PurposeRule",
    "SourceState",
    "SubjectConsent",
    "Verdict",
    "Word",
    "answer",
    "decode",
    "encode",
    "format_key",
    "hashed_subject",
    "is_reserved",
    "merge",
    "misplaced_partitions",
    "parse_key",
    "parse_value",
    "passing",
    "read_key",
    "read_state",
    "read_value",
    "to_value",
    "with_decisions",
]
