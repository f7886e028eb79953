"""Schemes of numbers: how many there are, what fits, what is left out."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.goldentokens import ADAPTER

from tokenweir.core.tokens import build, smallest_domain, spec_digest
from tokenweir.core.tokens.checks import complement, weighted
from tokenweir.core.tokens.ibandata import IBANS
from tokenweir.core.tokens.nationaldata import NATIONAL, SSN
from tokenweir.core.tokens.scheme import Check, Computed, Free, Scheme
from tokenweir.errors import InvalidValueError

EVERY = [SSN, *NATIONAL.values(), *IBANS.values()]


@pytest.mark.parametrize(
    ("parameters", "domain"),
    [
        ({"format": "ssn"}, 898 * 99 * 9_999),
        ({"format": "national", "number": "br.cpf"}, 10**9),
        ({"format": "national", "number": "ca.sin"}, 8 * 10**7),
        ({"format": "national", "number": "es.dni"}, 10**8),
        ({"format": "national", "number": "es.nie"}, 3 * 10**7),
        ({"format": "national", "number": "fr.nir"}, 6 * 100 * 85 * 102 * 10**6),
        ({"format": "national", "number": "gb.nino"}, 373 * 10**6 * 4),
        ({"format": "national", "number": "it.codice_fiscale"}, 26**6 * 73_050 * 26 * 10**3),
        ({"format": "national", "number": "pl.pesel"}, 182_621 * 10**4),
        ({"format": "iban", "countries": ["DE"]}, 10**18),
        ({"format": "iban", "countries": ["DE", "NL"], "keep": "bank"}, 10**10),
        ({"format": "iban", "countries": ["GB"], "keep": "branch"}, 10**8),
        ({"format": "iban", "countries": ["BE"], "keep": "bank"}, 10**7),
    ],
)
def test_domains(parameters: dict[str, Any], domain: int) -> None:
    """The domain of an entry is the exact number of values that share what is kept."""
    assert smallest_domain(ADAPTER.validate_python(parameters)) == domain


def count(scheme: Scheme, kept: dict[int, str]) -> int:
    """Count the numbers of a scheme of digits, one by one."""
    places = [
        place
        for start, part in zip(scheme.starts, scheme.parts, strict=True)
        if isinstance(part, Free)
        for place in range(start, start + part.width)
        if place not in kept
    ]
    numbers = 0
    for digits in product("0123456789", repeat=len(places)):
        text = ["0"] * scheme.length
        for place, digit in [*kept.items(), *zip(places, digits, strict=True)]:
            text[place] = digit
        numbers += scheme.completed("".join(text)) is not None
    return numbers


def test_numbers_without_a_check_digit_do_not_count() -> None:
    """Where a check has no digit for a rest, exactly the other numbers count, for the worst of what may be kept."""
    scheme = Scheme("small", (Free("n", 4), Computed(1)), (weighted(4, range(4), (5, 4, 3, 2), 11, complement(11)),))
    nothing, first = scheme.keeps(), scheme.keeps((0, 1))

    assert scheme.valid(scheme.numerals(nothing)) == count(scheme, {})
    # Any of the eleven rests may come from what is kept; ten digits show ten of them.
    worst = min(count(scheme, {0: digit}) for digit in "0123456789")
    assert worst - 10 <= scheme.valid(scheme.numerals(first)) <= worst


@pytest.mark.parametrize("scheme", EVERY, ids=lambda scheme: scheme.name)
def test_checks_are_sound(scheme: Scheme) -> None:
    """No check counts its own place or one that is computed later, and what has no answer reads nothing computed."""
    computed: set[int] = set()
    later = [set(range(check.at, check.at + len(check.answers[0] or "0"))) for check in scheme.checks]
    for index, check in enumerate(scheme.checks):
        read = {place for place, _, _ in check.terms}
        assert len(read) == len(check.terms)
        assert not read & set().union(*later[index:])
        assert "" not in check.answers or not read & computed
        assert len(check.answers) == check.modulus
        assert len({len(answer) for answer in check.answers if answer}) == 1
        computed |= later[index]
    parts = zip(scheme.starts, scheme.parts, strict=True)
    places = {
        place for start, part in parts if isinstance(part, Computed) for place in range(start, start + part.width)
    }
    assert places == computed


def test_small_countries_are_refused_by_name_and_left_out_otherwise() -> None:
    """Norway has fewer than a million accounts in a bank: named it does not compile, unnamed its IBANs are invalid."""
    with pytest.raises(ValueError, match="smallest domain"):
        build(ADAPTER.validate_python({"format": "iban", "keep": "bank", "countries": ["DE", "NO"]}))

    every = build(ADAPTER.validate_python({"format": "iban", "keep": "bank"}))

    every.prepare("DE89370400440532013000")
    with pytest.raises(InvalidValueError):
        every.prepare("NO9386011117947")


# The example of each country in the SWIFT IBAN registry, whose national check digits are right where there are some.
REGISTRY = """
AD1200012030200359100100 AE070331234567890123456 AL47212110090000000235698741 AT611904300234573201
AZ21NABZ00000000137010001944 BA391290079401028494 BE68539007547034 BG80BNBG96611020345678 BH67BMAG00001299123456
BR1800360305000010009795493C1 BY13NBRB3600900000002Z00AB00 CH9300762011623852957 CR05015202001026284066
CY17002001280000001200527600 CZ6508000000192000145399 CZ9455000000001011038930 DE89370400440532013000
DK5000400440116243 DO28BAGR00000001212453611324 EE382200221020145685 EG380019000500000000263180002
ES9121000418450200051332 FI2112345600000785 FO6264600001631634 FR1420041010050500013M02606 GB29NWBK60161331926819
GE29NB0000000101904917 GI75NWBK000000007099453 GL8964710001000206 GR1601101250000000012300695
GT82TRAJ01020000001210029690 HR1210010051863000160 HU42117730161111101800000000 IE29AIBK93115212345678
IL620108000000099999999 IQ98NBIQ850123456789012 IS140159260076545510730339 IT60X0542811101000000123456
JO94CBJO0010000000000131000302 KW81CBKU0000000000001234560101 KZ86125KZT5004100100 LB62099900000001001901229114
LC55HEMM000100010012001200023015 LI21088100002324013AA LT121000011101001000 LU280019400644750000 LV80BANK0000435195001
LY83002048000020100120361 MC5811222000010123456789030 MD24AG000225100013104168 ME25505000012345678951
MK07250120000058984 MR1300020001010000123456753 MT84MALT011000012345MTLCAST001S MU17BOMM0101101030300200000MUR
NL91ABNA0417164300 NO9386011117947 PK36SCBL0000001123456702 PL61109010140000071219812874 PS92PALS000000000400123456702
PT50000201231234567890154 QA58DOHB00001234567890ABCDEFG RO49AAAA1B31007593840000 RS35260005601001611379
SA0380000000608010167519 SC18SSCB11010000000000001497USD SE4550000000058398257466 SI56263300012039086
SK3112000000198742637541 SM86U0322509800000000270100 ST68000100010051845310112 SV62CENR00000000000000700025
TL380080012345678910157 TN5910006035183598478831 TR330006100519786457841326 UA213223130000026007233566001
VA59001123000012345678 VG96VPVG0000012345678901 XK051212012345678906
"""


@pytest.mark.parametrize("iban", REGISTRY.split())
def test_examples_of_the_registry_are_values(iban: str) -> None:
    """The published IBAN of each country is read, and is not when one of its digits changes."""
    every = build(ADAPTER.validate_python({"format": "iban"}))

    every.prepare(iban)
    with pytest.raises(InvalidValueError):
        every.prepare(iban[:-1] + ("1" if iban[-1] != "1" else "2"))


def test_countries_change_no_token() -> None:
    """Which countries are values is not part of the keys; what is kept is."""
    digest = spec_digest(ADAPTER.validate_python({"format": "iban"}))

    assert spec_digest(ADAPTER.validate_python({"format": "iban", "countries": ["DE"]})) == digest
    assert spec_digest(ADAPTER.validate_python({"format": "iban", "keep": "bank"})) != digest
    with pytest.raises(ValidationError):
        ADAPTER.validate_python({"format": "iban", "countries": ["DE", "ZZ"]})


def test_an_answer_may_be_missing() -> None:
    """A check without an answer for a rest makes the number none."""
    check = Check(1, ((0, 1, "plain"),), 2, ("7", ""))
    scheme = Scheme("two", (Free("n", 1), Computed(1)), (check,))

    assert scheme.completed("40") == "47"
    assert scheme.completed("50") is None
    assert not scheme.fits("50")
