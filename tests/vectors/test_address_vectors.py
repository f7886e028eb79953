"""Published vectors of ipcrypt and Crypto-PAn, through the ciphers and through the token formats of both engines."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.goldentokens import ADAPTER
from tests.support.native import native_module

from tokenweir.core.ipcrypt import AddressCipher, CryptoPan, Deterministic, Prefix
from tokenweir.core.tokens import Tokenizer, TokenKey, build

HERE = Path(__file__).parent
MODES: dict[str, tuple[type[Any], str]] = {
    "ipcrypt-deterministic": (Deterministic, "deterministic"),
    "ipcrypt-pfx": (Prefix, "prefix"),
    "crypto-pan": (CryptoPan, "cryptopan"),
}


def vectors() -> list[tuple[str, str, str, str]]:
    """Return algorithm, key in hexadecimal, address and encrypted address of all vectors of these algorithms."""
    found = [
        (vector["variant"], vector["key"], vector["ip"], vector["encrypted_ip"])
        for vector in json.loads((HERE / "ipcrypt" / "test_vectors.json").read_text("utf-8"))
        if vector["variant"] in MODES
    ]
    pairs = json.loads((HERE / "cryptopan" / "cryptopan_pairs.json").read_text("utf-8"))["sets"]
    pairs.append(json.loads((HERE / "cryptopan" / "sample_trace_pairs.json").read_text("utf-8")))
    return found + [("crypto-pan", each["key"], *pair) for each in pairs for pair in each["pairs"]]


VECTORS = vectors()


def test_all_vectors_are_there() -> None:
    """Vectors that do not fit what this test looks for would otherwise go unnoticed."""
    counts = {name: sum(vector[0] == name for vector in VECTORS) for name in MODES}

    assert counts == {"ipcrypt-deterministic": 5, "ipcrypt-pfx": 16, "crypto-pan": 219}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector[0]} {vector[2]}")
def test_vector(vector: tuple[str, str, str, str]) -> None:
    """The cipher gives the published answer, and the address comes back."""
    algorithm, key, value, expected = vector
    cipher: AddressCipher = MODES[algorithm][0](bytes.fromhex(key))
    address, encrypted = ipaddress.ip_address(value), ipaddress.ip_address(expected)

    assert cipher.encrypt(address.packed) == encrypted.packed
    assert cipher.decrypt(encrypted.packed) == address.packed


# An IPv4 address in the form of IPv6 is no value of the format ipv6.
AS_TOKENS = [vector for vector in VECTORS if not vector[2].startswith("::ffff:")]


@pytest.mark.parametrize("vector", AS_TOKENS, ids=lambda vector: f"{vector[0]} {vector[2]}")
def test_vector_as_token(vector: tuple[str, str, str, str]) -> None:
    """Under the key of a vector, the token of its address is the published answer, in both engines."""
    algorithm, key, value, expected = vector
    address = ipaddress.ip_address(value)
    parameters = {"format": f"ipv{address.version}", "mode": MODES[algorithm][1]}
    reference = Tokenizer(build(ADAPTER.validate_python(parameters)), TokenKey(bytes.fromhex(key)), TokenKey(bytes(32)))
    native = native_module().Tokenizer(json.dumps(parameters), bytes.fromhex(key), bytes(32))

    assert reference.tokenize(value) == native.encrypt_many([value])[0] == str(ipaddress.ip_address(expected))
    assert reference.detokenize(expected) == native.decrypt(expected) == str(address)
