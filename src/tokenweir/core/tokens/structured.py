"""Tokens of numbers that follow a scheme: IBANs, social security numbers, national numbers."""

from __future__ import annotations

import re
from abc import abstractmethod
from functools import lru_cache

from tokenweir.core.ff1 import MINIMUM_DOMAIN
from tokenweir.core.tokens.base import PreparedRank, RankFormat, invalid
from tokenweir.core.tokens.ibandata import IBANS
from tokenweir.core.tokens.nationaldata import NATIONAL, SSN
from tokenweir.core.tokens.scheme import CHARACTERS, Scheme
from tokenweir.core.tokens.specs import IbanSpec, NationalSpec, SsnSpec

_TEXT = re.compile(r"[0-9A-Za-z](?:[ \-./]?[0-9A-Za-z])*", re.ASCII)
_SEPARATORS = str.maketrans("", "", " -./")
_LONGEST = 80
"""More characters than any scheme has, separators included; longer texts are not looked at."""


class Layout:
    """A scheme with what is kept of it."""

    def __init__(self, scheme: Scheme, *kept: tuple[int, int]) -> None:
        self.scheme = scheme
        self.kept = scheme.keeps(*kept)
        self.numerals = scheme.numerals(self.kept)
        self.size = scheme.size(self.numerals)
        self.valid = scheme.valid(self.numerals)
        self.bits = (self.size - 1).bit_length()

    def kept_of(self, text: str) -> str:
        """Return the characters of a number that are kept."""
        return "".join(character for character, kept in zip(text, self.kept, strict=True) if kept)

    def compose(self, rank: int, kept: str) -> str | None:
        """Return the number of a rank, None where there is none."""
        if rank >= self.size:
            return None
        characters = iter(kept)
        base = "".join([next(characters) if is_kept else "0" for is_kept in self.kept])
        return self.scheme.composed(rank, self.numerals, base)


@lru_cache(maxsize=512)
def layout(scheme_name: str, keep: str) -> Layout:
    """Return the (shared) layout of a country's IBANs, or of a national number (``keep`` is "")."""
    if not keep:
        return Layout(SSN if scheme_name == SSN.name else NATIONAL[scheme_name])
    scheme = IBANS[scheme_name]
    return Layout(scheme, *{"country": [], "bank": [scheme.bank], "branch": [scheme.bank, scheme.branch]}[keep])


class _SchemeFormat(RankFormat):
    """Numbers of one or several schemes. FF1 works on bits: the radix must not depend on the scheme."""

    radix = 2
    has_holes = True
    _expected: str

    @abstractmethod
    def _layout(self, kept: str) -> tuple[Layout, str]:
        """Return the layout of what a value keeps, and the part of it that the layout knows.

        Raises:
            InvalidValueError: there is none.
        """

    def _prepared(self, body: str, chosen: Layout, prefix: str, text: str) -> PreparedRank:
        rank = chosen.scheme.rank(body, chosen.numerals) if chosen.scheme.fits(body) else None
        if rank is None:
            raise invalid(self._expected)
        return PreparedRank(rank, chosen.bits, prefix + chosen.kept_of(body), text)

    def _compact(self, text: str) -> str:
        if len(text) > _LONGEST or _TEXT.fullmatch(text) is None:
            raise invalid(self._expected)
        return text.translate(_SEPARATORS).upper()

    def is_hole(self, prepared: PreparedRank, rank: int) -> bool:
        """Say whether a rank stands for no number; see :meth:`RankFormat.is_hole`."""
        chosen, kept = self._layout(prepared.kept)
        return chosen.compose(rank, kept) is None

    def _written(self, prepared: PreparedRank, number: str) -> str:
        """Return a number with the separators of the value."""
        characters = iter(number)
        return "".join([next(characters) if place.isalnum() else place for place in prepared.frame])

    def render(self, prepared: PreparedRank, rank: int) -> str:
        """Write the token for the enciphered rank."""
        chosen, kept = self._layout(prepared.kept)
        return self._written(prepared, chosen.compose(rank, kept) or "")


class _OneScheme(_SchemeFormat):
    """Numbers of one scheme, all characters of which are enciphered."""

    def __init__(self, name: str, expected: str, null_values: tuple[str, ...]) -> None:
        super().__init__(null_values)
        self._one = layout(name, "")
        self._expected = expected
        self.smallest_domain = self._one.valid
        length = self._one.scheme.length
        self.token_length = (length, 2 * length - 1)

    def _layout(self, kept: str) -> tuple[Layout, str]:
        return self._one, kept

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        return self._prepared(self._compact(text), self._one, "", text)


class SsnFormat(_OneScheme):
    """US social security numbers.

    There are 888,931,098 that can have been assigned and 111,068,902 that cannot, so no permutation leads from all of
    the former into the latter: tokens that could be nobody's number would have to collide.
    """

    def __init__(self, spec: SsnSpec) -> None:
        super().__init__(SSN.name, "a social security number", spec.null_values)


class NationalFormat(_OneScheme):
    """National numbers of one kind."""

    def __init__(self, spec: NationalSpec) -> None:
        super().__init__(spec.number, f"a national number of the kind {spec.number}", spec.null_values)


class IbanFormat(_SchemeFormat):
    """IBANs. The country is kept, with it the layout; the check digits follow from the rest."""

    _expected = "an IBAN of a known country with right check digits"

    def __init__(self, spec: IbanSpec) -> None:
        super().__init__(spec.null_values)
        self._keep = spec.keep
        if spec.countries:
            self._layouts = {country: layout(country, spec.keep) for country in spec.countries}
        else:
            every = {country: layout(country, spec.keep) for country in IBANS}
            self._layouts = {country: each for country, each in every.items() if each.valid >= MINIMUM_DOMAIN}
        self.smallest_domain = min(each.valid for each in self._layouts.values())
        lengths = [each.scheme.length + 4 for each in self._layouts.values()]
        self.token_length = (min(lengths), 2 * max(lengths) - 1)

    def _layout(self, kept: str) -> tuple[Layout, str]:
        chosen = self._layouts.get(kept[:2])
        if chosen is None:
            raise invalid(self._expected)
        return chosen, kept[2:]

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        compact = self._compact(text)
        country, body = compact[:2], compact[4:]
        if compact[2:4] != iban_digits(country, body):
            raise invalid(self._expected)
        return self._prepared(body, self._layout(country)[0], country, text)

    def _written(self, prepared: PreparedRank, number: str) -> str:
        country = prepared.kept[:2]
        return super()._written(prepared, country + iban_digits(country, number) + number)


def iban_digits(country: str, body: str) -> str:
    """Return the check digits of an IBAN (ISO 7064, mod 97-10; ISO 13616-1, section 5)."""
    text = f"{body}{country}00"
    return f"{98 - int(''.join([str(CHARACTERS.index(character)) for character in text])) % 97:02d}"
