"""Tokens of plain characters: digits, letters and digits, hexadecimal digits. The token is as long as the value."""

from __future__ import annotations

from tokenweir.core.alphabets import DIGITS, LOWER, LOWER_HEX, UPPER, UPPER_HEX, alphabet
from tokenweir.core.tokens.base import INT_RANGE, LONG_RANGE, Kind, PreparedRank, RankFormat, invalid
from tokenweir.core.tokens.lengths import length_bounds
from tokenweir.core.tokens.specs import AlphanumericSpec, DigitsSpec, HexSpec

_CASES = {"mixed": DIGITS + UPPER + LOWER, "lower": DIGITS + LOWER, "upper": DIGITS + UPPER}


class CharactersFormat(RankFormat):
    """Text over one alphabet whose length lies within bounds; the length is public and part of FF1's input."""

    def __init__(self, characters: str, length: int | str, expected: str, null_values: tuple[str, ...] = ()) -> None:
        super().__init__(null_values)
        self._alphabet = alphabet(characters)
        self._expected = expected
        self.radix = self._alphabet.radix
        self.shortest, self.longest = self.token_length = length_bounds(length)
        self.smallest_domain = self.radix**self.shortest

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        length = len(text)
        if not self.shortest <= length <= self.longest or not self._alphabet.covers(text):
            raise invalid(self._expected)
        return PreparedRank(self._alphabet.rank(text), length)

    def render(self, prepared: PreparedRank, rank: int) -> str:
        """Write the token for the enciphered rank."""
        return self._alphabet.text(rank, prepared.length)


class DigitsFormat(CharactersFormat):
    """Decimal digits. With one fixed length they also go on integers, padded with zeros on the left."""

    def __init__(self, spec: DigitsSpec) -> None:
        super().__init__(DIGITS, spec.length, f"{spec.length} decimal digits", spec.null_values)
        if self.shortest == self.longest:
            largest = 10**self.longest - 1
            kinds: set[Kind] = {"string", "integer"}
            kinds |= {"int"} if largest in INT_RANGE else set()
            kinds |= {"long"} if largest in LONG_RANGE else set()
            self.kinds = frozenset(kinds)

    def from_integer(self, value: int) -> str:
        """Return the integer with leading zeros; see :meth:`TokenFormat.from_integer`."""
        if "integer" not in self.kinds:
            return super().from_integer(value)
        if not 0 <= value < self.smallest_domain:
            raise invalid(self._expected)
        return self._alphabet.text(value, self.longest)

    def to_integer(self, token: str) -> int:
        """Return the number that the digits write; see :meth:`TokenFormat.to_integer`."""
        return self._alphabet.rank(token) if "integer" in self.kinds else super().to_integer(token)


class AlphanumericFormat(CharactersFormat):
    """ASCII letters and digits, of both cases or of one."""

    def __init__(self, spec: AlphanumericSpec) -> None:
        letters = "letters" if spec.case == "mixed" else f"{spec.case} case letters"
        super().__init__(_CASES[spec.case], spec.length, f"{spec.length} ASCII {letters} and digits", spec.null_values)


class HexFormat(CharactersFormat):
    """Hexadecimal digits: either case is read, one is written, so that the case of a producer breaks no join."""

    kinds: frozenset[Kind] = frozenset({"string", "fixed"})

    def __init__(self, spec: HexSpec) -> None:
        upper = spec.case == "upper"
        super().__init__(
            UPPER_HEX if upper else LOWER_HEX, spec.length, f"{spec.length} hexadecimal digits", spec.null_values
        )
        self._fold = str.upper if upper else str.lower

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        if not text.isascii():  # Lower case of a few other letters would be ASCII.
            raise invalid(self._expected)
        return super().prepare(self._fold(text))

    def accepts_fixed(self, size: int) -> bool:
        """Say whether two digits per byte are within the length."""
        return self.shortest <= 2 * size <= self.longest

    def from_bytes(self, value: bytes) -> str:
        """Return two digits per byte; see :meth:`TokenFormat.from_bytes`."""
        if not self.accepts_fixed(len(value)):
            raise invalid(self._expected)
        return value.hex()

    def to_bytes(self, token: str) -> bytes:
        """Return one byte per two digits; see :meth:`TokenFormat.to_bytes`."""
        return bytes.fromhex(token)
