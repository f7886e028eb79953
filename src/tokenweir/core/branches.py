"""Branches of a JSON union that a value cannot be told apart by, so that data of one may be read as the other.

A JSON value does not say which branch it is meant for; a reader takes the first that it fits. That is harmless where
both mean the same by a place. Where they do not, the first would let out what the second protects, or would not know
whom the second is about.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from itertools import combinations
from typing import Final

from tokenweir.core.schema import Kind, Node
from tokenweir.errors import SchemaError

#: Two places that one value may stand at; a map stands for its keys.
Pair = tuple[Node, Node]

#: How many comparisons all unions of a schema may take: each branch is compared with each, and each field with its own.
_MAX_COMPARISONS: Final = 1_000_000

_JSON_TYPES: Final = {
    Kind.NULL: "null",
    Kind.BOOLEAN: "boolean",
    Kind.INTEGER: "number",
    Kind.NUMBER: "number",
    Kind.STRING: "string",
    Kind.ENUM: "string",
    Kind.RECORD: "object",
    Kind.MAP: "object",
    Kind.ARRAY: "array",
}
_ANYTHING: Final = frozenset(_JSON_TYPES.values())
_OBJECTS: Final = frozenset({Kind.RECORD, Kind.MAP})
_HOLDING_NOTHING: Final = frozenset({Kind.RECORD, Kind.ARRAY, Kind.UNION, Kind.NULL})


class Comparison:
    """Compares the branches of the unions of one schema.

    ``meaning`` says what a place is taken for. ``is_named`` says that a place must be found wherever it may stand,
    so that it is missed where a branch does not declare it.
    """

    def __init__(self, meaning: Callable[[Node], Hashable], is_named: Callable[[Node], bool]) -> None:
        self._meaning = meaning
        self._is_named = is_named
        self._left = _MAX_COMPARISONS
        self._types_of: dict[Node, frozenset[str]] = {}
        self._fields_of: dict[Node, dict[str, Node]] = {}

    def confused(self, union: Node) -> tuple[Pair, ...]:
        """Return places of an earlier branch with those of a later one that may be read as them and mean another thing.

        Each two meanings come once. A container stands for what it does not declare.

        Raises:
            SchemaError: The schema takes too many comparisons.
        """
        found: dict[tuple[Hashable, Hashable], Pair] = {}
        for first, second in combinations(union.branches, 2):
            for pair in self._pairs(first, second):
                meanings = (self._meaning(pair[0]), self._meaning(pair[1]))
                if meanings[0] != meanings[1]:
                    found.setdefault(meanings, pair)
        return tuple(found.values())

    def _charge(self, cost: int, node: Node) -> None:
        self._left -= cost
        if self._left < 0:
            raise SchemaError("the schema has too many branches to compare", node.path)

    def _pairs(self, first: Node, second: Node) -> Iterator[Pair]:
        """Yield all places of ``first`` and ``second`` that one value may stand at."""
        self._charge(1, second)
        if self._types(first).isdisjoint(self._types(second)):
            return
        if Kind.UNION in {first.kind, second.kind}:
            for one in first.branches if first.kind is Kind.UNION else (first,):
                for other in second.branches if second.kind is Kind.UNION else (second,):
                    yield from self._pairs(one, other)
        elif first.kind is Kind.ARRAY and second.kind is Kind.ARRAY and first.items and second.items:
            yield from self._pairs(first.items, second.items)
        elif first.kind in _OBJECTS and second.kind in _OBJECTS:
            if not self._told_apart(first, second):
                yield from self._pairs_of_objects(first, second)
        else:
            # What a type that repeats or is not described holds may stand for anything of the other.
            firsts, seconds = self._held(first), self._held(second)
            self._charge(len(firsts) * len(seconds), second)
            yield from ((one, other) for one in firsts for other in seconds)

    def _pairs_of_objects(self, first: Node, second: Node) -> Iterator[Pair]:
        """Yield what records and maps hold under the same names, what is missed, and the keys of a map."""
        fields, others = self._fields(first), self._fields(second)
        self._charge(len(fields) + len(others), second)
        for name in fields | others:
            one, other = fields.get(name, first.items), others.get(name, second.items)
            if one and other:
                yield from self._pairs(one, other)
            elif other:
                yield from self._missed(first, other)
        if second.items and first.items:
            yield from self._pairs(first.items, second.items)
        elif second.items:
            yield from self._missed(first, second.items)
        if first.kind is Kind.MAP:
            others_of_keys = [second] if second.kind is Kind.MAP else self._held(second)
            self._charge(len(others_of_keys), second)
            yield from ((first, other) for other in others_of_keys)

    def _missed(self, first: Node, undeclared: Node) -> Iterator[Pair]:
        """Yield what must be found inside of a place that ``first`` does not declare."""
        held = self._held(undeclared)
        self._charge(len(held), undeclared)
        yield from ((first, node) for node in held if self._is_named(node))

    def _told_apart(self, first: Node, second: Node) -> bool:
        """Return whether no object that follows ``second`` has what ``first`` requires, by its type or its enum."""
        others = self._fields(second)
        self._charge(len(first.fields), second)
        return any(
            entry.required and entry.name in others and self._disjoint(entry.node, others[entry.name])
            for entry in first.fields
        )

    def _disjoint(self, first: Node, second: Node) -> bool:
        if self._types(first).isdisjoint(self._types(second)):
            return True
        if first.kind is Kind.ENUM and second.kind is Kind.ENUM:
            return set(first.symbols).isdisjoint(second.symbols)
        choices, others = (set(node.attributes.get("enum", ())) for node in (first, second))
        return first.kind is second.kind and bool(choices) and bool(others) and choices.isdisjoint(others)

    def _types(self, node: Node) -> frozenset[str]:
        types = self._types_of.get(node)
        if types is None:
            if node.kind is Kind.UNION:
                types = frozenset[str]().union(*map(self._types, node.branches))
            else:
                name = _JSON_TYPES.get(node.kind)
                types = _ANYTHING if name is None else frozenset({name})
            self._types_of[node] = types
        return types

    def _fields(self, node: Node) -> dict[str, Node]:
        if node not in self._fields_of:
            self._fields_of[node] = {entry.name: entry.node for entry in node.fields}
        return self._fields_of[node]

    def _held(self, node: Node) -> list[Node]:
        """Return every value without parts below a node, and every map for its keys."""
        return [place for place in node.walk() if place.kind not in _HOLDING_NOTHING]
