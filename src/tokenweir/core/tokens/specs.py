"""What a policy may say of a token entry: one model per format, and the digest that ties keys to it.

The models are the only source of the parser, the JSON Schema and the reference documentation of token entries.
Defaults are part of the token: a default that changes would change tokens without a change of the digest, so a new
behaviour is always a new, optional parameter whose default is the old behaviour.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tokenweir.core.tokens.domains import is_ascii_domain
from tokenweir.core.tokens.ibandata import IBANS
from tokenweir.core.tokens.layout import parse_layout
from tokenweir.core.tokens.lengths import Length


class _Spec(BaseModel):
    """What all token entries share."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    null_values: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        strict=False,
        description="Values that mean 'absent' (such as an all-zero advertising id). They pass unchanged, like null. "
        "Changing this list changes no token.",
    )


class DigitsSpec(_Spec):
    """Decimal digits; the token has as many digits as the value."""

    format: Literal["digits"] = Field(description="Decimal digits 0 to 9, leading zeros kept.")
    length: Length = Field(description="Number of digits: n, or a range a..b. At least 6, for a domain of 1,000,000.")


class IntegerSpec(_Spec):
    """A whole number within bounds; the token is a whole number within the same bounds."""

    format: Literal["integer"] = Field(
        description="A whole number; leading zeros of a text are not part of the number and are not kept."
    )
    min: int = Field(ge=-(10**38), le=10**38, description="Smallest number that is valid, itself included.")
    max: int = Field(ge=-(10**38), le=10**38, description="Largest number that is valid, itself included.")

    @model_validator(mode="after")
    def _bounds_go_upwards(self) -> IntegerSpec:
        if self.min >= self.max:
            raise ValueError("min must be below max")
        return self


class AlphanumericSpec(_Spec):
    """ASCII letters and digits; the token has as many characters as the value."""

    format: Literal["alphanumeric"] = Field(description="ASCII letters and digits.")
    length: Length = Field(description="Number of characters: n, or a range a..b. At least 4.")
    case: Literal["mixed", "lower", "upper"] = Field(
        default="mixed",
        description="Which letters a value may have and a token gets: both cases (62 characters), or only one (36). "
        "The other case is invalid, not converted.",
    )


class HexSpec(_Spec):
    """Hexadecimal digits; the token has as many as the value. Also for raw bytes of a fixed size."""

    format: Literal["hex"] = Field(description="Hexadecimal digits; either case is read and means the same.")
    length: Length = Field(description="Number of hexadecimal digits: n, or a range a..b. At least 5.")
    case: Literal["lower", "upper"] = Field(default="lower", description="The case of the token.")


class PatternSpec(_Spec):
    """A fixed layout whose groups are tokenized together while the rest is kept."""

    format: Literal["pattern"] = Field(description="A layout of fixed length.")
    pattern: str = Field(
        min_length=1,
        max_length=512,
        description="The layout: ASCII literals, classes such as [0-9A-F], \\d, and {n} for repetition. What stands in "
        "(groups) is tokenized as one number, the rest is kept and goes into the tweak. Example: ORD-([0-9]{8})",
    )

    @field_validator("pattern")
    @classmethod
    def _pattern_follows_its_language(cls, pattern: str) -> str:
        parse_layout(pattern)
        return pattern


class UuidSpec(_Spec):
    """A UUID (RFC 9562); version and variant are kept, the other 122 bits are tokenized."""

    format: Literal["uuid"] = Field(
        description="A UUID as 8-4-4-4-12 hexadecimal digits in either case, or 16 bytes. Also for advertising ids."
    )
    case: Literal["lower", "keep"] = Field(
        default="lower",
        description="'lower': the token is lower case. 'keep': it is upper case where the value is, as advertising ids "
        "of some platforms are.",
    )
    version: Literal["keep", 4, 8] = Field(
        default="keep",
        description="'keep': the token has the version and variant of the value. 4 or 8: every token has this version "
        "(random, or vendor-specific, RFC 9562), and cannot be reversed.",
    )


class PanSpec(_Spec):
    """A payment card number of 12 to 19 digits with a right Luhn check digit; spaces and hyphens keep their places."""

    format: Literal["pan"] = Field(description="A payment card number (ISO/IEC 7812).")
    keep_last: Literal[0, 4] = Field(default=0, description="How many of the last digits are kept: 0 or 4.")
    keep_first: Literal[0, 6, 8] = Field(
        default=0,
        description="How many of the first digits are kept: 0, or 6 or 8 for the issuer. Not with `keep_last`, which "
        "would leave too few digits. Numbers that leave less than 6 are invalid.",
    )
    luhn: Literal["invalid", "valid"] = Field(
        default="invalid",
        description="'invalid': every token fails the Luhn check, so that none can be a card that exists. 'valid': "
        "every token passes it, for receivers that check, and may be the number of a real card.",
    )

    @model_validator(mode="after")
    def _enough_is_left(self) -> PanSpec:
        if self.keep_first and self.keep_last:
            raise ValueError("`keep_first` and `keep_last` together leave less than 1,000,000 numbers")
        return self


class ImeiSpec(_Spec):
    """The number of a mobile device; spaces and hyphens keep their places."""

    format: Literal["imei"] = Field(description="An IMEI of 15 digits with a right check digit (3GPP TS 23.003).")
    keep: Literal["none", "tac"] = Field(
        default="none", description="'tac': the type allocation code, the first 8 digits, is kept and 6 are tokenized."
    )
    luhn: Literal["invalid", "valid"] = Field(
        default="invalid",
        description="'invalid': every token fails the Luhn check, so that none can be a device that exists. 'valid': "
        "every token passes it, and may be the number of a device.",
    )


class MacSpec(_Spec):
    """A MAC address; separators and case are kept, and so is the bit for groups."""

    format: Literal["mac"] = Field(
        description="A MAC address (EUI-48) as aa:bb:cc:dd:ee:ff, aa-bb-cc-dd-ee-ff, aabb.ccdd.eeff or aabbccddeeff."
    )
    keep: Literal["none", "oui"] = Field(
        default="none", description="'oui': the first three bytes, which name the manufacturer, are kept."
    )
    local: Literal["set", "keep"] = Field(
        default="set",
        description="'set': every token has the bit of locally administered addresses, so that none is that of a "
        "device that was made; addresses that devices made up, which have the bit already, are invalid. 'keep': they "
        "are values too, the bit is kept, and a token may be the address of a device.",
    )


class PhoneSpec(_Spec):
    """A telephone number in the international form of ITU-T E.164, such as +4930901820."""

    format: Literal["phone"] = Field(description="A telephone number: + and 7 to 15 digits, without separators.")
    keep: int | None = Field(
        default=None,
        ge=0,
        le=8,
        description="How many digits after the country code are kept. Default: up to 3, fewer where less than 6 would "
        "remain. With a number, values that leave less than 6 are invalid.",
    )


class EmailSpec(_Spec):
    """An e-mail address; the part before the @ becomes 26 irreversible characters."""

    format: Literal["email"] = Field(description="An e-mail address. Tokens cannot be reversed.")
    domain: Literal["tokenize", "keep", "replace"] = Field(
        default="tokenize",
        description="'tokenize': a token of the domain below .example, equal for equal domains. 'keep': the domain "
        "stays, and a rare one identifies its owner. 'replace': the domain in `replacement`.",
    )
    replacement: str | None = Field(
        default=None, description="The domain of every token, for `domain: replace`; one that you own, in lower case."
    )

    @model_validator(mode="after")
    def _replacement_fits(self) -> EmailSpec:
        if (self.replacement is not None) != (self.domain == "replace"):
            raise ValueError("`replacement` goes with `domain: replace` and only with it")
        if self.replacement is not None and not is_ascii_domain(self.replacement):
            raise ValueError("`replacement` must be a domain in lower case, such as tokens.example.com")
        return self


class IbanSpec(_Spec):
    """An international bank account number; its check digits and those of its country are computed anew."""

    format: Literal["iban"] = Field(
        description="An IBAN (ISO 13616-1) with right check digits; single spaces keep their places, letters become "
        "upper case. Every token passes the check of its country, where it is known, and may be an account that exists."
    )
    keep: Literal["country", "bank", "branch"] = Field(
        default="country",
        description="What is kept: the country; also the code of the bank; also the codes of bank and branch.",
    )
    countries: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Countries whose IBANs are values, such as [DE, NL]. Default: all that leave 1,000,000 accounts or "
        "more. Changing this list changes no token.",
    )

    @field_validator("countries")
    @classmethod
    def _countries_are_known(cls, countries: tuple[str, ...]) -> tuple[str, ...]:
        for country in countries:
            if country not in IBANS:
                raise ValueError(f"there is no layout of IBANs of that country; known are {', '.join(IBANS)}")
        return countries


class SsnSpec(_Spec):
    """A social security number of the United States that can have been assigned."""

    format: Literal["ssn"] = Field(
        description="A US social security number, with or without single separators, which keep their places: area 001 "
        "to 899 but 666, group 01 to 99, serial number 0001 to 9999. A token may be the number of a person."
    )


class NationalSpec(_Spec):
    """A national number with the check digits of its kind."""

    format: Literal["national"] = Field(
        description="A national number, with or without single separators, which keep their places; letters become "
        "upper case. Every token is a valid number and may be that of a person."
    )
    number: Literal[
        "br.cpf",
        "ca.sin",
        "es.dni",
        "es.nie",
        "fr.nir",
        "gb.nhs",
        "gb.nino",
        "it.codice_fiscale",
        "nl.bsn",
        "pl.pesel",
    ] = Field(description="Which: the country and the name of the number there.")


class Ipv4Spec(_Spec):
    """An IPv4 address."""

    format: Literal["ipv4"] = Field(description="An IPv4 address of four decimal numbers without leading zeros.")
    mode: Literal["permutation", "prefix", "cryptopan", "deterministic"] = Field(
        default="permutation",
        description="'permutation': FF1 on the 32 bits. 'prefix': ipcrypt-pfx, 'cryptopan': Crypto-PAn; both keep "
        "common prefixes, so that networks stay networks and one known address reveals the prefixes of others. "
        "'deterministic': ipcrypt-deterministic, whose tokens are IPv6 addresses.",
    )


class Ipv6Spec(_Spec):
    """An IPv6 address."""

    format: Literal["ipv6"] = Field(
        description="An IPv6 address without zone in any form of RFC 4291; the token is in that of RFC 5952. Addresses "
        "that hold one of IPv4 (::ffff:0:0/96) are invalid."
    )
    mode: Literal["deterministic", "prefix", "cryptopan"] = Field(
        default="deterministic",
        description="'deterministic': ipcrypt-deterministic, one AES block. 'prefix': ipcrypt-pfx, 'cryptopan': "
        "Crypto-PAn over 128 bits; both keep common prefixes, see ipv4.",
    )


class NameSpec(_Spec):
    """A name or street line; the token is one from a list, irreversible, and shared by many."""

    format: Literal["name"] = Field(
        description="A name or a street line of up to 256 characters; case, composition and spaces do not matter."
    )
    list: Literal["given", "family", "full", "street"] = Field(
        description="What the token is: a given name (of 512), a family name (of 1,024), one of each, or a house "
        "number and street (of 511,488). Different values may have one token, so this format joins nothing."
    )


class PermutationSpec(_Spec):
    """One of a small set of values; the token is another of them, or the same."""

    format: Literal["permutation"] = Field(
        description="A value of a list, which the key permutes. It hides which value it is, and nothing else: whoever "
        "knows how often values occur, or may tokenize values, finds them. Prefer to generalize or drop."
    )
    values: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(
        strict=False,
        min_length=2,
        max_length=65_536,
        description="All values, in any order; any other is invalid. A changed list changes all tokens.",
    )

    @field_validator("values")
    @classmethod
    def _values_are_a_set(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) != len(values):
            raise ValueError("a value is listed twice")
        if any("\ud800" <= character <= "\udfff" for value in values for character in value):
            raise ValueError("a value is not valid Unicode")
        return tuple(sorted(values))


class OpaqueSpec(_Spec):
    """Any text; the token has a form of its own."""

    format: Literal["opaque"] = Field(description="Any text that is not empty.")
    reversible: bool = Field(
        default=False,
        description="false: HMAC-SHA-256, cut to `bits`, that nobody can reverse. true: AES-SIV (RFC 5297), which the "
        "key holder can reverse and whose length shows the length of the value.",
    )
    encoding: Literal["base64url", "hex"] = Field(
        default="base64url", description="How the token is written; base64url is without padding."
    )
    bits: Literal[128, 160, 192, 224, 256] = Field(
        default=128, description="Size of an irreversible token. Two of 2^40 values collide with a chance of 2^-49."
    )

    @model_validator(mode="after")
    def _bits_are_for_irreversible(self) -> OpaqueSpec:
        if self.reversible and self.bits != OpaqueSpec.model_fields["bits"].default:
            raise ValueError("`bits` is for irreversible tokens")
        return self


TokenSpec: TypeAlias = Annotated[
    DigitsSpec
    | IntegerSpec
    | AlphanumericSpec
    | HexSpec
    | PatternSpec
    | UuidSpec
    | PanSpec
    | ImeiSpec
    | MacSpec
    | PhoneSpec
    | EmailSpec
    | IbanSpec
    | SsnSpec
    | NationalSpec
    | Ipv4Spec
    | Ipv6Spec
    | NameSpec
    | PermutationSpec
    | OpaqueSpec,
    Field(discriminator="format"),
]
"""One entry of a policy's ``tokens``."""


_WHAT_NOT_HOW = {"null_values", "countries"}


def spec_digest(spec: TokenSpec) -> str:
    """Return the SHA-256 of the parameters in hexadecimal, as it goes into the derivation of the entry's keys.

    Only what differs from its default counts, so that a parameter added in a later release changes no token, and
    ``null_values`` and ``countries`` do not count, since they decide what is tokenized and not how.
    """
    parameters: dict[str, Any] = spec.model_dump(mode="json", exclude_defaults=True, exclude=_WHAT_NOT_HOW)
    canonical = json.dumps(parameters, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
