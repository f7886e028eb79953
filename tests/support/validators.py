"""What validators of others say of tokens: the table of ``docs/reference/validators.md``.

``python -m tests.support.validators`` writes the page anew, from a run of its own.
"""

from __future__ import annotations

import importlib
import ipaddress
import json
import re
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, Final

import email_validator
import phonenumbers
import schwifty
from schwifty.exceptions import NationalChecksumNotVerified, SchwiftyException
from tests.support.goldentokens import ADAPTER, DOMAIN, ENTRY, golden_keyset
from tests.support.numbers import SCHEMES, number_of

from tokenweir.core.tokens import smallest_domain
from tokenweir.core.tokens.ibandata import IBANS
from tokenweir.core.tokens.nationaldata import NATIONAL
from tokenweir.core.tokens.pan import luhn_residue

TOKENS: Final = 10_000
PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "validators.md"
LIBRARIES: Final = ("email-validator", "phonenumbers", "python-stdnum", "schwifty")

Values = Callable[[Random], str]
Validator = Callable[[str], bool]

_NINO: Final = re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]")


@dataclass(frozen=True, slots=True)
class Row:
    """An entry, values for it, a validator, and the fewest and most of its 10,000 tokens that the validator takes."""

    parameters: dict[str, Any]
    values: Values
    validator: str
    accepts: Validator
    least: int = TOKENS
    most: int = TOKENS


def luhn_number(length: int, start: str = "") -> Values:
    """Return what makes numbers of so many digits with a right check digit."""

    def make(random: Random) -> str:
        digits = start + "".join(random.choice("0123456789") for _ in range(length - 1 - len(start)))
        return f"{digits}{-luhn_residue(f'{digits}0') % 10}"

    return make


def stdnum(module: str) -> Validator:
    """Return the validator of a module of python-stdnum."""
    validator: Validator = importlib.import_module(f"stdnum.{module}").is_valid
    return validator


def mail(random: Random) -> str:
    """Return an address."""
    return f"user{random.randrange(10**9)}@shop{random.randrange(100)}.example.com"


def is_mail(text: str) -> bool:
    """Say whether email-validator takes an address, without asking the DNS."""
    try:
        email_validator.validate_email(text, check_deliverability=False)
    except email_validator.EmailNotValidError:
        return False
    return True


def phone(region: str) -> Values:
    """Return what makes valid numbers of a region."""
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    if example is None:
        raise ValueError("phonenumbers has no example for the region")
    start = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)[:-6]

    def make(random: Random) -> str:
        while True:
            text = f"{start}{random.randrange(10**6):06d}"
            if phonenumbers.is_valid_number(phonenumbers.parse(text)):
                return text

    return make


def iban(*countries: str) -> Values:
    """Return what makes IBANs of some countries."""
    return lambda random: number_of(SCHEMES[random.choice(countries)], random)


def is_iban(text: str) -> bool:
    """Say whether schwifty takes an IBAN: structure and check digits."""
    return schwifty.IBAN(text, allow_invalid=True).is_valid


def has_national_digits(text: str) -> bool:
    """Say whether schwifty takes the check digits of the country."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NationalChecksumNotVerified)
            schwifty.IBAN(text).bban.validate_national_checksum()
    except SchwiftyException:
        return False
    return True


def _uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=1))


def _mac(random: Random) -> str:
    return ":".join(f"{byte:02x}" for byte in (random.randrange(64) * 4, *random.randbytes(5)))


def _is_address(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> Validator:
    return lambda text: str(kind(text)) == text


def _is_usable(text: str) -> bool:
    """Say whether an address lies outside of 0/8, 127/8, 224/4 and 240/4."""
    first = int(text.partition(".")[0])
    return first not in {0, 127} and first < 224


def _rows() -> Iterator[Row]:
    card = luhn_number(16, "4")
    kept: tuple[dict[str, Any], ...] = ({}, {"keep_last": 4}, {"keep_first": 6})
    for parameters in kept:
        yield Row({"format": "pan", **parameters}, card, "Luhn (stdnum.luhn)", stdnum("luhn"), 0, 0)
        entry = {"format": "pan", "luhn": "valid", **parameters}
        yield Row(entry, card, "Luhn (stdnum.luhn)", stdnum("luhn"))
    device = luhn_number(15, "35")
    yield Row({"format": "imei"}, device, "stdnum.imei", stdnum("imei"), 0, 0)
    yield Row({"format": "imei", "luhn": "valid"}, device, "stdnum.imei", stdnum("imei"))
    yield Row({"format": "imei", "luhn": "valid", "keep": "tac"}, device, "stdnum.imei", stdnum("imei"))
    yield Row({"format": "mac"}, _mac, "stdnum.mac", stdnum("mac"))
    for region, least in (("US", 7_500), ("GB", 9_000), ("DE", 9_000), ("FR", 9_000), ("IN", 8_000), ("BR", 9_000)):
        entry = {"format": "phone"}
        yield Row(entry, phone(region), f"phonenumbers, possible, {region}", _possible)
        yield Row(entry, phone(region), f"phonenumbers, valid, {region}", _valid, least)
    yield Row({"format": "phone", "keep": 0}, phone("US"), "phonenumbers, valid, US", _valid, 2_000, 6_000)
    for entry in ({}, {"domain": "keep"}, {"domain": "replace", "replacement": "tokens.example.com"}):
        yield Row({"format": "email", **entry}, mail, "email-validator, syntax", is_mail)
    yield from _iban_rows()
    yield Row({"format": "ssn"}, lambda random: number_of(SCHEMES["us.ssn"], random), "stdnum.us.ssn", stdnum("us.ssn"))
    for name, scheme in NATIONAL.items():
        entry = {"format": "national", "number": name}
        module = name.replace("codice_fiscale", "codicefiscale")
        known = name != "gb.nino"
        validator = stdnum(module) if known else lambda text: _NINO.fullmatch(text) is not None
        said = f"stdnum.{module}" if known else "the pattern of HMRC (NIM39110)"
        yield Row(entry, lambda random, scheme=scheme: number_of(scheme, random), said, validator)  # type: ignore[misc]
    yield Row({"format": "uuid"}, _uuid, "uuid, version 1", lambda text: uuid.UUID(text).version == 1)
    yield Row({"format": "uuid", "version": 4}, _uuid, "uuid, version 4", lambda text: uuid.UUID(text).version == 4)
    for mode in ("permutation", "prefix", "cryptopan"):
        entry = {"format": "ipv4", "mode": mode}
        yield Row(entry, _ipv4, "ipaddress", _is_address(ipaddress.IPv4Address))
        yield Row(entry, _ipv4, "outside of 0/8, 127/8, 224/4, 240/4", _is_usable, 6_000, 9_999)
    for mode in ("deterministic", "prefix", "cryptopan"):
        yield Row({"format": "ipv6", "mode": mode}, _ipv6, "ipaddress", _is_address(ipaddress.IPv6Address))


def _iban_rows() -> Iterator[Row]:
    checked = [country for country, scheme in IBANS.items() if scheme.checks]
    for keep in ("country", "bank", "branch"):
        countries = [country for country in IBANS if country != "NO" or keep == "country"]
        entry = {"format": "iban", "keep": keep}
        yield Row(entry, iban(*countries), "schwifty, structure and mod-97, all countries", is_iban)
    entry = {"format": "iban"}
    said = "schwifty, national check digits, countries with computed ones"
    yield Row(entry, iban(*checked), said, has_national_digits)
    for country in ("DE", "ES", "FR", "IT"):
        least, most = (0, TOKENS) if country == "DE" else (TOKENS, TOKENS)
        said = f"schwifty, national check digits, {country}"
        yield Row({"format": "iban", "keep": "bank"}, iban(country), said, has_national_digits, least, most)
    # Belgium is left out because its validator asks a register of banks, and the banks of tokens are made up.
    yield Row({"format": "iban"}, iban("ES", "FR", "GB", "IT", "NL"), "stdnum.iban, ES, FR, GB, IT, NL", stdnum("iban"))


def _possible(text: str) -> bool:
    return phonenumbers.is_possible_number(phonenumbers.parse(text))


def _valid(text: str) -> bool:
    return phonenumbers.is_valid_number(phonenumbers.parse(text))


def _ipv4(random: Random) -> str:
    return str(ipaddress.IPv4Address(random.randrange(1 << 24, 224 << 24)))


def _ipv6(random: Random) -> str:
    return str(ipaddress.IPv6Address(0x2 << 124 | random.getrandbits(124)))


@cache
def rows() -> tuple[Row, ...]:
    """Return all rows."""
    return tuple(_rows())


def accepted(row: Row, count: int = TOKENS) -> int:
    """Return how many of so many tokens a validator takes. Every run makes the same tokens."""
    random = Random(json.dumps(row.parameters) + row.validator)
    spec = ADAPTER.validate_python(row.parameters)
    tokenizer = golden_keyset().tokenizer(DOMAIN, ENTRY, spec)
    return sum(map(row.accepts, tokenizer.tokenize_many([row.values(random) for _ in range(count)])))


def page() -> str:
    """Return the page."""
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    lines = [
        "# What validators say of tokens",
        "",
        "<!-- Made by python -m tests.support.validators; changes here are lost. -->",
        "",
        f"How many of {TOKENS:,} tokens of random valid values each validator takes",
        f"({versions}).",
        "`tests/property/test_validators.py` holds the figures to what each format promises. The domain is the",
        "fewest values that a value is hidden among; below 2^42, about 4.4 * 10^12, whoever may have chosen values",
        "tokenized can make the whole code book.",
        "",
        "| token entry | domain | validator | accepted |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows():
        entry = ", ".join(f"{key}: {value}" for key, value in row.parameters.items())
        domain = smallest_domain(ADAPTER.validate_python(row.parameters))
        size = f"{domain:,}" if domain < 10**13 else f"2^{domain.bit_length() - 1}"
        lines.append(f"| `{{{entry}}}` | {size} | {row.validator} | {accepted(row):,} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
