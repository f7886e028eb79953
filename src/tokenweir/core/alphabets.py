"""Alphabets: text to a number of a given radix and back, exactly and without regard to locale or Unicode digits."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from tokenweir.errors import TokenweirError

MAXIMUM_RADIX: Final = 65536
"""Largest radix of FF1 (NIST SP 800-38G, section 5: radix in [2 .. 2^16])."""

DIGITS: Final = "0123456789"
LOWER_HEX: Final = "0123456789abcdef"
UPPER_HEX: Final = "0123456789ABCDEF"
LOWER: Final = "abcdefghijklmnopqrstuvwxyz"
UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_INT_DIGITS: Final = DIGITS + LOWER
"""The characters that ``int(text, radix)`` reads, in their order."""

_CHUNK: Final = 512
"""Longest text that is converted in one step; below Python's own limit for conversions (640), and linear above."""


class AlphabetError(TokenweirError, ValueError):
    """The characters cannot serve as an alphabet, or a text is not written in it. Carries no part of the text."""


class Alphabet:
    """An ordered set of characters; the position of a character is its numeral."""

    __slots__ = ("_numerals", "_pairs", "_to_int_digits", "characters", "radix")

    def __init__(self, characters: str) -> None:
        """Check and index the characters.

        Raises:
            AlphabetError: fewer than 2 or more than 65536 characters, one twice, or one that has no stable form of
                its own: a surrogate, a combining mark, or a character that Unicode normalization would replace.
        """
        if not isinstance(characters, str):
            raise AlphabetError("an alphabet is a string of characters")
        if not 2 <= len(characters) <= MAXIMUM_RADIX:
            raise AlphabetError(f"an alphabet has 2 to {MAXIMUM_RADIX} characters, not {len(characters)}")
        if len(set(characters)) != len(characters):
            raise AlphabetError("an alphabet must not have a character twice")
        if not characters.isascii() and not all(map(_is_stable, characters)):
            raise AlphabetError("an alphabet must not have surrogates, combining marks or unnormalized characters")
        self.characters = characters
        self.radix = len(characters)
        self._numerals = {character: numeral for numeral, character in enumerate(characters)}
        self._pairs = [a + b for a in characters for b in characters] if 16 < self.radix <= 64 else []
        self._to_int_digits = (
            None
            if self.radix > len(_INT_DIGITS)
            else {ord(character): _INT_DIGITS[numeral] for numeral, character in enumerate(characters)}
        )
        if characters == _INT_DIGITS[: self.radix]:
            self._to_int_digits = {}

    def covers(self, text: str) -> bool:
        """Say whether every character of the text belongs to the alphabet (true for the empty text)."""
        if self.characters == DIGITS:
            return text.isascii() and (text.isdigit() or not text)
        # strip() stops at the first foreign character from either side, so only a text without any becomes empty.
        return not text.strip(self.characters) if self.radix <= 64 else self._numerals.keys() >= set(text)

    def first_foreign(self, texts: Sequence[str]) -> int | None:
        """Return the index of the first text that is not written in this alphabet, or None."""
        if self.covers("".join(texts)):
            return None
        return next(index for index, text in enumerate(texts) if not self.covers(text))

    def rank(self, text: str) -> int:
        """Return the number that the text writes, most significant numeral first. The text must be covered."""
        if len(text) > _CHUNK:
            half = len(text) // 2
            shift: int = self.radix ** (len(text) - half)
            return self.rank(text[:half]) * shift + self.rank(text[half:])
        if not text:
            return 0
        if self._to_int_digits is not None:
            return int(text.translate(self._to_int_digits) if self._to_int_digits else text, self.radix)
        rank = 0
        radix, numerals = self.radix, self._numerals
        for character in text:
            rank = rank * radix + numerals[character]
        return rank

    def ranks(self, texts: Sequence[str]) -> list[int]:
        """Return the numbers that the texts write; every text must be covered."""
        if self.characters == DIGITS and max(map(len, texts), default=0) <= _CHUNK:
            return list(map(int, texts))
        return list(map(self.rank, texts))

    def texts(self, ranks: Sequence[int], length: int) -> list[str]:
        """Return the numbers in this alphabet, each with exactly ``length`` characters."""
        if self.characters == DIGITS and length <= _CHUNK:
            return [str(rank).zfill(length) for rank in ranks]
        return [self.text(rank, length) for rank in ranks]

    def text(self, rank: int, length: int) -> str:
        """Return the number in this alphabet with exactly ``length`` characters; it must be below radix^length."""
        if length > _CHUNK:
            half = length // 2
            high, low = divmod(rank, self.radix ** (length - half))
            return self.text(high, half) + self.text(low, length - half)
        if self.characters == DIGITS:
            return str(rank).zfill(length)
        if self.characters == LOWER_HEX:
            return f"{rank:0{length}x}"
        if self.characters == UPPER_HEX:
            return f"{rank:0{length}X}"
        parts: list[str] = []
        if self._pairs:
            square = self.radix * self.radix
            for _ in range(length >> 1):
                rank, pair = divmod(rank, square)
                parts.append(self._pairs[pair])
            if length & 1:
                parts.append(self.characters[rank])
        else:
            for _ in range(length):
                rank, numeral = divmod(rank, self.radix)
                parts.append(self.characters[numeral])
        parts.reverse()
        return "".join(parts)


def _is_stable(character: str) -> bool:
    """Say whether a character keeps its identity whatever text it stands in."""
    category = unicodedata.category(character)
    return category != "Cs" and category[0] != "M" and unicodedata.normalize("NFC", character) == character


@lru_cache(maxsize=64)
def alphabet(characters: str) -> Alphabet:
    """Return the (shared) alphabet of these characters.

    Raises:
        AlphabetError: as for :class:`Alphabet`.
    """
    return Alphabet(characters)


def numerals_to_rank(numerals: Sequence[int], radix: int) -> int:
    """Return NUM_radix(X) of NIST SP 800-38G, algorithm 1."""
    if len(numerals) > _CHUNK:
        half = len(numerals) // 2
        shift: int = radix ** (len(numerals) - half)
        return numerals_to_rank(numerals[:half], radix) * shift + numerals_to_rank(numerals[half:], radix)
    rank = 0
    for numeral in numerals:
        rank = rank * radix + numeral
    return rank


def rank_to_numerals(rank: int, radix: int, length: int) -> list[int]:
    """Return STR^length_radix(rank) of NIST SP 800-38G, algorithm 3; the rank must be below radix^length."""
    if length > _CHUNK:
        half = length // 2
        high, low = divmod(rank, radix ** (length - half))
        return rank_to_numerals(high, radix, half) + rank_to_numerals(low, radix, length - half)
    numerals = [0] * length
    for index in range(length - 1, -1, -1):
        rank, numerals[index] = divmod(rank, radix)
    return numerals
