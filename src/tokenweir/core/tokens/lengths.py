"""The lengths that values of a token entry may have: a number, or a range."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, WithJsonSchema

MAXIMUM_LENGTH = 1024
"""Longest value of the formats with a length; FF1 itself would allow more, but its cost grows with the square."""

_LENGTH_RANGE = re.compile(r"([0-9]{1,4})\.\.([0-9]{1,4})", re.ASCII)


def _checked_length(value: int | str) -> int | str:
    """Return the one canonical form of a length (``10`` for ``10..10``), so that equal lengths have equal digests."""
    if isinstance(value, int):
        shortest = longest = value
    else:
        match = _LENGTH_RANGE.fullmatch(value)
        if match is None:
            raise ValueError("a length is a number such as 10 or a range such as 6..20")
        shortest, longest = int(match[1]), int(match[2])
    if not 1 <= shortest <= longest <= MAXIMUM_LENGTH:
        raise ValueError(f"a length lies between 1 and {MAXIMUM_LENGTH}, and a range goes upwards")
    return shortest if shortest == longest else f"{shortest}..{longest}"


Length: TypeAlias = Annotated[
    int | str,
    AfterValidator(_checked_length),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAXIMUM_LENGTH},
                {"type": "string", "pattern": r"^[0-9]{1,4}\.\.[0-9]{1,4}$"},
            ]
        }
    ),
]


def length_bounds(length: int | str) -> tuple[int, int]:
    """Return the shortest and the longest length that a validated ``length`` allows."""
    if isinstance(length, int):
        return length, length
    shortest, longest = length.split("..")
    return int(shortest), int(longest)
