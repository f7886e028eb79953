"""Tokens of payment card numbers: the Luhn residue is chosen, never enciphered, so tokens stay one to one."""

from __future__ import annotations

import re

from tokenweir.core.tokens.base import PreparedRank, RankFormat, invalid
from tokenweir.core.tokens.specs import PanSpec

# Digits with single spaces or hyphens between them; the count of digits is checked on its own.
_TEXT = re.compile(r"[0-9](?:[ -]?[0-9]){11,18}", re.ASCII)
_SEPARATORS = str.maketrans("", "", " -")
_DIGIT_PLACES = str.maketrans("0123456789", "0" * 10)
_EXPECTED = "a card number of 12 to 19 digits with a right check digit"
_SHORTEST = 12
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""The sum of the digits of twice a digit (ISO/IEC 7812-1, annex B)."""


def luhn_residue(digits: str) -> int:
    """Return the Luhn sum modulo 10; 0 for a number whose check digit is right (ISO/IEC 7812-1, annex B)."""
    numbers = [ord(digit) - 48 for digit in reversed(digits)]
    return (sum(numbers[0::2]) + sum(_DOUBLED[number] for number in numbers[1::2])) % 10


class PanFormat(RankFormat):
    """A card number; its separators keep their places.

    One digit balances the Luhn sum and is recomputed: the check digit, or the digit before the last four where those
    are kept. The digits before it are enciphered. Values must have a residue of 0; tokens have 0 or, by default, 1,
    which no card has.
    """

    radix = 10
    token_length = (_SHORTEST, 37)

    def __init__(self, spec: PanSpec) -> None:
        super().__init__(spec.null_values)
        self._keep = spec.keep_last
        self._residue = 0 if spec.luhn == "valid" else 1
        self.smallest_domain = 10 ** (_SHORTEST - 1 - self._keep)

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        return self._prepare(text, residue=0)

    def prepare_token(self, token: str) -> PreparedRank:
        """Read a token; see :meth:`RankFormat.prepare_token`."""
        return self._prepare(token, residue=self._residue)

    def _prepare(self, text: str, *, residue: int) -> PreparedRank:
        if _TEXT.fullmatch(text) is None:
            raise invalid(_EXPECTED)
        digits = text.translate(_SEPARATORS)
        if luhn_residue(digits) != residue:
            raise invalid(_EXPECTED)
        free = len(digits) - 1 - self._keep
        return PreparedRank(int(digits[:free]), free, digits[free + 1 :], text.translate(_DIGIT_PLACES))

    def render(self, prepared: PreparedRank, rank: int) -> str:
        """Write the token for the enciphered rank."""
        return self._write(prepared, rank, residue=self._residue)

    def restore(self, prepared: PreparedRank, rank: int) -> str:
        """Write the value for the deciphered rank."""
        return self._write(prepared, rank, residue=0)

    def _write(self, prepared: PreparedRank, rank: int, *, residue: int) -> str:
        free = str(rank).zfill(prepared.length)
        # The balancing digit stands at an even distance (0 or 4) from the end, where the Luhn sum does not double.
        balance = (residue - luhn_residue(f"{free}0{prepared.kept}")) % 10
        digits = iter(f"{free}{balance}{prepared.kept}")
        return "".join([next(digits) if place == "0" else place for place in prepared.frame])
