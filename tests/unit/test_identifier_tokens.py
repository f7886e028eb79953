"""Tokens of device ids, addresses, names and small sets: what stays, what is marked, what can collide."""

from __future__ import annotations

import uuid
from collections import Counter
from random import Random
from typing import Any

import pytest
from tests.support.goldentokens import ADAPTER, DOMAIN, ENTRY, golden_keyset

from tokenweir.core.tokens import Tokenizer, spec_digest
from tokenweir.core.tokens.namelists import FAMILY, GIVEN, HOUSES, STREETS
from tokenweir.core.tokens.pan import luhn_residue
from tokenweir.errors import InvalidValueError

KEYSET = golden_keyset()


def tokenizer(domain: str = DOMAIN, **parameters: Any) -> Tokenizer:  # noqa: ANN401 - as a policy file gives them
    """Return the tokenizer of an entry."""
    return KEYSET.tokenizer(domain, ENTRY, ADAPTER.validate_python(parameters))


def random_macs(count: int) -> list[str]:
    """Return addresses that a manufacturer gave."""
    random = Random(5)
    return [":".join(f"{byte:02x}" for byte in (random.randrange(64) * 4, *random.randbytes(5))) for _ in range(count)]


def test_mac_tokens_are_marked_and_distinct() -> None:
    """Every token is locally administered, single addresses stay single, groups stay groups, and no two are equal."""
    tokens = tokenizer(format="mac").tokenize_many(random_macs(2_000))

    assert len(set(tokens)) == 2_000
    assert all(int(token[:2], 16) & 0b11 == 0b10 for token in tokens)
    assert int(tokenizer(format="mac").tokenize("01:00:5e:00:00:fb")[:2], 16) & 0b11 == 0b11


def test_mac_forms_have_one_token() -> None:
    """Separators and case are those of the value, and the token is the same."""
    entry = tokenizer(format="mac")
    tokens = [
        entry.tokenize(text) for text in ("00:1b:44:11:3a:b7", "00-1B-44-11-3A-B7", "001b.4411.3ab7", "001b44113ab7")
    ]

    assert len({"".join(character for character in token if character.isalnum()).lower() for token in tokens}) == 1
    assert tokens[1].isupper()
    assert [token[2:3] for token in tokens[:2]] == [":", "-"]


def test_mac_keeps_the_manufacturer() -> None:
    """With `keep: oui` only the bit that marks tokens changes in the first three bytes."""
    (value,) = random_macs(1)
    token = tokenizer(format="mac", keep="oui").tokenize(value)

    assert int(token[:2], 16) == int(value[:2], 16) | 0b10
    assert token[2:9] == value[2:9]
    assert token[9:] != value[9:]


def test_a_value_is_no_token_of_a_mac() -> None:
    """What its manufacturer gave cannot be a token, so it is not reversed."""
    with pytest.raises(InvalidValueError):
        tokenizer(format="mac").detokenize("00:1b:44:11:3a:b7")


def test_imei_keeps_its_type() -> None:
    """With `keep: tac` the first eight digits stay, and the check digit says whether devices exist."""
    invalid = tokenizer(format="imei", keep="tac").tokenize("490154203237518")
    valid = tokenizer(format="imei", keep="tac", luhn="valid").tokenize("490154203237518")

    assert invalid.startswith("49015420")
    assert valid.startswith("49015420")
    assert (luhn_residue(invalid), luhn_residue(valid)) == (1, 0)


@pytest.mark.parametrize("keep", [6, 8])
def test_card_keeps_its_issuer(keep: int) -> None:
    """The first digits stay, and issuers do not share tokens of their accounts."""
    entry = tokenizer(format="pan", keep_first=keep)
    one, other = entry.tokenize("4111111111111111"), entry.tokenize("4242424242424242")

    assert (one[:keep], other[:keep]) == ("41111111"[:keep], "42424242"[:keep])
    assert entry.detokenize(one) == "4111111111111111"
    assert luhn_residue(one) == 1


def test_uuid_keeps_case_and_joins_without_it() -> None:
    """Upper case gives upper case, and the same token otherwise."""
    value = "ea7583cd-a667-48bc-b806-42ecb2b48606"
    entry = tokenizer(format="uuid", case="keep")

    assert entry.tokenize(value.upper()) == entry.tokenize(value).upper()
    assert entry.tokenize(value).islower()
    assert entry.detokenize(entry.tokenize(value.upper())) == value.upper()


@pytest.mark.parametrize("version", [4, 8])
def test_uuid_gets_a_version(version: int) -> None:
    """Tokens have the version and the variant of RFC 9562, whatever the value had, and do not lead back."""
    entry = tokenizer(format="uuid", version=version)
    values = [str(uuid.UUID(int=number << 64 | number << 76 | number)) for number in range(1, 300)]
    tokens = [uuid.UUID(token) for token in entry.tokenize_many(values)]

    assert {(token.version, token.variant) for token in tokens} == {(version, uuid.RFC_4122)}
    assert len(set(tokens)) == len(values)
    with pytest.raises(TypeError):
        entry.detokenize(str(tokens[0]))


def test_names_come_from_the_lists() -> None:
    """Every name of a list is the token of some value, spellings of one name agree, and most lists are used evenly."""
    given = Counter(
        tokenizer(format="name", list="given").tokenize_many([f"name {number}" for number in range(10_000)])
    )
    full = tokenizer(format="name", list="full")

    assert set(given) == set(GIVEN)
    # 10,000 draws from 512 names give each about 19.5 times; six standard deviations are 26.5 more.
    assert max(given.values()) < 46
    assert full.tokenize("Zo\u00eb O'Neill") == full.tokenize(" zoe\u0308\t\u00a0o'NEILL ")
    first, last = full.tokenize("Jane Doe").split()
    assert (first in GIVEN, last in FAMILY) == (True, True)


def test_streets_have_a_number() -> None:
    """A street line is a house number and a street of the list."""
    number, street = tokenizer(format="name", list="street").tokenize("221B Baker Street").split(" ", 1)

    assert 1 <= int(number) <= HOUSES
    assert street in STREETS


def test_lists_are_what_was_frozen() -> None:
    """The sizes that the documentation names, each name once."""
    assert (len(set(GIVEN)), len(set(FAMILY)), len(set(STREETS))) == (len(GIVEN), len(FAMILY), len(STREETS))
    assert (len(GIVEN), len(FAMILY), HOUSES * len(STREETS)) == (512, 1_024, 511_488)


def test_a_permutation_is_one() -> None:
    """Each value is the token of one value, in an order that the key decides and the order of the list does not."""
    values = [f"{number:03d}" for number in range(200)]
    entry = tokenizer(format="permutation", values=values)
    tokens = entry.tokenize_many(values)

    assert sorted(tokens) == values
    assert [entry.detokenize(token) for token in tokens] == values
    assert tokenizer(format="permutation", values=values[::-1]).tokenize_many(values) == tokens
    assert tokenizer("ads", format="permutation", values=values).tokenize_many(values) != tokens
    # A random permutation has one fixed point on average; ten would happen once in ten million keys.
    assert sum(value == token for value, token in zip(values, tokens, strict=True)) < 10
    with pytest.raises(InvalidValueError):
        entry.detokenize("200")


def test_a_changed_list_changes_the_keys() -> None:
    """The list is part of the keys, in any order."""
    one, other = (
        ADAPTER.validate_python({"format": "permutation", "values": each}) for each in (["b", "a"], ["a", "b"])
    )

    assert spec_digest(one) == spec_digest(other)
    assert spec_digest(ADAPTER.validate_python({"format": "permutation", "values": ["a", "b", "c"]})) != spec_digest(
        one
    )


def test_addresses_are_written_in_one_way() -> None:
    """Any spelling of an IPv6 address has the same token, in the form of RFC 5952."""
    entry = tokenizer(format="ipv6")
    spellings = ["2001:DB8::1", "2001:0db8:0:0:0:0:0:0001", "2001:db8::0.0.0.1"]

    assert {entry.tokenize(text) for text in spellings} == {entry.tokenize("2001:db8::1")}
    assert entry.detokenize(entry.tokenize("2001:DB8::1")) == "2001:db8::1"


def test_modes_have_keys_of_their_own() -> None:
    """Tokens of the same address under different modes have nothing to do with each other."""
    tokens = [
        tokenizer(format="ipv4", mode=mode).tokenize("192.0.2.1") for mode in ("permutation", "prefix", "cryptopan")
    ]

    assert len(set(tokens)) == 3
    assert ":" in tokenizer(format="ipv4", mode="deterministic").tokenize("192.0.2.1")


def test_an_address_that_no_ipv4_address_became_is_no_token() -> None:
    """Only one of 2^96 IPv6 addresses leads back to an IPv4 address; the others are refused."""
    with pytest.raises(InvalidValueError):
        tokenizer(format="ipv4", mode="deterministic").detokenize("2001:db8::1")
