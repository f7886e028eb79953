"""Positions with planar Laplace noise that is the same whenever the same person is at the same place.

Planar Laplace noise (Andrés, Bordenabe, Chatzikokolakis and Palamidessi, "Geo-Indistinguishability", CCS 2013, arXiv
1212.1984, section 4) has a uniform direction and a distance r with the density ε² r exp(-ε r), the Gamma distribution
of shape 2. Independent noise would average away: a hundred reports from one home show the home. So a position is first
replaced by the centre of its place, a square of a fixed grid, and the noise is a keyed function of person and place.

Everything is arithmetic of integers, rounded down, because logarithms and cosines of floating point differ from one
system's library to the next in their last bits, and two engines must publish the same point. Angles and factors are
multiples of 2^-60, distances of 2^-20 m, coordinates of 10^-7 degrees (about 11 mm).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from tokenweir.core.generalize.cell import degrees_of, like
from tokenweir.core.generalize.keyed import Person, Prf
from tokenweir.core.schema import JsonNumber

_Coordinate = TypeVar("_Coordinate", float, JsonNumber)

#: Nearer to a pole a square on the ground is no longer nearly one in degrees, and no town is.
_MAX_LATITUDE: Final = 85.0
_MAX_LONGITUDE: Final = 180.0

_PER_DEGREE: Final = 10_000_000
_QUARTER: Final = 90 * _PER_DEGREE
_HALF_TURN: Final = 180 * _PER_DEGREE
#: What is published has five decimals, about 1.1 m: fewer than the smallest noise could show.
_DECIMALS: Final = 5
_STEP: Final = 100
_STEPS_PER_DEGREE: Final = 10**_DECIMALS

_BITS: Final = 60
_ONE: Final = 1 << _BITS
#: ln 2 and π/2, times 2^60.
_LN_2: Final = 799_144_290_325_165_979
_HALF_PI: Final = 1_811_004_864_519_280_711
#: 10^-7 degrees in a metre of a great circle, times 2^40: 1.8·10^9 / (π · 6,371,008.8 m), the mean radius of the Earth
#: (Moritz, Geodetic Reference System 1980).
_PER_METRE: Final = 98_881_319_701_087
_PER_METRE_BITS: Final = 40
_DISTANCE_BITS: Final = 20

_LOG_BITS: Final = 32
_MANTISSA_BITS: Final = 62
#: Two odd numbers of 61 bits each: their product over 2^122 is that of two uniform numbers between 0 and 1.
_PRODUCT_BITS: Final = 122


@dataclass(frozen=True, slots=True)
class NoiseGeneralizer:
    """Replaces a latitude and a longitude, in degrees of WGS 84, by a point near the place that they are in.

    Args:
        metres: Mean distance between the place's centre and the point, and the length of the place's sides.
        prf: The keyed function that the noise comes from.
        person: Whom the record is about.
    """

    metres: int
    prf: Prf
    person: Person

    def apply(self, latitude: _Coordinate, longitude: _Coordinate) -> tuple[_Coordinate, _Coordinate]:
        """Return the point with five decimals: floats for floats, JSON numbers for JSON numbers.

        Raises:
            InvalidValueError: if the latitude is outside of -85 to 85 or the longitude outside of -180 to 180, or the
                record is about nobody.
        """
        at_latitude = round(degrees_of(latitude, _MAX_LATITUDE) * _PER_DEGREE)
        at_longitude = round(degrees_of(longitude, _MAX_LONGITUDE) * _PER_DEGREE)
        subject = self.person.named()
        place = place_of(at_latitude, at_longitude, self.metres)
        digest = self.prf.of(subject.type, subject.id, str(place.row), str(place.column))
        steps = point_near(place, offset(digest, self.metres))
        north, east = (degrees / _STEPS_PER_DEGREE for degrees in steps)
        return like(latitude, north, _DECIMALS), like(longitude, east, _DECIMALS)


@dataclass(frozen=True, slots=True)
class Place:
    """A square of the grid: its row and column, and its centre in 10^-7 degrees.

    ``cosine`` is that of the centre's latitude.
    """

    row: int
    column: int
    latitude: int
    longitude: int
    cosine: int


def place_of(latitude: int, longitude: int, metres: int) -> Place:
    """Return the place with sides of so many metres that a position in 10^-7 degrees is in."""
    height = metres * _PER_METRE >> _PER_METRE_BITS
    row = latitude // height
    centre = row * height + height // 2
    cosine = cosine_of(abs(centre) * _HALF_PI // _QUARTER)
    width = (metres * _PER_METRE << _BITS - _PER_METRE_BITS) // cosine
    column = _wrapped(longitude, _HALF_TURN) // width
    return Place(row, column, centre, column * width + width // 2, cosine)


def offset(digest: bytes, metres: int) -> tuple[int, int]:
    """Return planar Laplace noise of a mean distance: how far north and how far east, in 2^-20 m.

    The first two words of the digest make the distance and the third the direction. A distance of shape 2 is the sum of
    two exponential ones, which is minus the logarithm of a product of two uniform numbers (Devroye, "Non-Uniform Random
    Variate Generation", 1986, section IX.3).
    """
    first, second, third = (int.from_bytes(digest[start : start + 8], "big") for start in (0, 8, 16))
    product = (2 * (first >> 4) + 1) * (2 * (second >> 4) + 1)
    bits = (_PRODUCT_BITS << _LOG_BITS) - log2_of(product)
    # The mean of a Gamma distribution of shape 2 is 2/ε, so that the unit of length 1/ε is half of it.
    distance = bits * _LN_2 * metres >> _LOG_BITS + _BITS + 1 - _DISTANCE_BITS
    angle = (third & (1 << _MANTISSA_BITS) - 1) * _HALF_PI >> _MANTISSA_BITS
    north = distance * cosine_of(angle) >> _BITS
    east = distance * cosine_of(_HALF_PI - angle) >> _BITS
    return -north if third >> 63 else north, -east if third >> 62 & 1 else east


def point_near(place: Place, by: tuple[int, int]) -> tuple[int, int]:
    """Return the point at an offset from a place's centre, as latitude and longitude in steps of 10^-5 degrees.

    The Earth is taken for the plane that touches it there. What is beyond a pole stays at the pole.
    """
    north = abs(by[0]) * _PER_METRE >> _DISTANCE_BITS + _PER_METRE_BITS
    # Both factors together have as many bits as the cosine.
    east = abs(by[1]) * _PER_METRE // place.cosine
    latitude = _snapped(place.latitude + (north if by[0] > 0 else -north))
    longitude = _snapped(place.longitude + (east if by[1] > 0 else -east))
    limit = _QUARTER // _STEP
    return max(-limit, min(limit, latitude)), _wrapped(longitude, _HALF_TURN // _STEP)


def log2_of(number: int) -> int:
    """Return the binary logarithm of a positive whole number times 2^32, less than 2^-25 too small.

    Squaring a number between 1 and 2 doubles its logarithm, whose next bit says whether it passes 2 (Knuth, "The Art of
    Computer Programming", volume 1, section 1.2.2, exercise 25).
    """
    whole = number.bit_length() - 1
    mantissa = number << _MANTISSA_BITS >> whole
    fraction = 0
    for _ in range(_LOG_BITS):
        mantissa = mantissa * mantissa >> _MANTISSA_BITS
        beyond = mantissa >> _MANTISSA_BITS + 1
        mantissa >>= beyond
        fraction = fraction << 1 | beyond
    return whole << _LOG_BITS | fraction


def cosine_of(angle: int) -> int:
    """Return the cosine of an angle between 0 and π/2, both in 2^-60, with an error below 2^-46.

    The Taylor series up to the 20th power, from the inside out.
    """
    square = angle * angle >> _BITS
    cosine = _ONE
    for power in range(20, 0, -2):
        cosine = _ONE - (cosine * square >> _BITS) // (power * (power - 1))
    return max(cosine, 0)


def _snapped(coordinate: int) -> int:
    """Return a coordinate as the nearest number of steps."""
    return (coordinate + _STEP // 2) // _STEP


def _wrapped(longitude: int, half_turn: int) -> int:
    """Return the same longitude from -180 degrees, included, to 180 degrees, excluded."""
    return (longitude + half_turn) % (2 * half_turn) - half_turn
