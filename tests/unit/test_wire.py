"""The frame of record values."""

from __future__ import annotations

import pytest

from tokenweir.core import wire
from tokenweir.core.outcome import Reason
from tokenweir.errors import DecodeError, InvalidValueError


@pytest.mark.parametrize(
    ("value", "schema_id", "datum"),
    [
        ("0000000001", 1, ""),
        ("00000186a00000", 100_000, "0000"),
        ("00ffffffff06666f6f", 2**32 - 1, "06666f6f"),
    ],
)
def test_known_frames(value: str, schema_id: int, datum: str) -> None:
    """Known bytes give their schema id and datum, and are made of them again."""
    framed = bytes.fromhex(value)
    assert wire.unframe(framed) == (schema_id, bytes.fromhex(datum))
    assert wire.frame(schema_id, bytes.fromhex(datum)) == framed


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01data", b'{"a": 1}'])
def test_what_is_not_framed(value: bytes) -> None:
    """A short value and one that begins with another byte are rejected as not framed."""
    with pytest.raises(DecodeError) as caught:
        wire.unframe(value)
    assert caught.value.reason == Reason.NOT_FRAMED


@pytest.mark.parametrize("schema_id", [-1, 2**32])
def test_an_id_that_does_not_fit(schema_id: int) -> None:
    """An id outside of 32 bits is refused and not truncated."""
    with pytest.raises(InvalidValueError):
        wire.frame(schema_id, b"")
