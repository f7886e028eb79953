"""Planar Laplace noise and days to move by: the native engine publishes the same points and days, bit for bit."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from typing import Any, Final

import pytest
from tests.support import engines
from tests.support.engines import NOW_MS, Rig, avro_encode, json_schema_of, record_schema, small_policy
from tests.support.native import native_module

from tokenweir.core.engineapi import Record

native_module()

from tests.support.twins import TwinEngine  # noqa: E402 - it needs the native module

METRES: Final = (10, 137, 1000, 50_000)
#: Positions of a record, and records for each distance: 4 x 30 x 1,000 in all.
POSITIONS: Final = 1000
RECORDS: Final = 30
#: Where arithmetic could go wrong: the ends of the range, the date line, the equator, and numbers that are hardly any.
EDGES: Final = [
    (latitude, longitude)
    for latitude in (-85.0, 85.0, math.nextafter(85, 86), 0.0, -0.0, 5e-324, -1e-7, 5e-8, 1.5e-7, -90.0, 84.99999995)
    for longitude in (-180.0, 180.0, 179.99999999, math.nextafter(180, 181), 0.0, -0.0, -5e-8, 2.5e-7, 1e300)
]

_PLACE: Final = {"type": "record", "name": "Place", "fields": [{"name": n, "type": "double"} for n in ("lat", "lon")]}
_SCHEMA: Final = record_schema(("places", {"type": "array", "items": _PLACE}))


@pytest.fixture(autouse=True)
def _both_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "ReferenceEngine", TwinEngine)


def _stream(metres: int, format_: str = "avro") -> Rig:
    policy = small_policy(
        classes=f"place: {{do: {{generalize: {{noise: laplace, metres: {metres}}}}}}}",
        fields='{id: id.customer, "places[*].**": place}',
        stream='pairs: [["places[*].lat", "places[*].lon"]]',
        format_=format_,
    )
    return engines.rig(policy, _SCHEMA if format_ == "avro" else json.dumps(json_schema_of(json.loads(_SCHEMA))))


def _positions(dice: random.Random, metres: int) -> Iterator[tuple[float, float]]:
    """Yield positions over the whole range, along the edges of places, and close together."""
    height = metres * 1e7 / (math.radians(1) * 6_371_008.8)
    for number in range(POSITIONS):
        match number % 4:
            case 0:
                yield dice.uniform(-86, 86), dice.uniform(-181, 181)
            case 1:
                yield int(height) * dice.randint(-5, 5) / 1e7, dice.randint(-9, 9) * height / 1e7
            case 2:
                yield math.degrees(math.asin(dice.uniform(-1, 1))), dice.uniform(-180, 180)
            case _:
                yield round(dice.gauss(52.5, 0.1), 5), round(dice.gauss(13.4, 0.1), 5)


def _record(customer: int, positions: list[tuple[float, float]]) -> Record:
    places = [{"lat": latitude, "lon": longitude} for latitude, longitude in positions]
    value = {"id": f"{customer:010}", "places": places}
    return Record(avro_encode(json.loads(_SCHEMA), value), None, NOW_MS)


@pytest.mark.parametrize("metres", METRES)
def test_engines_publish_the_same_points(metres: int) -> None:
    """Thirty thousand positions of thirty people for each distance; the twin fails where one bit differs."""
    stream, dice = _stream(metres), random.Random(metres)
    records = [_record(customer, list(_positions(dice, metres))) for customer in range(RECORDS)]
    published = [outcome["crm"] for outcome in stream.process(records)]
    assert sum(sum(outcome.treated.values()) for outcome in published) == RECORDS * (2 * POSITIONS + 1)
    places: list[dict[str, Any]] = [
        place for outcome in published for place in stream.read("crm", outcome.value)["places"] if place is not None
    ]
    assert len(places) > RECORDS * POSITIONS * 0.9
    for place in places:
        assert -90 <= place["lat"] <= 90
        assert -180 <= place["lon"] < 180
        assert all(degrees == round(degrees, 5) for degrees in place.values())


@pytest.mark.parametrize("metres", METRES)
def test_engines_agree_at_the_edges(metres: int) -> None:
    """Ends of the range, the smallest and the largest numbers, and what is no position at all."""
    outcome = _stream(metres).one(_record(7, EDGES))["crm"]
    assert outcome.treated


@pytest.mark.parametrize(
    "degrees", ["52.5", "-0", "1e-30", "8.5e1", "85.00000000000001", "1e100", "52", "-84.123456789"]
)
def test_engines_agree_about_numbers_of_json(degrees: str) -> None:
    """Coordinates in any way to write a number give the same text in both engines."""
    stream = _stream(137, "json_schema")
    value = f'{{"id": "0000000007", "places": [{{"lat": {degrees}, "lon": {degrees}}}]}}'
    assert stream.one(Record(value.encode(), None, NOW_MS))["crm"].fate == "sanitized"
