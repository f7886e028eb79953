"""Planar Laplace noise: its distribution against formulas computed here, its arithmetic, and that it repeats."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, localcontext
from itertools import pairwise

import pytest
from tests.support.engines import fixed_keyset, record_schema, rules_of, small_policy

from tokenweir.core.generalize import noise
from tokenweir.core.generalize.keyed import Person, Prf
from tokenweir.core.generalize.noise import NoiseGeneralizer
from tokenweir.core.generalize.specs import NoiseSpec
from tokenweir.core.schema import JsonNumber
from tokenweir.core.subjects import Subject
from tokenweir.core.tokens.secret import TokenKey
from tokenweir.errors import InvalidValueError

EARTH_METRES = 6_371_008.8
UNIT = 2.0**-20
SAMPLES = 20_000
#: A sample of the right distribution is farther away than this once in 1,000 tries (Kolmogorov). The samples are fixed.
FARTHEST = 1.95 / math.sqrt(SAMPLES)


def digests(count: int = SAMPLES) -> Iterator[bytes]:
    """Yield bytes that look random and are the same in every run."""
    for number in range(count):
        yield hashlib.sha256(f"noise {number}".encode()).digest()


def generalizer(metres: int, subject: Subject | None = None, key: bytes = b"k" * 32) -> NoiseGeneralizer:
    """Return the noise of one person."""
    person = Person()
    person.subject = subject or Subject("customer", "0000000007")
    return NoiseGeneralizer(metres, Prf(TokenKey(key)), person)


def distance_from(sample: Sequence[float], distribution: Callable[[float], float]) -> float:
    """Return how far the distribution of a sample is from another one, at most (Kolmogorov and Smirnov)."""
    ordered = sorted(sample)
    steps = [(index / len(ordered), distribution(value)) for index, value in enumerate(ordered)]
    return max(max(wanted - step, step + 1 / len(ordered) - wanted) for step, wanted in steps)


def planar_laplace(metres: float) -> Callable[[float], float]:
    """Return the distribution of the distance for a mean: 1 - (1 + εr) exp(-εr) (arXiv 1212.1984, section 4)."""
    epsilon = 2 / metres
    return lambda radius: 1 - (1 + epsilon * radius) * math.exp(-epsilon * radius)


def great_circle_metres(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the distance of two points in degrees, by the haversine formula."""
    (north, east), (other_north, other_east) = (map(math.radians, point) for point in (one, other))
    half = math.sin((north - other_north) / 2) ** 2
    half += math.cos(north) * math.cos(other_north) * math.sin((east - other_east) / 2) ** 2
    return 2 * EARTH_METRES * math.asin(math.sqrt(half))


@pytest.mark.parametrize("metres", [10, 500, 50_000])
def test_distances_and_directions_are_those_of_planar_laplace(metres: int) -> None:
    """The distance has its distribution, the direction is uniform, and one says nothing of the other."""
    points = [noise.offset(digest, metres) for digest in digests()]
    radii = [math.hypot(*point) * UNIT for point in points]
    angles = [math.atan2(*point) % math.tau / math.tau for point in points]
    assert distance_from(radii, planar_laplace(metres)) < FARTHEST
    assert distance_from(angles, lambda angle: angle) < FARTHEST
    assert math.isclose(sum(radii) / SAMPLES, metres, rel_tol=0.02)
    far = [angle for angle, radius in zip(angles, radii, strict=True) if radius > metres]
    assert distance_from(far, lambda angle: angle) < 1.95 / math.sqrt(len(far))


def test_another_distribution_is_told_apart() -> None:
    """The measure of the tests here notices a mean that is 5 % off, and a distance of shape 1 instead of 2."""
    radii = [math.hypot(*noise.offset(digest, 500)) * UNIT for digest in digests()]
    assert distance_from(radii, planar_laplace(525)) > FARTHEST
    assert distance_from(radii, lambda radius: 1 - math.exp(-radius / 500)) > FARTHEST


@pytest.mark.parametrize("latitude", [-84.0, 0.0, 52.5])
def test_published_points_are_as_far_from_their_place_on_the_ground(latitude: float) -> None:
    """Between equator and poles a published point is as many metres away as the noise says, in every direction."""
    metres, radii, angles = 500, [], []
    place = noise.place_of(round(latitude * 10**7), 1_340_000_00, metres)
    centre = (place.latitude / 1e7, place.longitude / 1e7)
    for number in range(SAMPLES // 2):
        found = generalizer(metres, Subject("customer", str(number))).apply(latitude, 13.4)
        radii.append(great_circle_metres(centre, found))
        north = found[0] - centre[0]
        east = (found[1] - centre[1]) * math.cos(math.radians(centre[0]))
        angles.append(math.atan2(north, east) % math.tau / math.tau)
    assert (
        distance_from(radii, planar_laplace(metres)) < FARTHEST * math.sqrt(2) + 0.002
    )  # The grid of 1.1 m, against 500 m.
    assert distance_from(angles, lambda angle: angle) < FARTHEST * math.sqrt(2) + 0.002


def test_reports_from_one_place_average_nothing_away() -> None:
    """A thousand reports from within a place are one point; what is beside it has a point of its own."""
    near, dice = generalizer(500), random.Random(1)
    place = noise.place_of(525_000_000, 134_000_000, 500)
    inside = {
        near.apply(
            place.latitude / 1e7 + dice.uniform(-0.002, 0.002), place.longitude / 1e7 + dice.uniform(-3e-3, 3e-3)
        )
        for _ in range(1000)
    }
    assert len(inside) == 1
    beside = {near.apply(place.latitude / 1e7 + 0.0045 * step, place.longitude / 1e7) for step in range(20)}
    assert len(beside) == 20


def test_a_place_is_a_square_on_the_ground() -> None:
    """Its sides have the length that the policy says, up to 1 %, wherever it is."""
    for latitude in (0, 300_000_000, 600_000_000, -840_000_000):
        rows = [noise.place_of(latitude + step, 0, 1000).row for step in range(0, 10_000_000, 1000)]
        columns = [noise.place_of(latitude, step, 1000).column for step in range(0, 10_000_000, 1000)]
        degree = math.radians(1) * EARTH_METRES
        assert math.isclose(degree / (rows[-1] - rows[0]), 1000, rel_tol=0.01)
        narrow = degree * math.cos(math.radians(latitude / 1e7))
        assert abs(narrow / 1000 - (columns[-1] - columns[0])) <= 1.1


def test_a_centre_is_in_its_own_place() -> None:
    """Where the reader of a point would put it, the place is the same: the grid has no gaps and no overlaps."""
    dice = random.Random(2)
    for _ in range(2000):
        metres = dice.choice([10, 77, 500, 50_000])
        latitude, longitude = dice.randint(-850_000_000, 850_000_000), dice.randint(-1_800_000_000, 1_799_999_999)
        place = noise.place_of(latitude, longitude, metres)
        height = metres * 1e7 / (math.radians(1) * EARTH_METRES)
        assert abs(place.latitude - latitude) <= height / 2 + 1
        assert abs(place.longitude - longitude) <= height / 2 / math.cos(math.radians(place.latitude / 1e7)) + 1


@pytest.mark.parametrize(
    "other",
    [
        {"subject": Subject("customer", "0000000008")},
        {"subject": Subject("device", "0000000007")},
        {"key": b"l" * 32},
        {"metres": 501},
    ],
)
def test_person_key_and_parameters_each_change_the_point(other: dict[str, object]) -> None:
    """No two of them have the same noise at the same place."""
    arguments: dict[str, object] = {"metres": 500}
    here = generalizer(500).apply(52.5, 13.4)
    there = generalizer(**{**arguments, **other}).apply(52.5, 13.4)  # type: ignore[arg-type]  # By name.
    assert here != there


def test_domains_epochs_and_treatments_have_keys_of_their_own() -> None:
    """The point of a person at a place is another one in another key domain or with another mean distance."""
    keyset = fixed_keyset(["ads", "crm"])
    keys = {
        keyset.generalize_key(domain, NoiseSpec(noise="laplace", metres=metres)).reveal()
        for domain in ("ads", "crm")
        for metres in (500, 501)
    }
    assert len(keys) == 4


def test_texts_stay_texts_and_numbers_numbers() -> None:
    """JSON numbers come out with five decimals, floats as the nearest float."""
    north, east = generalizer(500).apply(52.5, 13.4)
    assert generalizer(500).apply(JsonNumber("52.5"), JsonNumber("1.34e1")) == (f"{north:.5f}", f"{east:.5f}")
    mixed = generalizer(500).apply(JsonNumber("52.50"), 13.4)  # type: ignore[type-var]  # Whatever the schema says.
    assert isinstance(mixed[0], JsonNumber)
    assert mixed[1] == east


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        (85.1, 0.0),
        (-90.0, 0.0),
        (0.0, 180.1),
        (math.nan, 0.0),
        (0.0, -math.inf),
        (JsonNumber("1e400"), JsonNumber("0")),
    ],
)
def test_what_is_no_position_is_invalid(latitude: float, longitude: float) -> None:
    """A number that is no coordinate, and one beside a pole, has no point."""
    with pytest.raises(InvalidValueError):
        generalizer(500).apply(latitude, longitude)


def test_noise_needs_a_pair_of_numbers_with_a_fraction() -> None:
    """A single coordinate, and a pair of texts or whole numbers, is refused when the policy is checked."""
    classes = "place: {do: {generalize: {noise: laplace, metres: 500}}}"
    fields = "{lat: place, lon: place}"
    pairs = 'pairs: [["lat", "lon"]]'
    for kind, rules in (
        ("double", set()),
        ("float", set()),
        ("string", {"treatment-type"}),
        ("long", {"treatment-type"}),
    ):
        schema = record_schema(("lat", kind), ("lon", kind))
        assert rules_of(small_policy(classes=classes, fields=fields, stream=pairs), schema) == rules
        assert rules_of(small_policy(classes=classes, fields=fields), schema) == {"treatment-type"}


def test_without_a_person_there_is_no_point() -> None:
    """Where nobody is named, nothing is made for nobody."""
    with pytest.raises(InvalidValueError):
        NoiseGeneralizer(500, Prf(TokenKey(b"k" * 32)), Person()).apply(52.5, 13.4)


def test_points_stay_on_the_globe() -> None:
    """Noise over the date line comes out on its other side, and noise over a pole stays at the pole."""
    place = noise.place_of(0, -1_800_000_000, 50_000)
    assert place == noise.place_of(0, 1_800_000_000, 50_000)
    west = noise.point_near(place, (0, -60_000 << 20))
    assert 17_900_000 < west[1] < 18_000_000
    polar = noise.place_of(850_000_000, 0, 50_000)
    assert noise.point_near(polar, (2_000_000 << 20, 0))[0] == 9_000_000
    assert noise.point_near(noise.place_of(-850_000_000, 0, 50_000), (-2_000_000 << 20, 0))[0] == -9_000_000


def test_logarithms_are_exact_to_their_last_bit() -> None:
    """log2 is that of 60 decimal digits, rounded down, or one unit of 2^-32 less."""
    dice = random.Random(3)
    numbers = [
        1,
        2,
        3,
        2**62,
        2**62 + 1,
        2**122 - 1,
        *(dice.getrandbits(dice.randint(1, 122)) | 1 for _ in range(2000)),
    ]
    with localcontext() as context:
        context.prec = 60
        for number in numbers:
            exact = int(Decimal(number).ln() / Decimal(2).ln() * 2**32 + Decimal("1e-30"))
            assert noise.log2_of(number) in (exact, exact - 1)
    assert all(noise.log2_of(low) <= noise.log2_of(high) for low, high in pairwise(sorted(numbers)))


def test_cosines_are_near_to_those_of_the_library() -> None:
    """From 0 to π/2 they differ by less than 2^-46, and are never negative."""
    angles = [step / 1000 * math.pi / 2 for step in range(1001)]
    for angle in angles:
        found = noise.cosine_of(min(int(angle * 2**60), 1_811_004_864_519_280_711))
        assert found >= 0
        assert abs(found / 2**60 - math.cos(angle)) < 2**-46


def test_the_constants_are_what_they_say() -> None:
    """The logarithm of 2, π/2 and the length of a degree, as the standard library has them."""
    assert math.isclose(noise._LN_2 / 2**60, math.log(2), rel_tol=1e-15)
    assert math.isclose(noise._HALF_PI / 2**60, math.pi / 2, rel_tol=1e-15)
    assert math.isclose(noise._PER_METRE / 2**40, 1e7 / (math.radians(1) * EARTH_METRES), rel_tol=1e-12)
