"""Dead letters: coordinates and a reason, in bytes that other libraries read."""

from __future__ import annotations

import json

import pytest
from tests.support.engines import avro_decode

from tokenweir.core import avro, avro_codec, wire
from tokenweir.core.deadletter import SCHEMA, UNKNOWN, DeadLetter, read
from tokenweir.core.outcome import REASONS, Reason
from tokenweir.errors import DecodeError

_LETTER = DeadLetter("raw", 3, 42, 1_795_341_600_000, 7, "raw.crm", Reason.VALUE_INVALID, "mail", "d1", "1.0")


def test_the_bytes_of_a_dead_letter() -> None:
    """They stay in topics, so that they must not change by accident."""
    assert _LETTER.encode().hex() == (
        "067261770654809496abc0680e0e7261772e63726d0a74726561741a76616c75655f696e76616c6964086d61696c04643106312e30"
    )


def test_every_reason_makes_a_letter_that_a_foreign_library_reads() -> None:
    """Stage and reason are words of the closed lists."""
    for reason, (stage, _) in REASONS.items():
        letter = DeadLetter("raw", 0, 0, -1, -1, "raw.crm", reason, "", "digest", "1.0")
        read = avro_decode(json.loads(SCHEMA), letter.encode())
        assert (read["stage"], read["reason"]) == (stage.value, reason.value)
        assert read.keys() == {
            "source_topic",
            "source_partition",
            "source_offset",
            "source_timestamp",
            "schema_id",
            "output",
            "stage",
            "reason",
            "field_path",
            "policy_digest",
            "gateway_version",
        }


def test_every_letter_can_be_read_again() -> None:
    """A replay finds everything in it that was written."""
    for reason, (stage, _) in REASONS.items():
        letter = DeadLetter("raw", 3, 42, 1_795_341_600_000, -1, "raw.crm", reason, "mail", "d1", "1.0")
        found = read(wire.frame(7, letter.encode()))
        assert found == (
            "raw", 3, 42, 1_795_341_600_000, -1, "raw.crm", stage.value, reason.value, "mail", "d1", "1.0"
        )  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "read_as"),
    [
        ("gone_with_version_9", "gone_with_version_9"),
        ("\x1b]0;pwned\x07", UNKNOWN),
        ("malformed\n", UNKNOWN),
        ("a" * 41, UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_a_reason_is_only_repeated_if_it_is_a_word(reason: str, read_as: str) -> None:
    """A later version may know more words; what anybody else may write reaches no terminal and no log."""
    write = avro_codec.writer(avro.parse(SCHEMA))
    datum = write(["raw", 3, 42, 1_795_341_600_000, 7, "raw.crm", "treat", reason, "", "", ""])
    assert read(wire.frame(7, datum)).reason == read_as


@pytest.mark.parametrize("value", [b"", _LETTER.encode(), wire.frame(7, _LETTER.encode()[:-1]), wire.frame(7, b"")])
def test_what_is_no_letter_is_not_taken_for_one(value: bytes) -> None:
    """Without its frame, cut short, or empty."""
    with pytest.raises(DecodeError):
        read(value)
