"""Tokens of names and street lines: a name that the key picks from a list. Irreversible, and many have the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from tokenweir.core.tokens.base import UNBOUNDED_DOMAIN, DigestFormat, PreparedText, invalid
from tokenweir.core.tokens.namelists import FAMILY, GIVEN, HOUSES, STREETS
from tokenweir.core.tokens.specs import NameSpec

_EXPECTED = "a text of 1 to 256 printable characters"
_LONGEST = 256
# Tabs and the space separators of Unicode: all of them are the space of a name.
_SPACES = re.compile("[\t \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")


class NameFormat(DigestFormat):
    """A name from a frozen list.

    Before hashing a name is brought to one form: NFC, lower case, single spaces. Two spellings of one name have one
    token; two names have the same token about as often as two draws from the list are equal, so tokens tell nobody
    apart and join nothing.
    """

    smallest_domain = UNBOUNDED_DOMAIN

    def __init__(self, spec: NameSpec) -> None:
        super().__init__(spec.null_values)
        self._list = spec.list
        given, family = [(min(map(len, names)), max(map(len, names))) for names in (GIVEN, FAMILY)]
        streets = (min(map(len, STREETS)) + 2, max(map(len, STREETS)) + 1 + len(str(HOUSES)))
        full = (given[0] + 1 + family[0], given[1] + 1 + family[1])
        self.token_length = {"given": given, "family": family, "full": full, "street": streets}[spec.list]

    def prepare(self, text: str) -> PreparedText:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        if len(text) > _LONGEST:
            raise invalid(_EXPECTED)
        spaced = _SPACES.sub(" ", text).strip(" ")
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", spaced).lower())
        if not folded or not folded.isprintable():  # Surrogates and control characters are not printable.
            raise invalid(_EXPECTED)
        return PreparedText(folded)

    def render(self, prepared: PreparedText, mac: Callable[[str, str], bytes]) -> str:
        """Write the token."""
        if self._list == "street":
            line = _pick(mac("street", prepared.text), HOUSES * len(STREETS))
            return f"{line // len(STREETS) + 1} {STREETS[line % len(STREETS)]}"
        picked = []
        if self._list in {"given", "full"}:
            picked.append(GIVEN[_pick(mac("given", prepared.text), len(GIVEN))])
        if self._list in {"family", "full"}:
            picked.append(FAMILY[_pick(mac("family", prepared.text), len(FAMILY))])
        return " ".join(picked)


def _pick(digest: bytes, count: int) -> int:
    """Return a number below ``count``; its bias is below 2^-40, since a digest has 64 bits here."""
    return int.from_bytes(digest[:8], "big") % count
