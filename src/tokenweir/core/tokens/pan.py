"""Tokens of numbers with a Luhn digit: payment cards and IMEIs.

The Luhn residue is chosen, never enciphered, so tokens stay one to one.
"""

from __future__ import annotations

import re

from tokenweir.core.tokens.base import PreparedRank, RankFormat, invalid
from tokenweir.core.tokens.specs import ImeiSpec, PanSpec

# Digits with single spaces or hyphens between them; the count of digits is checked on its own.
_TEXT = re.compile(r"[0-9](?:[ -]?[0-9]){11,18}", re.ASCII)
_SEPARATORS = str.maketrans("", "", " -")
_DIGIT_PLACES = str.maketrans("0123456789", "0" * 10)
_SHORTEST = 12
_LONGEST = 19
_LEAST_FREE = 6
_IMEI_LENGTH = 15
_TAC_LENGTH = 8
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""The sum of the digits of twice a digit (ISO/IEC 7812-1, annex B)."""


def luhn_residue(digits: str) -> int:
    """Return the Luhn sum modulo 10; 0 for a number whose check digit is right (ISO/IEC 7812-1, annex B)."""
    numbers = [ord(digit) - 48 for digit in reversed(digits)]
    return (sum(numbers[0::2]) + sum(_DOUBLED[number] for number in numbers[1::2])) % 10


class _LuhnFormat(RankFormat):
    """A number with a Luhn digit; its separators keep their places.

    One digit balances the Luhn sum and is recomputed: the check digit, or the digit before the last four where those
    are kept. The digits before it are enciphered, but for the first ones that are kept; at least six always are.
    Values must have a residue of 0; tokens have 0 or, by default, 1, which no card and no IMEI has.
    """

    radix = 10
    _lengths: range
    _expected: str
    _keep_first: int
    _keep_last: int
    _residue: int

    def _set_domain(self) -> None:
        free = self._lengths[0] - 1 - self._keep_first - self._keep_last
        self.smallest_domain = 10 ** max(free, _LEAST_FREE)
        self.token_length = (self._lengths[0], 2 * self._lengths[-1] - 1)

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        return self._prepare(text, residue=0)

    def prepare_token(self, token: str) -> PreparedRank:
        """Read a token; see :meth:`RankFormat.prepare_token`."""
        return self._prepare(token, residue=self._residue)

    def _prepare(self, text: str, *, residue: int) -> PreparedRank:
        if _TEXT.fullmatch(text) is None:
            raise invalid(self._expected)
        digits = text.translate(_SEPARATORS)
        first = self._keep_first
        balance = len(digits) - 1 - self._keep_last
        free = balance - first
        if len(digits) not in self._lengths or free < _LEAST_FREE or luhn_residue(digits) != residue:
            raise invalid(self._expected)
        kept = digits[:first] + digits[balance + 1 :]
        return PreparedRank(int(digits[first:balance]), free, kept, text.translate(_DIGIT_PLACES))

    def render(self, prepared: PreparedRank, rank: int) -> str:
        """Write the token for the enciphered rank."""
        return self._write(prepared, rank, residue=self._residue)

    def restore(self, prepared: PreparedRank, rank: int) -> str:
        """Write the value for the deciphered rank."""
        return self._write(prepared, rank, residue=0)

    def _write(self, prepared: PreparedRank, rank: int, *, residue: int) -> str:
        first, last = prepared.kept[: self._keep_first], prepared.kept[self._keep_first :]
        free = first + str(rank).zfill(prepared.length)
        # The balancing digit stands at an even distance (0 or 4) from the end, where the Luhn sum does not double.
        balance = (residue - luhn_residue(f"{free}0{last}")) % 10
        digits = iter(f"{free}{balance}{last}")
        return "".join([next(digits) if place == "0" else place for place in prepared.frame])


class PanFormat(_LuhnFormat):
    """A payment card number."""

    _lengths = range(_SHORTEST, _LONGEST + 1)
    _expected = "a card number of 12 to 19 digits with a right check digit"

    def __init__(self, spec: PanSpec) -> None:
        super().__init__(spec.null_values)
        self._keep_first = spec.keep_first
        self._keep_last = spec.keep_last
        self._residue = 0 if spec.luhn == "valid" else 1
        self._set_domain()


class ImeiFormat(_LuhnFormat):
    """The number of a mobile device (3GPP TS 23.003, section 6): type allocation code, serial number, check digit."""

    _lengths = range(_IMEI_LENGTH, _IMEI_LENGTH + 1)
    _expected = "an IMEI of 15 digits with a right check digit"

    def __init__(self, spec: ImeiSpec) -> None:
        super().__init__(spec.null_values)
        self._keep_first = _TAC_LENGTH if spec.keep == "tac" else 0
        self._keep_last = 0
        self._residue = 0 if spec.luhn == "valid" else 1
        self._set_domain()
