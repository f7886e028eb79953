"""Tokens of a layout: what stands in groups is one mixed-radix number, enciphered by cycle walking."""

from __future__ import annotations

from math import prod

from tokenweir.core.tokens.base import PreparedRank, RankFormat, invalid, superset
from tokenweir.core.tokens.layout import parse_layout
from tokenweir.core.tokens.specs import PatternSpec


class PatternFormat(RankFormat):
    """A text of fixed layout; all groups together are one value, the rest is kept and goes into the tweak."""

    def __init__(self, spec: PatternSpec) -> None:
        super().__init__(spec.null_values)
        self._layout = [
            (position.characters, {character: rank for rank, character in enumerate(position.characters)})
            for position in parse_layout(spec.pattern)
        ]
        tokenized = [position.tokenized for position in parse_layout(spec.pattern)]
        self._tokenized = tokenized
        self.smallest_domain = prod(
            len(characters) for (characters, _), grouped in zip(self._layout, tokenized, strict=True) if grouped
        )
        self.walk_below = self.smallest_domain
        self.radix, self._length = superset(self.smallest_domain)
        self.token_length = (len(tokenized), len(tokenized))

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        if len(text) != len(self._layout):
            raise invalid("a text of the layout of its pattern")
        rank = 0
        kept: list[str] = []
        for character, (_, ranks), tokenized in zip(text, self._layout, self._tokenized, strict=True):
            numeral = ranks.get(character)
            if numeral is None:
                raise invalid("a text of the layout of its pattern")
            if tokenized:
                rank = rank * len(ranks) + numeral
            else:
                kept.append(character)
        return PreparedRank(rank, self._length, "".join(kept))

    def render(self, prepared: PreparedRank, rank: int) -> str:
        """Write the token for the enciphered rank."""
        kept = list(prepared.kept)
        characters: list[str] = []
        for (choices, _), tokenized in zip(reversed(self._layout), reversed(self._tokenized), strict=True):
            if tokenized:
                rank, numeral = divmod(rank, len(choices))
                characters.append(choices[numeral])
            else:
                characters.append(kept.pop())
        characters.reverse()
        return "".join(characters)
