"""The keyset file: roots wrapped by a key-encryption key (KEK), made once, opened at start.

``keyset.json`` holds no secret in the clear: each root is sealed with AES-256-GCM (NIST SP 800-38D) under the KEK with
a random 96-bit nonce, and its key domain and epoch are authenticated, so that roots cannot be swapped. The KEK is a
file of 32 random bytes that nobody but its owner may read.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokenweir.core.keys import FIRST_EPOCH, ROOT_BYTES, Keyset, TokenKey, length_prefixed
from tokenweir.errors import KeysError

KEK_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_WRAPPED_CHARACTERS: Final = (_NONCE_BYTES + ROOT_BYTES + _TAG_BYTES) * 4 // 3
_ROOT_LABEL: Final = "tokenweir-keyset1"
_STATE_LABEL: Final = "tokenweir-keyset1-state"
_KEK_ID_LABEL: Final = b"tokenweir-kek-id1"

# A new keyset makes other tokens, and a new KEK opens no keyset: what was lost comes from a backup.
_NO_KEYSET: Final = "restore it from its backup, or if there never was one, make it with `tokenweir keys init`"
_NO_KEK: Final = "restore it from its backup: no other KEK opens the keyset"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class KekReference(_Model):
    """Which KEK wraps the roots."""

    provider: Literal["file"] = Field(description="Where the KEK lives.")
    id: str = Field(pattern=r"^[0-9a-f]{16}$", description="Fingerprint of the KEK; it tells nothing about it.")


Status = Literal["active", "retiring", "retired", "destroying", "destroyed"]
"""What a root is used for.

- ``active``: new tokens; the newest epoch of its key domain.
- ``retiring``: tokens of its own topics, which are fed beside those of the active epoch.
- ``retired``: nothing but to reverse its tokens.
- ``destroying``: nothing; the root is not in the file any more, and somebody may still have a copy that opens.
- ``destroyed``: nothing; every copy is unusable or attested gone.
"""

DESTROYED: Final = frozenset({"destroying", "destroyed"})


class Attestation(_Model):
    """What an operator says about copies of a destroyed root that no program can look at."""

    what: str = Field(min_length=1, max_length=512, description="Which copies.")
    statement: str = Field(min_length=1, max_length=1024, description="What became of them, and who says so.")
    at: str = Field(description="When it was said: RFC 3339, UTC.")


class WrappedRoot(_Model):
    """The root of one key domain and epoch."""

    domain: str = Field(min_length=1, max_length=128, description="Key domain.")
    epoch: int = Field(ge=1, description="Generation of the tokens.")
    created_at: str = Field(description="When the root was made: RFC 3339, UTC.")
    status: Status = Field(description="What the root is used for.")
    changed_at: str | None = Field(default=None, description="When its status changed last: RFC 3339, UTC.")
    wrapped: str | None = Field(
        default=None,
        min_length=_WRAPPED_CHARACTERS,
        max_length=_WRAPPED_CHARACTERS,
        description="Nonce, sealed root and tag in base64; gone where the root is destroyed.",
    )
    keks: list[str] | None = Field(default=None, description="Of a destroyed root: every KEK that ever wrapped it.")
    attested: list[Attestation] | None = Field(default=None, description="Of a destroyed root: what was attested.")


class FormerKek(_Model):
    """A KEK that wrapped the roots until they were wrapped anew."""

    provider: str = Field(description="Where it lives.")
    id: str = Field(description="Its fingerprint.")
    replaced_at: str = Field(description="When the roots were wrapped anew: RFC 3339, UTC.")


class WrappedState(_Model):
    """The root of the keys that protect local state."""

    created_at: str = Field(description="When the root was made: RFC 3339, UTC.")
    wrapped: str = Field(
        min_length=_WRAPPED_CHARACTERS,
        max_length=_WRAPPED_CHARACTERS,
        description="Nonce, sealed root and tag in base64.",
    )


class KeysetFile(_Model):
    """The content of ``keyset.json``."""

    version: Literal[1] = Field(description="Version of this file format.")
    kek: KekReference = Field(description="The key that wraps the roots.")
    former_keks: list[FormerKek] | None = Field(
        default=None, description="Keys that wrapped them before, oldest first."
    )
    roots: list[WrappedRoot] = Field(description="One root per key domain and epoch.")
    state: WrappedState = Field(description="The root for local state.")


@dataclass(frozen=True, slots=True, order=True)
class KeyRow:
    """One root as ``keys list`` shows it; nothing in it is secret."""

    domain: str
    epoch: int
    status: str
    created_at: str
    changed_at: str | None = None


def active_epochs(rows: Iterable[KeyRow]) -> dict[str, int]:
    """Return the epoch of each key domain that new tokens are made with."""
    return {row.domain: row.epoch for row in rows if row.status == "active"}


def retiring_epochs(rows: Iterable[KeyRow]) -> dict[str, tuple[int, ...]]:
    """Return the epochs of each key domain that are fed beside the active one, the newest first."""
    found: dict[str, tuple[int, ...]] = {}
    for row in sorted(rows, reverse=True):
        if row.status == "retiring":
            found[row.domain] = (*found.get(row.domain, ()), row.epoch)
    return found


def init_keyset(keyset_path: Path, kek_path: Path, domains: Iterable[str], now: datetime) -> None:
    """Make what is missing: the KEK, the keyset, the roots of new key domains. Never replaces a key that exists.

    Args:
        keyset_path: the ``keyset.json``; made with mode 0600, in a directory of mode 0700.
        kek_path: the KEK file; made with mode 0600 if neither it nor the keyset exists.
        domains: key domains that must have a root afterwards.
        now: the time that new roots are said to be made, with a time zone.

    Raises:
        KeysError: the KEK is missing, wrong or readable by others, the keyset cannot be used or written, or another
            process is changing it.
    """
    wanted = sorted(set(domains))
    with exclusive(keyset_path.parent):
        exists = keyset_path.exists()
        if not kek_path.exists():
            if exists:
                raise KeysError(
                    f"{kek_path} is missing, and only the KEK that made {keyset_path} opens it; "
                    "restore that file from its backup, a new KEK cannot replace it"
                )
            _make_directory(kek_path.parent)
            write_new(kek_path, secrets.token_bytes(KEK_BYTES))
        kek = read_kek(kek_path)
        created_at = instant(now)
        if exists:
            current = read_keyset(keyset_path)
            open_content(current, kek, keyset_path, kek_path)  # Never add to a keyset that does not open.
        else:
            state = WrappedState(
                created_at=created_at, wrapped=wrap(kek, secrets.token_bytes(ROOT_BYTES), state_data())
            )
            current = KeysetFile(version=1, kek=KekReference(provider="file", id=kek_id(kek)), roots=[], state=state)
        known = {root.domain for root in current.roots}
        added = [new_root(kek, domain, created_at) for domain in wanted if domain not in known]
        if added or not exists:
            content = current.model_copy(update={"roots": [*current.roots, *added]})
            (replace_file if exists else write_new)(keyset_path, encoded(content))


def instant(now: datetime) -> str:
    """Return a time as the file holds it: RFC 3339, UTC."""
    return now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def encoded(content: KeysetFile) -> bytes:
    """Return the bytes of a keyset's file."""
    return (content.model_dump_json(indent=2, exclude_none=True) + "\n").encode()


def load_keyset(keyset_path: Path, kek_path: Path) -> Keyset:
    """Open a keyset.

    Raises:
        KeysError: the keyset or its KEK is missing, malformed, wrong or readable by others.
    """
    return open_content(read_keyset(keyset_path), read_kek(kek_path), keyset_path, kek_path)


def open_keyset(text: str, keyset_path: Path, kek_path: Path, *, in_use: bool = False) -> Keyset:
    """Open a keyset whose file was read before; ``in_use`` leaves out the roots of retired epochs.

    Raises:
        KeysError: the KEK is missing, wrong or readable by others, or the text is no keyset.
    """
    content = _parse_keyset(text.encode(), keyset_path)
    return open_content(content, read_kek(kek_path), keyset_path, kek_path, in_use=in_use)


def describe_keyset(keyset_path: Path) -> list[KeyRow]:
    """Return the roots of a keyset, sorted, without opening it.

    Raises:
        KeysError: the keyset is missing or malformed.
    """
    return _rows(read_keyset(keyset_path))


def key_rows(text: str, keyset_path: Path) -> list[KeyRow]:
    """Return the same of a keyset whose file was read before.

    Raises:
        KeysError: the text is no keyset.
    """
    return _rows(_parse_keyset(text.encode(), keyset_path))


def _rows(content: KeysetFile) -> list[KeyRow]:
    return sorted(
        (KeyRow(root.domain, root.epoch, root.status, root.created_at, root.changed_at) for root in content.roots),
        key=lambda row: (row.domain, row.epoch),
    )


def new_root(kek: TokenKey, domain: str, created_at: str, epoch: int = FIRST_EPOCH) -> WrappedRoot:
    """Make the root of an epoch, which is active from now on."""
    wrapped = wrap(kek, secrets.token_bytes(ROOT_BYTES), root_data(domain, epoch))
    return WrappedRoot(domain=domain, epoch=epoch, created_at=created_at, status="active", wrapped=wrapped)


def open_content(
    content: KeysetFile, kek: TokenKey, keyset_path: Path, kek_path: Path, *, in_use: bool = False
) -> Keyset:
    """Unwrap every root that is left, or every one that is in use."""
    if not hmac.compare_digest(content.kek.id, kek_id(kek)):
        raise KeysError(
            f"{kek_path} is not the KEK that wraps {keyset_path} (its id there is {content.kek.id}); use the right file"
        )
    roots: dict[tuple[str, int], TokenKey] = {}
    rows = _rows(content)
    try:
        for root in content.roots:
            if root.wrapped is not None and not (in_use and root.status == "retired"):
                roots[root.domain, root.epoch] = unwrap(kek, root.wrapped, root_data(root.domain, root.epoch))
        state = unwrap(kek, content.state.wrapped, state_data())
    except (InvalidTag, binascii.Error):
        raise KeysError(f"{keyset_path} was changed: a root does not open; restore the file from its backup") from None
    return Keyset(roots, active_epochs(rows), state, retiring_epochs(rows))


def root_data(domain: str, epoch: int) -> bytes:
    """Return what a wrapped root is bound to, so that it opens for its key domain and epoch only."""
    return length_prefixed(_ROOT_LABEL, domain, str(epoch))


def state_data() -> bytes:
    """Return what the wrapped root of the state is bound to."""
    return length_prefixed(_STATE_LABEL)


def wrap(kek: TokenKey, root: bytes, associated: bytes) -> str:
    """Seal a root. Random nonces are safe for 2^32 roots under one KEK (SP 800-38D, section 8.3)."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(kek.reveal()).encrypt(nonce, root, associated)).decode("ascii")


def unwrap(kek: TokenKey, wrapped: str, associated: bytes) -> TokenKey:
    """Open a sealed root.

    Raises:
        InvalidTag: it was changed, or was sealed by another KEK or for another place.
        binascii.Error: it is not base64.
    """
    raw = base64.b64decode(wrapped, validate=True)
    return TokenKey(AESGCM(kek.reveal()).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], associated))


def kek_id(kek: TokenKey) -> str:
    """Return a fingerprint: a MAC of a constant under the KEK, which says nothing about the KEK itself."""
    return hmac.digest(kek.reveal(), _KEK_ID_LABEL, "sha256")[:8].hex()


def read_kek(path: Path) -> TokenKey:
    """Read the KEK from a file that only its owner can read."""
    try:
        with path.open("rb") as file:
            # The open file is asked, so that nobody can put another one in its place in between.
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeysError(f"{path} is not a regular file; the KEK is a file of {KEK_BYTES} random bytes")
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeysError(f"{path} can be used by others than its owner; run: chmod 600 {path}")
            secret = file.read(KEK_BYTES + 1)
    except OSError as error:
        # There is a keyset already wherever a KEK is read.
        raise _unreadable(path, error, _NO_KEK) from None
    if len(secret) != KEK_BYTES:
        raise KeysError(f"{path} is not {KEK_BYTES} bytes; restore the KEK from its backup")
    return TokenKey(secret)


def read_keyset(path: Path) -> KeysetFile:
    """Read and check the keyset file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error, _NO_KEYSET) from None
    return _parse_keyset(data, path)


def _parse_keyset(data: bytes, path: Path) -> KeysetFile:
    """Check the content of a keyset file."""
    try:
        content = KeysetFile.model_validate(json.loads(data, object_pairs_hook=_without_duplicates))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise KeysError(
            f"{path} is not a keyset: {place or 'the file'} is not as it must be; restore it from its backup"
        ) from None
    except (ValueError, RecursionError):
        raise KeysError(f"{path} is not a keyset: it is not valid JSON; restore it from its backup") from None
    pairs = [(root.domain, root.epoch) for root in content.roots]
    actives = [root.domain for root in content.roots if root.status == "active"]
    if len(set(pairs)) != len(pairs) or len(set(actives)) != len(actives):
        raise KeysError(f"{path} is not a keyset: a key domain has two active roots; restore it from its backup")
    if any((root.wrapped is None) != (root.status in DESTROYED) for root in content.roots):
        raise KeysError(f"{path} is not a keyset: a root is missing, or not destroyed; restore it from its backup")
    return content


def _unreadable(path: Path, error: OSError, if_missing: str) -> KeysError:
    """Return the error for a key file that cannot be read, with what to do about one that is missing."""
    other = "make it readable for the user who runs tokenweir, and for nobody else"
    remedy = if_missing if isinstance(error, FileNotFoundError) else other
    return KeysError(f"{path} cannot be read ({error.strerror}); {remedy}")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, refusing one that says a thing twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a duplicate key")
    return result


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two processes do not both extend a keyset."""
    _make_directory(directory)
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise KeysError(f"{directory} cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise KeysError(f"another process is changing the keys in {directory}; try again when it is done") from None
    except OSError as error:
        raise KeysError(f"the keys in {directory} cannot be written ({error.strerror})") from None
    finally:
        os.close(descriptor)


def _make_directory(directory: Path) -> None:
    """Make a directory for keys, open to its owner only; one that exists stays as it is."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeysError(f"{directory} cannot be made ({error.strerror})") from None


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet: whole or not at all, and never over another."""
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)  # Unlike a rename this fails if the name is taken.
    except FileExistsError:
        raise KeysError(f"{path} exists and is not replaced") from None
    finally:
        temporary.unlink()
    _sync_directory(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in place of its earlier version, whole or not at all."""
    temporary = _write_temporary(path, data)
    try:
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(path.parent)


def _write_temporary(path: Path, data: bytes) -> Path:
    """Write a durable file of mode 0600 beside the path."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink()
        raise
    return temporary


def _sync_directory(directory: Path) -> None:
    """Make the directory's entries durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
