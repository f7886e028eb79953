"""The public FF1 interface: known answers at the edges, and what it refuses."""

from __future__ import annotations

import copy
import pickle

import pytest
from tests.support.native import ff1_class

from tokenweir.core.ff1 import FF1Permutation
from tokenweir.ff1 import (
    FF1,
    AlphabetError,
    DomainError,
    FF1Error,
    KeySizeError,
    NumeralError,
    RadixError,
    TweakError,
)

KEY = bytes(range(32))
TWEAK = bytes.fromhex("0011223344556677")
DIGITS = "0123456789"


@pytest.fixture(autouse=True, params=["reference", "native"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test with the FF1 of each engine."""
    monkeypatch.setattr(f"{__name__}.FF1", ff1_class(request.param))


CARD, TOKEN = "4111111111111111", "7077618758372845"


def test_known_answer_across_implementations() -> None:
    """This value was agreed on by seven other implementations of FF1."""
    assert FF1.over(KEY, DIGITS).encrypt_text(CARD, TWEAK) == TOKEN


def test_numerals_of_the_known_answer() -> None:
    """The numeral interface is the text interface without the characters, and takes any sequence."""
    assert FF1(KEY, 10).encrypt(tuple(map(int, CARD)), TWEAK) == list(map(int, TOKEN))


@pytest.mark.parametrize("count", [0, 1, 2, 125, 126, 127, 300])
def test_many_is_one_by_one(count: int) -> None:
    """A list of any size gives the tokens of its members, in order, also where it is split into several calls."""
    ff1 = FF1.over(KEY, DIGITS)
    texts = [f"{number * 7919:016d}" for number in range(count)]

    tokens = ff1.encrypt_many(texts, TWEAK)

    assert tokens == [ff1.encrypt_text(text, TWEAK) for text in texts]
    assert ff1.decrypt_many(tokens, TWEAK) == texts


def test_many_takes_mixed_lengths() -> None:
    """Lengths may differ within a list, and each value keeps its length."""
    ff1 = FF1.over(KEY, DIGITS)
    texts = ["0" * length for length in (6, 40, 7, 6, 600, 16, 7)]

    tokens = ff1.encrypt_many(texts, TWEAK)

    assert tokens == [ff1.encrypt_text(text, TWEAK) for text in texts]
    assert list(map(len, tokens)) == list(map(len, texts))


@pytest.mark.parametrize("size", [0, 1, 8, 15, 17, 31, 33])
@pytest.mark.parametrize("key", [b"", bytes(15), bytes(33), "0" * 32, None])
def test_refuses_keys(key: bytes, size: int) -> None:
    """A key that is not 16, 24 or 32 bytes is refused."""
    with pytest.raises(KeySizeError):
        FF1(key, 10)
    with pytest.raises(KeySizeError):
        FF1.over(bytes(size), DIGITS)


@pytest.mark.parametrize("radix", [-1, 0, 1, 65537, 10.0, True, "10", None])
def test_refuses_radices(radix: int) -> None:
    """A radix that is not an integer from 2 to 65536 is refused."""
    with pytest.raises(RadixError):
        FF1(KEY, radix)


@pytest.mark.parametrize(
    ("radix", "refused", "accepted"),
    [(2, 19, 20), (10, 5, 6), (16, 4, 5), (26, 4, 5), (36, 3, 4), (62, 3, 4), (256, 2, 3), (65536, 1, 2)],
)
def test_floor_of_a_million(radix: int, refused: int, accepted: int) -> None:
    """The shortest length is the first whose power reaches 1,000,000."""
    with pytest.raises(DomainError):
        FF1(KEY, radix).encrypt([0] * refused, TWEAK)
    assert len(FF1(KEY, radix).encrypt([0] * accepted, TWEAK)) == accepted


@pytest.mark.parametrize(("radix", "refused", "accepted"), [(2, 6, 7), (10, 1, 2), (99, 1, 2), (65536, 1, 2)])
def test_lenient_floor(radix: int, refused: int, accepted: int) -> None:
    """strict=False lowers the floor to 100 values and still wants two numerals."""
    lenient = FF1(KEY, radix, strict=False)

    with pytest.raises(DomainError):
        lenient.encrypt([0] * refused, TWEAK)
    assert lenient.decrypt(lenient.encrypt([0] * accepted, TWEAK), TWEAK) == [0] * accepted


@pytest.mark.parametrize("bad", [10, -1, 1.0, "1", None, 2**70])
def test_refuses_numerals(bad: int) -> None:
    """A numeral that is not an integer below the radix is refused, whatever strict says."""
    for strict in (True, False):
        with pytest.raises(NumeralError):
            FF1(KEY, 10, strict=strict).encrypt([1, 2, 3, 4, 5, 6, bad], TWEAK)


@pytest.mark.parametrize("tweak", ["text", 8, None])
def test_refuses_tweaks(tweak: bytes) -> None:
    """A tweak that is not bytes is refused; a number would otherwise become as many zeros."""
    with pytest.raises(TweakError):
        FF1(KEY, 10).encrypt([1] * 6, tweak)
    with pytest.raises(TweakError):
        FF1.over(KEY, DIGITS).encrypt_many(["111111"], tweak)


@pytest.mark.parametrize(
    "alphabet",
    ["", "0", "00", "0120", "ab\ud800", "ae\u0301", "a\u212b", "a" * 65537, "".join(map(chr, range(65537))), None],
)
def test_refuses_alphabets(alphabet: str) -> None:
    """Too few or many characters, repeated ones and characters without a stable form are refused."""
    with pytest.raises(AlphabetError):
        FF1.over(KEY, alphabet)


@pytest.mark.parametrize(
    "text",
    [
        "12345a",
        "123 456",
        "+12345",
        "-12345",
        "1_2345",
        "12345\n",
        "\u0661\u0662\u0663\u0664\u0665\u0666",
        "\uff11\uff12\uff13\uff14\uff15\uff16",
        "12345²",
        "1234\ud800",
        None,
        123456,
    ],
)
def test_refuses_foreign_characters(text: str) -> None:
    """What Python's int() would read as a number but is not ASCII digits is refused, never passed."""
    with pytest.raises(AlphabetError):
        FF1.over(KEY, DIGITS).encrypt_text(text, TWEAK)


def test_refuses_the_other_case() -> None:
    """An alphabet of lower-case letters does not take upper case, although int() in base 36 would."""
    with pytest.raises(AlphabetError):
        FF1.over(KEY, DIGITS + "abcdefghijklmnopqrstuvwxyz").encrypt_text("ABCDEF", TWEAK)


def test_a_text_is_not_a_list() -> None:
    """One text where a list is expected would be read as a list of characters, so it is refused."""
    with pytest.raises(AlphabetError):
        FF1.over(KEY, DIGITS).encrypt_many(CARD, TWEAK)


@pytest.mark.parametrize("texts", [["123456", "12345"], ["", "123456"], ["123456", "12345x"]])
def test_one_bad_value_refuses_the_list(texts: list[str]) -> None:
    """Nothing comes back from a list with a value that is refused."""
    with pytest.raises((AlphabetError, DomainError)):
        FF1.over(KEY, DIGITS).encrypt_many(texts, TWEAK)


def test_errors_do_not_tell_values() -> None:
    """The message and the chain of a refusal have nothing of the value; the index of the text is told."""
    ff1 = FF1.over(KEY, DIGITS)

    with pytest.raises(AlphabetError) as caught:
        ff1.encrypt_many(["123456", "98765x43210"], TWEAK)

    assert "98765" not in str(caught.value)
    assert "text 1" in str(caught.value)
    assert caught.value.__cause__ is None


def test_ranks_out_of_range_are_refused() -> None:
    """A rank beyond radix^length, or below zero, is refused and not reduced."""
    permutation = FF1Permutation(KEY, 10)

    for rank in (10**6, -1):
        with pytest.raises(NumeralError):
            permutation.encrypt_ranks([0, rank], 6, TWEAK)
        with pytest.raises(NumeralError):
            permutation.encrypt_batch([(rank, 6, TWEAK)])


@pytest.mark.parametrize(("radix", "length"), [(10, 16), (10, 33), (2, 122), (2, 128), (10, 80), (65536, 9)])
@pytest.mark.parametrize("tweak_length", [0, 1, 8, 11, 15, 16, 31])
def test_batches_of_different_tweaks(radix: int, length: int, tweak_length: int) -> None:
    """Values of one length under tweaks of one length share their calls, wherever the tweaks differ in the blocks."""
    permutation = FF1Permutation(KEY, radix)
    tweaks = [bytes([place * number % 256 for place in range(1, tweak_length + 1)]) for number in range(130)]
    batch = [(number**3 % radix**length, length, tweak) for number, tweak in enumerate(tweaks)]

    together = permutation.encrypt_batch(batch)

    assert together == [permutation.encrypt_batch([value])[0] for value in batch]
    back = [(rank, length, tweak) for rank, tweak in zip(together, tweaks, strict=True)]
    assert permutation.encrypt_batch(back, decrypt=True) == [rank for rank, _, _ in batch]


def test_every_refusal_is_a_value_error() -> None:
    """Callers may catch ValueError for everything that is refused."""
    for error in (FF1Error, AlphabetError, DomainError, KeySizeError, NumeralError, RadixError, TweakError):
        assert issubclass(error, ValueError)


def test_does_not_show_or_give_away_its_key() -> None:
    """Neither repr nor pickle nor copy carries the key."""
    for ff1 in (FF1(KEY, 10), FF1.over(KEY, DIGITS), FF1Permutation(KEY, 10)):
        assert KEY.hex() not in repr(ff1)
        for leak in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                leak(ff1)


def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tweaks and lengths do not grow an object without end, and forgetting changes no result."""
    monkeypatch.setattr("tokenweir.core.ff1._CACHED_BASES", 8)
    monkeypatch.setattr("tokenweir.core.ff1._CACHED_SHAPES", 8)
    permutation = FF1Permutation(KEY, 10)
    batch = [(number, 6 + number % 11, bytes([number])) for number in range(40)]

    first = permutation.encrypt_batch(batch)

    assert first == [FF1Permutation(KEY, 10).encrypt_batch([value])[0] for value in batch]
    assert len(permutation._bases) <= 8
    assert len(permutation._shapes) <= 8
    permutation.encrypt_ranks([1], 6, bytes(100))
    assert (6, bytes(100)) not in permutation._bases
