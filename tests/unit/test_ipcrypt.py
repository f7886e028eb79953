"""What the ciphers of IP addresses do beyond their published vectors."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenweir.core import selftest
from tokenweir.core.ipcrypt import CryptoPan, Deterministic, Prefix
from tokenweir.errors import KeysError

KEY = bytes(range(32))
QUICK = settings(max_examples=40, deadline=None)
ADDRESSES = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


def shared_bits(one: bytes, other: bytes) -> int:
    """Return how many first bits two addresses have in common."""
    difference = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return 8 * len(one) - difference.bit_length()


@QUICK
@given(one=ADDRESSES, change=st.integers(0, 127))
def test_prefixes_are_preserved_exactly(one: bytes, change: int) -> None:
    """Two addresses have as many first bits in common as their tokens, no fewer and no more."""
    bits = 8 * len(one)
    other = (int.from_bytes(one, "big") ^ 1 << change % bits).to_bytes(len(one), "big")

    for cipher in (Prefix(KEY), CryptoPan(KEY)):
        assert shared_bits(cipher.encrypt(one), cipher.encrypt(other)) == shared_bits(one, other)


@QUICK
@given(address=ADDRESSES)
def test_addresses_come_back(address: bytes) -> None:
    """Each cipher is a permutation."""
    for cipher in (Prefix(KEY), CryptoPan(KEY)):
        assert cipher.decrypt(cipher.encrypt(address)) == address
    deterministic = Deterministic(KEY[:16])
    if not address.startswith(bytes(10) + b"\xff\xff"):
        assert deterministic.decrypt(deterministic.encrypt(address)) == address


def test_equal_halves_of_a_key_are_refused() -> None:
    """With equal halves ipcrypt-pfx would leave every address as it is."""
    with pytest.raises(KeysError):
        Prefix(KEY[:16] * 2)


def test_ciphers_are_neither_pickled_nor_copied() -> None:
    """What holds keys stays where it is."""
    for cipher in (Deterministic(KEY[:16]), Prefix(KEY), CryptoPan(KEY)):
        for leak in (pickle.dumps, copy.copy):
            with pytest.raises(TypeError):
                leak(cipher)


@pytest.mark.parametrize("cipher", [Deterministic, Prefix, CryptoPan])
def test_a_wrong_cipher_stops_the_start(cipher: type[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The known answers are asked for at start, and another answer is an error."""
    selftest.check_ciphers()

    monkeypatch.setattr(cipher, "encrypt", lambda _, address: address)

    with pytest.raises(KeysError, match="known answer"):
        selftest.check_ciphers()
