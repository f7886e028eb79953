"""FF1 of NIST SP 800-38G on exact integers, many values in lock-step.

The value X of n numerals is one integer, its *rank*, below radix^n. The halves A and B stay integers in all ten rounds,
and the CBC-MAC state of everything that does not change from round to round (the block P, the tweak and the padding)
is computed once. A batch runs round by round, so that one call of the AES provider serves all its values.

Security: a pseudorandom permutation under AES for domains of at least 1,000,000 values, which the second draft of
SP 800-38G Rev. 1 (February 2025) requires; smaller domains fall to message recovery (Bellare, Hoang and Tessaro, 2016)
and are refused. FF1 has no integrity: a wrong key or tweak decrypts to a plausible value. The time depends on radix
and length, which are public, and Python integers do not promise constant time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import add, sub, xor
from typing import Final, NoReturn, TypeAlias

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tokenweir.core.alphabets import MAXIMUM_RADIX
from tokenweir.errors import TokenweirError

MINIMUM_DOMAIN: Final = 1_000_000
"""radix^n must reach this (SP 800-38G Rev. 1, second public draft, section 5.1)."""

LENIENT_DOMAIN: Final = 100
"""radix^n had to reach this in the text of 2016; only for test vectors."""

MAXIMUM_LENGTH: Final = 2**32 - 1
"""Most numerals of a value and most bytes of a tweak: both are written in four bytes of the block P."""

_ROUNDS: Final = 10
_BLOCK: Final = 16
_NARROW_BYTES: Final = 8
"""Widest half (b, in bytes) that goes through the 64-bit path."""

# The AES provider keeps the GIL for calls below 2,048 bytes and refuses a second thread ("Already borrowed") in longer
# ones. Staying below lets threads share an object, and costs a nanosecond or two per value.
_VALUES_PER_CALL: Final = 126

_CACHED_BASES: Final = 16384
_CACHED_TWEAK_BYTES: Final = 64
"""How many tweaks, and up to which size, have their state remembered; a full cache is emptied."""

_CACHED_SHAPES: Final = 1024
"""How many lengths have their constants remembered; a full cache is emptied."""

_RoundFunction: TypeAlias = Callable[[int, list[int]], list[int]]


class FF1Error(TokenweirError, ValueError):
    """FF1 refuses its input. The message never has a value, a tweak or a key in it."""


class KeySizeError(FF1Error):
    """The key is not 16, 24 or 32 bytes."""


class RadixError(FF1Error):
    """The radix is not an integer from 2 to 65536."""


class TweakError(FF1Error):
    """The tweak is not a string of fewer than 2^32 bytes."""


class DomainError(FF1Error):
    """The value has too few numerals for its radix (or more than 2^32 - 1), so FF1 would not protect it."""


class NumeralError(FF1Error):
    """Something that should be a numeral is not an integer from 0 to radix - 1."""


class _Shape:
    """What follows from radix, length and tweak length alone; the letters are those of SP 800-38G, algorithm 7."""

    __slots__ = ("b", "d", "modulus_u", "modulus_v", "padding", "state", "tail_blocks", "u", "v")

    def __init__(self, radix: int, length: int, tweak_length: int, aes: Callable[[bytes], bytes]) -> None:
        self.u = length // 2
        self.v = length - self.u
        self.modulus_u: int = radix**self.u
        self.modulus_v: int = radix**self.v
        # b by integers: a floating-point logarithm is off by one for some (radix, v).
        self.b = ((self.modulus_v - 1).bit_length() + 7) // 8
        self.d = 4 * ((self.b + 3) // 4) + 4
        self.padding = (-tweak_length - self.b - 1) % _BLOCK
        self.tail_blocks = (self.b + _BLOCK) // _BLOCK  # The blocks of Q that hold the round number and the half.
        p = struct.pack(">BBB3sBBII", 1, 2, 1, radix.to_bytes(3, "big"), _ROUNDS, self.u % 256, length, tweak_length)
        self.state = int.from_bytes(aes(p), "big")


class FF1Permutation:
    """FF1 under one key and one radix, on ranks."""

    __slots__ = ("_aes", "_bases", "_floor", "_shapes", "radix")

    def __init__(self, key: bytes, radix: int, *, minimum_domain: int = MINIMUM_DOMAIN) -> None:
        """Bind key and radix.

        Raises:
            KeySizeError, RadixError: the key is not 128, 192 or 256 bits, the radix not 2 to 65536.
        """
        if not isinstance(key, bytes | bytearray) or len(key) not in {16, 24, 32}:
            raise KeySizeError("an FF1 key is 16, 24 or 32 bytes")
        if isinstance(radix, bool) or not isinstance(radix, int) or not 2 <= radix <= MAXIMUM_RADIX:
            raise RadixError(f"an FF1 radix is an integer from 2 to {MAXIMUM_RADIX}")
        self.radix = radix
        # Single blocks without chaining are the block cipher CIPH_K that FF1 is made of, not ECB as a mode.
        self._aes = Cipher(algorithms.AES(bytes(key)), modes.ECB()).encryptor().update  # noqa: S305
        self._floor = minimum_domain
        self._shapes: dict[tuple[int, int], _Shape] = {}
        self._bases: dict[tuple[int, bytes], int] = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("an FF1 key is neither pickled nor copied")

    def require_domain(self, length: int) -> None:
        """Refuse lengths that FF1 does not protect.

        Raises:
            DomainError: radix^length is below the floor, or length is below 2 or above 2^32 - 1.
        """
        # A length of 20 suffices for every radix, so no power of a hostile length is computed here.
        if length < 2 or (length < 20 and self.radix**length < self._floor):
            raise DomainError(f"{length} numerals of radix {self.radix} are below {self._floor:,} values")
        if length > MAXIMUM_LENGTH:
            raise DomainError("a value has at most 2^32 - 1 numerals")

    def encrypt_ranks(self, ranks: Sequence[int], length: int, tweak: bytes, *, decrypt: bool = False) -> list[int]:
        """Encrypt (or decrypt) values of one length under one tweak.

        Raises:
            DomainError, NumeralError, TweakError: one of the values is refused; then nothing is returned.
        """
        shape = self._shape(length, tweak)
        base = self._base(length, shape, tweak)
        done: list[int] = []
        for start in range(0, len(ranks), _VALUES_PER_CALL):
            part = ranks[start : start + _VALUES_PER_CALL]
            done += self._permute(shape, part, [base] * len(part), decrypt=decrypt)
        return done

    def encrypt_batch(self, batch: Sequence[tuple[int, int, bytes]], *, decrypt: bool = False) -> list[int]:
        """Encrypt (or decrypt) values given as (rank, length, tweak); lengths and tweaks may differ.

        Returns:
            The new ranks in the order of the batch.

        Raises:
            DomainError, NumeralError, TweakError: one of the values is refused; then nothing is returned.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        for index, (_, length, tweak) in enumerate(batch):
            groups.setdefault((length, len(tweak)), []).append(index)
        ranks = [0] * len(batch)
        for (length, _), indexes in groups.items():
            shape = self._shape(length, batch[indexes[0]][2])
            for start in range(0, len(indexes), _VALUES_PER_CALL):
                part = indexes[start : start + _VALUES_PER_CALL]
                bases = [self._base(length, shape, batch[index][2]) for index in part]
                done = self._permute(shape, [batch[index][0] for index in part], bases, decrypt=decrypt)
                for index, rank in zip(part, done, strict=True):
                    ranks[index] = rank
        return ranks

    def _permute(self, shape: _Shape, ranks: Sequence[int], bases: list[int], *, decrypt: bool) -> list[int]:
        """Run the ten rounds of algorithm 7 (or 8) on all values at once."""
        low_half = shape.modulus_v
        a = [rank // low_half for rank in ranks]
        b = [rank % low_half for rank in ranks]
        if min(a) < 0 or max(a) >= shape.modulus_u:
            raise NumeralError(f"a rank is not below radix {self.radix} to the power of {shape.u + shape.v}")
        if shape.tail_blocks > 1 or shape.b > _NARROW_BYTES:
            values = _wide_rounds(shape, bases, self._aes)
        elif len(a) == 1:
            return [_permute_one(shape, a[0], b[0], bases[0], self._aes, decrypt=decrypt)]
        else:
            values = _narrow_rounds(shape, bases, self._aes)
        if decrypt:
            for number in range(_ROUNDS - 1, -1, -1):
                modulus = shape.modulus_v if number & 1 else shape.modulus_u
                a, b = [c % modulus for c in map(sub, b, values(number, a))], a
        else:
            for number in range(_ROUNDS):
                modulus = shape.modulus_v if number & 1 else shape.modulus_u
                a, b = b, [c % modulus for c in map(add, a, values(number, b))]
        return [high * low_half + low for high, low in zip(a, b, strict=True)]

    def _shape(self, length: int, tweak: bytes) -> _Shape:
        """Return the shape of values of this length under tweaks as long as this one."""
        if not isinstance(tweak, bytes) or len(tweak) > MAXIMUM_LENGTH:
            raise TweakError("a tweak is a string of fewer than 2^32 bytes")
        shape = self._shapes.get((length, len(tweak)))
        if shape is None:
            self.require_domain(length)
            if len(self._shapes) >= _CACHED_SHAPES:
                self._shapes.clear()
            shape = self._shapes[length, len(tweak)] = _Shape(self.radix, length, len(tweak), self._aes)
        return shape

    def _base(self, length: int, shape: _Shape, tweak: bytes) -> int:
        """Return the tail blocks of Q without round number and half, XORed with the CBC-MAC state before them."""
        base = self._bases.get((length, tweak))
        if base is None:
            constant = tweak + bytes(shape.padding)
            in_prefix = len(constant) + 1 + shape.b - shape.tail_blocks * _BLOCK
            state = shape.state
            for start in range(0, in_prefix, _BLOCK):
                block = state ^ int.from_bytes(constant[start : start + _BLOCK], "big")
                state = int.from_bytes(self._aes(block.to_bytes(_BLOCK, "big")), "big")
            base = int.from_bytes(constant[in_prefix:], "big") << (8 * (shape.b + 1))
            base ^= state << (8 * _BLOCK * (shape.tail_blocks - 1))
            if len(self._bases) >= _CACHED_BASES:
                self._bases.clear()
            if len(tweak) <= _CACHED_TWEAK_BYTES:
                self._bases[length, tweak] = base
        return base


def _permute_one(  # noqa: PLR0913 - the six inputs of the algorithm, on the path where a call per round would count
    shape: _Shape, a: int, b: int, base: int, aes: Callable[[bytes], bytes], *, decrypt: bool
) -> int:
    """Run the ten rounds on one value whose tail is one block and whose output is one block."""
    shift, width, moduli = 8 * shape.b, shape.d, (shape.modulus_u, shape.modulus_v)
    from_bytes = int.from_bytes
    if decrypt:
        for number in range(_ROUNDS - 1, -1, -1):
            y = from_bytes(aes((base ^ (number << shift) ^ a).to_bytes(_BLOCK, "big"))[:width], "big")
            a, b = (b - y) % moduli[number & 1], a
    else:
        for number in range(_ROUNDS):
            y = from_bytes(aes((base ^ (number << shift) ^ b).to_bytes(_BLOCK, "big"))[:width], "big")
            a, b = b, (a + y) % moduli[number & 1]
    return a * shape.modulus_v + b


@lru_cache(maxsize=4 * _VALUES_PER_CALL)
def _words(count: int, form: str) -> struct.Struct:
    """Return the big-endian layout of ``count`` blocks of the given form."""
    return struct.Struct(">" + form * count)


def _narrow_rounds(shape: _Shape, bases: list[int], aes: Callable[[bytes], bytes]) -> _RoundFunction:
    """Return the round function of values whose half fits 64 bits: blocks are packed as pairs of 64-bit words."""
    count = len(bases)
    high = [base >> 64 for base in bases]
    low = [base & 0xFFFF_FFFF_FFFF_FFFF for base in bases]
    # The low word is the same in all blocks unless the tweaks differ and reach into it.
    shared_low = low[0] if low.count(low[0]) == count else None
    blocks = [0] * (2 * count)
    blocks[0::2] = high
    pack = _words(count, "QQ").pack
    unpack = _words(count, "Q8x" if shape.d == 8 else "QI4x").unpack
    round_in_low_word = shape.b < _NARROW_BYTES
    shift = 8 * shape.b

    def values(number: int, halves: list[int]) -> list[int]:
        low_round = number << shift if round_in_low_word else 0
        if not round_in_low_word:
            blocks[0::2] = [word ^ number for word in high]
        if shared_low is not None:
            constant = shared_low ^ low_round
            blocks[1::2] = [constant ^ half for half in halves]
        else:
            blocks[1::2] = [word ^ low_round for word in map(xor, low, halves)]
        output = unpack(aes(pack(*blocks)))
        if shape.d == 8:
            return list(output)
        return [(word << 32) | rest for word, rest in zip(output[0::2], output[1::2], strict=True)]

    return values


def _wide_rounds(shape: _Shape, bases: list[int], aes: Callable[[bytes], bytes]) -> _RoundFunction:
    """Return the round function for any width: several tail blocks, several output blocks."""
    shift = 8 * shape.b
    tail = shape.tail_blocks * _BLOCK
    count = len(bases)
    every_block = int.from_bytes((bytes(15) + b"\x01") * count, "big")

    def values(number: int, halves: list[int]) -> list[int]:
        tails = [
            (base ^ (number << shift) ^ half).to_bytes(tail, "big") for base, half in zip(bases, halves, strict=True)
        ]
        macs = 0
        for start in range(0, tail, _BLOCK):
            chained = macs ^ int.from_bytes(b"".join([blocks[start : start + _BLOCK] for blocks in tails]), "big")
            macs = int.from_bytes(aes(chained.to_bytes(_BLOCK * count, "big")), "big")
        # S is the first d bytes of R | CIPH(R ^ 1) | CIPH(R ^ 2) and so on: counter blocks on R, not a chain.
        outputs = [macs.to_bytes(_BLOCK * count, "big")]
        outputs += [
            aes((macs ^ (every_block * counter)).to_bytes(_BLOCK * count, "big"))
            for counter in range(1, (shape.d + _BLOCK - 1) // _BLOCK)
        ]
        return [
            int.from_bytes(b"".join([output[place : place + _BLOCK] for output in outputs])[: shape.d], "big")
            for place in range(0, _BLOCK * count, _BLOCK)
        ]

    return values
