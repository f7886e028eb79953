"""One tree for every schema: Avro and JSON Schema become the same nodes, and records the same Python values.

A :class:`Node` stands for one *place* in a record, not for a type: a named type that is used twice is two subtrees,
so that every place has its own path, tags and class. A type that contains itself is cut at the place where it would
repeat; that node has the kind ``REFERENCE`` and carries the name.

How decoded values look (the engine, the readers and the writers agree on this, and on nothing else):

=================  ====================================================================================
kind               value
=================  ====================================================================================
NULL               ``None``
BOOLEAN            ``bool``
INT, LONG          ``int`` (Avro)
FLOAT, DOUBLE      ``float``, always finite (Avro)
INTEGER, NUMBER    ``JsonNumber``: the text exactly as it stood in the record (JSON)
BYTES, FIXED       ``bytes``
STRING             ``str``, valid Unicode without surrogates
ENUM               ``str``, one of ``symbols``
RECORD             ``list``, one value per entry of ``fields``, in their order; ``ABSENT`` where JSON has none
ARRAY              ``list``
MAP                ``dict`` from ``str``, in the order of the record
UNION              ``None`` for the null branch, otherwise ``(branch index, value)``
REFERENCE          as the type that it names
ANY                ``ABSENT``: any JSON value that the schema does not describe; it can only be dropped
=================  ====================================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

_PLAIN_SEGMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


class _Absent:
    """The type of :data:`ABSENT`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"

    def __reduce__(self) -> str:
        return "ABSENT"


#: A JSON property that the record does not have. It is not null: null is a value.
ABSENT: Final = _Absent()


class JsonNumber(str):
    """A JSON number as its exact text, so that ``1.10`` stays ``1.10`` and 30 digits stay 30 digits."""

    __slots__ = ()


class Kind(StrEnum):
    """What stands at a place of a schema."""

    NULL = "null"
    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    INTEGER = "integer"
    NUMBER = "number"
    BYTES = "bytes"
    FIXED = "fixed"
    STRING = "string"
    ENUM = "enum"
    RECORD = "record"
    ARRAY = "array"
    MAP = "map"
    UNION = "union"
    REFERENCE = "reference"
    ANY = "any"


CONTAINERS: Final = frozenset({Kind.RECORD, Kind.ARRAY, Kind.MAP, Kind.UNION})


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record or a property of an object."""

    name: str
    node: Node
    #: JSON Schema ``required``; always true in Avro, where every field is written.
    required: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One place of a schema.

    Attributes:
        kind: What stands here.
        path: The canonical path of this place, "" for the root. A union with one branch beside null has the path of
            its branch; otherwise a branch adds ``<Name>``.
        name: The full name of a named Avro type; in JSON Schema the name of the definition or the title, if any.
        logical: The Avro ``logicalType`` or JSON Schema ``format``, only where it is known and valid for the kind.
        tags: Inline tags that speak of this place (``confluent:tags`` and configured synonyms).
        attributes: What else the derived schema needs: precision and scale of decimals; JSON Schema constraints.
        symbols: Of an enum.
        size: Of a fixed, in bytes.
        fields: Of a record.
        items: Element of an array, value of a map.
        branches: Of a union, in the order of the schema, null included.
    """

    kind: Kind
    path: str = ""
    name: str = ""
    logical: str = ""
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    symbols: tuple[str, ...] = ()
    size: int = 0
    fields: tuple[Field, ...] = ()
    items: Node | None = None
    branches: tuple[Node, ...] = ()

    def children(self) -> Iterator[Node]:
        """Yield the nodes directly below this one, in the order of the schema."""
        for entry in self.fields:
            yield entry.node
        if self.items is not None:
            yield self.items
        yield from self.branches

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it, parents first."""
        yield self
        for child in self.children():
            yield from child.walk()

    @property
    def optional_of(self) -> Node | None:
        """The one branch beside null of a union such as ``["null", "string"]``, or None for everything else."""
        if self.kind is not Kind.UNION:
            return None
        others = [branch for branch in self.branches if branch.kind is not Kind.NULL]
        return others[0] if len(others) == 1 else None


@dataclass(frozen=True, slots=True)
class Schema:
    """A parsed schema: its tree, and the named types that a ``REFERENCE`` node may point at.

    ``types`` maps full names to the first node of that type; readers resolve recursion through it.
    """

    root: Node
    format: str  # "avro" or "json"
    types: Mapping[str, Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one record may cost before it is rejected."""

    depth: int = 64
    elements: int = 50_000  # what arrays, maps and recursive types hold, with the fields and records in it, together
    bytes: int = 8 * 1024 * 1024
    decimal_bytes: int = 64
    number_characters: int = 512
    schema_nodes: int = 10_000
    schema_bytes: int = 1024 * 1024


DEFAULT_LIMITS: Final = Limits()


def segment(name: str) -> str:
    """Return a field or key name as it stands in a path: bare where possible, otherwise as a JSON string."""
    return name if _PLAIN_SEGMENT.match(name) else json.dumps(name, ensure_ascii=False)


def join(path: str, name: str) -> str:
    """Return the path of the field ``name`` of the record at ``path``."""
    return f"{path}.{segment(name)}" if path else segment(name)
