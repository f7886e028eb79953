"""The audit log as bytes: one JSON object a line, each holding the hash of the one before and a signature.

A line is ``{"v":1,"seq":…,"time":…,"kind":…,…,"prev":HEX,"hash":HEX,"sig":HEX}``. ``hash`` is SHA-256 over a label and
all bytes of the object before it, ``prev`` the hash of the line before (zeros in the first), ``sig`` Ed25519 (RFC
8032) over LP(label, log id, seq, time, hash). So whoever has no signing key cannot make, change, move or remove a line
without its being seen, except by cutting lines off the end; only a checkpoint kept elsewhere shows that. A checkpoint
is number, hash and signature of one line, and stands for every line before it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tokenweir.core.tokens.secret import length_prefixed

FORMAT: Final = 1
GENESIS: Final = "0" * 64
"""What stands for the hash before the first record."""

LINE_BYTES: Final = 1024 * 1024
"""No line is longer; a request has at most 1,000 tokens, each a mark of 32 characters."""

_HASHED: Final = b"tokenweir-audit1\n"
_SIGNED: Final = "tokenweir-audit-checkpoint1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LINE: Final = re.compile(rb'(\{[ -~]*),"hash":"([0-9a-f]{64})","sig":"([0-9a-f]{128})"\}\n')
_HEX: Final = re.compile(r"[0-9a-f]+")

#: Signs bytes with Ed25519; 64 bytes.
Sign = Callable[[bytes], bytes]
Body = Mapping[str, Any]


class Kind(StrEnum):
    """What a record tells."""

    GENESIS = "genesis"
    SEGMENT = "segment"
    ACCEPT = "accept"
    REQUEST = "request"
    APPROVE = "approve"
    REJECT = "reject"
    ANSWER = "answer"
    REFUSE = "refuse"
    RECOVER = "recover"


class Position(NamedTuple):
    """A place in the chain: number and hash of a record."""

    seq: int
    hash: str


#: Where a log that has no record begins.
START: Final = Position(-1, GENESIS)


class ChainError(ValueError):
    """A line is not the one that must stand here; the text says what is wrong and nothing of the line."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record. ``body`` is the whole object but for hash and signature."""

    position: Position
    time_ms: int
    kind: Kind
    body: Mapping[str, Any] = field(repr=False)
    signature: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement that a log had this record: a copy kept elsewhere shows truncation and replacement."""

    log: str
    position: Position
    time_ms: int
    signature: str

    def text(self) -> str:
        """Return the checkpoint as one line of JSON."""
        document = {
            "version": FORMAT,
            "log": self.log,
            "seq": self.position.seq,
            "time": time_text(self.time_ms),
            "hash": self.position.hash,
            "sig": self.signature,
        }
        return json.dumps(document, separators=(",", ":")) + "\n"


def time_text(time_ms: int) -> str:
    """Return milliseconds since 1970 as RFC 3339 in UTC with milliseconds."""
    text = (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _time_ms(text: object) -> int:
    """Read what :func:`time_text` writes.

    Raises:
        ChainError: it is nothing else.
    """
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        milliseconds = None if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, TypeError):
        milliseconds = None
    if milliseconds is None or time_text(milliseconds) != text:
        raise ChainError("the time is none")
    return milliseconds


def encode(log: str, before: Position, time_ms: int, body: Body, sign: Sign) -> tuple[bytes, Record]:
    """Return the line of the record that follows ``before``, and the record.

    Args:
        log: The id of the log.
        before: The record before it.
        time_ms: Milliseconds since 1970, not before those of the record before.
        body: ``kind`` and what the kind needs; only JSON, and nothing that is secret or personal.
        sign: Signs with the log's key.
    """
    full = {"v": FORMAT, "seq": before.seq + 1, "time": time_text(time_ms), **body, "prev": before.hash}
    text = json.dumps(full, separators=(",", ":")).encode("ascii")[:-1]
    digest = hashlib.sha256(_HASHED + text).hexdigest()
    position = Position(before.seq + 1, digest)
    signature = sign(signed_bytes(log, position, time_ms)).hex()
    line = text + f',"hash":"{digest}","sig":"{signature}"}}\n'.encode("ascii")
    if len(line) > LINE_BYTES:
        raise ValueError("an audit record is too long")
    return line, Record(position, time_ms, Kind(full["kind"]), full, signature)


def signed_bytes(log: str, position: Position, time_ms: int) -> bytes:
    """Return what the signature of a record, which is that of its checkpoint too, is over."""
    return length_prefixed(_SIGNED, log, str(position.seq), time_text(time_ms), position.hash)


def decode(line: bytes, before: Position, before_ms: int = 0) -> Record:
    """Return the record of a line that must follow ``before``; its signature is not looked at.

    Raises:
        ChainError: it is not what must stand here.
    """
    match = _LINE.fullmatch(line) if len(line) <= LINE_BYTES else None
    if match is None:
        raise ChainError("the line has not the form of a record")
    text, digest, signature = match[1], match[2].decode("ascii"), match[3].decode("ascii")
    if hashlib.sha256(_HASHED + text).hexdigest() != digest:
        raise ChainError("the hash of the record is wrong: a byte of it was changed")
    try:
        body = json.loads(text + b"}")
        kind = Kind(body["kind"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ChainError("the record is not of this version") from None
    if body.get("v") != FORMAT or type(body.get("seq")) is not int:
        raise ChainError("the record is not of this version")
    if body["seq"] != before.seq + 1:
        raise ChainError(f"record {before.seq + 1} should stand here: records are missing, moved or inserted")
    if body.get("prev") != before.hash or (kind is Kind.GENESIS) != (before == START):
        raise ChainError("the record does not follow the one before it")
    time_ms = _time_ms(body.get("time"))
    if time_ms < before_ms:
        raise ChainError("the record is older than the one before it")
    return Record(Position(body["seq"], digest), time_ms, kind, body, signature)


def first_record(segment: bytes) -> Record | None:
    """Return the first record of a segment as it says itself, whatever stands before it; None if it has none."""
    line = segment.partition(b"\n")[0] + b"\n"
    try:
        body = json.loads(line)
        return decode(line, Position(body["seq"] - 1, body["prev"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def check_signature(log: str, signed: Record | Checkpoint, key: Ed25519PublicKey) -> None:
    """Check the signature of a record or checkpoint.

    Raises:
        ChainError: the log's key did not make it.
    """
    try:
        key.verify(bytes.fromhex(signed.signature), signed_bytes(log, signed.position, signed.time_ms))
    except (InvalidSignature, ValueError):
        raise ChainError("the signature is not one of the log's key") from None


def parse_checkpoint(text: str, key: Ed25519PublicKey) -> Checkpoint:
    """Return a checkpoint that :meth:`Checkpoint.text` made and the key signed.

    Raises:
        ChainError: it is none.
    """
    try:
        found = json.loads(text)
        checkpoint = Checkpoint(
            found["log"], Position(found["seq"], found["hash"]), _time_ms(found["time"]), found["sig"]
        )
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ChainError("this is no checkpoint") from None
    parts = (checkpoint.log, checkpoint.position.hash, checkpoint.signature)
    if not all(isinstance(part, str) and _HEX.fullmatch(part) for part in parts):
        raise ChainError("this is no checkpoint")
    if type(checkpoint.position.seq) is not int or found.get("version") != FORMAT or checkpoint.text() != text:
        raise ChainError("this is no checkpoint, or was changed")
    check_signature(checkpoint.log, checkpoint, key)
    return checkpoint


class Fault(NamedTuple):
    """What is wrong with a log: in which segment and line (counted from 1; 0 for the segment or log as a whole)."""

    segment: str
    line: int
    message: str


@dataclass(slots=True)
class Verdict:
    """What the verification of a whole log found. Behind the first fault in the chain nothing is proven."""

    log: str = ""
    records: int = 0
    last: Position = START
    last_ms: int = 0
    faults: list[Fault] = field(default_factory=list)


def verify(segments: Iterable[tuple[str, bytes]], key: Ed25519PublicKey, anchors: Mapping[str, Checkpoint]) -> Verdict:
    """Check a whole log, from its first record, against its key and any number of checkpoints.

    Args:
        segments: Name and bytes of each segment file, in order.
        key: The public key that must have signed everything.
        anchors: Checkpoints by the name that faults give them.
    """
    verdict = Verdict()
    wanted = {checkpoint.position.seq for checkpoint in anchors.values()}
    hashes: dict[int, str] = {}
    place = "", 0
    try:
        for segment, line, number in _lines(segments):
            place = segment, number
            record = decode(line, verdict.last, verdict.last_ms)
            if record.kind is Kind.GENESIS:
                verdict.log = str(record.body.get("log"))
            _check_place(record, number, verdict.log)
            check_signature(verdict.log, record, key)
            verdict.records, verdict.last, verdict.last_ms = verdict.records + 1, record.position, record.time_ms
            if record.position.seq in wanted:
                hashes[record.position.seq] = record.position.hash
    except ChainError as error:
        verdict.faults.append(Fault(*place, str(error)))
    if not verdict.records and not verdict.faults:
        verdict.faults.append(Fault("", 0, "the log has no record"))
    verdict.faults += _compare(verdict, anchors, hashes)
    return verdict


def _check_place(record: Record, number: int, log: str) -> None:
    """Check that a segment begins with its own first record, and nothing else does."""
    if (number == 1) != (record.kind in (Kind.SEGMENT, Kind.GENESIS)):
        raise ChainError("a segment begins, or does not begin, where it should")
    if record.kind is Kind.SEGMENT and record.body.get("log") != log:
        raise ChainError("the segment belongs to another log")


def _lines(segments: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes, int]]:
    """Yield every line with its segment and its number there."""
    for name, data in segments:
        for number, line in enumerate(data.splitlines(keepends=True) or [b""], start=1):
            yield name, line, number


def _compare(verdict: Verdict, anchors: Mapping[str, Checkpoint], hashes: Mapping[int, str]) -> Iterator[Fault]:
    """Yield what checkpoints show about a log."""
    for name, checkpoint in anchors.items():
        seq = checkpoint.position.seq
        if checkpoint.log != verdict.log:
            yield Fault(name, 0, "the checkpoint is of another log: this one was replaced")
        elif seq in hashes and hashes[seq] != checkpoint.position.hash:
            yield Fault(
                name, 0, f"record {seq} is another one than when the checkpoint was made: the log was rewritten"
            )
        elif seq not in hashes and not any(fault.segment != name for fault in verdict.faults):
            missing = seq - verdict.last.seq
            yield Fault(
                name, 0, f"the log ends {missing} record{'s' * (missing > 1)} before the checkpoint: it was cut"
            )
        elif seq not in hashes:
            yield Fault(name, 0, "the checkpoint lies behind the first fault")
