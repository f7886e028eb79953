"""Coordinates of a record as the centre of their cell: both at once, before each of them is treated by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tokenweir.core.generalize.cell import CellGeneralizer
from tokenweir.core.generalize.specs import CellSpec
from tokenweir.core.plan import Action, Leaf, Out, RecordOut, Rules, UnionOut
from tokenweir.core.schema import ABSENT
from tokenweir.errors import InvalidValueError

Value = Any
#: Replaces values of a record in place, at the indexes of its source.
Replace = Callable[[list[Value]], None]


class Mark:
    """A value that no record can hold."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


#: Stands in a record for a coordinate that cannot become a cell.
NO_CELL: Final = Mark("no cell")


def cell_replacements(out: RecordOut, action_of: Callable[[Rules], Action | None]) -> list[Replace]:
    """Return what replaces the coordinates of a record by those of their cell's centre, in the source's shape."""
    found: dict[tuple[int, int, int], list[int]] = {}
    for entry in out.fields:
        for leaf in _scalars(entry.value):
            action = action_of(leaf.rules)
            if leaf.pair and action is not None and isinstance(action.generalize, CellSpec):
                indexes = found.setdefault((*leaf.pair, action.generalize.resolution), [])
                if entry.index not in indexes:
                    indexes.append(entry.index)
    return [
        _cell(CellGeneralizer(resolution), latitude, longitude, indexes)
        for (latitude, longitude, resolution), indexes in found.items()
    ]


def _scalars(out: Out) -> list[Leaf]:
    """Return the leaf of a field, through a union, but not those inside other containers."""
    match out:
        case Leaf():
            return [out]
        case UnionOut():
            return [leaf for branch in out.branches if branch is not None for leaf in _scalars(branch)]
        case _:
            return []


def _cell(generalizer: CellGeneralizer, latitude: int, longitude: int, indexes: list[int]) -> Replace:
    def replace(record: list[Value]) -> None:
        centre = _centre(generalizer, record[latitude], record[longitude])
        for index in indexes:
            value = record[index]
            if value is None or value is ABSENT:
                continue
            snapped: Value = NO_CELL
            if centre is not None:
                snapped = centre[0 if index == latitude else 1]
            record[index] = (value[0], snapped) if isinstance(value, tuple) else snapped

    return replace


def _centre(generalizer: CellGeneralizer, latitude: Value, longitude: Value) -> tuple[Value, Value] | None:
    """Return the centre of the cell of a position, or None where there is no position."""
    bare = [value[1] if isinstance(value, tuple) else value for value in (latitude, longitude)]
    if any(value is None or value is ABSENT for value in bare):
        return None
    try:
        return generalizer.apply(*bare)
    except InvalidValueError:
        return None
