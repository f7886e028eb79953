"""Subjects: canonical ids, consent keys, and the partition that Kafka's Java client gives a key."""

from __future__ import annotations

import pytest

from tokenweir.core.policy.models import DigitsForm, Form
from tokenweir.core.schema import JsonNumber
from tokenweir.core.subjects import Subject, canonical_id, murmur2, partition_of
from tokenweir.errors import InvalidValueError

TEN = DigitsForm(digits=10)
CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        (TEN, "0000012345", "0000012345"),
        (TEN, 12345, "0000012345"),
        (TEN, 0, "0000000000"),
        (TEN, 9_999_999_999, "9999999999"),
        (TEN, JsonNumber("12345"), "0000012345"),
        (TEN, JsonNumber("0"), "0000000000"),
        ("uuid", "123E4567-E89B-12D3-A456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("uuid", bytes.fromhex("123e4567e89b12d3a456426614174000"), "123e4567-e89b-12d3-a456-426614174000"),
        ("text", "Zoe\u0308", "Zo\u00eb"),
        ("text", "x" * 256, "x" * 256),
        ("text", "e\u0301" * 256, "\u00e9" * 256),
        ("lowercase", "Ann@Example.ORG", "ann@example.org"),
        ("lowercase", "\u0130", "i\u0307"),
    ],
)
def test_spellings_of_an_id_become_one(form: Form, value: object, expected: str) -> None:
    """Every accepted spelling gives the one canonical id."""
    assert canonical_id(form, value) == expected


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (TEN, "12345"),
        (TEN, "00000123456"),
        (TEN, "000001234x"),
        (TEN, "\u0660" * 10),
        (TEN, "000001234\n"),
        (TEN, -1),
        (TEN, 10**10),
        (TEN, True),
        (TEN, 1.0),
        (TEN, None),
        (TEN, b"0000012345"),
        (TEN, JsonNumber("1.0")),
        (TEN, JsonNumber("1e3")),
        (TEN, JsonNumber("-0")),
        (TEN, JsonNumber("12345678901")),
        ("uuid", "123e4567e89b12d3a456426614174000"),
        ("uuid", "123e4567-e89b-12d3-a456-42661417400g"),
        ("uuid", "{123e4567-e89b-12d3-a456-426614174000}"),
        ("uuid", b"short"),
        ("uuid", 7),
        ("text", ""),
        ("text", "x" * 257),
        ("text", "a\tb"),
        ("text", "a\u0085b"),
        ("text", "a\u2028b"),
        ("text", "\ud800"),
        ("text", 7),
        ("text", JsonNumber("7")),
        ("lowercase", "\x00"),
    ],
)
def test_what_does_not_fit_its_form_is_refused(form: Form, value: object) -> None:
    """An id that does not fit is an error, never a guess."""
    with pytest.raises(InvalidValueError):
        canonical_id(form, value)


def test_the_error_does_not_hold_the_id() -> None:
    """Ids are personal data, so neither errors nor a subject's repr show them."""
    with pytest.raises(InvalidValueError) as caught:
        canonical_id(TEN, CANARY)
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(Subject("customer", CANARY))


@pytest.mark.parametrize(
    ("subject", "canonical"),
    [
        (Subject("customer", "0000012345"), "customer:0000012345"),
        (Subject("mail", "ann+x@example.org"), "mail:ann+x@example.org"),
        (Subject("name", "Zo\u00eb: #1/%"), "name:Zo%C3%AB%3A%20%231%2F%25"),
        (Subject("safe", "Az09._~@+-"), "safe:Az09._~@+-"),
    ],
)
def test_the_key_escapes_all_but_the_safe_characters(subject: Subject, canonical: str) -> None:
    """Everything outside of ``[A-Za-z0-9._~@+-]`` is percent-encoded UTF-8 in capitals."""
    assert subject.canonical == canonical


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # UtilsTest.testMurmur2 of Apache Kafka.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
        # rdmurmur2.c of librdkafka: every remainder of four, and none at all.
        (b"kafka", -798503068),
        (b"giberish123456789", -1890243828),
        (b"1234", -1614185708),
        (b"234", -406844982),
        (b"34", -2026295078),
        (b"", 275646681),
    ],
)
def test_murmur2_is_kafkas(key: bytes, expected: int) -> None:
    """The hash has the bits that Apache Kafka's and librdkafka's own tests give."""
    assert murmur2(key) == expected % 2**32


def test_the_partition_is_taken_from_31_bits() -> None:
    """Java makes a hash positive by dropping the sign bit, not by negating it."""
    assert partition_of(b"foobar", 50) == (-790332482 & 0x7FFFFFFF) % 50
    assert {partition_of(str(number).encode(), 3) for number in range(50)} == {0, 1, 2}
