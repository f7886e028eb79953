"""Made-up values of every token format and their tokens under keys of this run: what a token looks like."""

from __future__ import annotations

import os
from typing import Final

from tokenweir.core.keys import Keyset
from tokenweir.core.tokens.layout import parse_layout
from tokenweir.core.tokens.specs import (
    AlphanumericSpec,
    DigitsSpec,
    EmailSpec,
    HexSpec,
    IntegerSpec,
    OpaqueSpec,
    PanSpec,
    PatternSpec,
    PhoneSpec,
    TokenSpec,
    length_bounds,
)

_DOMAIN: Final = "sample"

_LETTERS: Final = "aliceinwonderland1865"
_DIGITS: Final = "1234567890"
_HEX: Final = "c0ffee1234567890"


def sample_value(spec: TokenSpec) -> str:  # noqa: PLR0911 - one line per format.
    """Return a made-up value that fits a token entry."""
    match spec:
        case DigitsSpec():
            return _repeated(_DIGITS, length_bounds(spec.length)[0])
        case IntegerSpec():
            return str(spec.min + (spec.max - spec.min) // 3)
        case AlphanumericSpec():
            text = _repeated(_LETTERS, length_bounds(spec.length)[0])
            return text.upper() if spec.case == "upper" else text
        case HexSpec():
            return _repeated(_HEX, length_bounds(spec.length)[0])
        case PatternSpec():
            return "".join(position.characters[-1] for position in parse_layout(spec.pattern))
        case PanSpec():
            return "4242424242424242"  # The test number that payment providers publish.
        case PhoneSpec():
            return "+15555550123"
        case EmailSpec():
            return "alice@shop.example"
        case OpaqueSpec():
            return "any text"
        case _:
            return "123e4567-e89b-42d3-a456-426614174000"


def _repeated(characters: str, length: int) -> str:
    return (characters * (length // len(characters) + 1))[:length]


def sample_token(entry: str, spec: TokenSpec) -> str:
    """Return the token of the made-up value under keys that are forgotten at once.

    Raises:
        ValueError: the entry's smallest domain is below 1,000,000 values.
    """
    keyset = Keyset.ephemeral([_DOMAIN], os.urandom)
    return keyset.tokenizer(_DOMAIN, entry, spec).tokenize(sample_value(spec))
