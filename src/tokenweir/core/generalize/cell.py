"""Coordinates as the centre of their H3 cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

import h3.api.basic_int as h3

from tokenweir.core.generalize.specs import CellSpec
from tokenweir.core.schema import JsonNumber, Kind, Node
from tokenweir.errors import InvalidValueError, SchemaError

_Coordinate = TypeVar("_Coordinate", float, JsonNumber)

#: Six decimals of a degree are at most 11 cm. They hide the last bits, which may differ between builds of H3, and keep
#: the centre inside of its cell even at the finest resolution (edges of about 0.6 m).
_DECIMALS: Final = 6
_MAX_LATITUDE: Final = 90.0
_MAX_LONGITUDE: Final = 180.0
#: Where many events are, they share cells. An entry takes about 200 bytes.
_CENTRES: Final = 20_000


@dataclass(frozen=True, slots=True)
class CellGeneralizer:
    """Replaces a latitude and a longitude, in degrees of WGS 84, by the centre of the H3 cell that they are in."""

    resolution: int

    def apply(self, latitude: _Coordinate, longitude: _Coordinate) -> tuple[_Coordinate, _Coordinate]:
        """Return the centre with six decimals: floats for floats, JSON numbers for JSON numbers.

        Raises:
            InvalidValueError: if the latitude is outside of -90 to 90 or the longitude outside of -180 to 180.
        """
        at_latitude = degrees_of(latitude, _MAX_LATITUDE)
        at_longitude = degrees_of(longitude, _MAX_LONGITUDE)
        centre = _centre(h3.latlng_to_cell(at_latitude, at_longitude, self.resolution))
        return like(latitude, centre[0], _DECIMALS), like(longitude, centre[1], _DECIMALS)


def centres(positions: Iterable[tuple[int, float, float]]) -> list[tuple[float, float] | None]:
    """Return what :meth:`CellGeneralizer.apply` returns for floats, each a resolution, a latitude and a longitude.

    Where that raises, there is None.
    """
    to_cell = h3.latlng_to_cell
    return [
        _centre(to_cell(latitude, longitude, resolution))
        if -_MAX_LATITUDE <= latitude <= _MAX_LATITUDE and -_MAX_LONGITUDE <= longitude <= _MAX_LONGITUDE
        else None
        for resolution, latitude, longitude in positions
    ]


def build_cell(spec: CellSpec, latitude: Node, longitude: Node) -> CellGeneralizer:
    """Compile ``{cell: h3, resolution: n}`` for the two nodes of a pair.

    Raises:
        SchemaError: if one of them is not a float, a double or a JSON number.
    """
    for node in (latitude, longitude):
        if node.kind not in (Kind.FLOAT, Kind.DOUBLE, Kind.NUMBER):
            raise SchemaError(f"cell needs coordinates as numbers with a fraction, not {node.kind}", path=node.path)
    return CellGeneralizer(spec.resolution)


def degrees_of(value: float | JsonNumber, limit: float) -> float:
    """Return a coordinate as a float that is surely in its range; NaN and infinity are not."""
    if isinstance(value, bool) or not isinstance(value, float | int | JsonNumber):
        raise InvalidValueError("expected a number of degrees")
    degrees = float(value)
    if not -limit <= degrees <= limit:
        raise InvalidValueError(f"expected degrees between -{limit:.0f} and {limit:.0f}")
    return degrees


@lru_cache(_CENTRES)
def _centre(cell: int) -> tuple[float, float]:
    """Return the rounded centre of a cell, without a negative zero."""
    latitude, longitude = h3.cell_to_latlng(cell)
    return round(latitude, _DECIMALS) + 0.0, round(longitude, _DECIMALS) + 0.0


def like(source: _Coordinate, degrees: float, decimals: int) -> _Coordinate:
    """Return rounded degrees in the form of the coordinate that they replace."""
    return JsonNumber(f"{degrees:.{decimals}f}") if isinstance(source, JsonNumber) else degrees
