"""Properties of generalization that hold for every value: it coarsens, is stable, and keeps the type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tokenweir.core.generalize.base import Generalizer
from tokenweir.core.generalize.build import build
from tokenweir.core.generalize.cell import CellGeneralizer
from tokenweir.core.generalize.specs import (
    BucketsSpec,
    MapSpec,
    PrefixSpec,
    RoundSpec,
    TimeSpec,
    TimeUnit,
    UrlParts,
    UrlSpec,
)
from tokenweir.core.schema import JsonNumber, Kind, Node
from tokenweir.core.timestamps import format_date_time, parse_date_time
from tokenweir.errors import InvalidValueError

Address = IPv4Address | IPv6Address

FEW = settings(max_examples=50, deadline=None)

TIMES = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the timezone comes from the strategy
UNITS: st.SearchStrategy[TimeUnit] = st.sampled_from(["hour", "day", "month", "year"])
STEPS = st.one_of(st.integers(1, 10**6), st.sampled_from([0.01, 0.05, 0.1, 0.25, 2.5]))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def text_of(number: Fraction, places: int) -> JsonNumber:
    """Return a fraction of a power of ten as JSON text."""
    sign, digits = "-" if number < 0 else "", str(abs(int(number * 10**places))).rjust(places + 1, "0")
    return JsonNumber(f"{sign}{digits[:-places]}.{digits[-places:]}" if places else sign + digits)


@given(TIMES, UNITS, st.integers(0, 999))
@FEW
def test_time_agrees_with_the_standard_library(moment: datetime, unit: TimeUnit, submicros: int) -> None:
    """Every unit gives the start that datetime gives, whatever the ticks and the offset of the text."""
    parts = {"hour": 4, "day": 3, "month": 2, "year": 1}[unit]
    start = datetime(*(list(moment.timetuple()[:parts]) + [1] * (3 - parts)), tzinfo=UTC)  # type: ignore[misc,arg-type]  # the list has 3 or 4 integers
    micros = (moment - EPOCH) // timedelta(microseconds=1)
    assert build(TimeSpec(time=unit), Node(Kind.LONG, logical="timestamp-micros")).apply(micros) == (
        start - EPOCH
    ) // timedelta(microseconds=1)
    nanos = build(TimeSpec(time=unit), Node(Kind.LONG, logical="timestamp-nanos"))
    assert nanos.apply(micros * 1000 + submicros) == (start - EPOCH) // timedelta(microseconds=1) * 1000
    text = build(TimeSpec(time=unit), Node(Kind.STRING)).apply(moment.isoformat())
    assert text == start.strftime("%Y-%m-%dT%H:%M:%SZ")


@given(TIMES, st.integers(-23 * 60, 23 * 60))
@FEW
def test_an_offset_names_the_same_instant(moment: datetime, offset_minutes: int) -> None:
    """The same moment written in any zone is read as the same millisecond."""
    sign, minutes = "-" if offset_minutes < 0 else "+", abs(offset_minutes)
    local = (moment + timedelta(minutes=offset_minutes)).replace(tzinfo=None, microsecond=0)
    read = parse_date_time(f"{local.isoformat()}{sign}{minutes // 60:02}:{minutes % 60:02}")
    assert format_date_time(read) == moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@given(st.integers(-(10**30), 10**30), st.integers(0, 6), STEPS)
@FEW
def test_json_rounding_is_exact_and_stable(digits: int, places: int, step: float) -> None:
    """The result is the nearest multiple, ties to even, as rational arithmetic says, and rounds to itself."""
    value = Fraction(digits, 10**places)
    rounded = build(RoundSpec(round=step), Node(Kind.NUMBER))
    result = rounded.apply(text_of(value, places))
    assert isinstance(result, JsonNumber)
    exact_step = Fraction(repr(step))
    assert Fraction(result) == round(value / exact_step) * exact_step
    assert rounded.apply(result) == result


@given(st.integers(-(2**31), 2**31 - 1), st.integers(1, 10**6))
@FEW
def test_integers_agree_in_avro_and_json(value: int, step: int) -> None:
    """The same number gives the same result whatever format carried it."""
    avro = build(RoundSpec(round=step), Node(Kind.LONG)).apply(value)
    assert str(avro) == build(RoundSpec(round=step), Node(Kind.INTEGER)).apply(JsonNumber(value))


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15), STEPS)
@FEW
def test_double_rounding_is_stable(value: float, step: float) -> None:
    """A rounded double rounds to itself and is within half a step of the value."""
    rounded = build(RoundSpec(round=step), Node(Kind.DOUBLE))
    result = rounded.apply(value)
    assert isinstance(result, float)
    assert rounded.apply(result) == result
    assert abs(Fraction(result) - Fraction(value)) <= Fraction(repr(step)) / 2 + Fraction(
        abs(value)
    ) / 10**12 + Fraction(1, 10**12)


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=8, unique=True).map(sorted), st.integers(-2000, 2000))
@FEW
def test_buckets_show_only_bounds(bounds: list[int], value: int) -> None:
    """The result is the largest bound that is not above the value, or the first one."""
    result = build(BucketsSpec(buckets=list(bounds)), Node(Kind.INT)).apply(value)
    assert result == max([bound for bound in bounds if bound <= value], default=bounds[0])


@given(st.text(), st.integers(1, 10))
@FEW
def test_prefix_is_a_prefix(text: str, characters: int) -> None:
    """The result is the beginning of the value; what would stay whole is invalid, and empty text stays empty."""
    assume(text.isprintable())
    prefix = build(PrefixSpec(prefix=characters), Node(Kind.STRING))
    if 0 < len(text) <= characters:
        with pytest.raises(InvalidValueError):
            prefix.apply(text)
        return
    result = prefix.apply(text)
    assert isinstance(result, str)
    assert result == text[:characters]


@given(st.ip_addresses(), st.ip_addresses(), st.integers(1, 31))
@FEW
def test_addresses_of_one_network_become_one(left: Address, right: Address, bits: int) -> None:
    """Two addresses have the same result exactly when they share the network."""
    network = build(PrefixSpec(prefix=bits, of="ip"), Node(Kind.STRING))
    same = left.version == right.version and int(left) >> (left.max_prefixlen - bits) == int(right) >> (
        right.max_prefixlen - bits
    )
    assert (network.apply(str(left)) == network.apply(str(right))) is same
    assert network.apply(network.apply(str(left))) == network.apply(str(left))


URL_PARTS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="/?#&;=%+\\"), max_size=8)


@given(URL_PARTS, URL_PARTS, URL_PARTS, st.integers(0, 3))
@FEW
def test_url_never_shows_what_is_not_named(user: str, query: str, fragment: str, segments: int) -> None:
    """User, other parameters and fragment do not change the result at all, or the URL is invalid."""
    url: Generalizer = build(UrlSpec(url=UrlParts(path=segments, query=["kept"])), Node(Kind.STRING))
    expected = url.apply("https://shop.example/a/b/c?kept=1")
    try:
        result = url.apply(f"https://{user}@shop.example/a/b/c?other={query}&kept=1&more={query}#{fragment}")
    except InvalidValueError:
        return
    assert result == expected
    assert urlsplit(str(result)).hostname == "shop.example"


@given(st.text(), st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=4), st.text())
@FEW
def test_map_gives_only_what_the_table_says(text: str, table: dict[str, str], default: str) -> None:
    """With a default every text becomes one of the table's values, the default, or stays empty."""
    result = build(MapSpec.model_validate({"map": table, "else": default}), Node(Kind.STRING)).apply(text)
    assert result == (table.get(text, default) if text else "")


@given(st.floats(-90, 90), st.floats(-180, 180), st.integers(0, 15))
@FEW
def test_cell_centres_are_stable(latitude: float, longitude: float, resolution: int) -> None:
    """A centre is in its own cell, so that generalizing twice changes nothing."""
    cell = CellGeneralizer(resolution)
    centre = cell.apply(latitude, longitude)
    assert cell.apply(*centre) == centre
