r"""The language of ``pattern``: a strict, fixed-length part of regular expressions, read without backtracking.

::

    layout     = ( group | item )+
    group      = "(" item+ ")"
    item       = character [ "{" n "}" ]
    character  = literal | "\d" | "\" punctuation | "[" ( range | "\d" | literal )+ "]"

Every layout has one length and every position one set of characters, so reading a value is one look-up per character.
What a regular expression could mean beyond that (``. * + ? | ^ $``, ranges of lengths, negated classes) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenweir.core.alphabets import DIGITS

MAXIMUM_POSITIONS = 256
"""Longest layout, after repetition."""

_SPECIAL = frozenset("\\()[]{}.*+?|^$")


@dataclass(frozen=True, slots=True)
class Position:
    """One character of a layout."""

    characters: str
    """The characters that may stand here, by code point and each once."""
    tokenized: bool
    """Whether it stands in a group."""


class LayoutError(ValueError):
    """A pattern that does not follow the language; the message has the column, counted from 1."""


def parse_layout(pattern: str) -> tuple[Position, ...]:
    """Read a pattern.

    Raises:
        LayoutError: it does not follow the language, has no group, or more than 256 positions.
    """
    return _Parser(pattern).layout()


class _Parser:
    """Reads a pattern from left to right, one character of look-ahead."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def layout(self) -> tuple[Position, ...]:
        positions: list[Position] = []
        in_group = group_is_empty = False
        while (character := self._peek()) is not None:
            if character == "(":
                if in_group:
                    raise self._error("groups do not nest")
                self._at += 1
                in_group = group_is_empty = True
            elif character == ")":
                if not in_group or group_is_empty:
                    raise self._error("an empty group" if in_group else "a ) without its (")
                self._at += 1
                in_group = False
            else:
                characters = self._character()
                positions += [Position(characters, in_group)] * self._repetition()
                group_is_empty = False
                if len(positions) > MAXIMUM_POSITIONS:
                    raise self._error(f"more than {MAXIMUM_POSITIONS} characters")
        if in_group:
            raise self._error("a ( without its )")
        if not any(position.tokenized for position in positions):
            raise self._error("no (group), so nothing would be tokenized")
        return tuple(positions)

    def _character(self) -> str:
        """Read what may stand at one position."""
        if self._peek() == "[":
            return self._class()
        if self._peek() == "\\":
            return self._escape()
        return self._literal(_SPECIAL)

    def _class(self) -> str:
        """Read ``[...]`` and return its characters."""
        self._at += 1
        members: set[str] = set()
        while self._peek() != "]":
            if self._peek() == "^" and not members:
                raise self._error("a class cannot be negated; list what may stand there")
            if self._peek() == "\\":
                low = self._escape()
                members |= set(low)
                if len(low) > 1:
                    continue
            else:
                low = self._literal(frozenset("\\[]"))
                members.add(low)
            if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._escape() if self._peek() == "\\" else self._literal(frozenset("\\[]"))
                if len(high) > 1 or high < low:
                    raise self._error("a range goes from a lower to a higher character")
                members |= {chr(code) for code in range(ord(low), ord(high) + 1)}
        self._at += 1
        if not members:
            raise self._error("an empty class")
        return "".join(sorted(members))

    def _escape(self) -> str:
        r"""Read ``\d`` or an escaped punctuation character."""
        self._at += 1
        character = self._peek()
        if character == "d":
            self._at += 1
            return DIGITS
        if character is None or character.isalnum():
            raise self._error("only \\d and escaped punctuation are known")
        return self._literal(frozenset())

    def _literal(self, special: frozenset[str]) -> str:
        """Read one character that stands for itself."""
        character = self._peek()
        if character is None:
            raise self._error("the pattern ends too early")
        if not " " <= character <= "~":
            raise self._error("only printable ASCII characters")
        if character in special:
            raise self._error(f"{character} has no meaning here; write \\{character} for the character itself")
        self._at += 1
        return character

    def _repetition(self) -> int:
        """Read ``{n}`` if it stands here."""
        if self._peek() != "{":
            return 1
        end = self._pattern.find("}", self._at)
        digits = self._pattern[self._at + 1 : end] if end > 0 else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 3 and 1 <= int(digits) <= MAXIMUM_POSITIONS):
            raise self._error(f"a repetition is {{n}} with n from 1 to {MAXIMUM_POSITIONS}")
        self._at = end + 1
        return int(digits)

    def _peek(self) -> str | None:
        return self._pattern[self._at] if self._at < len(self._pattern) else None

    def _error(self, message: str) -> LayoutError:
        return LayoutError(f"column {self._at + 1} of the pattern: {message}")
