"""Known answers that every cipher must give before the first record is read.

A cipher that is wrong still makes plausible tokens, and a round trip does not notice; only a known answer does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tokenweir.core.ff1 import FF1Permutation
from tokenweir.core.ipcrypt import AddressCipher, CryptoPan, Deterministic, Prefix
from tokenweir.errors import KeysError

#: Sample 7 of "FF1 Samples" of NIST's Cryptographic Standards and Guidelines, AES-256, radix 10, no tweak.
_KEY: Final = bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94")
_PLAIN: Final = 123456789
_CIPHER: Final = 6657667009
_DIGITS: Final = 10

#: Name, cipher, key, address and encrypted address: vectors of draft-denis-ipcrypt, and the first pair of the sample
#: trace of Crypto-PAn.
_ADDRESSES: Final[tuple[tuple[str, Callable[[bytes], AddressCipher], str, str, str], ...]] = (
    (
        "ipcrypt-deterministic",
        Deterministic,
        "2b7e151628aed2a6abf7158809cf4f3c",
        "c0000201",
        "1dbdc1b9fff175867d0b67b4e76e4777",
    ),
    ("ipcrypt-pfx", Prefix, "0123456789abcdeffedcba98765432101032547698badcfeefcdab8967452301", "00000000", "97529b86"),
    (
        "Crypto-PAn",
        CryptoPan,
        "1522178d33a4cf80130a5b1649907d10d8988f837979652762574c2d2a842202",
        "800b4484",
        "87f2b484",
    ),
)


def check_ciphers() -> None:
    """Try FF1 with AES-256 against NIST's published sample, and the ciphers of addresses against theirs.

    Raises:
        KeysError: if one gives another answer.
    """
    [cipher] = FF1Permutation(_KEY, 10, minimum_domain=1_000_000).encrypt_ranks([_PLAIN], _DIGITS, b"")
    if cipher != _CIPHER:
        raise KeysError("FF1 does not give its known answer: this installation must not make tokens")
    for name, cipher_of, key, address, expected in _ADDRESSES:
        if cipher_of(bytes.fromhex(key)).encrypt(bytes.fromhex(address)).hex() != expected:
            raise KeysError(f"{name} does not give its known answer: this installation must not make tokens")
