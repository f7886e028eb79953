"""Tokens of bounded whole numbers: the distance from the lower bound is enciphered by cycle walking."""

from __future__ import annotations

import re

from tokenweir.core.tokens.base import INT_RANGE, LONG_RANGE, Kind, PreparedRank, RankFormat, invalid, superset
from tokenweir.core.tokens.specs import IntegerSpec

# 39 digits write every number that a specification can name as a bound.
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,39}", re.ASCII)


class IntegerFormat(RankFormat):
    """A whole number from ``min`` to ``max``; the token is one too.

    Leading zeros and the sign of zero are not part of a number: ``0042`` and ``42`` have the same token.
    """

    def __init__(self, spec: IntegerSpec) -> None:
        super().__init__(spec.null_values)
        self.smallest_domain = spec.max - spec.min + 1
        self.walk_below = self.smallest_domain
        self.radix, self._length = superset(self.smallest_domain)
        self._minimum = spec.min
        self._expected = f"a whole number from {spec.min} to {spec.max}"
        widths = [len(str(spec.min)), len(str(spec.max))]
        self.token_length = (1, max(widths))
        kinds: set[Kind] = {"string", "integer"}
        kinds |= {"int"} if spec.min in INT_RANGE and spec.max in INT_RANGE else set()
        kinds |= {"long"} if spec.min in LONG_RANGE and spec.max in LONG_RANGE else set()
        self.kinds = frozenset(kinds)

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        if _WHOLE_NUMBER.fullmatch(text) is None:
            raise invalid(self._expected)
        rank = int(text) - self._minimum
        if not 0 <= rank < self.smallest_domain:
            raise invalid(self._expected)
        return PreparedRank(rank, self._length)

    def render(self, prepared: PreparedRank, rank: int) -> str:  # noqa: ARG002 - the number is all there is
        """Write the token for the enciphered rank."""
        return str(rank + self._minimum)

    def from_integer(self, value: int) -> str:
        """Return the number in decimal; see :meth:`TokenFormat.from_integer`."""
        if not 0 <= value - self._minimum < self.smallest_domain:
            raise invalid(self._expected)
        return str(value)

    def to_integer(self, token: str) -> int:
        """Return the number; see :meth:`TokenFormat.to_integer`."""
        return int(token)
