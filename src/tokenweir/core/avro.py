"""Avro schemas as schema trees: one node for every place where a value can stand.

A text is read in two steps: first its types are resolved, each once; then the tree of places is grown from them under a
budget, so that a short text whose expansion is exponential is refused after ``limits.schema_nodes`` places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from tokenweir.core.avro_types import MAX_DEPTH, Parser, Type, Use, checked_path
from tokenweir.core.schema import DEFAULT_LIMITS, Field, Kind, Limits, Node, Schema, join
from tokenweir.errors import SchemaError

#: Symbols of enums, counted at every place that uses them: what is compiled for a place is as large as its enum.
_MAX_SYMBOLS: Final = 1_000_000


def parse(
    text: str,
    references: Sequence[str] = (),
    *,
    limits: Limits = DEFAULT_LIMITS,
    tag_attributes: Sequence[str] = ("confluent:tags",),
) -> Schema:
    """Return the tree of an Avro schema.

    Args:
        text: The schema, as JSON.
        references: Texts of the schemas that ``text`` refers to, in such an order that each one refers only to
            earlier ones. The same text twice counts once.
        limits: ``schema_bytes`` (of all texts together), ``schema_nodes`` and ``depth`` (at most 64) are applied.
        tag_attributes: Attributes of fields and types that hold a list of tags.

    Raises:
        SchemaError: The text is not an Avro schema or passes a limit.
    """
    schema, _ = parse_with_warnings(text, references, limits=limits, tag_attributes=tag_attributes)
    return schema


def parse_with_warnings(
    text: str,
    references: Sequence[str] = (),
    *,
    limits: Limits = DEFAULT_LIMITS,
    tag_attributes: Sequence[str] = ("confluent:tags",),
) -> tuple[Schema, list[str]]:
    """Do what :func:`parse` does and also return what the author of the schema most likely did not mean.

    These are attributes that look like a tag attribute without being one, and a ``logicalType`` on a field instead of
    on its type, where the specification gives it no meaning.

    Raises:
        SchemaError: As :func:`parse`.
    """
    texts = [*dict.fromkeys(references), text]
    _check_size(texts, limits.schema_bytes)
    parser = Parser(limits, tag_attributes)
    for reference in texts[:-1]:
        parser.resolve(reference)
    tree = _Tree(limits.schema_nodes, min(limits.depth, MAX_DEPTH))
    return Schema(tree.node(parser.resolve(text), "", 0), "avro", tree.types), parser.warnings


def _check_size(texts: Sequence[str], schema_bytes: int) -> None:
    # Counting characters first keeps a huge text from being copied only to be measured.
    size = sum(map(len, texts))
    if size <= schema_bytes:
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    if size > schema_bytes:
        raise SchemaError(f"the schema and its references are larger than {schema_bytes} bytes")


class _Tree:
    """Grows the tree of places out of resolved types."""

    def __init__(self, schema_nodes: int, depth: int) -> None:
        self._limit = schema_nodes
        self._count = 0
        self._symbols = 0
        self._depth = depth
        self._open: set[str] = set()
        self.types: dict[str, Node] = {}

    def node(self, use: Use, path: str, level: int) -> Node:
        """Return the node for a type at a path, inside of ``level`` records, arrays and maps."""
        self._count += 1
        if self._count > self._limit:
            raise SchemaError(f"the schema has more than {self._limit} places when its types are written out", path)
        base = use.type
        self._symbols += len(base.symbols)
        if self._symbols > _MAX_SYMBOLS:
            raise SchemaError(f"the schema has more than {_MAX_SYMBOLS} enum symbols at all its places together", path)
        tags = tuple(dict.fromkeys(use.tags + base.tags))
        if base.name in self._open:
            return Node(Kind.REFERENCE, path, base.name, tags=tags)
        if base.kind in (Kind.RECORD, Kind.ARRAY, Kind.MAP) and level >= self._depth:
            raise SchemaError(f"the schema is nested deeper than {self._depth} levels", path)
        node = Node(
            base.kind,
            path,
            base.name,
            base.logical,
            tags,
            base.attributes,
            base.symbols,
            base.size,
            self._fields(base, path, level),
            None if base.items is None else self._items(base.kind, base.items, path, level),
            self._branches(base.branches, path, level),
        )
        if node.name:
            self.types.setdefault(node.name, node)
        return node

    def _fields(self, base: Type, path: str, level: int) -> tuple[Field, ...]:
        if not base.fields:
            return ()
        self._open.add(base.name)
        fields = []
        for name, use in base.fields:
            fields.append(Field(name, self.node(use, checked_path(join(path, name)), level + 1)))
        self._open.remove(base.name)
        return tuple(fields)

    def _items(self, kind: Kind, items: Use, path: str, level: int) -> Node:
        return self.node(items, checked_path(path + ("[*]" if kind is Kind.ARRAY else "{*}")), level + 1)

    def _branches(self, branches: tuple[Use, ...], path: str, level: int) -> tuple[Node, ...]:
        if sum(use.type.kind is not Kind.NULL for use in branches) <= 1:
            paths = [path] * len(branches)
        else:
            paths = [checked_path(f"{path}<{label}>") for label in _labels(branches)]
        nodes = []
        for use, place in zip(branches, paths, strict=True):
            nodes.append(self.node(use, place, level))
        return tuple(nodes)


def _labels(branches: Sequence[Use]) -> list[str]:
    """Return what stands in ``<>`` for each branch: its short name, or its full name where short names collide.

    No two are the same, as the branches of a union differ in their full names, or in their kinds if they have none.
    """
    short = [use.type.name.rpartition(".")[2] or str(use.type.kind) for use in branches]
    counts = Counter(short)
    return [
        use.type.name if counts[name] > 1 and use.type.name else name for use, name in zip(branches, short, strict=True)
    ]
