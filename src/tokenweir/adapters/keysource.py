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


class WrappedRoot(_Model):
    """The root of one key domain and epoch."""

    domain: str = Field(min_length=1, max_length=128, description="Key domain.")
    epoch: int = Field(ge=1, description="Generation of the tokens.")
    created_at: str = Field(description="When the root was made: RFC 3339, UTC.")
    status: Literal["active"] = Field(description="What the root is used for.")
    wrapped: str = Field(
        min_length=_MIN_WRAPPED_CHARACTERS, max_length=_MAX_WRAPPED_CHARACTERS, description="The sealed root in base64."
    )


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
    roots: list[WrappedRoot] = Field(description="One root per key domain and epoch.")
    state: WrappedState = Field(description="The root for local state.")


@dataclass(frozen=True, slots=True, order=True)
class KeyRow:
    """One root as ``keys list`` shows it; nothing in it is secret."""

    domain: str
    epoch: int
    status: str
    created_at: str


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
    kek = _kek(kek)
    with _exclusive(keyset_path.parent):
        exists = keyset_path.exists()
        made = kek.make(keyset_path if exists else None)
        created_at = now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        if exists:
            current = _read_keyset(keyset_path)
            _open_keyset(current, kek, keyset_path)  # Never add to a keyset that does not open.
        else:
            state = WrappedState(created_at=created_at, wrapped=wrap_root(kek, STATE))
            reference = KekReference(provider=kek.provider, id=kek.id)
            current = KeysetFile(version=1, kek=reference, roots=[], state=state)
        known = {root.domain for root in current.roots}
        added = [_new_root(kek, domain, created_at) for domain in wanted if domain not in known]
        if added or not exists:
            content = current.model_copy(update={"roots": [*current.roots, *added]})
            _open_keyset(content, kek, keyset_path)  # A KEK that wraps and may not open would lose the roots.
            data = (content.model_dump_json(indent=2) + "\n").encode()
            (replace_file if exists else write_new)(keyset_path, data)
    return made


def load_keyset(keyset_path: Path, kek: Kek | Path) -> Keyset:
    """Open a keyset; ``kek`` is the KEK, or the path of one in a file.

    Raises:
        KekUnreachableError: the provider of the KEK did not answer usefully in time.
        KeysError: the keyset or its KEK is missing, malformed, wrong, readable by others, or may not be used.
    """
    return _open_keyset(_read_keyset(keyset_path), _kek(kek), keyset_path)


def describe_keyset(keyset_path: Path) -> list[KeyRow]:
    """Return the roots of a keyset, sorted, without opening it.

    Raises:
        KeysError: the keyset is missing or malformed.
    """
    roots = _read_keyset(keyset_path).roots
    return sorted(KeyRow(root.domain, root.epoch, root.status, root.created_at) for root in roots)


def kek_reference(keyset_path: Path) -> KekReference:
    """Return which KEK wraps a keyset, without opening it.

    Raises:
        KeysError: the keyset is missing or malformed.
    """
    return _read_keyset(keyset_path).kek


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


def _kek(kek: Kek | Path) -> Kek:
    return FileKek(kek) if isinstance(kek, Path) else kek


def _new_root(kek: Kek, domain: str, created_at: str) -> WrappedRoot:
    """Make a root of the first epoch."""
    wrapped = wrap_root(kek, KekContext(domain, FIRST_EPOCH))
    return WrappedRoot(domain=domain, epoch=FIRST_EPOCH, created_at=created_at, status="active", wrapped=wrapped)


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


def _open_keyset(content: KeysetFile, kek: Kek, keyset_path: Path) -> Keyset:
    """Unwrap every root."""
    require_kek(content.kek, kek, keyset_path)
    roots: dict[tuple[str, int], TokenKey] = {}
    active: dict[str, int] = {}
    try:
        state = unwrap_root(kek, STATE, content.state.wrapped)
        for root in content.roots:
            roots[root.domain, root.epoch] = unwrap_root(kek, KekContext(root.domain, root.epoch), root.wrapped)
            active[root.domain] = root.epoch
    except WrappedRootError:
        raise KeysError(does_not_open(content.kek, kek, keyset_path)) from None
    return Keyset(roots, active, state)


def does_not_open(reference: KekReference, kek: Kek, keyset_path: Path) -> str:
    """Return what to say of a keyset with a root that does not open."""
    if kek.provider == "file":
        # The fingerprint has said that it is the right KEK.
        return f"{keyset_path} was changed: a root does not open; restore the file from its backup"
    return (
        f"{keyset_path}: a root does not open under {kek.name}: it was wrapped by another key (the file names "
        f"{reference.id}), or the file was changed; name the right key, or restore the file from its backup"
    )


def _read_keyset(path: Path) -> KeysetFile:
    """Read and check the keyset file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error, _NO_KEYSET) from None
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
    return content


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, refusing one that says a thing twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a duplicate key")
    return result


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two processes do not both extend a keyset."""
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
