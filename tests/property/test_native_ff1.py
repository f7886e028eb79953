"""The native FF1 against the reference: the same results and the same refusals, whatever goes in."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.native import native_module, outcome

from tokenweir.core import ff1text

native = native_module()

QUICK = settings(max_examples=100, deadline=None)
MANY = settings(max_examples=5_000, deadline=None)

RADICES = st.sampled_from([2, 3, 10, 16, 26, 36, 62, 64, 85, 255, 256, 257, 65535, 65536]) | st.integers(2, 65536)
KEYS = st.sampled_from([16, 24, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
TWEAKS = st.binary(max_size=40)
ANY_KEY: st.SearchStrategy[Any] = (
    KEYS | KEYS.map(bytearray) | st.binary(max_size=40) | st.sampled_from([None, "0" * 32, 16, memoryview(bytes(16))])
)
ANY_RADIX: st.SearchStrategy[Any] = RADICES | st.sampled_from([-1, 0, 1, 65537, 2**70, True, 10.0, "10", None])
ANY_TWEAK: st.SearchStrategy[Any] = (
    TWEAKS
    | TWEAKS.map(bytearray)
    | TWEAKS.map(lambda tweak: memoryview(tweak))  # noqa: PLW0108 - mypy does not see that the class is a function
    | TWEAKS.map(lambda tweak: memoryview(tweak)[::2])
    | st.sampled_from(["", 8, None])
)
STRICT: st.SearchStrategy[Any] = st.sampled_from([True, False, None, 1, ""])
ALPHABETS = st.sampled_from(
    [
        "01",
        "ba",
        string.digits,
        string.digits[::-1],
        string.hexdigits[:16],
        string.ascii_letters + string.digits,
        string.punctuation + string.digits,
        "äöüßéèñ",
        "aäb\u4e00\u4e01\U0001f600\U0001f601",
        "".join(map(chr, range(0x4E00, 0x4E00 + 300))),
        "".join(map(chr, range(0x20, 0x7F))),
    ]
)
ANY_ALPHABET: st.SearchStrategy[Any] = ALPHABETS | st.sampled_from(
    ["", "0", "00", "0120", "ab\ud800", "ae\u0301", "a\u212b", "ääb", None, 10, ["0", "1"]]
)


@st.composite
def numerals(draw: st.DrawFn, radix: object) -> object:
    """Numerals that fit the radix, or nearly, or what is no list of numerals."""
    if not isinstance(radix, int) or not 2 <= radix <= 65536:
        radix = 10
    good = st.sampled_from([0, radix - 1]) | st.integers(0, radix - 1)
    bad: st.SearchStrategy[Any] = st.sampled_from([radix, -1, 2**70, True, 1.0, "1", None])
    one = draw(st.sampled_from([good, good, good, good | bad]))
    length = draw(st.integers(0, draw(st.sampled_from([8, 40, 90, 260]))))
    drawn = draw(st.lists(one, min_size=length, max_size=length))
    return draw(st.sampled_from([list, tuple]))(drawn) if length else draw(st.sampled_from([drawn, None, 7, "123456"]))


@st.composite
def numeral_calls(draw: st.DrawFn) -> tuple[Any, ...]:
    """Everything that one call on numerals takes."""
    radix = draw(ANY_RADIX)
    return draw(ANY_KEY), radix, draw(STRICT), draw(numerals(radix)), draw(ANY_TWEAK)


@st.composite
def text_calls(draw: st.DrawFn) -> tuple[Any, ...]:
    """Everything that one call on texts takes."""
    alphabet = draw(ANY_ALPHABET)
    characters = alphabet if isinstance(alphabet, str) and alphabet else "01"
    length = draw(st.integers(0, draw(st.sampled_from([8, 40, 90, 260]))))
    own = st.text(st.sampled_from(characters), min_size=length, max_size=length)
    varied = st.text(st.sampled_from(characters), max_size=70)
    foreign: st.SearchStrategy[Any] = st.text(max_size=30) | st.sampled_from([None, 7, b"01", "01\ud800", "\u0661" * 9])
    one = draw(st.sampled_from([own, own, own | varied, own | varied | foreign]))
    texts: Any = draw(st.lists(one, max_size=draw(st.sampled_from([3, 20]))))
    texts = draw(st.sampled_from([list, tuple]))(texts) if texts else draw(st.sampled_from([[], None, 7, "0" * 20]))
    return draw(ANY_KEY), alphabet, draw(STRICT), texts, draw(ANY_TWEAK)


def on_numerals(ff1: Any, call: tuple[Any, ...]) -> list[object]:  # noqa: ANN401 - either class
    """Return all outcomes of a call on numerals."""
    key, radix, strict, values, tweak = call
    bound = outcome(lambda: ff1(key, radix, strict=strict))
    if isinstance(bound, tuple):
        return [bound]
    encrypt, decrypt = bound.encrypt, bound.decrypt  # type: ignore[attr-defined]  # It is of either engine.
    return [repr(bound), outcome(encrypt, values, tweak), outcome(decrypt, values, tweak)]


def on_texts(ff1: Any, call: tuple[Any, ...]) -> list[object]:  # noqa: ANN401 - either class
    """Return all outcomes of calls on texts."""
    key, alphabet, strict, texts, tweak = call
    bound: Any = outcome(lambda: ff1.over(key, alphabet, strict=strict))
    if isinstance(bound, tuple):
        return [bound]
    outcomes = [repr(bound), outcome(bound.encrypt_many, texts, tweak), outcome(bound.decrypt_many, texts, tweak)]
    for text in list(texts if isinstance(texts, (list, tuple)) else [texts])[:2]:
        outcomes += [outcome(bound.encrypt_text, text, tweak), outcome(bound.decrypt_text, text, tweak)]
    return outcomes


@QUICK
@given(call=numeral_calls())
def test_numerals(call: tuple[Any, ...]) -> None:
    """Any key, radix, numerals and tweak have one outcome."""
    assert on_numerals(native.FF1, call) == on_numerals(ff1text.FF1, call)


@QUICK
@given(call=text_calls())
def test_texts(call: tuple[Any, ...]) -> None:
    """Any key, alphabet, texts and tweak have one outcome."""
    assert on_texts(native.FF1, call) == on_texts(ff1text.FF1, call)


@QUICK
@given(key=KEYS, radix=RADICES, tweak=TWEAKS, data=st.data())
def test_every_width(key: bytes, radix: int, tweak: bytes, data: st.DataObject) -> None:
    """Values at the edges of the machine words are right: 32 and 96 bits for a half, and one numeral beside them."""
    bits = (radix - 1).bit_length()
    length = 2 * (data.draw(st.sampled_from([32, 64, 96, 128])) // bits) + data.draw(st.integers(-3, 3))
    shortest = next(n for n in range(2, 21) if radix**n >= 1_000_000)
    length = max(length, shortest)
    numeral = st.sampled_from([0, radix - 1]) | st.integers(0, radix - 1)
    value = data.draw(st.lists(numeral, min_size=length, max_size=length))

    assert native.FF1(key, radix).encrypt(value, tweak) == ff1text.FF1(key, radix).encrypt(value, tweak)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@MANY
@given(call=numeral_calls())
def test_numerals_at_length(call: tuple[Any, ...]) -> None:
    """As above, many times."""
    assert on_numerals(native.FF1, call) == on_numerals(ff1text.FF1, call)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@MANY
@given(call=text_calls())
def test_texts_at_length(call: tuple[Any, ...]) -> None:
    """As above, many times."""
    assert on_texts(native.FF1, call) == on_texts(ff1text.FF1, call)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 63, 64, 65, 127, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize("lengths", [(16,), (6, 16, 30), (40, 80)])
def test_batches_of_every_size(count: int, lengths: tuple[int, ...]) -> None:
    """Lists that fill some lanes, all lanes and several parts give what the reference gives, in both directions."""
    texts = [str(7**90 * (number + 1))[: lengths[number % len(lengths)]] for number in range(count)]
    tweak = bytes(8)
    ours, theirs = (ff1.over(bytes(32), string.digits) for ff1 in (native.FF1, ff1text.FF1))

    tokens = ours.encrypt_many(texts, tweak)

    assert tokens == theirs.encrypt_many(texts, tweak)
    assert ours.decrypt_many(tokens, tweak) == texts
