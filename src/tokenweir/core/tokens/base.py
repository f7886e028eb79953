"""What a token format is: how a text becomes the input of a keyed function, and how its result becomes the token.

A format knows no key. Three families differ in the function they need: FF1 on a rank (:class:`RankFormat`), HMAC on
messages (:class:`DigestFormat`), AES-SIV on the text (:class:`SealedFormat`); IP addresses and small sets have
functions of their own. :class:`Tokenizer` adds the keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

from tokenweir.core.alphabets import MAXIMUM_RADIX
from tokenweir.errors import InvalidValueError

Kind: TypeAlias = Literal["string", "int", "long", "integer", "fixed", "bytes"]
"""Schema types that a token can stand in: Avro's, and ``integer`` of JSON Schema."""

Algorithm: TypeAlias = Literal[
    "ff1-aes256", "hmac-sha256", "aes256-siv", "ipcrypt-deterministic", "ipcrypt-pfx", "crypto-pan"
]
"""The keyed function of a format; its name goes into the derivation of the key."""

KEY_BYTES: dict[Algorithm, int] = {
    "ff1-aes256": 32,
    "hmac-sha256": 32,
    "aes256-siv": 64,
    "ipcrypt-deterministic": 16,
    "ipcrypt-pfx": 32,
    "crypto-pan": 32,
}
"""Size of the key of each algorithm; AES-SIV takes one key for the MAC and one for the cipher (RFC 5297), and the
ciphers of IP addresses use AES-128."""

UNBOUNDED_DOMAIN = 2**128
"""Stands for the domain of formats that take any text and answer with at least 128 bits."""

INT_RANGE = range(-(2**31), 2**31)
LONG_RANGE = range(-(2**63), 2**63)


class Prepared:
    """A value that fits its format, on its way through the keyed function. Never shows what it holds."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a prepared value holds plain data and is neither pickled nor copied")


@dataclass(slots=True, repr=False, eq=False)
class PreparedRank(Prepared):
    """A value as a rank below radix^length, with what the format keeps of it."""

    rank: int
    length: int
    kept: str = ""
    """Characters of the value that stay in the token; they go into the tweak."""
    frame: str = ""
    """What the format needs to write the token and what does not go into the tweak."""


@dataclass(slots=True, repr=False, eq=False)
class PreparedText(Prepared):
    """A value as the canonical text that is hashed or sealed."""

    text: str
    part: str = ""
    """A part of the text that the format writes or hashes on its own."""


class TokenFormat(ABC):
    """How values of one token entry are read and how its tokens are written."""

    algorithm: Algorithm
    """The keyed function."""
    reversible: bool
    """Whether a key holder can get the value back."""
    kinds: frozenset[Kind] = frozenset({"string"})
    """Schema types that the format can stand in."""
    null_values: frozenset[str]
    """Texts that the caller treats as absent: it passes them unchanged and never prepares them."""
    smallest_domain: int
    """Fewest values that any valid value shares its tweak and length with."""
    token_length: tuple[int, int | None]
    """Fewest and most characters of a token as text; None where it grows with the value."""

    def __init__(self, null_values: tuple[str, ...] = ()) -> None:
        self.null_values = frozenset(null_values)

    @abstractmethod
    def prepare(self, text: str) -> Prepared:
        """Read a value.

        Raises:
            InvalidValueError: it does not fit the format (the empty text never does); the message has nothing of it.
        """

    def from_integer(self, value: int) -> str:  # noqa: ARG002 - the formats that this fits look at it
        """Return the text that stands for an integer.

        Raises:
            InvalidValueError: the integer does not fit the format.
            TypeError: the format does not go on integers (see ``kinds``).
        """
        raise TypeError(f"{type(self).__name__} does not go on integers")

    def to_integer(self, token: str) -> int:  # noqa: ARG002 - the formats that this fits look at it
        """Return the integer that a token stands for.

        Raises:
            TypeError: the format does not go on integers (see ``kinds``).
        """
        raise TypeError(f"{type(self).__name__} does not go on integers")

    def accepts_fixed(self, size: int) -> bool:  # noqa: ARG002 - the formats that this fits look at it
        """Say whether the format goes on a fixed type of this many bytes."""
        return False

    def from_bytes(self, value: bytes) -> str:  # noqa: ARG002 - the formats that this fits look at it
        """Return the text that stands for raw bytes.

        Raises:
            InvalidValueError: the bytes do not fit the format.
            TypeError: the format does not go on bytes (see ``kinds``).
        """
        raise TypeError(f"{type(self).__name__} does not go on bytes")

    def to_bytes(self, token: str) -> bytes:  # noqa: ARG002 - the formats that this fits look at it
        """Return the raw bytes that a token stands for.

        Raises:
            TypeError: the format does not go on bytes (see ``kinds``).
        """
        raise TypeError(f"{type(self).__name__} does not go on bytes")


class RankFormat(TokenFormat):
    """A format whose values are ranked, enciphered by FF1 and unranked."""

    algorithm: Algorithm = "ff1-aes256"
    reversible = True
    radix: int
    """Radix of FF1, one for all values of the format."""
    walk_below: int | None = None
    """Where valid ranks end before radix^length does: ranks above are enciphered again (cycle walking)."""
    has_holes: bool = False
    """Whether :meth:`is_hole` says which ranks are valid, and not ``walk_below``."""

    @abstractmethod
    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""

    def prepare_token(self, token: str) -> PreparedRank:
        """Read a token, to reverse it. Where tokens are themselves valid values this is :meth:`prepare`.

        Raises:
            InvalidValueError: this cannot be a token of the format.
        """
        return self.prepare(token)

    def is_hole(self, prepared: PreparedRank, rank: int) -> bool:  # noqa: ARG002 - formats with holes look at them
        """Say whether a rank stands for nothing and is enciphered again; the rank of a value never does."""
        return False

    @abstractmethod
    def render(self, prepared: PreparedRank, rank: int) -> str:
        """Write the token for the enciphered rank."""

    def restore(self, prepared: PreparedRank, rank: int) -> str:
        """Write the value for the deciphered rank of what :meth:`prepare_token` read."""
        return self.render(prepared, rank)


class DigestFormat(TokenFormat):
    """A format whose tokens are made of HMACs and cannot be reversed."""

    algorithm: Algorithm = "hmac-sha256"
    reversible = False

    @abstractmethod
    def prepare(self, text: str) -> PreparedText:
        """Read a value; see :meth:`TokenFormat.prepare`."""

    @abstractmethod
    def render(self, prepared: PreparedText, mac: Callable[[str, str], bytes]) -> str:
        """Write the token; ``mac(label, text)`` gives 32 bytes that are independent for different labels."""


class SealedFormat(TokenFormat):
    """A format whose tokens are AES-SIV ciphertexts."""

    algorithm: Algorithm = "aes256-siv"
    reversible = True

    @abstractmethod
    def prepare(self, text: str) -> PreparedText:
        """Read a value; see :meth:`TokenFormat.prepare`."""

    @abstractmethod
    def render(self, sealed: bytes) -> str:
        """Write the token for a ciphertext."""

    @abstractmethod
    def unseal(self, token: str) -> bytes:
        """Return the ciphertext that a token writes.

        Raises:
            InvalidValueError: this cannot be a token of the format.
        """


def superset(size: int) -> tuple[int, int]:
    """Return the (radix, length) whose power is the closest above ``size``, for cycle walking.

    A radix near the root of the size makes walks rare: radix^length exceeds the size by less than 2 % where the size
    is a million or more. An even length keeps the two halves of FF1 equal.
    """
    length = 2
    while (radix := _root_above(size, length)) > MAXIMUM_RADIX:
        length += 2
    return radix, length


def _root_above(size: int, degree: int) -> int:
    """Return the smallest integer whose power of this degree is at least ``size``, exactly."""
    low, high = 1, 1 << (size.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        if middle**degree >= size:
            high = middle
        else:
            low = middle + 1
    return max(low, 2)


def invalid(expected: str) -> InvalidValueError:
    """Return the error for a value that is not what its format expects; the value itself is never told."""
    return InvalidValueError(f"not {expected}")
