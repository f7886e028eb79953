"""The one path grammar: how a policy, a schema and a message name a place in a record.

=====================  ==========================================================================
``a.b``                field ``b`` of the record ``a``
``traits."first name"``  a name that is not plain, as a JSON string; never a wildcard
``items[*].sku``       in every element of an array
``attributes{*}``      every value of a map; a rule with it also covers the keys that are named
``attributes{name}``   the value of one named key; ``{"a b"}`` where the key is not plain
``attributes{@key}``   the keys themselves
``contact<Person>.x``  one branch of a union; without it a rule goes through any branch
``<Purchase>.total``   only in this record type, as branch of a top-level union or as the root
=====================  ==========================================================================

Rules may also hold ``?`` (one character), ``*`` (any characters within a name) and ``**`` (any steps), with the
meaning that the tag paths of the Confluent Schema Registry give to them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final, Literal

from tokenweir.core.globs import Glob
from tokenweir.core.schema import segment
from tokenweir.errors import TokenweirError

_BARE: Final = re.compile(r"[\w?*-]+")
_QUOTED: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_WILDCARD: Final = re.compile(r"[?*]")
_SOURCE_ROOT: Final = re.compile(r"\$\w*")


class PathError(TokenweirError, ValueError):
    """A path does not follow the grammar, or names no place.

    Attributes:
        path: The text of the path.
        column: Where in the text, counted from 1; 0 means the path as a whole.
        reason: What is wrong.
        remedy: What to write instead, or "".
    """

    def __init__(self, path: str, column: int, reason: str, remedy: str = "") -> None:
        place = f"path `{path}`" + (f", column {column}" if column else "")
        super().__init__(f"{place}: {reason}" + (f" ({remedy})" if remedy else ""))
        self.path = path
        self.column = column
        self.reason = reason
        self.remedy = remedy


class StepKind(Enum):
    """What one step of a path goes into."""

    NAME = auto()  # a field of a record
    ELEMENTS = auto()  # [*]
    VALUES = auto()  # {*}
    KEY = auto()  # {name}
    KEYS = auto()  # {@key}
    BRANCH = auto()  # <Name>
    DEEP = auto()  # **, only in rules


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path; ``glob`` is set where the name of a rule has wildcards."""

    kind: StepKind
    text: str = ""
    glob: Glob | None = None

    def covers(self, other: Step) -> bool:
        """Return whether this step of a rule stands for ``other``, a step of a concrete path."""
        if self.kind is not other.kind:
            return self.kind is StepKind.VALUES and other.kind is StepKind.KEY
        if self.kind is StepKind.BRANCH:
            return self.names_type(other.text)
        return self.glob.matches(other.text) if self.glob else self.text == other.text

    def names_type(self, name: str) -> bool:
        """Return whether this branch step names the type ``name``; a name without a namespace fits in any."""
        short = name.rpartition(".")[2]
        if self.glob:
            return any(self.glob.matches(candidate) for candidate in (name, short))
        own_short = self.text.rpartition(".")[2]
        return self.text == name or (own_short == short and (self.text == own_short or name == short))

    def __str__(self) -> str:
        """Return the step as it stands in a path, without the dot before a name."""
        match self.kind:
            case StepKind.NAME:
                return self.text if self.glob else segment(self.text)
            case StepKind.KEY:
                return f"{{{segment(self.text)}}}"
            case StepKind.BRANCH:
                return f"<{json.dumps(self.text, ensure_ascii=False) if _ODD_TYPE.search(self.text) else self.text}>"
            case _:
                return _FIXED_TEXT[self.kind]


_ODD_TYPE: Final = re.compile(r'[<>"\x00-\x1f]|\A\Z')
_FIXED_TEXT: Final = {
    StepKind.ELEMENTS: "[*]",
    StepKind.VALUES: "{*}",
    StepKind.KEYS: "{@key}",
    StepKind.DEEP: "**",
}
_FIXED_STEP: Final = {text: Step(kind) for kind, text in _FIXED_TEXT.items()}

#: Steps that a less exact rule may leave out or write as ``{*}``.
_EXACT: Final = frozenset({StepKind.BRANCH, StepKind.KEY})

Steps = tuple[Step, ...]


def format_steps(steps: Sequence[Step]) -> str:
    """Return the canonical text of ``steps``."""
    text = ""
    for step in steps:
        dot = "." if text and step.kind in {StepKind.NAME, StepKind.DEEP} else ""
        text += dot + str(step)
    return text


@lru_cache(maxsize=16_384)
def parse_path(text: str) -> Steps:
    """Return the steps of a path without wildcards in names; "" is the root and has none.

    Raises:
        PathError: If the text does not follow the grammar.
    """
    return _Scanner(text, wildcards=False).path() if text else ()


def last_name(steps: Steps) -> str | None:
    """Return the field name in which a path ends, before any union branch; None for wildcards and other endings."""
    last = next((step for step in reversed(steps) if step.kind is not StepKind.BRANCH), None)
    return last.text if last is not None and last.kind is StepKind.NAME and last.glob is None else None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path as a rule of a policy writes it; it may stand for many places."""

    text: str
    steps: Steps

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Return the pattern that ``text`` writes.

        Raises:
            PathError: If the text is empty or does not follow the grammar.
        """
        if not text:
            raise PathError(text, 0, "the path is empty", "`**` covers the whole record")
        return cls(text, _Scanner(text, wildcards=True).path())

    @property
    def is_concrete(self) -> bool:
        """Whether every name is written out; ``[*]`` and ``{*}`` are single places of a schema, not wildcards."""
        return all(step.glob is None and step.kind is not StepKind.DEEP for step in self.steps)

    @property
    def rank(self) -> int:
        """How exact the pattern is: 0 with wildcards, otherwise more by each union branch and map key that it names."""
        return 1 + sum(step.kind in _EXACT for step in self.steps) if self.is_concrete else 0

    @property
    def last_name(self) -> str | None:
        """The field name in which every place that is meant ends, before any union branch; None if there is no one."""
        return last_name(self.steps)

    @property
    def names_keys(self) -> bool:
        """Whether a key of a map is named."""
        return any(step.kind is StepKind.KEY for step in self.steps)

    def matches(self, node_path: str, record_name: str = "") -> bool:
        """Return whether the place ``node_path`` is meant, in a schema whose root is the record ``record_name``."""
        return _matches(self.steps, parse_path(node_path), record_name)

    def keys_named_in(self, map_path: str, record_name: str = "") -> list[str]:
        """Return the keys that the pattern names of the map at ``map_path``, such as ``a`` for ``**{a}.b``."""
        return [
            step.text
            for index, step in enumerate(self.steps)
            if step.kind is StepKind.KEY
            and _matches(self.steps[: index + 1], (*parse_path(map_path), step), record_name)
        ]


def _matches(pattern: Steps, path: Steps, record_name: str) -> bool:
    """Compare from the end, where most rules and places already differ, and every way to read ``**`` at once."""
    #: How many steps at the start of the path are left for the steps of the pattern that are not compared yet.
    left = {len(path)}
    for i in range(len(pattern), 0, -1):
        step = pattern[i - 1]
        last = i == len(pattern)
        if step.kind is StepKind.DEEP:
            if last and path and path[-1].kind is StepKind.KEYS:
                return False  # The keys of a map leave only where a rule names them.
            below = last and i > 1  # `a.**` is what is below `a`, without `a`.
            left = set(range(max(left) + (0 if below else 1)))
        else:
            if not last:
                left |= {k for j in left for k in _before_branches(path, j)}
            if i == 1 and 0 in left and step.kind is StepKind.BRANCH and record_name and step.names_type(record_name):
                return True
            left = {j - 1 for j in left if j and step.covers(path[j - 1])}
        if not left:
            return False
    return all(step.kind is StepKind.BRANCH for step in path[: min(left)])


def _before_branches(path: Steps, end: int) -> Iterator[int]:
    """Yield where the union branches begin that stand right before ``end``: a rule may leave them out."""
    while end and path[end - 1].kind is StepKind.BRANCH:
        end -= 1
        yield end


@dataclass(frozen=True, slots=True)
class SourcePath:
    """Where in a message an id stands: in the value, in the key, or in a header.

    ``path`` is the path inside the value or key ("" is all of it), or the exact name of the header.
    """

    origin: Literal["value", "key", "header"]
    path: str

    @classmethod
    def parse(cls, text: str) -> SourcePath:
        """Return the place that ``a.b``, ``$key``, ``$key.id`` or ``$headers{name}`` writes.

        Raises:
            PathError: If the text does not follow the grammar, has wildcards or an unknown ``$`` root.
        """
        root = _SOURCE_ROOT.match(text)
        if root is None:
            if not text:
                raise PathError(text, 0, "the path is empty")
            return cls("value", format_steps(_Scanner(text, wildcards=False).path()))
        scanner = _Scanner(text, wildcards=False, position=root.end())
        if root.group() == "$key":
            return cls("key", format_steps(scanner.path_after_root()))
        if root.group() == "$headers":
            steps = scanner.path_after_root()
            if len(steps) == 1 and steps[0].kind is StepKind.KEY:
                return cls("header", steps[0].text)
            raise PathError(text, root.end() + 1, "exactly one header is named", "write `$headers{name}`")
        raise PathError(text, 1, f"there is no root `{root.group()}`", "use `$key` or `$headers{name}`")


class _Scanner:
    """Reads the steps of one path from left to right."""

    def __init__(self, text: str, *, wildcards: bool, position: int = 0) -> None:
        self.text = text
        self.wildcards = wildcards
        self.position = position

    def path_after_root(self) -> Steps:
        """Read what follows ``$key`` or ``$headers``: nothing, or steps that go into it."""
        if self.position == len(self.text):
            return ()
        if self.text[self.position] == ".":
            self.position += 1
        elif self.text[self.position] not in "<[{":
            raise self.error("a dot, `<`, `[` or `{` must follow the root")
        return self.path()

    def path(self) -> Steps:
        """Read up to the end of the text, at least one step."""
        steps = [self.first_step()]
        while self.position < len(self.text):
            character = self.text[self.position]
            if character == ".":
                self.position += 1
                steps.append(self.name())
            elif character in "<[{":
                steps.append(self.bracket(character))
            elif len(steps) == 1 and steps[0].kind is StepKind.BRANCH:
                steps.append(self.name())
            else:
                raise self.error(f"`{character}` cannot stand here", "put a dot before a name; quote unusual names")
            if steps[-2].kind is StepKind.KEYS:
                raise PathError(self.text, self.position, "nothing can follow `{@key}`", "keys are text")
        return tuple(steps)

    def first_step(self) -> Step:
        """Read the first step, which has no dot before it."""
        if self.position < len(self.text) and self.text[self.position] in "<[{":
            return self.bracket(self.text[self.position])
        return self.name()

    def name(self) -> Step:
        """Read a field name, a pattern of one, or ``**``."""
        start = self.position
        quoted = self.quoted()
        if quoted is not None:
            return Step(StepKind.NAME, quoted)
        found = _BARE.match(self.text, start)
        if found is None:
            raise self.error("a name must stand here", 'quote names with other characters: `a."first name"`')
        self.position = found.end()
        return self.with_wildcards(StepKind.NAME, found.group(), start)

    def bracket(self, opening: str) -> Step:
        """Read ``<Name>``, ``[*]``, ``{*}``, ``{@key}`` or ``{name}``."""
        for text, step in _FIXED_STEP.items():
            if step.kind is not StepKind.DEEP and self.text.startswith(text, self.position):
                self.position += len(text)
                return step
        start = self.position + 1
        self.position = start
        if opening == "[":
            raise self.error("only `[*]` can stand in brackets", "a rule covers all elements of an array alike")
        kind, closing = (StepKind.BRANCH, ">") if opening == "<" else (StepKind.KEY, "}")
        quoted = self.quoted()
        if quoted is not None:
            step = Step(kind, quoted)
        else:
            bare = re.compile(r"[^<>\"]+" if kind is StepKind.BRANCH else _BARE.pattern).match(self.text, start)
            if bare is None:
                raise self.error("a name must stand here", 'quote names with other characters: `{"a b"}`')
            self.position = bare.end()
            if kind is StepKind.KEY and _WILDCARD.search(bare.group()):
                raise PathError(self.text, start + 1, "a map key has no wildcards", "name each key, or write `{*}`")
            step = self.with_wildcards(kind, bare.group(), start) if self.wildcards else Step(kind, bare.group())
        if not self.text.startswith(closing, self.position):
            raise self.error(f"`{closing}` must stand here", 'quote names with other characters: `{"a b"}`')
        self.position += 1
        return step

    def quoted(self) -> str | None:
        """Read a JSON string if one begins here."""
        if not self.text.startswith('"', self.position):
            return None
        found = _QUOTED.match(self.text, self.position)
        try:
            value = json.loads(found.group()) if found else None
        except ValueError:
            value = None
        if found is None or not isinstance(value, str):
            raise self.error("this is no complete JSON string")
        self.position = found.end()
        return value

    def with_wildcards(self, kind: StepKind, text: str, start: int) -> Step:
        """Return the step that a bare name stands for."""
        if not _WILDCARD.search(text):
            return Step(kind, text)
        if not self.wildcards:
            raise PathError(
                self.text, start + 1, "this path has no wildcards", "name one place; quote `*` or `?` that are in names"
            )
        if text == "**" and kind is StepKind.NAME:
            return _FIXED_STEP[text]
        if "**" in text:
            raise PathError(
                self.text, start + 1, "`**` stands alone between dots", "within a name `*` is any characters"
            )
        return Step(kind, text, Glob.of_name(text))

    def error(self, reason: str, remedy: str = "") -> PathError:
        """Return the error for the place that is read now."""
        return PathError(self.text, self.position + 1, reason, remedy)
