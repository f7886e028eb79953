"""Made-up values of every token format and their tokens under keys of this run: what a token looks like."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel

from tokenweir.core.keys import Keyset
from tokenweir.core.tokens.ibandata import IBANS
from tokenweir.core.tokens.layout import parse_layout
from tokenweir.core.tokens.lengths import length_bounds
from tokenweir.core.tokens.nationaldata import NATIONAL
from tokenweir.core.tokens.scheme import Scheme
from tokenweir.core.tokens.specs import (
    AlphanumericSpec,
    DigitsSpec,
    EmailSpec,
    HexSpec,
    IbanSpec,
    ImeiSpec,
    IntegerSpec,
    Ipv4Spec,
    Ipv6Spec,
    MacSpec,
    NameSpec,
    NationalSpec,
    OpaqueSpec,
    PanSpec,
    PatternSpec,
    PermutationSpec,
    PhoneSpec,
    SsnSpec,
    TokenSpec,
    UuidSpec,
)
from tokenweir.core.tokens.structured import iban_digits

_DOMAIN: Final = "sample"

_LETTERS: Final = "aliceinwonderland1865"
_DIGITS: Final = "1234567890"
_HEX: Final = "c0ffee1234567890"


def sample_value(spec: TokenSpec) -> str:
    """Return a made-up value that fits a token entry."""
    return _SAMPLES[type(spec)](spec)


def _alphanumeric(spec: AlphanumericSpec) -> str:
    text = _repeated(_LETTERS, length_bounds(spec.length)[0])
    return text.upper() if spec.case == "upper" else text


def _some_iban(country: str) -> str:
    body = _some_number(IBANS[country])
    return country + iban_digits(country, body) + body


def _some_number(scheme: Scheme) -> str:
    """Return a number from the middle of a scheme."""
    numerals = scheme.numerals(scheme.keeps())
    rank, number = scheme.size(numerals) // 3, None
    while number is None:
        rank += 1
        number = scheme.composed(rank, numerals, "0" * scheme.length)
    return number


def _repeated(characters: str, length: int) -> str:
    return (characters * (length // len(characters) + 1))[:length]


_SAMPLES: Final[dict[type[BaseModel], Callable[[Any], str]]] = {
    DigitsSpec: lambda spec: _repeated(_DIGITS, length_bounds(spec.length)[0]),
    IntegerSpec: lambda spec: str(spec.min + (spec.max - spec.min) // 3),
    AlphanumericSpec: _alphanumeric,
    HexSpec: lambda spec: _repeated(_HEX, length_bounds(spec.length)[0]),
    PatternSpec: lambda spec: "".join(position.characters[-1] for position in parse_layout(spec.pattern)),
    UuidSpec: lambda _: "123e4567-e89b-42d3-a456-426614174000",
    PanSpec: lambda _: "4242424242424242",  # The test number that payment providers publish.
    ImeiSpec: lambda _: "490154203237518",  # The example of many data sheets.
    MacSpec: lambda _: "00:00:5e:00:53:01",  # For documentation (RFC 9542, section 2.1.2).
    PhoneSpec: lambda _: "+15555550123",
    EmailSpec: lambda _: "alice@shop.example",
    IbanSpec: lambda spec: _some_iban(spec.countries[0] if spec.countries else "DE"),
    SsnSpec: lambda _: "078-05-1121",
    NationalSpec: lambda spec: _some_number(NATIONAL[spec.number]),
    Ipv4Spec: lambda _: "192.0.2.1",  # For documentation (RFC 5737).
    Ipv6Spec: lambda _: "2001:db8::1",  # For documentation (RFC 3849).
    NameSpec: lambda spec: "7 Looking-Glass Lane" if spec.list == "street" else "Alice Liddell",
    PermutationSpec: lambda spec: spec.values[0],
    OpaqueSpec: lambda _: "any text",
}


def sample_token(entry: str, spec: TokenSpec) -> str:
    """Return the token of the made-up value under keys that are forgotten at once.

    Raises:
        ValueError: the entry's smallest domain is below 1,000,000 values.
    """
    keyset = Keyset.ephemeral([_DOMAIN], os.urandom)
    return keyset.tokenizer(_DOMAIN, entry, spec).tokenize(sample_value(spec))
