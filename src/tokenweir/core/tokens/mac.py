"""Tokens of MAC addresses (IEEE 802, EUI-48)."""

from __future__ import annotations

import re

from tokenweir.core.tokens.base import PreparedRank, RankFormat, invalid
from tokenweir.core.tokens.specs import MacSpec

_TEXT = re.compile(
    r"[0-9A-Fa-f]{12}|[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})|[0-9A-Fa-f]{4}(?:\.[0-9A-Fa-f]{4}){2}",
    re.ASCII,
)
_SEPARATORS = str.maketrans("", "", ":-.")
_LOCAL = 1 << 41
"""The bit of addresses that no manufacturer gave (IEEE 802, section 8.2.2): universally or locally administered."""
_BELOW = 40
_OWN = 24
_FREE_BITS = 46


class MacFormat(RankFormat):
    """An address of six bytes; separators and case stay.

    The bit for groups is kept, so that a multicast address stays one. The bit for local administration is set in every
    token, so that none is the address of a device that was made; addresses that have it already, which devices make up
    for a while, are no values then. With ``local: keep`` they are, and the bit is kept.
    """

    radix = 2
    token_length = (12, 17)

    def __init__(self, spec: MacSpec) -> None:
        super().__init__(spec.null_values)
        self._oui = spec.keep == "oui"
        self._set = spec.local == "set"
        self._bits = _OWN if self._oui else _FREE_BITS
        self.smallest_domain = 1 << self._bits

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        return self._prepare(text, token=False)

    def prepare_token(self, token: str) -> PreparedRank:
        """Read a token; see :meth:`RankFormat.prepare_token`."""
        return self._prepare(token, token=True)

    def _prepare(self, text: str, *, token: bool) -> PreparedRank:
        if _TEXT.fullmatch(text) is None:
            raise invalid("a MAC address of 12 hexadecimal digits")
        bits = int(text.translate(_SEPARATORS), 16)
        if self._set:
            if bool(bits & _LOCAL) is not token:
                raise invalid("a MAC address that its manufacturer gave")
            bits &= ~_LOCAL
        if self._oui:
            return PreparedRank(bits & ((1 << _OWN) - 1), _OWN, f"{bits >> _OWN:06x}", text)
        kept = bits >> _BELOW & 0b11
        rank = (bits >> _BELOW + 2) << _BELOW | bits & ((1 << _BELOW) - 1)
        return PreparedRank(rank, _FREE_BITS, f"{kept}", text)

    def render(self, prepared: PreparedRank, rank: int) -> str:
        """Write the token for the enciphered rank."""
        return self._write(prepared, rank, _LOCAL if self._set else 0)

    def restore(self, prepared: PreparedRank, rank: int) -> str:
        """Write the value for the deciphered rank."""
        return self._write(prepared, rank, 0)

    def _write(self, prepared: PreparedRank, rank: int, mark: int) -> str:
        if self._oui:
            bits = int(prepared.kept, 16) << _OWN | rank
        else:
            bits = (rank >> _BELOW) << _BELOW + 2 | int(prepared.kept) << _BELOW | rank & ((1 << _BELOW) - 1)
        digits = iter(cased(f"{bits | mark:012x}", prepared.frame))
        return "".join([next(digits) if place.isalnum() else place for place in prepared.frame])


def cased(digits: str, like: str) -> str:
    """Return hexadecimal digits in upper case if another text has letters, and all of them are upper case."""
    return digits.upper() if like.isupper() else digits
