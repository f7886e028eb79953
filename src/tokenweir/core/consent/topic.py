"""The consent topic's records: reading keys and values strictly, and writing them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from tokenweir.core import strictjson
from tokenweir.core.consent.states import EVERY_PURPOSE, UNDECODABLE, Decision, SourceState, Word
from tokenweir.core.outcome import Reason
from tokenweir.core.schema import Limits
from tokenweir.core.subjects import Subject
from tokenweir.core.timestamps import format_date_time, parse_date_time
from tokenweir.errors import DecodeError, InvalidValueError

#: How far ``decided_at`` may lie after the timestamp of its record; clocks differ, but not by more.
MAX_AHEAD_MS: Final = 300_000

#: What one record may cost; a full state of a few hundred purposes is far below it.
LIMITS: Final = Limits(depth=8, elements=5_000, bytes=1024 * 1024, number_characters=16)

_MAX_NAME_BYTES: Final = 255
_MAX_DECISIONS: Final = 1_000
_TYPE: Final = re.compile(r"[A-Za-z0-9._~@+-]+\Z")
_SOURCE: Final = re.compile(r"[A-Za-z0-9._~@+-]{1,64}\Z")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_JURISDICTION: Final = re.compile(r"[A-Z0-9]{1,16}(?:-[A-Z0-9]{1,16})*\Z")
_RECIPIENT: Final = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")

_STATE_KEYS: Final = frozenset({"version", "decided_at", "expires_at", "jurisdiction", "minor", "decisions"})
_DECISION_KEYS: Final = frozenset({"decision", "decided_at", "expires_at", "notice", "evidence"})


class ConsentKeyError(InvalidValueError):
    """The key of a consent record names no data subject. The text holds no part of the key."""


class ConsentKey(NamedTuple):
    """The key of a consent record.

    ``source`` is "" for the bare key. ``canonical`` is false for a key that names its subject in another spelling
    than :func:`format_key` gives, for instance with a needless escape: the same subject and source would then have
    two keys, and which of two records is the newer cannot be told.
    """

    subject: Subject
    source: str = ""
    canonical: bool = True


def format_key(subject: Subject, source: str = "") -> bytes:
    """Return the record key of a subject at a source: ``type:id`` or ``type:id#source``.

    Raises:
        ConsentKeyError: The name of the type or source has characters outside of ``[A-Za-z0-9._~@+-]``, the source
            has more than 64, or the id is empty.
    """
    if not _TYPE.match(subject.type) or not subject.id or (source and not _SOURCE.match(source)):
        raise ConsentKeyError("the subject or source cannot be written as a key")
    return f"{subject.canonical}#{source}".encode() if source else subject.canonical.encode()


def parse_key(data: bytes | None) -> ConsentKey:
    """Return whom a record speaks of. The type ends at the first ``:``, the source starts at the last ``#``.

    Raises:
        ConsentKeyError: No subject can be told from it: not UTF-8, no or a second ``:``, an empty part, a broken
            escape.
    """
    try:
        text = (data or b"").decode()
    except UnicodeDecodeError:
        raise ConsentKeyError("the key is not UTF-8") from None
    type_name, colon, rest = text.partition(":")
    if not colon or ":" in rest:
        raise ConsentKeyError("the key does not have exactly one unescaped colon")
    escaped, hash_sign, source = rest.rpartition("#")
    if not hash_sign:
        escaped, source = rest, ""
    if not _TYPE.match(type_name) or not escaped:
        raise ConsentKeyError("the key has no type, or no id, or a type with characters that types do not have")
    subject_id = _unescape(escaped)
    subject = Subject(type_name, subject_id)
    canonical = bool(_SOURCE.match(source)) if hash_sign else True
    return ConsentKey(subject, source, canonical and subject.canonical == f"{type_name}:{escaped}")


def parse_value(data: bytes | None, record_timestamp_ms: int) -> SourceState | None:
    """Return what a record says: a state, ``UNDECODABLE`` for everything that is not exactly a state, None to forget.

    ``record_timestamp_ms`` is the record's Kafka timestamp; a decision over five minutes after it is not believed.
    """
    if data is None:
        return None
    try:
        return read_value(data, record_timestamp_ms)
    except DecodeError:
        return UNDECODABLE


def read_value(data: bytes, record_timestamp_ms: int) -> SourceState:
    """Return the state in a record's value, as :func:`parse_value` does.

    Raises:
        DecodeError: It is not exactly a state; the path names the place and never a purpose.
    """
    return read_state(strictjson.parse(data, limits=LIMITS, numbers="python"), record_timestamp_ms)


def read_state(value: object, record_timestamp_ms: int) -> SourceState:
    """Return the state that a parsed JSON object of version 1 stands for.

    A decision in short form, or without dates of its own, takes the outer ``decided_at`` and ``expires_at``.

    Raises:
        DecodeError: It is not exactly a state; the path names the place and never a purpose.
    """
    members = _object(value, _STATE_KEYS, "")
    version = members.get("version")
    if type(version) is not int or version != 1:
        raise _mismatch("version")
    latest_ms = record_timestamp_ms + MAX_AHEAD_MS
    decided_at_ms = _decided_at(members.get("decided_at"), latest_ms, "decided_at")
    expires_at_ms = _expires_at(members.get("expires_at"), "expires_at")
    jurisdiction = members.get("jurisdiction")
    if jurisdiction is not None and not (
        isinstance(jurisdiction, str) and len(jurisdiction) <= 64 and _JURISDICTION.match(jurisdiction)
    ):
        raise _mismatch("jurisdiction")
    minor = members.get("minor", False)
    if not isinstance(minor, bool):
        raise _mismatch("minor")
    entries = members.get("decisions")
    if not isinstance(entries, dict) or len(entries) > _MAX_DECISIONS:
        raise _mismatch("decisions")
    decisions: dict[str, Decision] = {}
    for name, entry in entries.items():
        only_denied = _check_name(name)
        decision = _decision(entry, decided_at_ms, expires_at_ms, latest_ms)
        if only_denied and decision.decision != "deny":
            raise _mismatch("decisions{}.decision")
        decisions[name] = decision
    return SourceState(decided_at_ms, decisions, jurisdiction, minor)


def to_value(state: SourceState) -> bytes:
    """Return the record value that says this state, as compact JSON.

    Raises:
        InvalidValueError: The state is one that could not be decoded, or it would not be accepted when read.
    """
    if state.undecodable:
        raise InvalidValueError("a state that could not be decoded cannot be written")
    document = {
        "version": 1,
        "decided_at": _format_time(state.decided_at_ms),
        "jurisdiction": state.jurisdiction,
        "minor": state.minor,
        "decisions": {name: _to_json(decision) for name, decision in sorted(state.decisions.items())},
    }
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    newest_ms = max(state.decided_at_ms, *(decision.decided_at_ms for decision in state.decisions.values()), 0)
    try:
        read_value(data, newest_ms)
    except DecodeError as error:
        raise InvalidValueError(f"the state cannot be written: {error}") from None
    return data


def _unescape(escaped: str) -> str:
    if _BAD_ESCAPE.search(escaped):
        raise ConsentKeyError("the id has a broken escape")
    try:
        subject_id = unquote_to_bytes(escaped).decode()
    except UnicodeDecodeError:
        raise ConsentKeyError("the id is not UTF-8 below its escapes") from None
    # Ids are in this form (see core.subjects), so a decomposed spelling means the same subject.
    return unicodedata.normalize("NFC", subject_id)


def _check_name(name: str) -> bool:
    """Check a member name of ``decisions``; return whether it may only be denied."""
    if not name or len(name.encode()) > _MAX_NAME_BYTES:
        raise _mismatch("decisions{}")
    purpose, at, recipient = name.rpartition("@")
    if at and (not purpose or not _RECIPIENT.match(recipient)):
        raise _mismatch("decisions{}")
    return bool(at) or name == EVERY_PURPOSE


def _decision(entry: object, decided_at_ms: int, expires_at_ms: int | None, latest_ms: int) -> Decision:
    if isinstance(entry, str):
        return Decision(_word(entry), decided_at_ms, expires_at_ms)
    members = _object(entry, _DECISION_KEYS, "decisions{}")
    if "decided_at" in members:
        decided_at_ms = _decided_at(members["decided_at"], latest_ms, "decisions{}.decided_at")
    if "expires_at" in members:
        expires_at_ms = _expires_at(members["expires_at"], "decisions{}.expires_at")
    notice, evidence = (_optional_text(members.get(name), f"decisions{{}}.{name}") for name in ("notice", "evidence"))
    return Decision(_word(members.get("decision")), decided_at_ms, expires_at_ms, notice, evidence)


def _word(value: object) -> Word:
    if value == "allow":
        return "allow"
    if value == "deny":
        return "deny"
    raise _mismatch("decisions{}.decision")


def _object(value: object, allowed: frozenset[str], path: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or not value.keys() <= allowed:
        raise _mismatch(path)
    return value


def _optional_text(value: object, path: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise _mismatch(path)


def _time(value: object, path: str) -> int:
    if not isinstance(value, str):
        raise _mismatch(path)
    try:
        return parse_date_time(value)
    except InvalidValueError:
        raise _mismatch(path) from None


def _decided_at(value: object, latest_ms: int, path: str) -> int:
    time_ms = _time(value, path)
    if time_ms > latest_ms:
        raise DecodeError(Reason.OUT_OF_RANGE, path)
    return time_ms


def _expires_at(value: object, path: str) -> int | None:
    return None if value is None else _time(value, path)


def _mismatch(path: str) -> DecodeError:
    return DecodeError(Reason.SCHEMA_MISMATCH, path)


def _format_time(time_ms: int) -> str:
    whole = format_date_time(time_ms)
    fraction = time_ms % 1000
    return f"{whole[:-1]}.{fraction:03}Z" if fraction else whole


def _to_json(decision: Decision) -> dict[str, str | None]:
    expires_at_ms = decision.expires_at_ms
    members: dict[str, str | None] = {
        "decision": decision.decision,
        "decided_at": _format_time(decision.decided_at_ms),
        "expires_at": None if expires_at_ms is None else _format_time(expires_at_ms),
    }
    if decision.notice is not None:
        members["notice"] = decision.notice
    if decision.evidence is not None:
        members["evidence"] = decision.evidence
    return members
