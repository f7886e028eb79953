"""Tokens of UUIDs (RFC 9562): 122 bits are enciphered, version and variant are kept or chosen."""

from __future__ import annotations

import re

from tokenweir.core.tokens.base import Kind, PreparedRank, RankFormat, invalid
from tokenweir.core.tokens.mac import cased
from tokenweir.core.tokens.specs import UuidSpec

_TEXT = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_EXPECTED = "a UUID"
_FREE_BITS = 122

# Most significant bit first: 48 bits, 4 bits of version, 12 bits, 2 bits of variant, 62 bits (RFC 9562, section 4).
_LAST_BITS = 62
_MIDDLE_BITS = 12
_VARIANT = 0b10


class UuidFormat(RankFormat):
    """A UUID in text or as 16 bytes. Either case is read, and makes the same token up to its case.

    With a chosen version the token does not tell which the value had, so it cannot be reversed; values of different
    versions may share a token, with a chance of 2^-122 for two of them.
    """

    radix = 2
    kinds: frozenset[Kind] = frozenset({"string", "fixed"})
    smallest_domain = 2**_FREE_BITS
    token_length = (36, 36)

    def __init__(self, spec: UuidSpec) -> None:
        super().__init__(spec.null_values)
        self._version = None if spec.version == "keep" else spec.version
        self._cased = spec.case == "keep"
        self.reversible = self._version is None

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        if _TEXT.fullmatch(text) is None:
            raise invalid(_EXPECTED)
        bits = int(text.replace("-", ""), 16)
        last = bits & ((1 << _LAST_BITS) - 1)
        variant = bits >> _LAST_BITS & 0b11
        middle = bits >> 64 & ((1 << _MIDDLE_BITS) - 1)
        version = bits >> 76 & 0xF
        rank = ((bits >> 80) << _MIDDLE_BITS | middle) << _LAST_BITS | last
        return PreparedRank(rank, _FREE_BITS, f"{version:x}{variant}", text if self._cased else "")

    def render(self, prepared: PreparedRank, rank: int) -> str:
        """Write the token for the enciphered rank."""
        version, variant = int(prepared.kept[0], 16), int(prepared.kept[1])
        if self._version is not None:
            version, variant = self._version, _VARIANT
        last = rank & ((1 << _LAST_BITS) - 1)
        rank >>= _LAST_BITS
        middle = rank & ((1 << _MIDDLE_BITS) - 1)
        bits = (rank >> _MIDDLE_BITS) << 80 | version << 76 | middle << 64 | variant << _LAST_BITS | last
        digits = cased(f"{bits:032x}", prepared.frame)
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def accepts_fixed(self, size: int) -> bool:
        """Say whether this is the size of a UUID."""
        return size == 16

    def from_bytes(self, value: bytes) -> str:
        """Return the text form of 16 bytes in network order; see :meth:`TokenFormat.from_bytes`."""
        if len(value) != 16:
            raise invalid(_EXPECTED)
        digits = value.hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def to_bytes(self, token: str) -> bytes:
        """Return the 16 bytes in network order; see :meth:`TokenFormat.to_bytes`."""
        return bytes.fromhex(token.replace("-", ""))
