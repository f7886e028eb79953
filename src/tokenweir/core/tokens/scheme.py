"""Schemes: numbers of a fixed layout, some of whose characters are computed from the others.

A scheme says what may stand at every place of a number and how its check digits follow. The places that are free form
one number of mixed radix, which FF1 enciphers; the check digits are computed anew and never enciphered. Where some
free places have no check digits, or write a day that no calendar has, the number is enciphered again (cycle walking),
so that exactly the valid numbers are permuted.

Both engines read the same schemes: ``tools/generate.py`` writes those of this package as tables for the native one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod
from typing import Literal, TypeAlias

from tokenweir.core.alphabets import DIGITS, UPPER

CHARACTERS = DIGITS + UPPER
"""What numbers are written in; lower case is read as upper case."""

SEPARATORS = " -./"
"""What may stand, one at a time, between two characters of a number. It keeps its place."""

CLASSES = {"n": DIGITS, "a": UPPER, "c": CHARACTERS}
"""Classes of the IBAN registry (ISO 13616-1): digits, upper case letters, both."""

_DECIMALS = tuple(range(36))
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9, *[0] * 26)
_FRENCH = (*range(10), 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9)
_EVEN = (*range(10), *range(26))
_ODD_LETTERS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_ODD = (*_ODD_LETTERS[:10], *_ODD_LETTERS)
_FOREIGNERS = (*range(10), *[0] * 23, 0, 1, 2)
_CORSICA = (*range(10), -1, -2, *[0] * 24)

VALUES: dict[str, tuple[int, ...]] = {
    "plain": _DECIMALS,
    "doubled": _DOUBLED,
    "french": _FRENCH,
    "even": _EVEN,
    "odd": _ODD,
    "foreigners": _FOREIGNERS,
    "corsica": _CORSICA,
}
"""What each of the 36 characters counts: itself (A is 10); the digits of its double (ISO/IEC 7812-1, annex B); the
letters of a French RIB; the even and odd places of Italian codes; X, Y, Z of a Spanish NIE; 2A and 2B of a French NIR,
which count as 19 and 18."""

ValueTable: TypeAlias = Literal["plain", "doubled", "french", "even", "odd", "foreigners", "corsica"]
Calendar: TypeAlias = Literal["pesel", "codice_fiscale"]


@dataclass(frozen=True, slots=True)
class Free:
    """So many characters of a class."""

    characters: Literal["n", "a", "c"]
    width: int


@dataclass(frozen=True, slots=True)
class Ranges:
    """Decimal numbers of one width within ranges, both ends included."""

    width: int
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Words:
    """One of some texts of one width."""

    words: tuple[str, ...]

    @property
    def width(self) -> int:
        """Characters of each."""
        return len(self.words[0])


@dataclass(frozen=True, slots=True)
class Computed:
    """Characters that a check writes."""

    width: int


Part: TypeAlias = Free | Ranges | Words | Computed


@dataclass(frozen=True, slots=True)
class Check:
    """A weighted sum of characters whose rest says what stands at a place."""

    at: int
    """First place of what it writes."""
    terms: tuple[tuple[int, int, ValueTable], ...]
    """Place, weight, and what its character counts."""
    modulus: int
    answers: tuple[str, ...]
    """What stands there for each rest; "" where the other characters belong to no number."""

    def answer(self, text: str) -> str:
        """Return what this check writes for a number; what stands at its own place does not matter."""
        total = sum(weight * VALUES[table][CHARACTERS.index(text[place])] for place, weight, table in self.terms)
        return self.answers[total % self.modulus]


@dataclass(frozen=True)
class Scheme:
    """The layout of one kind of number."""

    name: str
    parts: tuple[Part, ...]
    checks: tuple[Check, ...] = ()
    """In the order in which they are computed."""
    iban: bool = False
    """Whether the text is a BBAN, which follows its country and the digits of ISO 7064 mod 97-10."""
    bank: tuple[int, int] = (0, 0)
    """First place of the bank and the place after its last one."""
    branch: tuple[int, int] = (0, 0)
    calendar: Calendar | None = None
    dates: int = 0
    """How many combinations of the parts that write a date the calendar has."""

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First place of each part."""
        return tuple(accumulate((part.width for part in self.parts[:-1]), initial=0))

    @cached_property
    def length(self) -> int:
        """Characters of a number, without separators."""
        return sum(part.width for part in self.parts)

    def numerals(self, kept: Sequence[bool]) -> list[tuple[int, int, Part]]:
        """Return first place, radix and part of each numeral; free parts have a numeral for each character."""
        found: list[tuple[int, int, Part]] = []
        for start, part in zip(self.starts, self.parts, strict=True):
            if isinstance(part, Free):
                radix = len(CLASSES[part.characters])
                found += [(place, radix, part) for place in range(start, start + part.width) if not kept[place]]
            elif isinstance(part, Ranges):
                found.append((start, sum(high - low + 1 for low, high in part.ranges), part))
            elif isinstance(part, Words):
                found.append((start, len(part.words), part))
        return found

    def keeps(self, *ranges: tuple[int, int]) -> tuple[bool, ...]:
        """Return for each place whether it lies in one of the ranges."""
        return tuple(any(start <= place < end for start, end in ranges) for place in range(self.length))

    def fits(self, text: str) -> bool:
        """Say whether this is a number: every character in its class, every check right, the day in the calendar."""
        if len(text) != self.length:
            return False
        for start, part in zip(self.starts, self.parts, strict=True):
            if isinstance(part, Free) and not set(text[start : start + part.width]) <= set(CLASSES[part.characters]):
                return False
        return self._has_day(text) and self.completed(text) == text

    def completed(self, text: str) -> str | None:
        """Return the text with its check digits; None where the other characters have none."""
        for check in self.checks:
            answer = check.answer(text)
            if not answer:
                return None
            text = text[: check.at] + answer + text[check.at + len(answer) :]
        return text

    def composed(self, rank: int, numerals: Sequence[tuple[int, int, Part]], kept: str) -> str | None:
        """Return the number of a rank, the characters of ``kept`` at all other places; None where there is none."""
        characters = list(kept)
        for start, radix, part in reversed(numerals):
            rank, numeral = divmod(rank, radix)
            written = _written(part, numeral)
            characters[start : start + len(written)] = written
        text = "".join(characters)
        return self.completed(text) if rank == 0 and self._has_day(text) else None

    def rank(self, text: str, numerals: Sequence[tuple[int, int, Part]]) -> int | None:
        """Return the rank of a number that fits; None where a part is out of its range."""
        rank = 0
        for start, radix, part in numerals:
            numeral = _numeral(part, text[start : start + (1 if isinstance(part, Free) else part.width)])
            if numeral is None:
                return None
            rank = rank * radix + numeral
        return rank

    def _has_day(self, text: str) -> bool:
        if self.calendar is None:
            return True
        if self.calendar == "pesel":
            if not text[:6].isdigit():
                return False
            # Months 1 to 12 plus 20 for each century: 1900 without, 2000, 2100, 2200, and 80 for 1800.
            century, month = divmod(int(text[2:4]), 20)
            return _has_day((1900, 2000, 2100, 2200, 1800)[century] + int(text[:2]), month, int(text[4:6]))
        if not text[6:8].isdigit() or text[8] not in CODICE_MONTHS or not text[9:11].isdigit():
            return False
        # Days of women are 40 higher. The century is not said, and 1900 had no 29 February while 2000 had.
        return _has_day(2000 + int(text[6:8]), CODICE_MONTHS.index(text[8]) + 1, int(text[9:11]) % 40)

    def size(self, numerals: Sequence[tuple[int, int, Part]]) -> int:
        """Return how many ranks there are, valid or not."""
        return prod(radix for _, radix, _ in numerals)

    def valid(self, numerals: Sequence[tuple[int, int, Part]]) -> int:
        """Return how many numbers there are, at least, with what is kept being anything that it can be."""
        size = self.size(numerals)
        if self.calendar is not None:
            named = prod(radix for _, radix, part in numerals if not isinstance(part, Free))
            return size // named * self.dates
        return min(_with_answers(self, numerals), size)


CODICE_MONTHS = "ABCDEHLMPRST"
"""The letters of January to December in an Italian codice fiscale."""

_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _has_day(year: int, month: int, day: int) -> bool:
    """Say whether the Gregorian calendar has a day."""
    if not 1 <= month <= 12:
        return False
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 1 <= day <= _DAYS[month - 1] + leap


def _written(part: Part, numeral: int) -> str:
    """Return the characters of a numeral."""
    if isinstance(part, Free):
        return CLASSES[part.characters][numeral]
    if isinstance(part, Words):
        return part.words[numeral]
    if isinstance(part, Ranges):
        for low, high in part.ranges:
            if numeral <= high - low:
                return str(low + numeral).zfill(part.width)
            numeral -= high - low + 1
    return ""


def _numeral(part: Part, text: str) -> int | None:
    """Return the numeral that characters write, None if the part does not have them."""
    if isinstance(part, Free):
        return CLASSES[part.characters].index(text)
    if isinstance(part, Words):
        return part.words.index(text) if text in part.words else None
    before = 0
    if isinstance(part, Ranges) and text.isdigit():
        number = int(text)
        for low, high in part.ranges:
            if low <= number <= high:
                return before + number - low
            before += high - low + 1
    return None


def _with_answers(scheme: Scheme, numerals: Sequence[tuple[int, int, Part]]) -> int:
    """Count the numbers whose checks all have an answer, for what is kept at its worst.

    The rests of checks that may have none are carried from numeral to numeral. Such checks read no place that another
    check writes, which a test holds for all schemes.
    """
    partial = [check for check in scheme.checks if "" in check.answers]
    weights = [{place: (weight, VALUES[table]) for place, weight, table in check.terms} for check in partial]
    moduli = [check.modulus for check in partial]
    counts: dict[tuple[int, ...], int] = {tuple([0] * len(partial)): 1}
    for start, radix, part in numerals:
        steps: dict[tuple[int, ...], int] = {}
        for numeral in range(radix):
            step = []
            for terms, modulus in zip(weights, moduli, strict=True):
                rest = 0
                for place, character in enumerate(_written(part, numeral), start):
                    if place in terms:
                        rest += terms[place][0] * terms[place][1][CHARACTERS.index(character)]
                step.append(rest % modulus)
            steps[tuple(step)] = steps.get(tuple(step), 0) + 1
        following: dict[tuple[int, ...], int] = {}
        for rests, count in counts.items():
            for step_rests, times in steps.items():
                key = tuple((a + b) % m for a, b, m in zip(rests, step_rests, moduli, strict=True))
                following[key] = following.get(key, 0) + count * times
        counts = following
    without = [{rest for rest, answer in enumerate(check.answers) if not answer} for check in partial]
    shifts = _shifts(partial, numerals)
    return min(
        sum(
            count
            for rests, count in counts.items()
            if not any((rest + by) % m in none for rest, by, m, none in zip(rests, shift, moduli, without, strict=True))
        )
        for shift in shifts
    )


def _shifts(partial: Sequence[Check], numerals: Sequence[tuple[int, int, Part]]) -> list[tuple[int, ...]]:
    """Return what kept characters can add to the rests: nothing where none of them counts, otherwise anything."""
    free = {
        place for start, _, part in numerals for place in range(start, start + (part.width, 1)[isinstance(part, Free)])
    }
    shifts: list[tuple[int, ...]] = [()]
    for check in partial:
        counts_kept = any(place not in free for place, _, _ in check.terms)
        shifts = [(*shift, by) for shift in shifts for by in range(check.modulus if counts_kept else 1)]
    return shifts
