"""Known answers that every cipher must give before the first record is read.

A cipher that is wrong still makes plausible tokens, and a round trip does not notice; only a known answer does.
"""

from __future__ import annotations

from typing import Final

from tokenweir.core.ff1 import FF1Permutation
from tokenweir.errors import KeysError

#: Sample 7 of "FF1 Samples" of NIST's Cryptographic Standards and Guidelines, AES-256, radix 10, no tweak.
_KEY: Final = bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94")
_PLAIN: Final = 123456789
_CIPHER: Final = 6657667009
_DIGITS: Final = 10


def check_ciphers() -> None:
    """Try FF1 with AES-256 against NIST's published sample.

    Raises:
        KeysError: if it gives another answer.
    """
    [cipher] = FF1Permutation(_KEY, 10, minimum_domain=1_000_000).encrypt_ranks([_PLAIN], _DIGITS, b"")
    if cipher != _CIPHER:
        raise KeysError("FF1 does not give its known answer: this installation must not make tokens")
