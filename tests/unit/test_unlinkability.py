"""Tokens join inside a key domain and epoch, and nowhere else: what somebody can learn who has both sides' tokens.

Whoever holds the tokens of two key domains, or of two epochs, for the same values in an unknown order, must not be able
to match them: by equality, by characters in common, by order, or by any one character of the one as a sign of a
character of the other. Each test fails where the tokens of one side are related to those of the other in that way, and
says so of tokens of one and the same key, so that it can fail.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from pydantic import TypeAdapter

from tokenweir.core.keys import Keyset, TokenKey
from tokenweir.core.tokens import Tokenizer, TokenSpec

ADAPTER: Final[TypeAdapter[TokenSpec]] = TypeAdapter(TokenSpec)
VALUES: Final = 4_000
#: A chance of about 10^-7 for each comparison to fail though there is nothing to find.
SIGMAS: Final = 5.3


def _uuid(dice: random.Random) -> str:
    digits = f"{dice.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _card(dice: random.Random) -> str:
    digits = f"4{dice.randrange(10**14):014d}"
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[::-2])
    return f"{digits}{-(doubled + sum(map(int, digits[-2::-2]))) % 10}"


#: Formats with values of one length, and what makes one.
FORMATS: Final[dict[str, tuple[dict[str, Any], Callable[[random.Random], str]]]] = {
    "digits": ({"format": "digits", "length": 10}, lambda dice: f"{dice.randrange(10**6):010d}"),
    "integer": ({"format": "integer", "min": 0, "max": 9_999_999_999}, lambda dice: str(dice.randrange(10**9, 10**10))),
    "alphanumeric": (
        {"format": "alphanumeric", "length": 8},
        lambda dice: "".join(dice.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=8)),
    ),
    "hex": ({"format": "hex", "length": 16}, lambda dice: f"{dice.getrandbits(64):016x}"),
    "uuid": ({"format": "uuid"}, _uuid),
    "pattern": (
        {"format": "pattern", "pattern": "ORD-([0-9]{8})-([A-Z]{2})"},
        lambda dice: f"ORD-{dice.randrange(10**8):08d}-DE",
    ),
    "pan": ({"format": "pan", "keep_last": 0}, _card),
    "phone": ({"format": "phone", "keep": 0}, lambda dice: f"+49{dice.randrange(10**9, 10**10)}"),
    "email": ({"format": "email", "domain": "keep"}, lambda dice: f"a{dice.randrange(10**9)}@example.com"),
    "opaque": ({"format": "opaque", "reversible": False}, lambda dice: str(dice.randrange(10**9))),
    "sealed": ({"format": "opaque", "reversible": True}, lambda dice: f"{dice.randrange(10**9):09d}"),
}


def _tokenizer(spec: dict[str, Any], domain: str, epoch: int, entry: str = "e") -> Tokenizer:
    roots = {
        (name, number): TokenKey(hashlib.sha256(f"{name} {number}".encode()).digest())
        for name in ("crm", "ads")
        for number in (1, 2)
    }
    keyset = Keyset(roots, {"crm": 2, "ads": 2}, TokenKey(bytes(32)))
    return keyset.tokenizer(domain, entry, ADAPTER.validate_python(spec), epoch)


def _values(make: Callable[[random.Random], str]) -> list[str]:
    dice = random.Random(7)
    found = dict.fromkeys(make(dice) for _ in range(2 * VALUES))
    return list(found)[:VALUES]


def _vary(tokens: Sequence[str]) -> list[str]:
    """Return tokens without the characters that all of them share: what a format keeps says nothing about a value."""
    width = min(map(len, tokens))
    places = [place for place in range(width) if len({token[place] for token in tokens}) > 1]
    return ["".join(token[place] for place in places) for token in tokens]


def relations(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return in which ways the tokens of the same values on two sides are related beyond chance."""
    left, right = _vary(first), _vary(second)
    count = len(left)
    found = []
    if any(map(str.__eq__, first, second)):
        found.append("equal")
    for distance, name in ((0, "in place"), (1, "shifted")):
        agreeing = expected = variance = 0.0
        for place, letters in enumerate(zip(*left, strict=True)):
            others = [token[(place + distance) % len(token)] for token in right]
            shares = Counter(letters), Counter(others)
            chance = sum(shares[0][letter] * shares[1][letter] for letter in shares[0]) / count**2
            agreeing += sum(map(str.__eq__, letters, others))
            expected += chance * count
            variance += chance * (1 - chance) * count
        if abs(agreeing - expected) > SIGMAS * variance**0.5 + 1:
            found.append(f"characters {name}")
    ranks = [{token: rank for rank, token in enumerate(sorted(side))} for side in (left, right)]
    # Spearman's rho of unrelated ranks has a standard deviation of 1 / sqrt(n - 1).
    squares = sum((ranks[0][a] - ranks[1][b]) ** 2 for a, b in zip(left, right, strict=True))
    if abs(1 - 6 * squares / (count * (count**2 - 1))) > SIGMAS / (count - 1) ** 0.5:
        found.append("order")
    return found


SIDES: Final = [(("crm", 1), ("ads", 1)), (("crm", 1), ("crm", 2)), (("crm", 2), ("ads", 1))]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("sides", SIDES, ids=["domains", "epochs", "both"])
def test_tokens_of_two_sides_are_unrelated(name: str, sides: tuple[tuple[str, int], tuple[str, int]]) -> None:
    """Two key domains, two epochs of one, and both: no way to tell which token of the one is which of the other."""
    spec, make = FORMATS[name]
    values = _values(make)

    first, second = (_tokenizer(spec, *side).tokenize_many(values) for side in sides)

    assert relations(first, second) == []
    assert relations(values, first) == [] or name in {"email", "opaque", "sealed"}


@pytest.mark.parametrize("name", FORMATS)
def test_tokens_of_one_side_join(name: str) -> None:
    """One key domain, entry and epoch: the same token wherever the value stands; and the comparison finds it."""
    spec, make = FORMATS[name]
    values = _values(make)

    first, second = (_tokenizer(spec, "crm", 1).tokenize_many(values) for _ in range(2))

    assert first == second
    assert len(set(first)) == len(values)
    assert set(relations(first, second)) >= {"equal", "characters in place", "order"}


def test_the_comparison_finds_what_is_related() -> None:
    """A key that is shifted, a side that keeps one digit of five, or the order of values, does not pass for chance."""
    values = _values(lambda dice: f"{dice.randrange(10**10):010d}")
    tokens = _tokenizer({"format": "digits", "length": 10}, "crm", 1).tokenize_many(values)
    other = _tokenizer({"format": "digits", "length": 10}, "ads", 1).tokenize_many(values)

    assert "characters shifted" in relations(tokens, [token[-1] + token[:-1] for token in tokens])
    assert relations(tokens, [token[0] + far[1:] for token, far in zip(tokens, other, strict=True)])
    assert "order" in relations(tokens, [token[:3] + far[3:] for token, far in zip(tokens, other, strict=True)])
    assert relations(tokens, random.Random(1).sample(other, len(other))) == []
