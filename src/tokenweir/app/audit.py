"""The audit log that a configuration names: opening it, checking it, looking tokens up in it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tokenweir.adapters.auditfiles import (
    AuditError,
    audit_fault,
    make_signing_key,
    public_key_path,
    read_checkpoint,
    read_public_key,
    read_signing_key,
    segments,
)
from tokenweir.adapters.auditlog import AuditLog
from tokenweir.app.detokenize import Place, is_text, mark
from tokenweir.config import Config
from tokenweir.core.detokenize.chain import ChainError, Checkpoint, Fault, Kind, Verdict, verify
from tokenweir.core.tokens.secret import TokenKey
from tokenweir.errors import FileFormatError, RefusedError, UsageError
from tokenweir.runtime.clock import SystemClock

CHECKPOINT: Final = "checkpoint.json"
LOCK_SECONDS: Final = 30
"""How long a check waits for a writer."""


@dataclass(frozen=True, slots=True)
class AuditPaths:
    """Where the parts of an audit log are."""

    directory: Path
    checkpoint: Path
    public_key: Path


def audit_paths(config: Config) -> AuditPaths:
    """Return the files that a configuration names."""
    section = config.detokenize.audit
    checkpoint = section.checkpoint or section.directory / CHECKPOINT
    return AuditPaths(section.directory, checkpoint, public_key_path(section.signing_key))


def open_audit(config: Config) -> AuditLog:
    """Return the audit log of a configuration, ready to append.

    Raises:
        KeysError: the signing key is missing, or readable by others.
    """
    section, paths = config.detokenize.audit, audit_paths(config)
    return AuditLog(
        paths.directory,
        paths.checkpoint,
        read_signing_key(section.signing_key),
        SystemClock().now_ms,
        segment_bytes=section.segment_bytes,
        lock_seconds=section.timeout_seconds,
    )


def init_audit(config: Config) -> tuple[bool, str]:
    """Make what is missing of signing key and log; say whether a key was made, and return the log's id.

    Raises:
        KeysError: there is a log without its signing key, or the key cannot be made.
        AuditError: there is a log already, or it cannot be written.
    """
    section, paths = config.detokenize.audit, audit_paths(config)
    if paths.directory.is_dir() and segments(paths.directory):
        raise RefusedError(f"{paths.directory} holds a log already; none is ever begun anew in its place")
    made = not section.signing_key.exists()
    if made:
        make_signing_key(section.signing_key)
    return made, open_audit(config).create()


def verify_audit(paths: AuditPaths, anchors: Sequence[Path], public_key: Path | None = None) -> Verdict:
    """Check a whole log against its public key, the checkpoint beside it, and checkpoints kept elsewhere.

    Raises:
        FileFormatError: a file that is named cannot be read.
        UsageError: two checkpoints have one name.
        AuditError: a writer does not let go of the log.
    """
    key = read_public_key(public_key or paths.public_key)
    beside = paths.checkpoint.name
    faults: list[Fault] = []
    found: dict[str, Checkpoint] = {}
    try:
        with _shared(paths.directory):
            files = segments(paths.directory)
            data = [(path.name, path.read_bytes()) for path in files]
            checkpoint = _anchor(paths.checkpoint, key, beside, faults)
    except OSError as error:
        raise FileFormatError(f"{error.filename or paths.directory}: {error.strerror}") from None
    if checkpoint is not None:
        found[beside] = checkpoint
    for path in anchors:
        if str(path) in found:
            raise UsageError(f"{path} is named twice")
        try:
            anchor = _anchor(path, key, str(path), faults)
        except OSError as error:
            raise FileFormatError(f"{path}: {error.strerror}") from None
        if anchor is not None:
            found[str(path)] = anchor
    verdict = verify(data, key, found)
    verdict.faults += faults
    return verdict


def _anchor(path: Path, key: Ed25519PublicKey, name: str, faults: list[Fault]) -> Checkpoint | None:
    """Return a checkpoint, or None after adding why there is none that counts."""
    try:
        checkpoint = read_checkpoint(path, key)
    except ChainError as error:
        faults.append(Fault(name, 0, str(error)))
        return None
    if checkpoint is None:
        faults.append(
            Fault(name, 0, "the checkpoint is missing, so a log that was cut at its end would not be noticed")
        )
    return checkpoint


@contextmanager
def _shared(directory: Path) -> Iterator[None]:
    """Keep writers out while the log is read, so that no line is half there."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise AuditError("slow", "a writer holds it") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A record that has a token's mark: who asked, when, why, and what became of it."""

    token: str
    seq: int
    time: str
    kind: str
    principal: str
    reason: str
    ticket: str
    epoch: int


def find_tokens(
    paths: AuditPaths, key: TokenKey, place: Place, epochs: Sequence[int], tokens: Sequence[str]
) -> list[Sighting]:
    """Return every request, refusal and answer about tokens, oldest first; the log is read and not verified.

    Raises:
        FileFormatError: the log cannot be read.
    """
    marks = {
        mark(key, Place(place.entry, place.domain, epoch), token): (token, epoch)
        for token in tokens
        if is_text(token)  # No record has a mark of anything else.
        for epoch in epochs
    }
    found: list[Sighting] = []
    try:
        for path in segments(paths.directory):
            for line in path.read_bytes().splitlines():
                body = _body(line)
                if body.get("kind") not in (Kind.ANSWER, Kind.REQUEST, Kind.REFUSE):
                    continue
                found += [_sighting(body, *marks[each]) for each in body["tokens"] if each in marks]
    except OSError as error:
        raise audit_fault(error) from None
    return found


def _body(line: bytes) -> dict[str, Any]:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _sighting(body: dict[str, Any], token: str, epoch: int) -> Sighting:
    words = {name: str(body.get(name) or "") for name in ("time", "kind", "principal", "reason", "ticket")}
    return Sighting(token=token, seq=body["seq"], epoch=epoch, **words)
