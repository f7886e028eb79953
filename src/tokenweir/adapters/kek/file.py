"""A KEK in a file: 32 random bytes that nobody but their owner may read.

Roots are sealed with AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce and the context as associated data.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tokenweir.adapters.kek.base import Kek, KekContext, Provider
from tokenweir.adapters.secretfiles import make_directory, unreadable, write_new
from tokenweir.core.tokens.secret import TokenKey
from tokenweir.errors import KeysError, WrappedRootError

KEK_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_ID_LABEL: Final = b"tokenweir-kek-id1"

# A new KEK opens no keyset: one that was lost comes from a backup.
_NO_KEK: Final = "restore it from its backup: no other KEK opens the keyset"


class FileKek(Kek):
    """The KEK in a file, which is read when it is first needed."""

    provider: ClassVar[Provider] = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self._path)

    @property
    def id(self) -> str:
        """A fingerprint: a MAC of a constant under the KEK, which says nothing about the KEK itself."""
        return hmac.digest(self._kek.reveal(), _ID_LABEL, "sha256")[:8].hex()

    def knows(self, reference: str) -> bool:
        """Whether the fingerprint is that of this KEK."""
        return hmac.compare_digest(reference.encode(), self.id.encode())

    def make(self, keyset: Path | None) -> bool:
        """Make the file with mode 0600 where there is neither it nor a keyset."""
        if self._path.exists():
            return False
        if keyset is not None:
            raise KeysError(
                f"{self._path} is missing, and only the KEK that made {keyset} opens it; "
                "restore that file from its backup, a new KEK cannot replace it"
            )
        make_directory(self._path.parent)
        write_new(self._path, secrets.token_bytes(KEK_BYTES))
        return True

    def wrap(self, root: bytes, context: KekContext) -> bytes:
        """Seal a root. Random nonces are safe for 2^32 roots under one KEK (SP 800-38D, section 8.3)."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._kek.reveal()).encrypt(nonce, root, context.data())

    def unwrap(self, wrapped: bytes, context: KekContext) -> TokenKey:
        """Open a root."""
        try:
            root = AESGCM(self._kek.reveal()).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], context.data())
        except (InvalidTag, ValueError):  # The latter says that it is too short to hold a nonce.
            raise WrappedRootError from None
        return TokenKey(root)

    @cached_property
    def _kek(self) -> TokenKey:
        path = self._path
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
            raise unreadable(path, error, _NO_KEK) from None
        if len(secret) != KEK_BYTES:
            raise KeysError(f"{path} is not {KEK_BYTES} bytes; restore the KEK from its backup")
        return TokenKey(secret)
