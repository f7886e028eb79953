"""How figures are told: the median of the rounds and their range, also of ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

Spread = dict[str, float]


def spread(values: Sequence[float], digits: int = 2) -> Spread:
    """Return median, least and greatest."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def times(measured: Mapping[str, Sequence[float]], base: str, digits: int = 2) -> dict[str, Spread]:
    """Return how many times the base everything is, round by round; a round that either lacks does not count."""
    return {
        name: spread([theirs / ours for theirs, ours in zip(values, measured[base], strict=False)], digits)
        for name, values in measured.items()
    }
