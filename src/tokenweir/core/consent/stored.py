"""The bytes in which the store keeps one data subject's consent.

Big-endian, the same bytes for the same states::

    record   := 0x01  u32 number of sources  source*      sources by name, ascending
    source   := text  u8 flags  i64 decided_at_ms  [text jurisdiction]  u16 number of decisions  decision*
                flags: 1 could not be decoded, 2 minor, 4 has a jurisdiction
    decision := text  u8 flags  i64 decided_at_ms  [i64 expires_at_ms]     decisions by name, ascending
                flags: 1 allow (otherwise deny), 2 expires
    text     := u8 length in bytes  UTF-8

What documents a decision (``notice``, ``evidence``) is not kept: it decides nothing, and it may be personal data.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from struct import error as StructError  # noqa: N812  # The module's name for it is not a class name.
from typing import Final

from tokenweir.core.consent.states import Decision, SourceState, SubjectConsent
from tokenweir.core.outcome import Reason
from tokenweir.errors import DecodeError, InvalidValueError

_FORMAT: Final = 1
_HEAD: Final = Struct(">BI")
_STATE: Final = Struct(">Bq")
_COUNT: Final = Struct(">H")
_TIME: Final = Struct(">q")

_STATE_UNDECODABLE: Final = 1
_STATE_MINOR: Final = 2
_STATE_JURISDICTION: Final = 4
_DECISION_ALLOW: Final = 1
_DECISION_EXPIRES: Final = 2


def encode(states: Mapping[str, SourceState]) -> bytes:
    """Return the stored form of a subject's states.

    Raises:
        InvalidValueError: More sources, or longer names, than the form can hold.
    """
    out = bytearray()
    try:
        out += _HEAD.pack(_FORMAT, len(states))
        for source, state in sorted(states.items()):
            _put_text(out, source)
            flags = (
                (_STATE_UNDECODABLE if state.undecodable else 0)
                | (_STATE_MINOR if state.minor else 0)
                | (_STATE_JURISDICTION if state.jurisdiction is not None else 0)
            )
            out += _STATE.pack(flags, state.decided_at_ms)
            if state.jurisdiction is not None:
                _put_text(out, state.jurisdiction)
            out += _COUNT.pack(len(state.decisions))
            for name, decision in sorted(state.decisions.items()):
                _put_decision(out, name, decision)
    except (StructError, ValueError):
        raise InvalidValueError("the states do not fit into the stored form") from None
    return bytes(out)


def decode(data: bytes) -> SubjectConsent:
    """Return the subject's consent.

    Raises:
        DecodeError: The bytes are not exactly what :func:`encode` gives for some states.
    """
    try:
        return SubjectConsent(_decode(data))
    except (StructError, IndexError, UnicodeDecodeError):
        raise DecodeError(Reason.MALFORMED) from None


def _put_text(out: bytearray, text: str) -> None:
    data = text.encode()
    out.append(len(data))  # ValueError above 255.
    out += data


def _put_decision(out: bytearray, name: str, decision: Decision) -> None:
    _put_text(out, name)
    expires = decision.expires_at_ms is not None
    out.append((_DECISION_ALLOW if decision.decision == "allow" else 0) | (_DECISION_EXPIRES if expires else 0))
    out += _TIME.pack(decision.decided_at_ms)
    if decision.expires_at_ms is not None:
        out += _TIME.pack(decision.expires_at_ms)


def _decode(data: bytes) -> dict[str, SourceState]:
    form, count = _HEAD.unpack_from(data)
    if form != _FORMAT:
        raise DecodeError(Reason.MALFORMED)
    at = _HEAD.size
    states: dict[str, SourceState] = {}
    previous: str | None = None
    for _ in range(count):
        source, at = _text(data, at)
        flags, decided_at_ms = _STATE.unpack_from(data, at)
        at += _STATE.size
        jurisdiction = None
        if flags & _STATE_JURISDICTION:
            jurisdiction, at = _text(data, at)
        decisions, at = _decisions(data, at)
        if flags > 7 or (previous is not None and source <= previous):
            raise DecodeError(Reason.MALFORMED, position=at)
        previous = source
        states[source] = SourceState(
            decided_at_ms, decisions, jurisdiction, bool(flags & _STATE_MINOR), bool(flags & _STATE_UNDECODABLE)
        )
    if at != len(data):
        raise DecodeError(Reason.TRAILING_BYTES, position=at)
    return states


def _decisions(data: bytes, at: int) -> tuple[dict[str, Decision], int]:
    (count,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    decisions: dict[str, Decision] = {}
    previous = ""
    for _ in range(count):
        name, at = _text(data, at)
        flags, decided_at_ms = _STATE.unpack_from(data, at)
        at += _STATE.size
        expires_at_ms = None
        if flags & _DECISION_EXPIRES:
            (expires_at_ms,) = _TIME.unpack_from(data, at)
            at += _TIME.size
        if flags > 3 or name <= previous:
            raise DecodeError(Reason.MALFORMED, position=at)
        previous = name
        decisions[name] = Decision("allow" if flags & _DECISION_ALLOW else "deny", decided_at_ms, expires_at_ms)
    return decisions, at


def _text(data: bytes, at: int) -> tuple[str, int]:
    start = at + 1
    end = start + data[at]
    if end > len(data):
        raise IndexError
    return data[start:end].decode(), end
