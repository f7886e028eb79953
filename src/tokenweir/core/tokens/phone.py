"""Tokens of telephone numbers (ITU-T E.164): the country code and some leading digits are kept, the rest enciphered."""

from __future__ import annotations

import re

from tokenweir.core.tokens.base import PreparedRank, RankFormat, invalid
from tokenweir.core.tokens.specs import PhoneSpec

_TEXT = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
_LEAST_FREE = 6
_DEFAULT_KEEP = 3

# Where a country code ends follows from the first two digits alone (ITU-T E.164, annex to the list of assigned
# codes): zones 1 and 7 have one digit, these have two, and all others, assigned or spare, have three. The table is
# frozen here and not taken from a library, because a change of it would move the boundary between kept and
# enciphered digits and so change tokens without a change of the policy. Codes that are assigned later come from the
# spare three-digit ones, which this table already reads right.
_TWO_DIGIT_CODES = {
    "2": "07",
    "3": "0123469",
    "4": "013456789",
    "5": "12345678",
    "6": "0123456",
    "8": "1246",
    "9": "0123458",
}


def country_code_length(digits: str) -> int:
    """Return how many of the digits after the + are the country code."""
    if digits[0] in "17":
        return 1
    return 2 if digits[1] in _TWO_DIGIT_CODES[digits[0]] else 3


class PhoneFormat(RankFormat):
    """A number such as ``+4930901820``, without separators.

    At least six digits are always enciphered: 1,000,000 values. Below 2^42 values an attacker who may tokenize at will
    can build the code book of one prefix, so access to tokenization must be limited; the kept digits are in the tweak.
    """

    radix = 10
    smallest_domain = 10**_LEAST_FREE
    token_length = (8, 16)

    def __init__(self, spec: PhoneSpec) -> None:
        super().__init__(spec.null_values)
        self._keep = spec.keep
        self._expected = "a telephone number of + and 7 to 15 digits with at least 6 to tokenize"

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        if _TEXT.fullmatch(text) is None:
            raise invalid(self._expected)
        code = country_code_length(text[1:])
        national = len(text) - 1 - code
        keep = min(_DEFAULT_KEEP, national - _LEAST_FREE) if self._keep is None else self._keep
        free = national - keep
        if free < _LEAST_FREE or keep < 0:
            raise invalid(self._expected)
        split = 1 + code + keep
        return PreparedRank(int(text[split:]), free, text[:split])

    def render(self, prepared: PreparedRank, rank: int) -> str:
        """Write the token for the enciphered rank."""
        return prepared.kept + str(rank).zfill(prepared.length)
