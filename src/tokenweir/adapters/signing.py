"""Signs documents with Ed25519 (RFC 8032), and checks the signatures; the private key is a file of its owner alone.

A signed document is a JSON object of ``payload``, ``algorithm``, ``public_key`` and ``signature``. What is signed are
the bytes of the payload in canonical form: keys sorted, no spaces, UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tokenweir.errors import FileFormatError, KeysError

SECRET_BYTES: Final = 32
ALGORITHM: Final = "Ed25519"


class SigningKey:
    """A private key. It is neither shown, pickled nor copied."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        """Take a secret of 32 bytes."""
        self._key = Ed25519PrivateKey.from_private_bytes(secret)

    def __repr__(self) -> str:
        return "SigningKey(...)"

    def __reduce__(self) -> str:
        raise TypeError("keys are not pickled")

    @property
    def public_hex(self) -> str:
        """The public key, 32 bytes in hexadecimal."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def sign(self, data: bytes) -> bytes:
        """Return the signature of some bytes, 64 bytes."""
        return self._key.sign(data)


def load(path: Path) -> SigningKey | None:
    """Return the key in a file, None where there is no file.

    Raises:
        KeysError: The file cannot be read, others can read it, or it holds no key.
    """
    try:
        with path.open("rb") as file:
            # The open file is asked, so that nobody can put another one in its place in between.
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeysError(f"{path} can be used by others than its owner; run: chmod 600 {path}")
            secret = file.read(SECRET_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeysError(f"{path}: the signing key cannot be read ({error.strerror})") from None
    if len(secret) != SECRET_BYTES:
        raise KeysError(f"{path} is not a signing key of {SECRET_BYTES} bytes; restore it from its backup")
    return SigningKey(secret)


def load_or_make(path: Path) -> SigningKey:
    """Return the key in a file, which is made with mode 0600 if it is missing.

    Raises:
        KeysError: as :func:`load`, or it cannot be made.
    """
    found = load(path)
    if found is not None:
        return found
    secret = secrets.token_bytes(SECRET_BYTES)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise KeysError(f"{path}: the signing key cannot be made ({error.strerror})") from None
    return SigningKey(secret)


def canonical(payload: Mapping[str, Any]) -> bytes:
    """Return the bytes of a payload that are signed."""
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def signed(payload: Mapping[str, Any], key: SigningKey) -> dict[str, Any]:
    """Return a payload with its signature."""
    signature = base64.b64encode(key.sign(canonical(payload))).decode("ascii")
    return {"payload": payload, "algorithm": ALGORITHM, "public_key": key.public_hex, "signature": signature}


def opened(text: str | bytes, public_hex: str, name: str) -> dict[str, Any]:
    """Return the payload of a signed document.

    Args:
        text: The document.
        public_hex: Whose signature it must have; the key that the document names itself proves nothing.
        name: The document's name for errors.

    Raises:
        FileFormatError: It is no signed document, or this key has not signed what it says.
    """
    try:
        document = json.loads(text)
        payload, signature = document["payload"], base64.b64decode(document["signature"], validate=True)
        if document["algorithm"] != ALGORITHM or not isinstance(payload, dict):
            raise FileFormatError(f"{name} is not a document signed with {ALGORITHM}")
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex)).verify(signature, canonical(payload))
    except InvalidSignature:
        raise FileFormatError(f"{name}: the signature is not that of this key, or the text was changed") from None
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise FileFormatError(f"{name} is not a signed document") from None
    return dict(payload)
