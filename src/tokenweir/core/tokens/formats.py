"""From the parameters of a token entry to its format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel

from tokenweir.core.ff1 import MINIMUM_DOMAIN
from tokenweir.core.tokens.addresses import AddressFormat, Ipv4RankFormat
from tokenweir.core.tokens.base import TokenFormat
from tokenweir.core.tokens.characters import AlphanumericFormat, DigitsFormat, HexFormat
from tokenweir.core.tokens.email import EmailFormat
from tokenweir.core.tokens.integers import IntegerFormat
from tokenweir.core.tokens.mac import MacFormat
from tokenweir.core.tokens.names import NameFormat
from tokenweir.core.tokens.opaque import OpaqueDigestFormat, OpaqueSealedFormat
from tokenweir.core.tokens.pan import ImeiFormat, PanFormat
from tokenweir.core.tokens.pattern import PatternFormat
from tokenweir.core.tokens.permutations import PermutationFormat
from tokenweir.core.tokens.phone import PhoneFormat
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
from tokenweir.core.tokens.structured import IbanFormat, NationalFormat, SsnFormat
from tokenweir.core.tokens.uuids import UuidFormat


def build(spec: TokenSpec) -> TokenFormat:
    """Return the format of a token entry.

    Raises:
        ValueError: its smallest domain is below 1,000,000 values, so its tokens would not protect the values. Only
            ``permutation`` is meant for less.
    """
    token_format = _build(spec)
    if token_format.smallest_domain < MINIMUM_DOMAIN and not isinstance(spec, PermutationSpec):
        raise ValueError(
            f"the smallest domain of the token entry is {token_format.smallest_domain:,} values; "
            f"FF1 needs {MINIMUM_DOMAIN:,} (NIST SP 800-38G Rev. 1)"
        )
    return token_format


def smallest_domain(spec: TokenSpec) -> int:
    """Return the fewest values that any valid value is hidden among.

    Below 1,000,000 the entry must be refused, unless its format is ``permutation``.
    """
    return _build(spec).smallest_domain


_FORMATS: Final[dict[type[BaseModel], Callable[[Any], TokenFormat]]] = {
    DigitsSpec: DigitsFormat,
    IntegerSpec: IntegerFormat,
    AlphanumericSpec: AlphanumericFormat,
    HexSpec: HexFormat,
    PatternSpec: PatternFormat,
    UuidSpec: UuidFormat,
    PanSpec: PanFormat,
    ImeiSpec: ImeiFormat,
    MacSpec: MacFormat,
    PhoneSpec: PhoneFormat,
    EmailSpec: EmailFormat,
    IbanSpec: IbanFormat,
    SsnSpec: SsnFormat,
    NationalSpec: NationalFormat,
    Ipv4Spec: lambda spec: Ipv4RankFormat(spec) if spec.mode == "permutation" else AddressFormat(spec),
    Ipv6Spec: AddressFormat,
    NameSpec: NameFormat,
    PermutationSpec: PermutationFormat,
    OpaqueSpec: lambda spec: OpaqueSealedFormat(spec) if spec.reversible else OpaqueDigestFormat(spec),
}


def _build(spec: TokenSpec) -> TokenFormat:
    """Return the format, whatever its domain."""
    return _FORMATS[type(spec)](spec)
