"""Generalization: what compiles on which type, and known answers for every kind."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tokenweir.core.generalize.base import Generalizer
from tokenweir.core.generalize.build import build
from tokenweir.core.generalize.cell import CellGeneralizer, build_cell
from tokenweir.core.generalize.specs import KINDS, CellSpec, GeneralizeSpec
from tokenweir.core.schema import JsonNumber, Kind, Node
from tokenweir.errors import InvalidValueError, SchemaError

SPEC: TypeAdapter[GeneralizeSpec] = TypeAdapter(GeneralizeSpec)
CANARY = "canary-4711"

INT = Node(Kind.INT)
LONG = Node(Kind.LONG)
FLOAT = Node(Kind.FLOAT)
DOUBLE = Node(Kind.DOUBLE)
INTEGER = Node(Kind.INTEGER)
NUMBER = Node(Kind.NUMBER)
STRING = Node(Kind.STRING)
ENUM = Node(Kind.ENUM, name="Plan", symbols=("FREE", "BASIC", "PRO", "OTHER"))
MONEY = Node(Kind.BYTES, logical="decimal", attributes={"precision": 6, "scale": 2})
FIXED_MONEY = Node(Kind.FIXED, size=4, logical="decimal", attributes={"precision": 6, "scale": 2})


def compiled(spec: dict[str, Any], node: Node) -> Generalizer:
    """Return the generalizer of a policy entry as it stands in YAML."""
    return build(SPEC.validate_python(spec), node)


def unscaled(number: int, size: int | None = None) -> bytes:
    """Return an integer as Avro writes the unscaled value of a decimal."""
    return number.to_bytes(size or (number.bit_length() // 8 + 1), "big", signed=True)


# The entries of the policy


@pytest.mark.parametrize("value", [{"mask": 3}, {}, {"round": 5, "prefix": 2}, "round", None, ["round"]])
def test_unknown_kind_is_one_error(value: object) -> None:
    """Whatever is no entry of the list gives a single error that names the whole list."""
    with pytest.raises(ValidationError) as caught:
        SPEC.validate_python(value)
    [error] = caught.value.errors()
    assert error["type"] == "generalize_kind"
    assert all(kind in error["msg"] for kind in KINDS)


@pytest.mark.parametrize(
    "value",
    [
        {"cell": "h3"},
        {"cell": "h3", "resolution": 16},
        {"cell": "geohash", "resolution": 5},
        {"time": "minute"},
        {"round": 0},
        {"round": -1},
        {"round": True},
        {"round": "10"},
        {"round": float("nan")},
        {"round": float("inf")},
        {"round": 10**100},
        {"buckets": [1]},
        {"buckets": [1, 1]},
        {"buckets": [2, 1]},
        {"buckets": [1, True]},
        {"prefix": 0},
        {"prefix": 3, "of": "mac"},
        {"map": {}},
        {"map": {"a": 1}},
        {"url": {"path": -1}},
        {"url": {"paths": 1}},
        {"user_agent": "device"},
        {"user_agent": True},
        {"shift_days": 0},
        {"shift_days": 36_526},
        {"shift_days": 1.5},
        {"shift_days": True},
        {"noise": "laplace"},
        {"noise": "gauss", "metres": 500},
        {"noise": "laplace", "metres": 9},
        {"noise": "laplace", "metres": 50_001},
        {"noise": "laplace", "metres": 500.0},
        {"noise": "laplace", "metres": float("nan")},
        {"noise": "laplace", "metres": True},
        {"time": "hour", "zone": "Europe/Berlin"},
    ],
)
def test_wrong_entries_are_refused(value: object) -> None:
    """Each entry has its own strict keys and ranges, and the error is about that entry only."""
    with pytest.raises(ValidationError) as caught:
        SPEC.validate_python(value)
    assert len({error["loc"][:2] for error in caught.value.errors()}) == 1


def test_every_key_of_the_entries_is_described() -> None:
    """The reference documentation is made from these descriptions."""
    for name, model in SPEC.json_schema()["$defs"].items():
        for key, entry in model["properties"].items():
            assert entry.get("description"), (name, key)


# What compiles on which type

IPV4 = Node(Kind.STRING, logical="ipv4")
IPV6 = Node(Kind.STRING, logical="ipv6")
URLS = [Node(Kind.STRING, logical=name) for name in ("uri", "iri", "uri-reference", "iri-reference")]
DATES = [Node(Kind.INT, logical="date"), Node(Kind.STRING, logical="date")]
TIMES = [
    *(Node(Kind.LONG, logical=f"timestamp-{unit}") for unit in ("millis", "micros", "nanos")),
    *(Node(Kind.LONG, logical=f"local-timestamp-{unit}") for unit in ("millis", "micros", "nanos")),
    Node(Kind.STRING, logical="date-time"),
    LONG,
    INTEGER,
    STRING,
]
FRACTIONS = [FLOAT, DOUBLE, NUMBER]
MONIES = [MONEY, FIXED_MONEY]
NUMBERS = [INT, LONG, INTEGER, *FRACTIONS]

COMPILES: dict[str, tuple[dict[str, Any], list[Node]]] = {
    "hour": ({"time": "hour"}, TIMES),
    "month": ({"time": "month"}, [*TIMES, *DATES]),
    "round to tens": ({"round": 10}, [*NUMBERS, *MONIES]),
    "round to tenths": ({"round": 0.1}, [*FRACTIONS, *MONIES]),
    "round to more places than a decimal has": ({"round": 0.001}, FRACTIONS),
    "buckets": ({"buckets": [0, 100]}, [*NUMBERS, *MONIES]),
    "buckets beyond a decimal's precision": ({"buckets": [0, 10_000]}, NUMBERS),
    "buckets of halves": ({"buckets": [0.5, 1.5]}, [*FRACTIONS, *MONIES]),
    "prefix": ({"prefix": 3}, [STRING]),
    "network": ({"prefix": 24, "of": "ip"}, [STRING, IPV4, IPV6]),
    "network of IPv6 only": ({"prefix": 48, "of": "ip"}, [STRING, IPV6]),
    "map of an enum": ({"map": {"PRO": "OTHER"}, "else": "FREE"}, [STRING, ENUM]),
    "map to new words": ({"map": {"PRO": "GOLD"}}, [STRING]),
    "url": ({"url": {"path": 1}}, [STRING, *URLS]),
    "cell": ({"cell": "h3", "resolution": 6}, []),
}

EVERY_NODE: list[Node] = [
    *{node for _, nodes in COMPILES.values() for node in nodes},
    Node(Kind.NULL),
    Node(Kind.BOOLEAN),
    Node(Kind.INT, logical="time-millis"),
    Node(Kind.BYTES),
    Node(Kind.FIXED, size=12, logical="duration"),
    Node(Kind.STRING, logical="uuid"),
    Node(Kind.STRING, logical="email"),
    Node(Kind.RECORD),
    Node(Kind.ARRAY, items=LONG),
    Node(Kind.MAP, items=LONG),
    Node(Kind.UNION, branches=(Node(Kind.NULL), STRING)),
    Node(Kind.REFERENCE, name="Plan"),
]


@pytest.mark.parametrize("entry", COMPILES)
def test_each_entry_compiles_on_its_types_and_no_other(entry: str) -> None:
    """An entry that does not fit the type of a field, or whose results would not fit it, stops the plan."""
    spec, fitting = COMPILES[entry]
    for node in EVERY_NODE:
        if node in fitting:
            compiled(spec, node)
        else:
            with pytest.raises(SchemaError):
                compiled(spec, node)


def test_a_refusal_names_the_place() -> None:
    """The error of an entry that does not fit says where, so that a policy of many fields can be corrected."""
    with pytest.raises(SchemaError, match=r"^a\.b: "):
        compiled({"round": 5}, Node(Kind.STRING, path="a.b"))


@pytest.mark.parametrize("bounds", [[0, 2**31], [-(2**31) - 1, 0]])
def test_bounds_must_fit_the_integer_type(bounds: list[int]) -> None:
    """A bound that a 32-bit field cannot hold is found when the plan is made."""
    compiled({"buckets": bounds}, LONG)
    with pytest.raises(SchemaError):
        compiled({"buckets": bounds}, INT)


def test_bounds_must_differ_in_the_type() -> None:
    """Two bounds that are one single-precision number would make an unreachable bucket."""
    with pytest.raises(SchemaError):
        compiled({"buckets": [0.1, 0.10000000001]}, FLOAT)
    with pytest.raises(SchemaError):
        compiled({"buckets": [1, 1e39]}, FLOAT)


# Known answers


@pytest.mark.parametrize(
    ("node", "value", "expected"),
    [
        (Node(Kind.LONG, logical="timestamp-millis"), 1_709_251_199_999, 1_709_247_600_000),
        (Node(Kind.LONG, logical="local-timestamp-micros"), 1_709_251_199_999_999, 1_709_247_600_000_000),
        (LONG, -1, -3_600_000),
        (INTEGER, JsonNumber("1709251199999"), JsonNumber("1709247600000")),
        (STRING, "2024-02-29T23:59:59.999+00:00", "2024-02-29T23:00:00Z"),
        (STRING, "2024-03-01T00:29:59+05:30", "2024-02-29T18:00:00Z"),
        (STRING, "", ""),
    ],
)
def test_time_to_the_hour(node: Node, value: object, expected: object) -> None:
    """An hour begins on the hour of UTC, also where the text has an offset of half an hour."""
    result = compiled({"time": "hour"}, node).apply(value)
    assert result == expected
    assert type(result) is type(expected)


def test_dates_to_the_month_and_year() -> None:
    """Days since 1970 and full-dates are cut down as calendar dates."""
    assert compiled({"time": "month"}, Node(Kind.INT, logical="date")).apply(19_782) == 19_754
    assert compiled({"time": "year"}, Node(Kind.STRING, logical="date")).apply("2024-02-29") == "2024-01-01"
    for kind, unit in itertools.product((Kind.INT, Kind.STRING), ("hour", "day")):
        with pytest.raises(SchemaError, match="coarser"):
            compiled({"time": unit}, Node(kind, logical="date"))


@pytest.mark.parametrize(
    ("step", "node", "value", "expected"),
    [
        (10, INT, 14, 10),
        (10, INT, 15, 20),
        (10, INT, 25, 20),
        (10, INT, -15, -20),
        (10, INT, -4, 0),
        (7, LONG, 2**53 + 1, 9_007_199_254_740_995),
        (0.1, DOUBLE, 0.29999999999999993, 0.3),
        (0.1, DOUBLE, 0.25, 0.2),
        (0.1, DOUBLE, -0.01, 0.0),
        (0.5, FLOAT, 0.75, 1.0),
        (0.1, NUMBER, "1.10", "1.1"),
        (0.1, NUMBER, "123456789012345678901234567890.16", "123456789012345678901234567890.2"),
        (10, NUMBER, "1234.5", "1230"),
        (10, NUMBER, "12e2", "1200"),
        (1, NUMBER, "-0.4", "0"),
        (1, NUMBER, "1e-300", "0"),
        (100, INTEGER, "149", "100"),
        (1e22, NUMBER, "14999999999999999999999", "10000000000000000000000"),
    ],
)
def test_rounding(step: float, node: Node, value: object, expected: object) -> None:
    """The nearest multiple, the even one in the middle, without floating point noise and without negative zero."""
    json = node.kind in (Kind.INTEGER, Kind.NUMBER)
    result = compiled({"round": step}, node).apply(JsonNumber(value) if json else value)
    assert type(result) is (JsonNumber if json else type(expected))
    assert str(result) == str(expected)


@pytest.mark.parametrize("spec", [{"round": 1}, {"buckets": [0, 10]}])
def test_decimals_of_absurd_size(spec: dict[str, Any]) -> None:
    """A schema may say any number of digits; numbers of so many are not even written out for their limits."""
    largest = {"precision": 512, "scale": 500}
    assert compiled(spec, Node(Kind.BYTES, logical="decimal", attributes=largest)).apply(unscaled(7)) == unscaled(0)
    for scale in (0, 513):
        absurd = Node(Kind.BYTES, logical="decimal", attributes={"precision": 2**31 - 1, "scale": scale})
        with pytest.raises(SchemaError, match="at most 512 digits"):
            compiled(spec, absurd)


@pytest.mark.parametrize(("number", "expected"), [(1234, 1230), (1235, 1240), (1245, 1240), (-1, 0), (-1289, -1290)])
def test_rounding_decimals(number: int, expected: int) -> None:
    """A decimal keeps its scale; 12.34 to a tenth is 12.30."""
    assert compiled({"round": 0.1}, MONEY).apply(unscaled(number)) == unscaled(expected)
    assert compiled({"round": 0.1}, FIXED_MONEY).apply(unscaled(number, 4)) == unscaled(expected, 4)


@pytest.mark.parametrize(
    ("step", "node", "value"),
    [
        (10, INT, 2**31 - 1),
        (10, LONG, -(2**63)),
        (10, MONEY, unscaled(999_999)),
        (10, INT, True),
        (10, INT, 1.0),
        (10, DOUBLE, float("nan")),
        (10, DOUBLE, float("inf")),
        (2e38, FLOAT, 3.4e38),
        (10, NUMBER, JsonNumber("1e999999999999999999999999")),
        (10, NUMBER, JsonNumber("1e600")),
        (10, NUMBER, JsonNumber("1e-600")),
        (10, NUMBER, JsonNumber("NaN")),
        (10, NUMBER, "12"),
        (10, MONEY, b""),
        (10, MONEY, "1"),
    ],
)
def test_rounding_refuses_what_does_not_fit(step: float, node: Node, value: object) -> None:
    """A result outside of the type, or a value of another type, is invalid instead of nearly right."""
    with pytest.raises(InvalidValueError):
        compiled({"round": step}, node).apply(value)


@pytest.mark.parametrize(
    ("node", "values"),
    [
        (INT, {-5: 18, 17: 18, 18: 18, 24: 18, 25: 25, 34: 25, 35: 35, 2**31 - 1: 35}),
        (DOUBLE, {17.9: 18.0, 24.999: 18.0, 25.0: 25.0, 1e308: 35.0}),
        (NUMBER, {JsonNumber("24.99"): JsonNumber("18"), JsonNumber("2.5e1"): JsonNumber("25")}),
        (INTEGER, {JsonNumber("99"): JsonNumber("35")}),
        (MONEY, {unscaled(2499): unscaled(1800), unscaled(2500): unscaled(2500)}),
        (FIXED_MONEY, {unscaled(-1, 4): unscaled(1800, 4)}),
    ],
)
def test_buckets(node: Node, values: dict[Any, Any]) -> None:
    """A value becomes its lower bound; below the first and above the last there is nothing to see."""
    buckets = compiled({"buckets": [18, 25, 35]}, node)
    for value, expected in values.items():
        result = buckets.apply(value)
        assert result == expected
        assert type(result) is type(expected)


def test_a_bound_is_in_its_own_bucket() -> None:
    """0.3 and 0.7 are no binary fractions, and still begin their buckets in every type."""
    single = 0.699999988079071  # The single-precision number nearest to 0.7.
    assert compiled({"buckets": [0.3, 0.7]}, DOUBLE).apply(0.7) == 0.7
    assert compiled({"buckets": [0.3, 0.7]}, NUMBER).apply(JsonNumber("0.70")) == "0.7"
    assert compiled({"buckets": [0.3, 0.7]}, FLOAT).apply(single) == single


def test_prefix_of_a_text() -> None:
    """The first characters stay, counted as characters and not as bytes."""
    prefix = compiled({"prefix": 2}, STRING)
    assert [prefix.apply(text) for text in ("10115", "Äpfel", "😀😀😀", "")] == ["10", "Äp", "😀😀", ""]


@pytest.mark.parametrize("value", ["a", "ab", "😀😀"])
def test_prefix_refuses_a_text_that_would_stay_whole(value: str) -> None:
    """It would not be any coarser; the same holds for addresses."""
    with pytest.raises(InvalidValueError) as caught:
        compiled({"prefix": 2}, STRING).apply(value)
    assert value not in str(caught.value).split()


@pytest.mark.parametrize(
    ("bits", "value", "expected"),
    [
        (24, "203.0.113.77", "203.0.113.0"),
        (20, "203.0.113.77", "203.0.112.0"),
        (1, "203.0.113.77", "128.0.0.0"),
        (48, "2001:db8:1:2::77", "2001:db8:1::"),
        (48, "2001:0DB8:0001:0002:0000:0000:0000:0077", "2001:db8:1::"),
        (24, "2001:db8:1:2::77", "2001:d00::"),
        (120, "::ffff:203.0.113.77", "::ffff:203.0.113.0"),
        (127, "64:ff9b::203.0.113.77", "64:ff9b::cb00:714c"),
        (47, "2002:cb00:714d:1::77", "2002:cb00:714c::"),
        (87, "64:ff9b:1:cb00:71:4d00::", "64:ff9b:1:cb00:71:4c00::"),
        (24, "", ""),
    ],
)
def test_prefix_of_an_address(bits: int, value: str, expected: str) -> None:
    """The first bits of an address stay, and IPv6 comes out in one form only."""
    assert compiled({"prefix": bits, "of": "ip"}, STRING).apply(value) == expected


@pytest.mark.parametrize(
    ("bits", "value"),
    [
        (32, "203.0.113.77"),
        (48, "203.0.113.77"),
        (48, "2002:cb00:714d:1::77"),
        (64, "2002:cb00:714d:1::77"),
        (88, "64:ff9b:1:cb00:0:7100::"),
        (24, "203.0.113.77/32"),
        (24, "203.0.113"),
        (24, "0xcb007107"),
        (24, "203.0.113.077"),
        (64, "fe80::1%eth0"),
        (24, 3_405_803_853),
        (24, CANARY),
    ],
)
def test_prefix_refuses_what_is_no_address(bits: int, value: object) -> None:
    """An address that would stay whole or keep a whole one inside, one with a zone, and everything else is invalid."""
    with pytest.raises(InvalidValueError) as caught:
        compiled({"prefix": bits, "of": "ip"}, STRING).apply(value)
    assert CANARY not in str(caught.value)


def test_map_with_and_without_else() -> None:
    """What the table does not have becomes ``else`` or is invalid."""
    table = {"map": {"PRO": "BASIC", "FREE": "FREE"}}
    for node in (ENUM, STRING):
        assert compiled(table | {"else": "OTHER"}, node).apply("PRO") == "BASIC"
        assert compiled(table | {"else": "OTHER"}, node).apply("BASIC") == "OTHER"
        assert compiled(table, node).apply("FREE") == "FREE"
        with pytest.raises(InvalidValueError):
            compiled(table, node).apply("BASIC")
    assert compiled(table | {"else": "OTHER"}, STRING).apply("") == ""
    with pytest.raises(InvalidValueError) as caught:
        compiled(table, STRING).apply(CANARY)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "spec", [{"map": {"GOLD": "PRO"}}, {"map": {"PRO": "GOLD"}}, {"map": {"PRO": "FREE"}, "else": "GOLD"}]
)
def test_map_of_an_enum_has_only_its_symbols(spec: dict[str, Any]) -> None:
    """A symbol that the enum does not have is found when the plan is made, and named."""
    with pytest.raises(SchemaError, match="GOLD"):
        compiled(spec, ENUM)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://shop.example/a/b/c?utm_source=mail&email=x#top", "https://shop.example/a/b?utm_source=mail"),
        ("HTTPS://User:Secret@Shop.Example:8443/A/b/", "https://shop.example/A/b"),
        ("https://shop.example", "https://shop.example/"),
        ("https://shop.example?utm_source=mail", "https://shop.example/?utm_source=mail"),
        ("https://shop.example/a;jsessionid=secret/b", "https://shop.example/a/b"),
        ("https://shop.example/?email=x;utm_source=m;email=y", "https://shop.example/?utm_source=m"),
        ("https://shop.example/?utm%5Fsource=m&UTM_SOURCE=n", "https://shop.example/?utm%5Fsource=m"),
        ("https://shop.example/?page&utm_source=1&page=2", "https://shop.example/?page&utm_source=1&page=2"),
        ("https://shop.example/#/a/user@mail", "https://shop.example/"),
        ("https://shop.example/a%2fb%2Fc/d", "https://shop.example/a"),
        ("https://shop.example/a%5cb/d", "https://shop.example/a"),
        ("https://shop.example/a%3Bjsessionid=secret/d", "https://shop.example/a"),
        ("https://shop.example/a%3femail=x/d", "https://shop.example/a"),
        ("https://shop.example/a/b%23x", "https://shop.example/a/b"),
        ("https://shop.example/a%20b/c", "https://shop.example/a%20b/c"),
        ("https://shop.example/?utm_source=m%26email=x&page=1", "https://shop.example/?page=1"),
        ("https://shop.example/?page=1&utm_source=m%3bemail%3Dx", "https://shop.example/?page=1"),
        ("https://shop.example/?utm_source=%2Fa%3Femail", "https://shop.example/"),
        ("https://shop.example/?utm_source=/a?email=x", "https://shop.example/"),
        ("https://shop.example/?utm_source=a%20b", "https://shop.example/?utm_source=a%20b"),
        ("https://[2001:DB8::1]:80/x/y/z", "https://[2001:db8::1]/x/y"),
        ("app://open.item/42/43/44", "app://open.item/42/43"),
        ("", ""),
    ],
)
def test_url(value: str, expected: str) -> None:
    """Scheme, host, named segments and named parameters stay, and nothing else does."""
    spec = {"url": {"path": 2, "query": ["utm_source", "page"]}}
    assert compiled(spec, STRING).apply(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "/relative?x=1",
        "//host/x",
        "mailto:jane@example.com",
        "https:///path",
        "https://",
        "https://a@b@shop.example/",
        "https://evil\\@shop.example/",
        "https://shop.example /x",
        "https://shop.example/\nx",
        "https://shop.example/\u2028x",
        "https://jane\uff20shop.example/",
        "https://\uff53hop.example/",
        "https://%6aane.example/",
        "https://shop.example:port/",
        "javascript:alert(1)",
        "jane.doe+49170://shop.example/",
        "janedoeinthirteen://shop.example/",
        " https://shop.example/",
        CANARY,
        7,
    ],
)
def test_url_refuses_what_is_unclear(value: object) -> None:
    """What two parsers could read in two ways is invalid, because one of them could see more."""
    with pytest.raises(InvalidValueError) as caught:
        compiled({"url": {"path": 2}}, STRING).apply(value)
    assert CANARY not in str(caught.value)


# Cells


def test_cell_centres() -> None:
    """The Brandenburg Gate lies in the resolution 6 cell 861f1d48fffffff (h3geo.org), which its neighbours share."""
    gate = CellGeneralizer(6).apply(52.516272, 13.377722)
    assert gate == (52.523589, 13.373676)
    assert gate == CellGeneralizer(6).apply(52.518620, 13.376187)
    assert gate != CellGeneralizer(6).apply(52.6, 13.377722)


def test_cell_of_json_numbers_is_text() -> None:
    """JSON coordinates stay JSON numbers, with six decimals and the same centre."""
    latitude, longitude = CellGeneralizer(6).apply(52.516272, 13.377722)
    texts = CellGeneralizer(6).apply(JsonNumber("52.516272"), JsonNumber("13.377722"))
    assert texts == (f"{latitude:.6f}", f"{longitude:.6f}")
    assert all(isinstance(text, JsonNumber) for text in texts)


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        (90.1, 0.0),
        (-91.0, 0.0),
        (0.0, 180.1),
        (0.0, -181.0),
        (float("nan"), 0.0),
        (0.0, float("inf")),
        (JsonNumber("1e400"), JsonNumber("0")),
        ("52.5", "13.4"),
        (True, 0.0),
        (None, 0.0),
    ],
)
def test_cell_refuses_what_is_nowhere(latitude: float, longitude: float) -> None:
    """Degrees outside of the globe are invalid, although H3 would wrap some of them round."""
    with pytest.raises(InvalidValueError):
        CellGeneralizer(6).apply(latitude, longitude)


def test_cell_has_no_gap_at_the_edges() -> None:
    """Poles, the date line and the null island have cells."""
    for latitude, longitude in ((90.0, 0.0), (-90.0, 180.0), (0.0, -180.0), (0.0, 0.0)):
        centre = CellGeneralizer(5).apply(latitude, longitude)
        assert -90 <= centre[0] <= 90
        assert -180 <= centre[1] <= 180


def test_cell_needs_a_pair_of_fractions() -> None:
    """Integers, decimals and texts are no coordinates, and one field alone is no pair."""
    spec = CellSpec(cell="h3", resolution=6)
    assert build_cell(spec, DOUBLE, FLOAT) == CellGeneralizer(6)
    assert build_cell(spec, NUMBER, NUMBER) == CellGeneralizer(6)
    for node in (INT, STRING, MONEY, INTEGER):
        with pytest.raises(SchemaError):
            build_cell(spec, DOUBLE, node)
