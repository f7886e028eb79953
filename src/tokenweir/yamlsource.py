"""YAML text to plain data in which every key and value still knows its line and column.

The dialect is a small part of YAML 1.2 (core schema) in which a text has one reading: one document, keys are text and
stand once, no anchors, aliases, merge keys, tags or directives. Only ``true`` and ``false`` are booleans and a date
stays text. Everything that is wrong is a :class:`~tokenweir.errors.Finding`, and all of it is found in one pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.reader import ReaderError

from tokenweir.errors import Finding

MAXIMUM_CHARACTERS: Final = 1024 * 1024
MAXIMUM_DEPTH: Final = 64

#: What the rules of this stage stand for; part of the documentation.
RULES: Final[dict[str, str]] = {
    "syntax": "The text is not YAML.",
    "tab": "A tab stands where YAML wants spaces.",
    "too-large": "The file is longer than 1,048,576 characters.",
    "too-deep": "The file is nested deeper than 64 levels.",
    "second-document": "A file holds one document.",
    "directive": "`%` directives are not allowed.",
    "duplicate-key": "A key stands twice in one mapping.",
    "key-type": "A key is not text; quote it.",
    "anchor": "Anchors (`&name`) are not allowed: what is written is what counts.",
    "alias": "Aliases (`*name`) are not allowed: write the value out.",
    "merge-key": "Merge keys (`<<`) are not allowed: write the keys out.",
    "tag": "Tags (`!name`) are not allowed.",
}

#: Keys and list indexes from the root to a value.
Path = tuple[str | int, ...]

# YAML 1.2.2, section 10.3.2 (core schema). Not-a-number and infinities stay text: no key takes them.
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_CONSTANTS: Final[dict[str, bool | None]] = (
    dict.fromkeys(("true", "True", "TRUE"), True)
    | dict.fromkeys(("false", "False", "FALSE"), False)
    | dict.fromkeys(("", "~", "null", "Null", "NULL"))
)
#: Longer numbers stay text; it is more than any key takes, and converting a huge number takes long.
_NUMBER_CHARACTERS: Final = 64


class Place(NamedTuple):
    """A line and a column, counting from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Positions:
    """Where the keys and values of a document stand."""

    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)

    def key(self, path: Path) -> Place:
        """Return the place of the key at ``path``; of a list's element the place of the element.

        Where the path is not known, the place of the longest part of it that is: an absent key is reported at the key
        that it should stand below.
        """
        for length in range(len(path), 0, -1):
            known = path[:length]
            if known in self.keys:
                return self.keys[known]
            if known in self.values:
                return self.values[known]
        return Place(1, 1)

    def value(self, path: Path) -> Place:
        """Return the place of the value at ``path``, or as :meth:`key` where the path is not known."""
        return self.values.get(path) or self.key(path)


@dataclass(slots=True)
class Document:
    """A file's data, the places of its parts, and what is wrong with it as YAML.

    ``data`` is made of dict, list, str, int, float, bool and None. ``unusable`` has the paths whose value could not be
    made (an alias, a tagged value): what a later stage would say of them is noise.
    """

    file: str
    data: Any = None
    positions: Positions = field(default_factory=Positions)
    findings: list[Finding] = field(default_factory=list)
    unusable: set[Path] = field(default_factory=set)
    #: Values that did not come from the file but from elsewhere, by path: the name of what they came from.
    origins: dict[Path, str] = field(default_factory=dict)
    #: False when the parser gave up, so that ``data`` is only the beginning of the file.
    complete: bool = True

    def finding(self, path: Path, rule: str, message: str, remedy: str = "", *, at_key: bool = False) -> Finding:
        """Return an error at the value of ``path``, or with ``at_key`` at its key, or at what it came from."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return Finding(self.origins[path[:length]], 0, 0, rule, message, remedy)
        place = self.positions.key(path) if at_key else self.positions.value(path)
        return Finding(self.file, *place, rule, message, remedy)

    def texts(self) -> Iterator[tuple[Path, str]]:
        """Yield every text value with its path, in the order of the file."""
        return texts(self.data)


def texts(data: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield every text in plain data with its path."""
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from texts(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from texts(value, (*path, index))


def resolve_scalar(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar stands for under the core schema of YAML 1.2."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > _NUMBER_CHARACTERS:
        return text
    if _INTEGER.fullmatch(text):
        base = {"0x": 16, "0o": 8}.get(text[:2], 10)
        return int(text, base)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def read_yaml(text: str, file: str) -> Document:
    """Return the document in ``text``; ``file`` is the name that its findings carry.

    Never raises for what the text holds: faults are in ``findings``.
    """
    document = Document(file)
    if len(text) > MAXIMUM_CHARACTERS:
        message = f"the file has {len(text):,} characters, at most {MAXIMUM_CHARACTERS:,} are allowed"
        document.findings.append(Finding(file, 1, 1, "too-large", message))
        document.complete = False
        return document
    builder = _Builder(document)
    try:
        for event in YAML(typ="rt", pure=True).parse(text):
            builder.take(event)
            if not document.complete:
                break
    except (YAMLError, YAMLStreamError) as error:
        document.findings.append(_syntax_finding(error, text, file))
        document.complete = False
    return document


def _syntax_finding(error: Exception, text: str, file: str) -> Finding:
    """Return what the parser could not understand, in one line."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        place = Place(error.problem_mark.line + 1, error.problem_mark.column + 1)
        problem = str(error.problem)
        if "'\\t'" in problem:
            return Finding(file, *place, "tab", "a tab stands where only spaces may", "indent with spaces")
        message = problem
        if error.context and error.context_mark is not None and error.context_mark.line + 1 != place.line:
            message += f", {error.context} that begins in line {error.context_mark.line + 1}"
        remedy = ""
        if "mapping values are not allowed" in problem:
            message = "a ':' is not allowed here"
            remedy = "check the indentation, and quote texts that hold ': '"
        elif "cannot start any token" in problem:
            remedy = "quote the text"
        if "${" in _line(text, place.line):
            remedy = 'quote the variable: "${NAME}"'
        return Finding(file, *place, "syntax", message, remedy)
    if isinstance(error, ReaderError):
        before = text[: error.position]
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        return Finding(file, line, column, "syntax", "a character that YAML does not allow")
    return Finding(file, 1, 1, "syntax", "the text cannot be read as YAML")


def _line(text: str, number: int) -> str:
    lines = text.split("\n")
    return lines[number - 1] if number <= len(lines) else ""


@dataclass(slots=True)
class _Open:
    """A mapping or list that is still being read."""

    path: Path
    container: dict[str, Any] | list[Any]
    #: In a mapping: the key whose value comes next, or None when a key comes next.
    key: str | None = None
    #: The value that comes next belongs to a key that is refused, and is read only to be passed over.
    refused: bool = False

    def next_key(self) -> str | int:
        """Return the key or index of the value that comes next."""
        return len(self.container) if self.key is None else self.key


class _Builder:
    """Puts the events of one document together. What is refused is passed over, with everything below it."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._stack: list[_Open] = []
        self._skip_depth = 0
        self._documents = 0

    def take(self, event: Event) -> None:
        """Take the next event of the parser."""
        if isinstance(event, DocumentStartEvent):
            self._start_document(event)
        elif isinstance(event, CollectionEndEvent):
            self._end_collection()
        elif isinstance(event, NodeEvent):
            self._node(event)

    def _find(self, event: Event, rule: str, message: str, remedy: str = "") -> None:
        place = _place(event)
        self._document.findings.append(Finding(self._document.file, *place, rule, message, remedy))

    def _start_document(self, event: DocumentStartEvent) -> None:
        self._documents += 1
        if event.version or event.tags:
            self._find(event, "directive", "a '%' directive stands before the document", "remove it")
        if self._documents > 1:
            self._find(event, "second-document", "a second document begins here", "use one file for each")
            self._document.complete = False

    def _node(self, event: NodeEvent) -> None:
        opens = isinstance(event, CollectionStartEvent)
        if self._skip_depth:
            self._skip_depth += opens
            return
        usable = self._check_node(event)
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.container, dict) and parent.key is None and not parent.refused:
            self._take_key(event, parent)
            self._skip_depth += opens
            return
        if parent is not None and parent.refused:
            parent.refused = False
            self._skip_depth += opens
            return
        self._take_value(event, parent, usable=usable)

    def _check_node(self, event: NodeEvent) -> bool:
        """Report what no node may have; return whether the value of the node can be used."""
        if isinstance(event, AliasEvent):
            self._find(event, "alias", "an alias ('*') is not allowed", "write the value out")
            return False
        if event.anchor is not None:
            self._find(event, "anchor", "an anchor ('&') is not allowed", "remove it")
        if getattr(event, "tag", None) is not None:
            self._find(event, "tag", "a tag ('!') is not allowed", "remove it; quotes make a text")
            return False
        return True

    def _take_key(self, event: NodeEvent, parent: _Open) -> None:
        container = parent.container
        parent.refused = True
        if not isinstance(event, ScalarEvent):
            if not isinstance(event, AliasEvent):
                self._find(event, "key-type", "a key must be text")
            return
        key: str = event.value
        plain = event.implicit[0]
        if plain and key == "<<":
            self._find(event, "merge-key", "the merge key '<<' is not allowed", "write the keys out")
        elif plain and not isinstance(resolve_scalar(key), str):
            self._find(event, "key-type", f"the key {key or '(empty)'} is not text", f'write "{key}" in quotes')
        elif key in container:
            first = self._document.positions.keys[(*parent.path, key)]
            self._find(event, "duplicate-key", f"the key '{key}' stands already in line {first.line}", "remove one")
        else:
            parent.key = key
            parent.refused = False
            self._document.positions.keys[(*parent.path, key)] = _place(event)

    def _take_value(self, event: NodeEvent, parent: _Open | None, *, usable: bool) -> None:
        path: Path = () if parent is None else (*parent.path, parent.next_key())
        self._document.positions.values[path] = _place(event)
        value: Any = None
        if not usable:
            self._document.unusable.add(path)
        elif isinstance(event, ScalarEvent):
            value = resolve_scalar(event.value) if event.implicit[0] else event.value
        else:
            value = {} if isinstance(event, MappingStartEvent) else []
        self._place_value(parent, value)
        if isinstance(event, CollectionStartEvent):
            if usable:
                self._open(event, path, value)
            else:
                self._skip_depth += 1

    def _place_value(self, parent: _Open | None, value: Any) -> None:  # noqa: ANN401 - Plain data of any kind.
        if parent is None:
            self._document.data = value
        elif isinstance(parent.container, list):
            parent.container.append(value)
        else:
            parent.container[str(parent.key)] = value
            parent.key = None

    def _open(self, event: Event, path: Path, container: Any) -> None:  # noqa: ANN401 - A dict or a list.
        if len(self._stack) == MAXIMUM_DEPTH:
            self._find(event, "too-deep", f"nested deeper than {MAXIMUM_DEPTH} levels")
            self._document.complete = False
        self._stack.append(_Open(path, container))

    def _end_collection(self) -> None:
        if self._skip_depth:
            self._skip_depth -= 1
        else:
            self._stack.pop()


def _place(event: Event) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)
