"""The keyset file: roots wrapped by a key-encryption key (KEK), made once, opened at start.

``keyset.json`` holds no secret in the clear: each root is sealed under the KEK together with its key domain and epoch,
so that roots cannot be swapped. Where the KEK lives, and how it seals, is up to its provider (:mod:`.kek`).
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokenweir.adapters.kek import STATE, FileKek, Kek, KekContext
from tokenweir.adapters.kek.base import Provider
from tokenweir.adapters.secretfiles import make_directory, replace_file, unreadable, write_new
from tokenweir.core.keys import FIRST_EPOCH, ROOT_BYTES, Keyset, TokenKey
from tokenweir.errors import KeysError, WrappedRootError

#: A root with a tag of 16 bytes, in base64; every provider adds more.
_MIN_WRAPPED_CHARACTERS: Final = (ROOT_BYTES + 16) * 4 // 3
#: More than any provider makes of 32 bytes; ciphertexts of AWS KMS have at most 6,144 bytes.
_MAX_WRAPPED_CHARACTERS: Final = 6144 * 4 // 3

# A new keyset makes other tokens: one that was lost comes from a backup.
_NO_KEYSET: Final = "restore it from its backup, or if there never was one, make it with `tokenweir keys init`"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class KekReference(_Model):
    """Which KEK wraps the roots."""

    provider: Provider = Field(description="Where the KEK lives.")
    id: str = Field(
        min_length=1,
        max_length=2048,
        description="Which KEK it is: the name that its provider has for it, or the fingerprint of one in a file.",
    )


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
    """What is known of copies of a destroyed root: what a program found, or what a person says of the others."""

    what: str = Field(min_length=1, max_length=4096, description="Which copies.")
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
        min_length=_MIN_WRAPPED_CHARACTERS,
        max_length=_MAX_WRAPPED_CHARACTERS,
        description="The sealed root in base64; gone where the root is destroyed.",
    )
    keks: list[str] | None = Field(default=None, description="Of a destroyed root: every KEK that ever wrapped it.")
    attested: list[Attestation] | None = Field(
        default=None, description="Of a destroyed root: what is known of copies."
    )


class FormerKek(_Model):
    """A KEK that wrapped the roots until they were wrapped anew."""

    provider: Provider = Field(description="Where it lives.")
    id: str = Field(min_length=1, max_length=2048, description="Which KEK it is.")
    replaced_at: str = Field(description="When the roots were wrapped anew: RFC 3339, UTC.")


class WrappedState(_Model):
    """The root of the keys that protect local state."""

    created_at: str = Field(description="When the root was made: RFC 3339, UTC.")
    wrapped: str = Field(
        min_length=_MIN_WRAPPED_CHARACTERS, max_length=_MAX_WRAPPED_CHARACTERS, description="The sealed root in base64."
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
    for row in sorted(rows, key=lambda row: -row.epoch):
        if row.status == "retiring":
            found[row.domain] = (*found.get(row.domain, ()), row.epoch)
    return found


def init_keyset(keyset_path: Path, kek: Kek | Path, domains: Iterable[str], now: datetime) -> bool:
    """Make what is missing: the KEK in a file, the keyset, the roots of new key domains. Never replaces a key.

    Returns whether a KEK was made.

    Args:
        keyset_path: the ``keyset.json``; made with mode 0600, in a directory of mode 0700.
        kek: the KEK, or the path of one in a file; that is made with mode 0600 if neither it nor the keyset exists.
        domains: key domains that must have a root afterwards.
        now: the time that new roots are said to be made, with a time zone.

    Raises:
        KeysError: the KEK is missing, wrong or readable by others, may not be used or cannot be asked, the keyset
            cannot be used or written, or another process is changing it.
    """
    wanted = sorted(set(domains))
    kek = as_kek(kek)
    with exclusive(keyset_path.parent):
        exists = keyset_path.exists()
        made = kek.make(keyset_path if exists else None)
        created_at = instant(now)
        if exists:
            current = read_keyset(keyset_path)
            open_content(current, kek, keyset_path)  # Never add to a keyset that does not open.
        else:
            state = WrappedState(created_at=created_at, wrapped=wrap_root(kek, STATE))
            reference = KekReference(provider=kek.provider, id=kek.id)
            current = KeysetFile(version=1, kek=reference, roots=[], state=state)
        known = {root.domain for root in current.roots}
        added = [new_root(kek, domain, created_at) for domain in wanted if domain not in known]
        if added or not exists:
            content = current.model_copy(update={"roots": [*current.roots, *added]})
            open_content(content, kek, keyset_path)  # A KEK that wraps and may not open would lose the roots.
            (replace_file if exists else write_new)(keyset_path, encoded(content))
    return made


def instant(now: datetime) -> str:
    """Return a time as the file holds it: RFC 3339, UTC."""
    return now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def encoded(content: KeysetFile) -> bytes:
    """Return the bytes of a keyset's file."""
    return (content.model_dump_json(indent=2, exclude_none=True) + "\n").encode()


def load_keyset(keyset_path: Path, kek: Kek | Path) -> Keyset:
    """Open a keyset; ``kek`` is the KEK, or the path of one in a file.

    Raises:
        KekUnreachableError: the provider of the KEK did not answer usefully in time.
        KeysError: the keyset or its KEK is missing, malformed, wrong, readable by others, or may not be used.
    """
    return open_content(read_keyset(keyset_path), as_kek(kek), keyset_path)


def open_keyset(text: str, keyset_path: Path, kek: Kek | Path, *, in_use: bool = False) -> Keyset:
    """Open a keyset whose file was read before; ``in_use`` leaves out the roots of retired epochs.

    Raises:
        KekUnreachableError: the provider of the KEK did not answer usefully in time.
        KeysError: the KEK is missing, wrong, readable by others or may not be used, or the text is no keyset.
    """
    return open_content(_parse_keyset(text.encode(), keyset_path), as_kek(kek), keyset_path, in_use=in_use)


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


def kek_reference(keyset_path: Path) -> KekReference:
    """Return which KEK wraps a keyset, without opening it.

    Raises:
        KeysError: the keyset is missing or malformed.
    """
    return read_keyset(keyset_path).kek


def wrap_root(kek: Kek, context: KekContext, root: bytes | None = None) -> str:
    """Return a root, a new random one by default, as the file holds it: wrapped for its context, in base64."""
    wrapped = kek.wrap(secrets.token_bytes(ROOT_BYTES) if root is None else root, context)
    return base64.b64encode(wrapped).decode("ascii")


def unwrap_root(kek: Kek, context: KekContext, wrapped: str) -> TokenKey:
    """Return the root that the file holds wrapped.

    Raises:
        WrappedRootError: it does not open.
        KekUnreachableError: the provider of the KEK did not answer usefully in time.
        KeysError: the KEK is missing, or may not be used.
    """
    try:
        raw = base64.b64decode(wrapped, validate=True)
    except binascii.Error:
        raise WrappedRootError from None
    root = kek.unwrap(raw, context)
    if len(root) != ROOT_BYTES:
        raise WrappedRootError
    return root


def as_kek(kek: Kek | Path) -> Kek:
    """Return a KEK, or that in a file of this path."""
    return FileKek(kek) if isinstance(kek, Path) else kek


def new_root(kek: Kek, domain: str, created_at: str, epoch: int = FIRST_EPOCH) -> WrappedRoot:
    """Make the root of an epoch, which is active from now on."""
    wrapped = wrap_root(kek, KekContext(domain, epoch))
    return WrappedRoot(domain=domain, epoch=epoch, created_at=created_at, status="active", wrapped=wrapped)


def require_kek(reference: KekReference, kek: Kek, keyset_path: Path) -> None:
    """Refuse a KEK that cannot be the one that a keyset names.

    Raises:
        KeysError: its provider is another, or its fingerprint is.
    """
    if reference.provider != kek.provider:
        raise KeysError(
            f"{keyset_path} is wrapped by a KEK of provider '{reference.provider}', not by {kek.name}; name that KEK "
            f"with keys.kek.{reference.provider} of the configuration, or with variables "
            f"TOKENWEIR__KEYS__KEK__{reference.provider.upper()}…"
        )
    if not kek.knows(reference.id):
        raise KeysError(
            f"{kek.name} is not the KEK that wraps {keyset_path} (its id there is {reference.id}); use the right one"
        )


def open_content(content: KeysetFile, kek: Kek, keyset_path: Path, *, in_use: bool = False) -> Keyset:
    """Unwrap every root that is left, or every one that is in use.

    Raises:
        KekUnreachableError: the provider of the KEK did not answer usefully in time.
        KeysError: the KEK is missing, wrong, readable by others or may not be used, or a root does not open.
    """
    require_kek(content.kek, kek, keyset_path)
    roots: dict[tuple[str, int], TokenKey] = {}
    rows = _rows(content)
    try:
        state = unwrap_root(kek, STATE, content.state.wrapped)
        for root in content.roots:
            if root.wrapped is not None and not (in_use and root.status == "retired"):
                roots[root.domain, root.epoch] = unwrap_root(kek, KekContext(root.domain, root.epoch), root.wrapped)
    except WrappedRootError:
        raise KeysError(does_not_open(content.kek, kek, keyset_path)) from None
    return Keyset(roots, active_epochs(rows), state, retiring_epochs(rows))


def does_not_open(reference: KekReference, kek: Kek, keyset_path: Path) -> str:
    """Return what to say of a keyset with a root that does not open."""
    if kek.provider == "file":
        # The fingerprint has said that it is the right KEK.
        return f"{keyset_path} was changed: a root does not open; restore the file from its backup"
    return (
        f"{keyset_path}: a root does not open under {kek.name}: it was wrapped by another key (the file names "
        f"{reference.id}), or the file was changed; name the right key, or restore the file from its backup"
    )


def read_keyset(path: Path) -> KeysetFile:
    """Read and check the keyset file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error, _NO_KEYSET) from None
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


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, refusing one that says a thing twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a duplicate key")
    return result


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two processes do not both change a keyset.

    Raises:
        KeysError: another process has it, or the directory cannot be used.
    """
    make_directory(directory)
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
