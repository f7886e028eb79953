"""Key bytes that do not show themselves, and the unambiguous encoding of what they are derived from."""

from __future__ import annotations

from typing import NoReturn


class TokenKey:
    """Secret key bytes. Not shown by repr, not pickled, not copied, not compared.

    Only the code that feeds a cipher, a MAC or a key derivation calls :meth:`reveal`, so a search for that word finds
    every place that touches keys. Python cannot wipe the bytes; they live as long as the process.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = bytes(secret)

    def __len__(self) -> int:
        return len(self._secret)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is neither pickled nor copied")

    def reveal(self) -> bytes:
        """Return the bytes."""
        return self._secret


def length_prefixed(*parts: str | bytes) -> bytes:
    """Return LP: each part (text in UTF-8) after its length in four bytes, big-endian.

    No two different lists of parts have the same encoding.
    """
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join([len(part).to_bytes(4, "big") + part for part in encoded])
