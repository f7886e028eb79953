"""Names with wildcards, compared in one pass: no pattern makes a comparison longer than the text it looks at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

#: Tokens of the registry's patterns; a backslash takes the next character literally.
_REGISTRY_TOKENS: Final = re.compile(r"\\.|\*\*\.\*|\*\*|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Glob:
    """A compiled pattern. Each mask has a bit for every position in it at which it stands.

    Attributes:
        letters: Where a character stands for itself.
        one: Where any one character stands, ``one_within`` any but a dot.
        many: Where any characters stand, ``many_within`` any but a dot.
        end: The bit behind the last position.
    """

    letters: Mapping[str, int] = field(hash=False)
    one: int
    one_within: int
    many: int
    many_within: int
    end: int

    @classmethod
    def of_name(cls, text: str) -> Glob:
        """Return the pattern of one name, in which ``*`` is any characters and ``?`` is any one."""
        return _compiled({"*": "**", "?": "."}.get(character, "\\" + character) for character in text)

    @classmethod
    def of_registry(cls, text: str) -> Glob:
        """Return the pattern that is a tag path of the registry's ``metadata.tags``.

        The registry matches ``{full name of the record}.{field}`` in Avro and ``$.a.b`` in JSON Schema; ``**`` matches
        any characters there, ``*`` and ``?`` any but a dot, and a backslash takes the next character literally
        (Confluent Schema Registry, ``WildcardMatcher``).
        """
        tokens = _REGISTRY_TOKENS.findall(text)
        return _compiled(token if token in {"**", "**.*", "*", "?"} else "\\" + token[-1] for token in tokens)

    def matches(self, text: str) -> bool:
        """Return whether all of ``text`` is meant. All ways to read the pattern are followed at once."""
        stars = self.many | self.many_within
        states = 1 | (stars & 1) << 1
        for character in text:
            within = character != "."
            single = self.letters.get(character, 0) | self.one | (self.one_within if within else 0)
            states = (states & single) << 1 | states & (self.many | (self.many_within if within else 0))
            # A star may stand for nothing; no two of them are neighbours.
            states |= (states & stars) << 1
            if not states:
                return False
        return bool(states & self.end)


def _compiled(tokens: Iterable[str]) -> Glob:
    """Return the pattern of tokens: ``.``, ``?``, ``*``, ``**``, ``**.*``, or a backslash and a character."""
    letters: dict[str, int] = {}
    masks = dict.fromkeys((".", "?", "**", "*"), 0)
    bit = 1
    last = ""
    for part in tokens:
        kind = "**" if part == "**.*" else part
        if kind in {"*", "**"} and last in {"*", "**"}:
            # Together the two stand for what the wider of them stands for.
            masks[last] &= ~(bit >> 1)
            kind = "**" if "**" in {kind, last} else "*"
            masks[kind] |= bit >> 1
            last = kind
            continue
        if kind in masks:
            masks[kind] |= bit
        else:
            letters[kind[-1]] = letters.get(kind[-1], 0) | bit
        bit <<= 1
        last = kind
    return Glob(letters, masks["."], masks["?"], masks["**"], masks["*"], bit)
