"""Coordinates of a record as another point, such as the centre of their cell: both at once, before each is treated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from tokenweir.core.generalize.specs import PairSpec
from tokenweir.core.plan import Action, Leaf, Out, RecordOut, Rules, UnionOut
from tokenweir.core.schema import ABSENT
from tokenweir.errors import InvalidValueError

Value = Any
#: Replaces values of a record in place, at the indexes of its source.
Replace = Callable[[list[Value]], None]


class PairGeneralizer(Protocol):
    """Gives another point for a latitude and a longitude, or raises InvalidValueError where they are no position."""

    def apply(self, latitude: Any, longitude: Any) -> tuple[Any, Any]:  # noqa: ANN401 - a float or a JSON number
        """Return the other point, each coordinate of the kind of the one that it replaces."""


class Mark:
    """A value that no record can hold."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


#: Stands in a record for a coordinate that cannot become another one.
NO_CELL: Final = Mark("no cell")


def pair_replacements(
    out: RecordOut,
    action_of: Callable[[Rules], Action | None],
    generalizer_of: Callable[[PairSpec], PairGeneralizer],
) -> list[Replace]:
    """Return what replaces the coordinates of a record by those of another point, in the source's shape."""
    found: dict[tuple[int, int, PairSpec], list[int]] = {}
    for entry in out.fields:
        for leaf in _scalars(entry.value):
            action = action_of(leaf.rules)
            if leaf.pair and action is not None and action.pair is not None:
                indexes = found.setdefault((*leaf.pair, action.pair), [])
                if entry.index not in indexes:
                    indexes.append(entry.index)
    return [
        _replacing(generalizer_of(spec), latitude, longitude, indexes)
        for (latitude, longitude, spec), indexes in found.items()
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


def _replacing(generalizer: PairGeneralizer, latitude: int, longitude: int, indexes: list[int]) -> Replace:
    def replace(record: list[Value]) -> None:
        point = _point(generalizer, record[latitude], record[longitude])
        for index in indexes:
            value = record[index]
            if value is None or value is ABSENT:
                continue
            snapped: Value = NO_CELL
            if point is not None:
                snapped = point[0 if index == latitude else 1]
            record[index] = (value[0], snapped) if isinstance(value, tuple) else snapped

    return replace


def _point(generalizer: PairGeneralizer, latitude: Value, longitude: Value) -> tuple[Value, Value] | None:
    """Return the point that stands for a position, or None where there is no position."""
    bare = [value[1] if isinstance(value, tuple) else value for value in (latitude, longitude)]
    if any(value is None or value is ABSENT for value in bare):
        return None
    try:
        return generalizer.apply(*bare)
    except InvalidValueError:
        return None
