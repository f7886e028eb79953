"""What strict JSON refuses that other parsers take, and that it loses nothing of what it takes."""

from __future__ import annotations

import time

import pytest

from tokenweir.core import strictjson
from tokenweir.core.outcome import Reason
from tokenweir.core.schema import JsonNumber, Limits
from tokenweir.errors import DecodeError

CANARY = "CANARY-123-45-6789"


def refusal(data: bytes, limits: Limits | None = None) -> DecodeError:
    """Return the error that parsing ends with."""
    with pytest.raises(DecodeError) as caught:
        strictjson.parse(data, limits=limits or Limits())
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-0",
        "1.10",
        "-0.0",
        "1e2",
        "1E+2",
        "1e-400",
        "123456789012345678901234567890",
        "9007199254740993",
        "1" * 309,
    ],
)
def test_a_number_is_the_text_that_stood_there(text: str) -> None:
    """Neither sign, digits nor exponent change, also where no double could hold them."""
    value = strictjson.parse(f'{{"a":[{text}]}}'.encode())["a"][0]

    assert type(value) is JsonNumber
    assert value == text


def test_numbers_as_python_has_them() -> None:
    """Schemas and consent values are read with ordinary numbers."""
    value = strictjson.parse(b"[1, -0.5, 1e3, true]", numbers="python")

    assert value == [1, -0.5, 1000.0, True]
    assert [type(item) for item in value] == [int, float, float, bool]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b' \t\r\n{"a" : [ ] , "b":{}} \n', {"a": [], "b": {}}),
        (b"null", None),
        (b'"\\u00e9\\n\\/"', "é\n/"),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\\\ud83d"', "\\ud83d"),
        (b'"\\\\\\ud83d\\uDE00"', "\\😀"),
        ('"é😀\u2028"'.encode(), "é😀\u2028"),
        (b'{"a":{"a":1},"A":2}', {"a": {"a": "1"}, "A": "2"}),
    ],
)
def test_what_is_json(data: bytes, value: object) -> None:
    """White space, escapes and pairs of surrogates are read as RFC 8259 says."""
    assert strictjson.parse(data) == value


@pytest.mark.parametrize(
    ("data", "reason", "position"),
    [
        (b'{"a":1,"a":2}', Reason.DUPLICATE_KEY, -1),
        (b'{"x":{"a":1,"\\u0061":2}}', Reason.DUPLICATE_KEY, -1),
        (b'[{"":1,"":1}]', Reason.DUPLICATE_KEY, -1),
        (b"NaN", Reason.NON_FINITE, -1),
        (b'{"a":Infinity}', Reason.NON_FINITE, -1),
        (b"[-Infinity]", Reason.NON_FINITE, -1),
        (b"1e400", Reason.NON_FINITE, -1),
        (b"[-1E+309]", Reason.NON_FINITE, -1),
        (b"2" + b"0" * 308, Reason.NON_FINITE, -1),
        (b"1" * 513, Reason.TOO_LARGE, -1),
        (b"0." + b"1" * 511, Reason.TOO_LARGE, -1),
        (b'"\xff"', Reason.INVALID_UTF8, 1),
        (b'"\xc0\xaf"', Reason.INVALID_UTF8, 1),
        (b'"\xed\xa0\x80"', Reason.INVALID_UTF8, 1),
        (b'"\xf4\x90\x80\x80"', Reason.INVALID_UTF8, 1),
        (b'"\\ud800"', Reason.INVALID_UTF8, 1),
        (b'"a\\uDFFF"', Reason.INVALID_UTF8, 2),
        (b'"\\ude00\\ud83d"', Reason.INVALID_UTF8, 1),
        (b'"\\ud83d\\ud83d\\ude00"', Reason.INVALID_UTF8, 1),
        (b'{"\\udc00":1}', Reason.INVALID_UTF8, 2),
        (b'"\\ud83d" "\\ude00"', Reason.TRAILING_BYTES, 8),
        (b"\xef\xbb\xbf{}", Reason.MALFORMED, 0),
        ('{"a":1}'.encode("utf-16"), Reason.INVALID_UTF8, 0),
        ('{"a":1}'.encode("utf-16-le"), Reason.MALFORMED, 1),
        ('{"a":1}'.encode("utf-32-be"), Reason.MALFORMED, 0),
        (b"{}{}", Reason.TRAILING_BYTES, 2),
        (b"1 \x00", Reason.TRAILING_BYTES, 1),
        (b"{}\xc2\xa0", Reason.TRAILING_BYTES, 2),
        (b"", Reason.MALFORMED, 0),
        (b"  ", Reason.MALFORMED, 2),
        (b"\x0c1", Reason.MALFORMED, 0),
        ('["é" 1]'.encode(), Reason.MALFORMED, 6),
        (b'{"a":1 "b"}', Reason.MALFORMED, 7),
        (b"{a:1}", Reason.MALFORMED, 1),
        (b"{'a':1}", Reason.MALFORMED, 1),
        (b'{"a":1', Reason.MALFORMED, 6),
        (b'"abc', Reason.MALFORMED, 0),
        (b'"a\nb"', Reason.MALFORMED, 2),
        (b'"\\x41"', Reason.MALFORMED, 1),
        (b'"\\u12g4"', Reason.MALFORMED, 2),
        (b"+1", Reason.MALFORMED, 0),
        (b".5", Reason.MALFORMED, 0),
        (b"[1.]", Reason.MALFORMED, 2),
        (b"[01]", Reason.MALFORMED, 2),
        (b"-", Reason.MALFORMED, 0),
        (b"True", Reason.MALFORMED, 0),
        (b"1 // one", Reason.TRAILING_BYTES, 1),
        (b"[1]]", Reason.TRAILING_BYTES, 3),
    ],
)
def test_what_is_refused(data: bytes, reason: Reason, position: int) -> None:
    """Each thing that parsers disagree about has its reason, and its place in bytes where it is known."""
    error = refusal(data)

    assert (error.reason, error.path, error.position) == (reason, "", position)


@pytest.mark.parametrize("data", [b"[1,]", b'{"a":1,}', b"[,1]", b"{,}"])
def test_a_comma_too_many(data: bytes) -> None:
    """Versions of Python place it differently, but none takes it."""
    assert refusal(data).reason == Reason.MALFORMED


@pytest.mark.parametrize("depth", [1, 2, 63, 64])
def test_depth_within_the_limit(depth: int) -> None:
    """Exactly the limit is allowed, in arrays, objects and both."""
    assert isinstance(strictjson.parse(b"[" * depth + b"]" * depth), list)
    assert strictjson.parse(b'{"a":' * depth + b"1" + b"}" * depth)


@pytest.mark.parametrize("depth", [65, 100, 1_000, 10_000, 1_000_000])
def test_depth_beyond_the_limit(depth: int) -> None:
    """However deep it is, closed or not, it is refused before anything recurses, in little time."""
    begin = time.perf_counter()
    reasons = {
        refusal(data).reason
        for data in (
            b"[" * depth,
            b"[" * depth + b"]" * depth,
            b'{"a":' * depth + b"1" + b"}" * depth,
            b'[{"a":' * depth,
        )
    }

    assert reasons <= {Reason.TOO_DEEP, Reason.TOO_MANY_ELEMENTS}
    assert time.perf_counter() - begin < 5


def test_brackets_in_strings_are_no_depth() -> None:
    """The count of brackets is only a first look."""
    text = "[{" * 500 + '\\"' + "[" * 100
    data = f'{{"a":"{text}","b":[{",".join("[]" for _ in range(200))}]}}'.encode()

    assert strictjson.parse(data)["a"] == text.replace('\\"', '"')


def test_elements() -> None:
    """Array elements and object entries count together; what stands in strings does not."""
    limits = Limits(elements=10)

    assert len(strictjson.parse(b"[" + b",".join([b"0"] * 10) + b"]", limits=limits)) == 10
    assert strictjson.parse(b'["' + b"," * 100 + b'"]', limits=limits)
    assert refusal(b"[" + b",".join([b"0"] * 11) + b"]", limits).reason == Reason.TOO_MANY_ELEMENTS
    assert refusal(b'{"a":[1,2,3,4,5],"b":[1,2,3,4,5]}', limits).reason == Reason.TOO_MANY_ELEMENTS


def test_twenty_million_zeros_are_cheap_to_refuse() -> None:
    """A long array is refused by counting, before a list of it is made."""
    begin = time.perf_counter()

    error = refusal(b"[" + b"0," * 20_000_000 + b"0]", Limits(bytes=64 * 1024 * 1024))

    assert error.reason == Reason.TOO_MANY_ELEMENTS
    assert time.perf_counter() - begin < 5


def test_bytes() -> None:
    """The size is looked at first."""
    assert strictjson.parse(b'"12345678"', limits=Limits(bytes=10))
    assert refusal(b'"123456789"', Limits(bytes=10)).reason == Reason.TOO_LARGE


@pytest.mark.parametrize("data", [b'"' + b'\\"' * 2_000_000, b"[" * 70 + b'"' + b'\\"' * 2_000_000, b'"' * 4_000_000])
def test_a_string_without_end_takes_linear_time(data: bytes) -> None:
    """Quotes and backslashes cannot make the look for strings quadratic."""
    begin = time.perf_counter()

    assert refusal(data).reason in {Reason.MALFORMED, Reason.TRAILING_BYTES, Reason.TOO_DEEP}
    assert time.perf_counter() - begin < 5


def test_short_number_limits_hold_for_integers_too() -> None:
    """The limit of a number's text is that of the caller."""
    limits = Limits(number_characters=5)

    assert strictjson.parse(b"-1234", limits=limits) == "-1234"
    assert refusal(b"123456", limits).reason == Reason.TOO_LARGE
    assert refusal(b"1.2345", limits).reason == Reason.TOO_LARGE


def everything_in(error: BaseException) -> str:
    """Return all that an exception and those behind it would show."""
    shown = []
    seen: BaseException | None = error
    while seen is not None:
        shown.append(f"{seen!s} {seen!r} {seen.args!r} {vars(seen)!r}")
        seen = seen.__cause__ or seen.__context__
    return " ".join(shown)


@pytest.mark.parametrize(
    "data",
    [
        f'{{"a":"{CANARY}"'.encode(),
        f'{{"a":"{CANARY}"}} x'.encode(),
        f'{{"{CANARY}":1,"{CANARY}":2}}'.encode(),
        f'{{"a":"{CANARY}","b":NaN}}'.encode(),
        f'{{"a":"{CANARY}","b":1e999}}'.encode(),
        f'{{"a":"{CANARY}","b":"\\ud800"}}'.encode(),
        f'{{"a":"{CANARY}","b":"\xff"}}'.encode("latin-1"),
        f'{{"a":"{CANARY}","b":{"[" * 100}'.encode(),
        f"[{CANARY}]".encode(),
        f'["\\q{CANARY}"]'.encode(),
    ],
)
def test_no_error_holds_the_document(data: bytes) -> None:
    """Neither the error nor an exception behind it has any part of what was parsed."""
    error = refusal(data)

    assert CANARY not in everything_in(error)
    assert error.__context__ is None


def test_a_parser_is_made_once() -> None:
    """Equal limits give the same parser."""
    limits = Limits(depth=7)

    assert strictjson.parser(limits) is strictjson.parser(Limits(depth=7))
    assert strictjson.parser(limits) is not strictjson.parser(limits, "python")
