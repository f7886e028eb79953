"""Tokens with a form of their own: a keyed hash, or a deterministic ciphertext that the key holder can open."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from tokenweir.core.tokens.base import UNBOUNDED_DOMAIN, DigestFormat, PreparedText, SealedFormat, invalid
from tokenweir.core.tokens.specs import OpaqueSpec

_EXPECTED = "a text of at least one character in valid Unicode"
_EXPECTED_TOKEN = "a token of this entry"  # noqa: S105 - words for a message
_SIV_BYTES = 16


def _checked(text: str) -> PreparedText:
    """Return the text, which is hashed or sealed as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(_EXPECTED) from None
    if not text:
        raise invalid(_EXPECTED)
    return PreparedText(text)


def _written(raw: bytes, encoding: str) -> str:
    """Return bytes as hexadecimal or base64url without padding (RFC 4648, section 5)."""
    return raw.hex() if encoding == "hex" else base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


class OpaqueDigestFormat(DigestFormat):
    """HMAC-SHA-256 of the text, truncated to 128 bits or more."""

    smallest_domain = UNBOUNDED_DOMAIN

    def __init__(self, spec: OpaqueSpec) -> None:
        super().__init__(spec.null_values)
        self._bytes = spec.bits // 8
        self._encoding = spec.encoding
        self.token_length = (len(_written(bytes(self._bytes), spec.encoding)),) * 2

    def prepare(self, text: str) -> PreparedText:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        return _checked(text)

    def render(self, prepared: PreparedText, mac: Callable[[str, str], bytes]) -> str:
        """Write the token."""
        return _written(mac("text", prepared.text)[: self._bytes], self._encoding)


class OpaqueSealedFormat(SealedFormat):
    """AES-SIV of the text: reversible, authenticated, 16 bytes longer than the text."""

    smallest_domain = UNBOUNDED_DOMAIN

    def __init__(self, spec: OpaqueSpec) -> None:
        super().__init__(spec.null_values)
        self._encoding = spec.encoding
        self.token_length = (len(_written(bytes(_SIV_BYTES + 1), spec.encoding)), None)

    def prepare(self, text: str) -> PreparedText:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        return _checked(text)

    def render(self, sealed: bytes) -> str:
        """Write the token for a ciphertext."""
        return _written(sealed, self._encoding)

    def unseal(self, token: str) -> bytes:
        """Return the ciphertext that a token writes; see :meth:`SealedFormat.unseal`."""
        try:
            if self._encoding == "hex":
                sealed = bytes.fromhex(token)
            else:
                sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise invalid(_EXPECTED_TOKEN) from None
        # Only the one spelling that this format writes is a token: no spaces, no padding, no loose last bits.
        if len(sealed) <= _SIV_BYTES or self.render(sealed) != token:
            raise invalid(_EXPECTED_TOKEN)
        return sealed
