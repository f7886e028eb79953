"""The native engine's own centres of cells are those of H3: at random, near borders, near corners, at all sizes."""

from __future__ import annotations

import math
import random
from typing import Final

import h3.api.basic_int as h3
import pytest
from tests.support.native import native_module

from tokenweir.core.generalize.cell import centres

cell_centres = native_module().cell_centres

RESOLUTIONS: Final = range(16)
#: Of the positions of a resolution that lie anywhere, these may at most be left to H3. A coarse cell often lies on two
#: faces of the icosahedron.
LEFT_TO_H3: Final = dict.fromkeys(RESOLUTIONS, 0.02) | {0: 0.4, 1: 0.15, 2: 0.1, 3: 0.05, 4: 0.03}

Position = tuple[int, float, float]


def _anywhere(chosen: random.Random, resolution: int) -> Position:
    return resolution, math.degrees(math.asin(chosen.uniform(-1, 1))), chosen.uniform(-180, 180)


def _near(chosen: random.Random, resolution: int, place: tuple[float, float], digits: tuple[int, int]) -> Position:
    """Return a position at a distance of any size between two powers of ten, in degrees."""
    spread = 10 ** chosen.uniform(*digits)
    latitude, longitude = (degrees + chosen.gauss(0, spread) for degrees in place)
    return resolution, max(-90.0, min(90.0, latitude)), (longitude + 180) % 360 - 180


def _positions(chosen: random.Random, count: int) -> list[Position]:
    """Return positions anywhere, near corners and edges of the icosahedron, and near borders of cells."""
    found = []
    corners = [h3.cell_to_latlng(cell) for cell in h3.get_pentagons(0)]
    for number in range(count):
        resolution = number % len(RESOLUTIONS)
        position = _anywhere(chosen, resolution)
        match chosen.randrange(4):
            case 0:
                position = _near(chosen, resolution, chosen.choice(corners), (-9, 1))
            case 1:
                border = h3.cell_to_boundary(h3.latlng_to_cell(position[1], position[2], resolution))
                position = _near(chosen, resolution, chosen.choice(border), (-14, -4))
            case 2:
                (one, other) = chosen.sample(corners, 2)
                middle = ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2)
                position = _near(chosen, resolution, middle, (-9, 1))
        found.append(position)
    return found


def _check(seed: int, count: int) -> None:
    positions = _positions(random.Random(seed), count)
    for position, mine, theirs in zip(positions, cell_centres(positions), centres(positions), strict=True):
        # The text tells a negative zero, too.
        assert mine is None or repr(mine) == repr(theirs), position


def test_centres_are_those_of_h3() -> None:
    """Wherever there is one, it is the rounded centre of the cell that H3 finds."""
    _check(1, 100_000)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
def test_many_centres_are_those_of_h3(seed: int) -> None:
    """As above, with ten million positions."""
    _check(1_000 + seed, 500_000)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_few_are_left_to_h3(resolution: int) -> None:
    """The comparison above is one of centres, and not of positions that are left to H3."""
    chosen = random.Random(resolution)
    found = cell_centres([_anywhere(chosen, resolution) for _ in range(10_000)])
    assert found.count(None) <= LEFT_TO_H3[resolution] * len(found)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_all_pentagons_are_left_to_h3(resolution: int) -> None:
    """A pentagon lies on five faces, and its centre in a corner of all of them."""
    found = cell_centres([(resolution, *h3.cell_to_latlng(cell)) for cell in h3.get_pentagons(resolution)])
    assert found == [None] * 12
