"""Files that hold keys: made whole or not at all, readable by their owner only, durable when a call returns."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from tokenweir.errors import KeysError


def unreadable(path: Path, error: OSError, if_missing: str) -> KeysError:
    """Return the error for a key file that cannot be read, with what to do about one that is missing."""
    other = "make it readable for the user who runs tokenweir, and for nobody else"
    remedy = if_missing if isinstance(error, FileNotFoundError) else other
    return KeysError(f"{path} cannot be read ({error.strerror}); {remedy}")


def make_directory(directory: Path) -> None:
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
