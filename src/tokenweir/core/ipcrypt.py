"""Encryption of IP addresses: ipcrypt-deterministic and ipcrypt-pfx (draft-denis-ipcrypt), and Crypto-PAn.

Addresses are 4 or 16 bytes in network order. None of these has integrity: a wrong key gives another address. The two
that preserve prefixes map addresses with n first bits in common to addresses with exactly n first bits in common, so
whoever knows the address behind one token knows the first bits behind all tokens near it.
"""

from __future__ import annotations

from typing import Final, NoReturn, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tokenweir.errors import KeysError

_BLOCK: Final = 16
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""The first 12 bytes of an IPv4 address in the form of IPv6 (RFC 4291, section 2.5.5.2)."""


class AddressCipher(Protocol):
    """A permutation of addresses."""

    def encrypt(self, address: bytes) -> bytes:
        """Return the encrypted address."""

    def decrypt(self, address: bytes) -> bytes:
        """Return the address."""


class _Keyed:
    """What holds keys is neither pickled nor copied."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a cipher holds keys and is neither pickled nor copied")


class Deterministic(_Keyed):
    """ipcrypt-deterministic: AES-128 on the 16 bytes of an address, an IPv4 address in its form of IPv6."""

    __slots__ = ("_aes",)

    def __init__(self, key: bytes) -> None:
        """Take a key of 16 bytes."""
        self._aes = Cipher(algorithms.AES128(key), modes.ECB())  # noqa: S305 - one block is the whole message

    def encrypt(self, address: bytes) -> bytes:
        """Return 16 bytes."""
        return self._aes.encryptor().update(_sixteen(address))

    def decrypt(self, address: bytes) -> bytes:
        """Return the address, four bytes where it is one of IPv4."""
        plain = self._aes.decryptor().update(address)
        return plain[12:] if plain.startswith(_MAPPED) else plain


class Prefix(_Keyed):
    """ipcrypt-pfx: each bit is changed by the XOR of two AES-128 over the bits before it."""

    __slots__ = ("_first", "_second")

    def __init__(self, key: bytes) -> None:
        """Take a key of 32 bytes.

        Raises:
            KeysError: its halves are equal, so that every address would be encrypted to itself.
        """
        if key[:_BLOCK] == key[_BLOCK:]:
            raise KeysError("a key of ipcrypt-pfx has two equal halves")
        self._first = Cipher(algorithms.AES128(key[:_BLOCK]), modes.ECB())  # noqa: S305 - a PRF of prefixes
        self._second = Cipher(algorithms.AES128(key[_BLOCK:]), modes.ECB())  # noqa: S305 - as above

    def encrypt(self, address: bytes) -> bytes:
        """Return an address of the same size."""
        bits, number = 8 * len(address), int.from_bytes(address, "big")
        # A prefix of n bits is written after a single 1; that of IPv4 begins with the 96 bits of its form of IPv6.
        above = _above(address)
        prefixes = [(above << place) | (number >> (bits - place)) for place in range(bits)]
        mask = self._mask(prefixes)
        return (number ^ mask).to_bytes(len(address), "big")

    def decrypt(self, address: bytes) -> bytes:
        """Return an address of the same size."""
        bits, number = 8 * len(address), int.from_bytes(address, "big")
        prefix = _above(address)
        for place in range(bits - 1, -1, -1):
            prefix = prefix << 1 | (number >> place & 1 ^ self._mask([prefix]))
        return (prefix & ((1 << bits) - 1)).to_bytes(len(address), "big")

    def _mask(self, prefixes: list[int]) -> int:
        """Return the bit for each prefix, as one number."""
        blocks = b"".join([prefix.to_bytes(_BLOCK, "big") for prefix in prefixes])
        first, second = self._first.encryptor().update(blocks), self._second.encryptor().update(blocks)
        mask = 0
        for last in range(_BLOCK - 1, len(blocks), _BLOCK):
            mask = mask << 1 | (first[last] ^ second[last]) & 1
        return mask


class CryptoPan(_Keyed):
    """Crypto-PAn (Xu, Fan, Ammar and Moon, 2002), for IPv6 over 128 bits."""

    __slots__ = ("_aes", "_pad")

    def __init__(self, key: bytes) -> None:
        """Take a key of 32 bytes: 16 for AES-128 and 16 that become the padding."""
        self._aes = Cipher(algorithms.AES128(key[:_BLOCK]), modes.ECB())  # noqa: S305 - a PRF of prefixes
        self._pad = int.from_bytes(self._aes.encryptor().update(key[_BLOCK:]), "big")

    def encrypt(self, address: bytes) -> bytes:
        """Return an address of the same size."""
        bits, number = 8 * len(address), int.from_bytes(address, "big")
        mask = self._mask([(number >> (bits - place), place) for place in range(bits)])
        return (number ^ mask).to_bytes(len(address), "big")

    def decrypt(self, address: bytes) -> bytes:
        """Return an address of the same size."""
        bits, number = 8 * len(address), int.from_bytes(address, "big")
        prefix = 0
        for place in range(bits):
            prefix = prefix << 1 | (number >> (bits - 1 - place) & 1 ^ self._mask([(prefix, place)]))
        return prefix.to_bytes(len(address), "big")

    def _mask(self, prefixes: list[tuple[int, int]]) -> int:
        """Return the bit for each prefix and its length, as one number."""
        blocks = b"".join([self._block(prefix, length) for prefix, length in prefixes])
        encrypted = self._aes.encryptor().update(blocks)
        mask = 0
        for first in range(0, len(blocks), _BLOCK):
            mask = mask << 1 | encrypted[first] >> 7
        return mask

    def _block(self, prefix: int, length: int) -> bytes:
        """Return a prefix that is followed by the padding from its own place on."""
        rest = 128 - length
        return (prefix << rest | self._pad & ((1 << rest) - 1)).to_bytes(_BLOCK, "big")


def _sixteen(address: bytes) -> bytes:
    return address if len(address) == _BLOCK else _MAPPED + address


def _above(address: bytes) -> int:
    """Return what stands before the bits of an address in the prefixes of ipcrypt-pfx."""
    return 1 if len(address) == _BLOCK else 1 << 96 | 0xFFFF
