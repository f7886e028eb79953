"""What every way to generalize has in common."""

from __future__ import annotations

from typing import Protocol


class Generalizer(Protocol):
    """A compiled ``generalize:`` for one place of a schema; the same value always gives the same result."""

    def apply(self, value: object) -> object:
        """Return the coarser value, of the same kind as ``value``.

        ``value`` is what the schema's reader gives for the place, without a union around it; null is for the caller.
        An empty text passes unchanged.

        Raises:
            InvalidValueError: if the value does not fit, or the result does not fit the type. The message does not
                contain the value.
        """
