"""Native tokens against those of the reference: the same values, the same tokens, the same refusals, byte for byte."""

from __future__ import annotations

import hashlib
import itertools
import json
import string
import sys
import unicodedata
from random import Random
from typing import Any, Final

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from tests.support.native import native_module
from tests.support.numbers import SCHEMES, number_of, numbers, spaced

from tokenweir.core.plan import to_plain
from tokenweir.core.tokens import Tokenizer, TokenKey, TokenSpec, build
from tokenweir.core.tokens.base import KEY_BYTES
from tokenweir.core.tokens.ibandata import IBANS
from tokenweir.core.tokens.layout import LayoutError, parse_layout
from tokenweir.core.tokens.nationaldata import NATIONAL
from tokenweir.core.tokens.pan import luhn_residue
from tokenweir.errors import InvalidValueError

native = native_module()

QUICK = settings(max_examples=150, deadline=None)
MANY = settings(max_examples=5_000, deadline=None)
ADAPTER: TypeAdapter[TokenSpec] = TypeAdapter(TokenSpec)

GRADES: Final = ("gold", "silver", "bronze", "\u00e9", "z", "\U00010400", "\uffff", "01067", "1067")

SPECS: Final[list[dict[str, Any]]] = [
    {"format": "digits", "length": 6},
    {"format": "digits", "length": 10},
    {"format": "digits", "length": "6..60"},
    {"format": "digits", "length": 40},
    {"format": "integer", "min": 0, "max": 999_999},
    {"format": "integer", "min": -500_000, "max": 600_000},
    {"format": "integer", "min": -(2**63), "max": 2**63 - 1},
    {"format": "integer", "min": -(10**38), "max": 10**38},
    {"format": "alphanumeric", "length": "4..40"},
    {"format": "alphanumeric", "length": 8, "case": "upper"},
    {"format": "alphanumeric", "length": "5..9", "case": "lower"},
    {"format": "hex", "length": "5..64"},
    {"format": "hex", "length": 32, "case": "upper"},
    {"format": "pattern", "pattern": "ORD-([0-9]{8})-([A-Z]{2})"},
    {"format": "pattern", "pattern": "([!-~]{20})x\\.([a-c\\d]{3})"},
    {"format": "pattern", "pattern": "(\\d{5})[A-Z]{3}(\\d)"},
    {"format": "uuid"},
    {"format": "pan"},
    {"format": "pan", "keep_last": 4},
    {"format": "pan", "keep_last": 4, "luhn": "valid"},
    {"format": "phone"},
    {"format": "phone", "keep": 0},
    {"format": "phone", "keep": 5},
    {"format": "email"},
    {"format": "email", "domain": "keep"},
    {"format": "email", "domain": "replace", "replacement": "tokens.example.com"},
    {"format": "iban"},
    {"format": "iban", "keep": "bank"},
    {"format": "iban", "keep": "branch", "countries": ["CZ", "GB", "IS", "MT", "PL"]},
    {"format": "uuid", "case": "keep"},
    {"format": "uuid", "version": 4},
    {"format": "uuid", "version": 8, "case": "keep"},
    {"format": "pan", "keep_first": 6},
    {"format": "pan", "keep_first": 8, "luhn": "valid"},
    {"format": "imei"},
    {"format": "imei", "keep": "tac", "luhn": "valid"},
    {"format": "mac"},
    {"format": "mac", "local": "keep"},
    {"format": "mac", "keep": "oui"},
    {"format": "mac", "keep": "oui", "local": "keep"},
    {"format": "ipv4"},
    {"format": "ipv4", "mode": "prefix"},
    {"format": "ipv4", "mode": "cryptopan"},
    {"format": "ipv4", "mode": "deterministic"},
    {"format": "ipv6"},
    {"format": "ipv6", "mode": "prefix"},
    {"format": "ipv6", "mode": "cryptopan"},
    {"format": "name", "list": "given"},
    {"format": "name", "list": "full"},
    {"format": "name", "list": "street"},
    {"format": "permutation", "values": list(GRADES)},
    {"format": "ssn"},
    *({"format": "national", "number": number} for number in NATIONAL),
    {"format": "opaque"},
    {"format": "opaque", "bits": 160, "encoding": "hex"},
    {"format": "opaque", "reversible": True},
    {"format": "opaque", "reversible": True, "encoding": "hex"},
]

ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=70)
DIGITS = st.text(string.digits, max_size=62)
#: Characters whose case, composition or width makes trouble: sharp s, dotted and dotless I, the sigmas, the Kelvin and
#: Angstrom signs, ligatures, marks and joiners, ideographic and full-width dots, Hangul, letters beyond 16 bits.
TRICKY = st.sampled_from(
    "\u00df\u1e9e\u0130\u0131\u03a3\u03c3\u03c2\u212a\u212b\ufb01\u01c5\u00f6\u0308\u0301\u0345\u200d\u00ad\u3000\u3002\uff0e"
    "\uff41\uff21\uff11\u00e9\ud55c\u1112\u1161\u11ab\U00010400\U0001d400-+'.!_%ao"
)
#: Letters of scripts with and without case, for names that become Punycode.
LETTERS: Final = "abc-1\u00df\u00e9\u0130\u03a3\u0430\u0531\u05d0\u0627\u0915\u093f\u3042\u4e00\ud55c\U00010400"
NAMES = st.text(LETTERS, max_size=25)
WORDS = st.text(st.sampled_from(string.ascii_letters + string.digits + "-._+") | TRICKY, max_size=30)


#: What names have, and characters that pass for spaces in some languages and not in others.
NAME_CHARACTERS: Final = (
    "abC '\u2019-\u00a0\u2003\u3000\t\x1c\x85\u2028\u200b\ufeff\u180e\u00e9e\u0301\u0130\u03a3\u00df\u4e00"
)


@st.composite
def cards(draw: st.DrawFn, length: int | None = None) -> str:
    """Card numbers with a right check digit, with separators here and there."""
    shortest, longest = (10, 19) if length is None else (length - 1, length - 1)
    digits = draw(st.text(string.digits, min_size=shortest, max_size=longest))
    digits += str(-luhn_residue(digits + "0") % 10)
    between = draw(st.lists(st.sampled_from(["", "", " ", "-", "  "]), min_size=len(digits), max_size=len(digits)))
    return "".join(map("".join, zip(digits, [*between[1:], ""], strict=True)))


FITTING: Final[dict[str, st.SearchStrategy[str]]] = {
    "digits": DIGITS,
    "integer": st.integers(-(10**6), 10**6).map(str) | st.integers(-(10**39), 10**39).map(str) | DIGITS,
    "alphanumeric": st.text(string.ascii_letters + string.digits, max_size=42),
    "hex": st.text(string.hexdigits + "\u017f\u212a\u00df", max_size=66)
    | st.binary(min_size=16, max_size=16).map(bytes.hex),
    "pattern": st.from_regex(r"ORD-[0-9]{8}-[A-Z]{2}|[!-~]{20}x\.[a-c0-9]{3}|[0-9]{5}[A-Z]{3}[0-9]", fullmatch=True),
    "uuid": st.uuids().map(str) | st.uuids().map(lambda uuid: str(uuid).upper()) | st.uuids().map(lambda u: u.hex),
    "pan": cards(),
    "phone": st.from_regex(r"\+[0-9]{6,16}", fullmatch=True) | DIGITS,
    "email": st.emails()
    | st.builds("{}@{}.{}".format, NAMES, NAMES, NAMES)
    | st.builds("{}@{}.{}".format, WORDS, WORDS, WORDS)
    | st.builds("{}@{}".format, WORDS, WORDS),
    "imei": cards(15) | cards(),
    "mac": st.from_regex(
        r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}|[0-9A-F]{2}([:-][0-9A-F]{2}){5}|[0-9a-f]{4}([.][0-9a-f]{4}){2}|[0-9a-f]{12}",
        fullmatch=True,
    ),
    "ipv4": st.ip_addresses(v=4).map(str) | st.from_regex(r"[0-9]{1,3}([.][0-9]{1,4}){2,4}", fullmatch=True),
    "ipv6": st.ip_addresses(v=6).map(str)
    | st.ip_addresses(v=6).map(lambda address: address.exploded.upper())
    | st.ip_addresses(v=4).map("::{}".format)
    | st.ip_addresses(v=4).map("::ffff:{}".format)
    | st.ip_addresses(v=4).map("64:ff9b::{}".format)
    | st.text("0123456789abcdefF::::.%", max_size=42),
    "name": st.text(st.characters(codec="utf-8"), max_size=260) | WORDS | st.text(NAME_CHARACTERS, max_size=40),
    "permutation": st.sampled_from(GRADES) | ANY_TEXT,
    "iban": numbers(*IBANS),
    "ssn": numbers("us.ssn") | st.from_regex(r"[0-9]{3}-?[0-9]{2}-?[0-9]{4}", fullmatch=True),
    "national": numbers(*NATIONAL),
    "opaque": ANY_TEXT,
}


def key_bytes(spec: TokenSpec) -> bytes:
    """Return a key of the size that the entry takes."""
    return hashlib.sha512(b"key").digest()[: KEY_BYTES[build(spec).algorithm]]


def pair(parameters: dict[str, Any]) -> tuple[Tokenizer, Any]:
    """Return both tokenizers of an entry, on the same keys."""
    spec = ADAPTER.validate_python(parameters)
    key = key_bytes(spec)
    tweak_key = hashlib.sha256(b"tweak key").digest()
    ours = native.Tokenizer(json.dumps(to_plain(spec)), key, tweak_key)
    return Tokenizer(build(spec), TokenKey(key), TokenKey(tweak_key)), ours


def token_or_none(tokenizer: Tokenizer, text: str) -> str | None:
    """Return the token, None where the text is no value."""
    try:
        return tokenizer.tokenize(text)
    except InvalidValueError:
        return None


def value_or_none(tokenizer: Tokenizer, token: str) -> str | None:
    """Return the value, None where the text is no token, or the format knows no way back."""
    try:
        return tokenizer.detokenize(token)
    except (InvalidValueError, TypeError):
        return None


def compare(parameters: dict[str, Any], texts: list[str]) -> None:
    """Hold both engines to one outcome for every text, and for every text read as a token."""
    reference, ours = pair(parameters)
    tokens = [token_or_none(reference, text) for text in texts]
    assert ours.encrypt_many(texts) == tokens
    for text in [*texts, *filter(None, tokens)]:
        assert ours.decrypt(text) == value_or_none(reference, text)
    for token in filter(None, tokens):
        if reference.format.kinds & {"int", "long", "integer"}:
            assert int(ours.integer_of(token)) == reference.format.to_integer(token)


@st.composite
def entries(draw: st.DrawFn) -> tuple[dict[str, Any], list[str]]:
    """An entry and texts, most of which fit it."""
    parameters = draw(st.sampled_from(SPECS))
    fitting = FITTING[parameters["format"]]
    return parameters, draw(st.lists(fitting | fitting | fitting | ANY_TEXT, max_size=12))


@QUICK
@given(entry=entries())
def test_tokens(entry: tuple[dict[str, Any], list[str]]) -> None:
    """Any text has the same token or none, in any company, and the same way back."""
    compare(*entry)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@MANY
@given(entry=entries())
def test_tokens_at_length(entry: tuple[dict[str, Any], list[str]]) -> None:
    """As above, many times."""
    compare(*entry)


@pytest.mark.parametrize("parameters", SPECS, ids=lambda parameters: str(parameters["format"]))
def test_every_entry_makes_tokens(parameters: dict[str, Any]) -> None:
    """For each entry some texts are values, so that the comparison above is one of tokens and not of refusals."""
    reference, _ = pair(parameters)
    values = {
        "digits": ["123456", "1234567890", "1" * 40],
        "integer": ["42"],
        "alphanumeric": ["ABCD1234", "abcde"],
        "hex": ["0123456789abcdef" * 2],
        "pattern": ["ORD-20260001-DE", "!" * 20 + "x.a1b", "12345ABC6"],
        "uuid": ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
        "pan": ["4111 1111 1111 1111"],
        "phone": ["+4930901820123"],
        "email": ["jane.doe@example.com", "Jörg@Bücher.example"],
        "imei": ["490154203237518", "49-015420-323751-8"],
        "mac": ["00:1b:44:11:3a:b7", "01-00-5E-00-00-FB", "001b.4411.3ab7", "02:42:ac:11:00:02", "ff:ff:ff:ff:ff:ff"],
        "ipv4": ["192.0.2.1", "0.0.0.1", "255.255.255.255"],
        "ipv6": ["2001:db8::1", "::", "1:0:0:2::3", "::1.2.3.4", "fe80::1%eth0", "::ffff:192.0.2.1", "1:2:3:4:5:6:7::"],
        "name": ["Jane", " zo\u00eb\u00a0 o'neill ", "\u00df", "a\x1cb", "x" * 256, "x" * 257],
        "permutation": list(GRADES),
        "iban": [number_of(scheme, Random(7)) for scheme in IBANS.values()],
        "ssn": ["536-90-4399"],
        "national": [number_of(scheme, Random(7)) for scheme in NATIONAL.values()],
        "opaque": ["é"],
    }[parameters["format"]]
    assert any(token_or_none(reference, value) for value in values)
    compare(parameters, values * 70)


@pytest.mark.parametrize("keep", [None, 0, 3])
def test_every_country_code(keep: int | None) -> None:
    """Wherever a country code ends, both engines keep the same digits."""
    compare(
        {"format": "phone", "keep": keep}, [f"+{code}{'0123456789'[:rest]}" for code in range(1000) for rest in (7, 10)]
    )


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme(name: str) -> None:
    """Numbers of every country and kind, and texts that are nearly such numbers, have the same tokens in both."""
    random = Random(name)
    scheme = SCHEMES[name]
    texts = [spaced(number_of(scheme, random), random) for _ in range(60)]
    texts += [text.replace(random.choice(text), random.choice("0123456789AZ"), 1) for text in texts]
    if not scheme.iban:
        compare({"format": "ssn"} if name == "us.ssn" else {"format": "national", "number": name}, texts)
        return
    for keep in ("country", "bank", "branch"):
        compare({"format": "iban", "keep": keep}, texts)


def test_cycle_walks() -> None:
    """Values whose first cipher text is out of range, 1.6 % here, come to the same token in any company."""
    compare({"format": "integer", "min": 0, "max": 2**32}, [str(number * 1_234_567) for number in range(2_000)])


@QUICK
@given(
    number=st.integers(-(10**3), 10**7) | st.integers(-(10**39), 10**41) | st.sampled_from([0, 10**6, -(2**63), 2**63]),
    parameters=st.sampled_from(SPECS),
)
def test_integers(number: int, parameters: dict[str, Any]) -> None:
    """A whole number has the same text or none."""
    reference, ours = pair(parameters)
    try:
        text = reference.format.from_integer(number)
    except (InvalidValueError, TypeError):
        text = None
    assert ours.text_of_integer(str(number)) == text


@QUICK
@given(value=st.binary(max_size=40) | st.binary(min_size=16, max_size=16), parameters=st.sampled_from(SPECS))
def test_bytes(value: bytes, parameters: dict[str, Any]) -> None:
    """Raw bytes have the same text or none, and its token the same bytes."""
    reference, ours = pair(parameters)
    try:
        text = reference.format.from_bytes(value)
    except (InvalidValueError, TypeError):
        text = None
    assert ours.text_of_bytes(value) == text
    if text is not None:
        token = reference.tokenize(text)
        assert ours.bytes_of(token) == reference.format.to_bytes(token)


@QUICK
@given(pattern=st.text(st.sampled_from(list("((()))[[]]{}\\\\dd--^09azAZ5 ~|?.é")), max_size=20) | st.text(max_size=8))
@example(pattern="([!-~]{256})")
@example(pattern="([a-z]{200})[b]{56}")
@example(pattern="([a-z]{200})[b]{57}")
@example(pattern="([\\d-a]{6})")
@example(pattern="([a-]{20})")
@example(pattern="([]a]{20})")
@example(pattern="(a{0})(\\d{6})")
@example(pattern="(\\d{006})")
@example(pattern="(\\d{0006})")
@example(pattern="(\\d{6}")
def test_layouts(pattern: str) -> None:
    """A pattern is read or refused by both, and where it is read its values are the same."""
    assume(pattern)
    parameters = {"format": "pattern", "pattern": pattern}
    try:
        layout = parse_layout(pattern)
        build(ADAPTER.validate_python(parameters))
    except (LayoutError, ValidationError, ValueError):
        with pytest.raises(ValueError, match="token entry"):
            native.Tokenizer(json.dumps(parameters), bytes(32), bytes(32))
        return
    reference, ours = pair(parameters)
    text = "".join(position.characters[len(position.characters) // 2] for position in layout)
    assert ours.encrypt_many([text]) == [token_or_none(reference, text)]
    assert reference.format.smallest_domain >= 1_000_000


def test_mail_at_its_limits() -> None:
    """Local parts, labels, domains and addresses of the greatest length are values, one character more is none."""
    locals_ = ["a" * 64, "a" * 65, "\u00e9" * 32, "\u00e9" * 32 + "a", "e\u0301" * 32, "\u0130" * 21, "\u0130" * 22]
    labels = [
        "b" * 63,
        "b" * 64,
        "\u00fc" * 50,
        "\u00fc" * 59,
        "\u00fc" * 60,
        "\u4e00" * 20,
        "-b",
        "b-",
        "b--b",
        "",
        "\u212a",
    ]
    texts = [f"{local}@{label}.example" for local in locals_ for label in labels]
    texts += [f"{'a' * local}@{'b.' * labels}example" for local in (1, 10, 60) for labels in range(90, 130)]
    texts += ["a@" + ".".join(["\u00fc" * 40] * 5 + ["\u4e00" * last]) for last in range(1, 8)]
    texts += [f"a@{'.'.join(['b' * 49] * 5)}.{'c' * last}" for last in range(1, 8)]
    for parameters in SPECS:
        if parameters["format"] == "email":
            compare(parameters, texts)


def test_mail_with_names_in_every_script() -> None:
    """Each three letters make the same Punycode."""
    names = map("".join, itertools.product(LETTERS, repeat=3))
    compare({"format": "email", "domain": "keep"}, [f"a@{name}.example" for name in names])


def mail_tokens(points: range) -> tuple[list[str | None], list[str | None]]:
    """Return the tokens of addresses with each of these characters, in the local part and in the domain."""
    reference, ours = pair({"format": "email", "domain": "keep"})
    characters = [chr(point) for point in points if unicodedata.category(chr(point)) != "Cs"]
    texts = [f"a{character}b@example.com" for character in characters]
    texts += [f"a@b{character}.example.com" for character in characters]
    return [token_or_none(reference, text) for text in texts], ours.encrypt_many(texts)


def test_mail_with_common_characters() -> None:
    """Each character of the Latin, Greek and Cyrillic blocks makes the same address or none in both engines."""
    theirs, ours = mail_tokens(range(0x600))
    assert theirs == ours
    assert theirs.count(None) < len(theirs) / 2


@pytest.mark.chaos
@pytest.mark.skipif(sys.version_info >= (3, 15), reason="Unicode 17 is newer than the native tables")
def test_mail_with_every_character() -> None:
    """Each character of Unicode makes the same address or none in both engines."""
    for start in range(0, sys.maxunicode + 1, 0x4000):
        theirs, ours = mail_tokens(range(start, min(start + 0x4000, sys.maxunicode + 1)))
        assert theirs == ours, hex(start)


def test_wrong_entries_are_refused() -> None:
    """Unknown parameters, keys of a wrong size and domains below a million values make no tokenizer."""
    for spec, key in [
        ('{"format":"digits","length":5}', bytes(32)),
        ('{"format":"digits","length":6}', bytes(31)),
        ('{"format":"integer","min":0,"max":999998}', bytes(32)),
        ('{"format":"opaque","reversible":true}', bytes(32)),
        ('{"format":"uuid","flavour":"mild"}', bytes(32)),
        ("{", bytes(32)),
    ]:
        with pytest.raises(ValueError, match="token entry"):
            native.Tokenizer(spec, key, bytes(32))
    with pytest.raises(ValueError, match="token entry"):
        native.Tokenizer('{"format":"uuid"}', bytes(32), bytes(33))
