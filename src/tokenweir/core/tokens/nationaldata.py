"""The national numbers that ``national`` and ``ssn`` know. Frozen: a change here would change tokens."""

from __future__ import annotations

from typing import Final

from tokenweir.core.tokens.checks import complement, digit, luhn, number, positional, two_digits, weighted
from tokenweir.core.tokens.scheme import CODICE_MONTHS, Check, Computed, Free, Ranges, Scheme, Words

_DNI_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Prefixes of HMRC's National Insurance Manual, NIM39110.
_NINO_PREFIXES: Final = tuple(
    first + second
    for first in _LETTERS
    for second in _LETTERS
    if first not in "DFIQUV"
    and second not in "DFIOQUV"
    and first + second not in {"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"}
)

_CODICE_CHECK: Final = Check(
    15,
    tuple((place, 1, "odd" if place % 2 == 0 else "even") for place in range(15)),
    26,
    tuple(_LETTERS),
)

SSN: Final = Scheme("us.ssn", (Ranges(3, ((1, 665), (667, 899))), Ranges(2, ((1, 99),)), Ranges(4, ((1, 9999),))))
"""888,931,098 numbers: area, group and serial number as the Social Security Administration assigns them since 2011."""

NATIONAL: Final[dict[str, Scheme]] = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            "br.cpf",
            (Free("n", 9), Computed(1), Computed(1)),
            (
                weighted(9, range(9), range(10, 1, -1), 11, lambda rest: digit((11 - rest) % 11) or "0"),
                weighted(10, range(10), range(11, 1, -1), 11, lambda rest: digit((11 - rest) % 11) or "0"),
            ),
        ),
        Scheme("ca.sin", (Ranges(1, ((1, 7), (9, 9))), Free("n", 7), Computed(1)), (luhn(8, range(8)),)),
        Scheme("es.dni", (Free("n", 8), Computed(1)), (number(8, range(8), 23, _DNI_LETTERS.__getitem__),)),
        Scheme(
            "es.nie",
            (Words(("X", "Y", "Z")), Free("n", 7), Computed(1)),
            (
                positional(
                    8,
                    [(place, "plain" if place else "foreigners") for place in range(8)],
                    23,
                    _DNI_LETTERS.__getitem__,
                ),
            ),
        ),
        Scheme(
            "fr.nir",
            (
                Ranges(1, ((1, 4), (7, 8))),
                Free("n", 2),
                Ranges(2, ((1, 12), (20, 42), (50, 99))),
                Words((*map(two_digits, range(100)), "2A", "2B")),
                Free("n", 6),
                Computed(2),
            ),
            (
                positional(
                    13,
                    [(place, "corsica" if place == 6 else "plain") for place in range(13)],
                    97,
                    lambda rest: two_digits(97 - rest),
                ),
            ),
        ),
        Scheme("gb.nhs", (Free("n", 9), Computed(1)), (weighted(9, range(9), range(10, 1, -1), 11, complement(11)),)),
        Scheme("gb.nino", (Words(_NINO_PREFIXES), Free("n", 6), Words(("A", "B", "C", "D")))),
        Scheme(
            "it.codice_fiscale",
            (
                Free("a", 6),
                Ranges(2, ((0, 99),)),
                Words(tuple(CODICE_MONTHS)),
                Ranges(2, ((1, 31), (41, 71))),
                Free("a", 1),
                Free("n", 3),
                Computed(1),
            ),
            (_CODICE_CHECK,),
            calendar="codice_fiscale",
            dates=2 * 36_525,
        ),
        Scheme(
            "nl.bsn",
            (Free("n", 8), Computed(1)),
            (weighted(8, range(8), range(9, 1, -1), 11, digit),),
        ),
        Scheme(
            "pl.pesel",
            (
                Ranges(2, ((0, 99),)),
                Ranges(2, ((1, 12), (21, 32), (41, 52), (61, 72), (81, 92))),
                Ranges(2, ((1, 31),)),
                Free("n", 4),
                Computed(1),
            ),
            (weighted(10, range(10), (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), 10, complement(10)),),
            calendar="pesel",
            dates=182_621,
        ),
    )
}
"""By country and kind; the tests hold them to python-stdnum, which knows all but ``gb.nino``."""
