"""Tokens of small sets: a keyed permutation of the values that the policy lists.

No cipher makes a small set safe, so this is no substitute for one: whoever knows how often values occur reads the most
frequent tokens, and whoever may have values tokenized has the whole code book after as many calls as there are values.
"""

from __future__ import annotations

from collections.abc import Callable

from tokenweir.core.tokens.base import Algorithm, PreparedText, TokenFormat, invalid
from tokenweir.core.tokens.specs import PermutationSpec


class PermutationFormat(TokenFormat):
    """The values of a list, each a token of another or of itself."""

    algorithm: Algorithm = "hmac-sha256"
    reversible = True

    def __init__(self, spec: PermutationSpec) -> None:
        super().__init__(spec.null_values)
        self._values = sorted(spec.values)
        self._known = frozenset(spec.values)
        self.smallest_domain = len(spec.values)
        self.token_length = (min(map(len, spec.values)), max(map(len, spec.values)))

    def prepare(self, text: str) -> PreparedText:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        if text not in self._known:
            raise invalid("one of the values of the list")
        return PreparedText(text)

    def table(self, mac: Callable[[str, str], bytes]) -> dict[str, str]:
        """Return the token of each value: the values in order, beside the values in the order of their MACs.

        With a MAC like a random function every permutation is equally likely, as in sorting by random keys.
        """
        shuffled = sorted(self._values, key=lambda value: mac("value", value))
        return dict(zip(self._values, shuffled, strict=True))
