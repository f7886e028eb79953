"""FF1 against a second implementation that follows the standard line by line and shares no code with the first."""

from __future__ import annotations

import operator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenweir.core.alphabets import Alphabet, numerals_to_rank, rank_to_numerals
from tokenweir.core.ff1 import FF1Permutation
from tokenweir.ff1 import FF1

QUICK = settings(max_examples=50, deadline=None)
KEY = bytes(range(32))
RADICES = st.sampled_from([2, 3, 10, 16, 26, 36, 62, 64, 85, 255, 256, 257, 65535, 65536])


def prf(key: bytes, data: bytes) -> bytes:
    """PRF of SP 800-38G, algorithm 5: the last block of CBC with an IV of zeros."""
    encryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor()
    return encryptor.update(data)[-16:]


def block(key: bytes, data: bytes) -> bytes:
    """CIPH_K of one block."""
    return prf(key, data)


def naive_encrypt(key: bytes, radix: int, numerals: list[int], tweak: bytes) -> list[int]:
    """Algorithm 7 as it is written, with numeral strings between the rounds."""
    n, t = len(numerals), len(tweak)
    u = n // 2
    v = n - u
    a, b_half = numerals[:u], numerals[u:]
    b = 0
    while 256**b < radix**v:
        b += 1
    d = 4 * (-(-b // 4)) + 4
    p = bytes([1, 2, 1]) + radix.to_bytes(3, "big") + bytes([10, u % 256]) + n.to_bytes(4, "big") + t.to_bytes(4, "big")
    for i in range(10):
        q = tweak + bytes((-t - b - 1) % 16) + bytes([i]) + num(b_half, radix).to_bytes(b, "big")
        r = prf(key, p + q)
        s = r
        for j in range(1, -(-d // 16)):
            s += block(key, bytes(map(operator.xor, r, j.to_bytes(16, "big"))))
        y = int.from_bytes(s[:d], "big")
        m = u if i % 2 == 0 else v
        c = (num(a, radix) + y) % radix**m
        a, b_half = b_half, [c // radix ** (m - 1 - place) % radix for place in range(m)]
    return a + b_half


def num(numerals: list[int], radix: int) -> int:
    """NUM_radix of algorithm 1."""
    return sum(numeral * radix**place for place, numeral in enumerate(reversed(numerals)))


@st.composite
def values(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A radix and numerals that reach the floor of 1,000,000."""
    radix = draw(RADICES)
    shortest = next(n for n in range(2, 21) if radix**n >= 1_000_000)
    length = draw(st.integers(shortest, draw(st.sampled_from([shortest + 1, 40, 90]))))
    numeral = st.one_of(st.just(0), st.just(radix - 1), st.integers(0, radix - 1))
    return radix, draw(st.lists(numeral, min_size=length, max_size=length))


@QUICK
@given(value=values(), tweak=st.binary(max_size=40), key_size=st.sampled_from([16, 24, 32]))
def test_follows_the_standard(value: tuple[int, list[int]], tweak: bytes, key_size: int) -> None:
    """Any radix, length, tweak and key size gives what the standard's own steps give, and decrypts back."""
    radix, numerals = value
    ff1 = FF1(KEY[:key_size], radix)

    encrypted = ff1.encrypt(numerals, tweak)

    assert encrypted == naive_encrypt(KEY[:key_size], radix, numerals, tweak)
    assert ff1.decrypt(encrypted, tweak) == numerals


@QUICK
@given(data=st.data(), radix=RADICES, same_length=st.booleans())
def test_batches_change_nothing(data: st.DataObject, radix: int, same_length: bool) -> None:  # noqa: FBT001 - drawn
    """A batch of mixed lengths and tweaks gives for each value what that value alone gives, in both directions."""
    permutation = FF1Permutation(KEY, radix)
    lengths = st.just(24) if same_length else st.integers(20, 34)
    batch = []
    for _ in range(data.draw(st.integers(1, 12))):
        length = data.draw(lengths)
        batch.append((data.draw(st.integers(0, radix**length - 1)), length, data.draw(st.binary(max_size=18))))

    together = permutation.encrypt_batch(batch)

    assert together == [permutation.encrypt_ranks([rank], length, tweak)[0] for rank, length, tweak in batch]
    back = [(rank, length, tweak) for rank, (_, length, tweak) in zip(together, batch, strict=True)]
    assert permutation.encrypt_batch(back, decrypt=True) == [rank for rank, _, _ in batch]


@QUICK
@given(radix=RADICES, numerals=st.lists(st.integers(0, 1), min_size=1, max_size=1200))
def test_ranks_and_numerals_are_inverse(radix: int, numerals: list[int]) -> None:
    """A numeral string and its rank determine each other, below and above the size that is split."""
    rank = numerals_to_rank(numerals, radix)

    assert rank == num(numerals, radix)
    assert rank_to_numerals(rank, radix, len(numerals)) == numerals


@QUICK
@given(
    characters=st.sampled_from(["01", "0123456789", "0123456789abcdef", "ba", "zyxwvutsrqponm", "aAbBcC0123456789"])
    | st.just("".join(map(chr, range(33, 33 + 85)))),
    data=st.data(),
)
def test_texts_and_ranks_are_inverse(characters: str, data: st.DataObject) -> None:
    """A text and its rank in an alphabet determine each other."""
    alphabet = Alphabet(characters)
    text = data.draw(st.text(alphabet=characters, min_size=1, max_size=1100))

    rank = alphabet.rank(text)

    assert rank == num([characters.index(character) for character in text], len(characters))
    assert alphabet.text(rank, len(text)) == text
