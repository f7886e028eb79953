"""The files of the audit log: segments, the checkpoint beside them, the signing key; and what their faults mean.

Nothing here decides or trusts: :mod:`tokenweir.core.detokenize.chain` says what a log must look like, and
:mod:`tokenweir.adapters.auditlog` appends to it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from tokenweir.core.detokenize.chain import ChainError, Checkpoint, parse_checkpoint
from tokenweir.errors import FileFormatError, KeysError, RefusedError

SIGNING_KEY_BYTES: Final = 32
CHECKPOINT_BYTES: Final = 4096
_SEGMENT: Final = re.compile(r"audit-([0-9]{6})\.jsonl")

FaultKind = Literal["full", "slow", "gone", "broken", "failed"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ESTALE})
_SAID: Final[dict[FaultKind, str]] = {
    "full": "the audit log's file system is full",
    "slow": "the audit log did not take the record in time",
    "gone": "the audit log's files cannot be opened or written",
    "broken": "the audit log is not what it was",
    "failed": "the audit log could not be written",
}

Sync = Callable[[int], None]


class AuditError(RefusedError):
    """The record is not durable, so nothing is answered. ``kind`` is the label of a metric."""

    def __init__(self, kind: FaultKind, detail: str = "") -> None:
        super().__init__(f"{_SAID[kind]}{detail and f': {detail}'}; nothing is answered without it")
        self.kind: FaultKind = kind


def audit_fault(error: OSError) -> AuditError:
    """Return what an error of the operating system means for the log."""
    if error.errno in _FULL:
        return AuditError("full", error.strerror or "")
    return AuditError("gone" if error.errno in _GONE else "failed", error.strerror or "")


def segment_name(number: int) -> str:
    """Return the file name of a segment; the first has the number 1."""
    return f"audit-{number:06}.jsonl"


def segments(directory: Path) -> list[Path]:
    """Return the segment files in order. A gap is left for the chain to find.

    Raises:
        OSError: the directory cannot be read.
    """
    return sorted(path for path in directory.iterdir() if _SEGMENT.fullmatch(path.name))


def segment_number(path: Path) -> int:
    """Return the number of a segment file."""
    return int(path.name[6:12])


def read_checkpoint(path: Path, key: Ed25519PublicKey) -> Checkpoint | None:
    """Return a checkpoint from a file, or None where there is no file.

    Raises:
        ChainError: the file holds none that the key signed.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(CHECKPOINT_BYTES)
    except FileNotFoundError:
        return None
    try:
        return parse_checkpoint(data.decode("ascii"), key)
    except UnicodeDecodeError:
        raise ChainError("this is no checkpoint") from None


def write_checkpoint(path: Path, checkpoint: Checkpoint, sync: Sync = os.fsync) -> None:
    """Put a checkpoint in the place of the one before, whole and durable or not at all.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(descriptor, checkpoint.text().encode("ascii"))
            sync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent, sync)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, in as few calls as the system lets it be."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(directory: Path, sync: Sync = os.fsync) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


class SigningKey:
    """The private key of an audit log. Not shown by repr, not pickled."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)

    def __repr__(self) -> str:
        return "<SigningKey>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a signing key is neither pickled nor copied")

    def sign(self, data: bytes) -> bytes:
        """Return the signature (RFC 8032), 64 bytes."""
        return self._key.sign(data)

    def public(self) -> Ed25519PublicKey:
        """Return the public key."""
        return self._key.public_key()


def public_pem(key: Ed25519PublicKey) -> str:
    """Return a public key as PEM text (SubjectPublicKeyInfo)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def public_hex(key: Ed25519PublicKey) -> str:
    """Return the 32 bytes of a public key in hexadecimal."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def public_key_path(signing_key: Path) -> Path:
    """Return where the public key of a signing key stands."""
    return signing_key.with_suffix(".pub")


def make_signing_key(path: Path) -> SigningKey:
    """Make a signing key in a file of mode 0600, and its public key beside it. Never replaces one.

    Raises:
        KeysError: there is one already, or the files cannot be written.
    """
    secret = secrets.token_bytes(SIGNING_KEY_BYTES)
    key = SigningKey(secret)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for target, data, mode in (
            (path, secret, 0o600),
            (public_key_path(path), public_pem(key.public()).encode(), 0o644),
        ):
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(path.parent)
    except FileExistsError:
        raise KeysError(f"{path} or its public key exists and is not replaced") from None
    except OSError as error:
        raise KeysError(f"{path} cannot be written ({error.strerror})") from None
    return key


def read_signing_key(path: Path) -> SigningKey:
    """Read the signing key from a file that only its owner can read.

    Raises:
        KeysError: it is missing, readable by others, or no key.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(SIGNING_KEY_BYTES + 1)
    except OSError as error:
        remedy = "make it with `tokenweir audit init`, or restore it from its backup"
        raise KeysError(f"{path} cannot be read ({error.strerror}); {remedy}") from None
    if not stat.S_ISREG(mode) or mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeysError(f"{path} can be used by others than its owner, or is no file; run: chmod 600 {path}")
    if len(secret) != SIGNING_KEY_BYTES:
        raise KeysError(f"{path} is not {SIGNING_KEY_BYTES} bytes; restore the signing key from its backup")
    return SigningKey(secret)


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read the public key that an audit log is checked with.

    Raises:
        FileFormatError: the file cannot be read or is no Ed25519 public key in PEM.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise FileFormatError(f"{path}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise FileFormatError(f"{path}: not an Ed25519 public key in PEM")
    return key
