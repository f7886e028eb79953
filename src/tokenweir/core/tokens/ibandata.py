"""The layouts of IBANs. Frozen: a change here would change tokens, so a library's newer data is not taken as it comes.

Structures and places are those of the SWIFT IBAN registry (ISO 13616-2), and the national check digits follow the
rules of the countries, both as collected in schwifty 2026.10.1 (MIT licence), whose validator the tests ask. The
registry allows letters in the accounts of MK; its check digits are defined on digits, so only those are read.
"""

from __future__ import annotations

import re
from typing import Final

from tokenweir.core.tokens.checks import complement, luhn, number, two_digits, weighted
from tokenweir.core.tokens.scheme import Check, Computed, Free, Part, Ranges, Scheme, ValueTable

# Country, structure of the BBAN, places of the bank and of the branch.
_TABLE: Final = """
AD 4n4n12c 0-4 4-8
AE 3n16n 0-3
AL 8n16c 0-3 3-7
AT 5n11n 0-5
AZ 4a20c 0-4
BA 3n3n8n2n 0-3 3-6
BE 3n7n2n 0-3
BG 4a4n2n8c 0-4 4-8
BH 4a14c 0-4
BI 5n5n11n2n 0-5 5-10
BR 8c5n10n1c1c 0-8 8-13
BY 4c4n16c 0-4
CH 5n12c 0-5
CR 4n14n 0-4
CY 3n5n16c 0-3 3-8
CZ 4n6n10n 0-4
DE 8n10n 0-8
DJ 23n 0-5 5-10
DK 4n9n1n 0-4
DO 4c20n 0-4
EE 2n2n11n1n 0-2 2-4
EG 4n4n17n 0-4 4-8
ES 4n4n1n1n10n 0-4 4-8
FI 3n11n 0-3
FK 2a12n 0-2
FO 4n9n1n 0-4
FR 5n5n11c2n 0-5 5-10
GB 4a6n8n 0-4 4-10
GE 2a16n 0-2
GI 4a15c 0-4
GL 4n9n1n 0-4
GR 3n4n16c 0-3 3-7
GT 4c20c 0-4
HN 4a20n 0-4
HR 7n10n 0-7
HU 3n4n1n15n1n 0-3 3-7
IE 4a6n8n 0-4 4-10
IL 3n3n13n 0-3 3-6
IQ 4a3n12n 0-4 4-7
IS 4n2n6n10n 0-2 2-4
IT 1a5n5n12c 1-6 6-11
JO 4a4n18c 0-4 4-8
KW 4a22c 0-4
KZ 3n13c 0-3
LB 4n20c 0-4
LC 4a24c 0-4
LI 5n12c 0-5
LT 5n11n 0-5
LU 3n13c 0-3
LV 4a13c 0-4
LY 3n3n15n 0-3 3-6
MC 5n5n11c2n 0-5 5-10
MD 2c18c 0-2
ME 3n13n2n 0-3
MK 3n10n2n 0-3
MN 4n12n 0-4
MR 5n5n11n2n 0-5 5-10
MT 4a5n18c 0-4 4-9
MU 4a2n2n12n3n3a 0-6 6-8
NI 4a20n 0-4
NL 4a10n 0-4
NO 4n6n1n 0-4
OM 3n16c 0-3
PK 4a16c 0-4
PL 8n16n 0-8
PS 4a21c 0-4
PT 4n4n11n2n 0-4 4-8
QA 4a21c 0-4
RO 4a16c 0-4
RS 3n13n2n 0-3
RU 9n5n15c 0-9 9-14
SA 2n18c 0-2
SC 4a2n2n16n3a 0-6 6-8
SD 2n12n 0-2
SE 3n16n1n 0-3
SI 5n8n2n 0-2 2-5
SK 4n6n10n 0-4
SM 1a5n5n12c 1-6 6-11
SO 4n3n12n 0-4 4-7
ST 4n4n11n2n 0-4 4-8
SV 4a20n 0-4
TL 3n14n2n 0-3
TN 2n3n13n2n 0-2 2-5
TR 5n1n16c 0-5
UA 6n19c 0-6
VA 3n15n 0-3
VG 4a16n 0-4
XK 4n10n2n 0-2 2-4
YE 4a4n18c 0-4 4-8
"""

# Countries with check digits in the registry or in practice that schwifty does not verify. They stay free digits.
UNVERIFIED: Final = ("AL", "BI", "DJ", "FO", "GL", "HR", "HU", "SE", "ST", "XK")

_FRENCH_WEIGHTS: Final = (89, 15, 3)


def _mod_97_10(length: int, *, pad: int = 98) -> Check:
    """Return the two last digits by ISO 7064 mod 97-10: 98, or 97 where the country says so, less the rest."""
    return number(length - 2, range(length - 2), 97, lambda rest: two_digits(pad - rest), times=100)


def _french(values: ValueTable = "french") -> Check:
    """Return the key of a French RIB: 97 less the rest of 89 bank + 15 branch + 3 account."""
    terms = []
    for weight, start, end in zip(_FRENCH_WEIGHTS, (0, 5, 10), (5, 10, 21), strict=True):
        terms += [(place, weight * 10 ** (end - 1 - place) % 97, values) for place in range(start, end)]
    return Check(21, tuple(terms), 97, tuple(two_digits(97 - rest) for rest in range(97)))


def _italian() -> Check:
    """Return the CIN, the letter before bank, branch and account."""
    terms: list[tuple[int, int, ValueTable]] = [(place, 1, "odd" if place % 2 else "even") for place in range(1, 23)]
    return Check(0, tuple(terms), 26, tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def _spanish(rest: int) -> str:
    return str((0, 1, *range(9, 1, -1), 1)[rest]) if rest > 1 else "01"[rest]


def _czech() -> tuple[Check, Check]:
    """Return the last digits of the prefix and of the account, each of which is a multiple of 11 with its weights."""
    weights = (6, 3, 7, 9, 10, 5, 8, 4, 2)
    return (
        weighted(9, range(4, 9), weights[4:], 11, complement(11)),
        weighted(19, range(10, 19), weights, 11, complement(11)),
    )


_WEIGHTS_11: Final = (1, 2, 4, 8, 5, 10, 9, 7, 3, 6)

_CHECKS: Final[dict[str, tuple[Check, ...]]] = {
    **{country: (_mod_97_10(length),) for country, length in {"BA": 16, "ME": 18, "MK": 15, "PT": 21}.items()},
    **{country: (_mod_97_10(length),) for country, length in {"RS": 18, "SI": 15, "TL": 19}.items()},
    **{country: (_mod_97_10(length, pad=97),) for country, length in {"MR": 23, "TN": 20}.items()},
    "BE": (number(10, range(10), 97, lambda rest: two_digits(rest or 97)),),
    "CZ": _czech(),
    "SK": _czech(),
    "EE": (weighted(15, range(14, 1, -1), (7, 3, 1) * 4 + (7,), 10, complement(10)),),
    "ES": (
        weighted(8, range(8), _WEIGHTS_11[2:], 11, _spanish),
        weighted(9, range(10, 20), _WEIGHTS_11, 11, _spanish),
    ),
    "FI": (luhn(13, range(13)),),
    "FR": (_french(),),
    "MC": (_french(),),
    "IS": (weighted(20, range(12, 20), (3, 2, 7, 6, 5, 4, 3, 2), 11, complement(11)),),
    "IT": (_italian(),),
    "SM": (_italian(),),
    "NO": (weighted(10, range(10), (5, 4, 3, 2, 7, 6, 5, 4, 3, 2), 11, complement(11)),),
    "PL": (weighted(7, range(7), (3, 9, 7, 1, 3, 9, 7), 10, complement(10)),),
}


def _parts(structure: str, checks: tuple[Check, ...]) -> tuple[Part, ...]:
    """Return the parts of a structure, with what checks write taken out of its free characters."""
    classes = "".join(kind * int(width) for width, kind in re.findall("([0-9]+)([nac])", structure))
    for check in checks:
        width = len(check.answers[0])
        classes = f"{classes[: check.at]}{'=' * width}{classes[check.at + width :]}"
    runs = [match[0] for match in re.finditer(r"(.)\1*", classes)]
    return tuple(Computed(len(run)) if run[0] == "=" else Free(run[0], len(run)) for run in runs)  # type: ignore[arg-type]


# An account that begins with 00, a bank's own, follows another rule and is no value.
_NORWEGIAN: Final[tuple[Part, ...]] = (Free("n", 4), Ranges(2, ((1, 99),)), Free("n", 4), Computed(1))


def _range(text: str) -> tuple[int, int]:
    start, end = text.split("-")
    return int(start), int(end)


def _scheme(line: str) -> Scheme:
    country, structure, bank, *branch = line.split()
    checks = _CHECKS.get(country, ())
    places = _range(branch[0]) if branch else (0, 0)
    parts = _NORWEGIAN if country == "NO" else _parts(structure, checks)
    return Scheme(country, parts, checks, iban=True, bank=_range(bank), branch=places)


IBANS: Final[dict[str, Scheme]] = {scheme.name: scheme for scheme in map(_scheme, _TABLE.split("\n")[1:-1])}
"""The layout of the BBAN of each country."""
