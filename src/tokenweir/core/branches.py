"""Branches of a JSON union that a value cannot be told apart by, so that data of one may be read as the other.

A JSON value does not say which branch it is meant for; a reader takes the first that it fits. That is harmless where
both give a place the same class. Where they do not, the class of the first would let out what the other protects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Final

from tokenweir.core.schema import Kind, Node

#: Says whether what the first place lets out must not leave from the second.
Betrays = Callable[[Node, Node], bool]

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


def betrayed(union: Node, betrays: Betrays) -> tuple[Node, Node] | None:
    """Return two places that data of a later branch may confuse, or None if the union is safe.

    ``betrays`` is asked for each two scalar places that one value may stand at.
    """
    for first, second in combinations(union.branches, 2):
        found = _confused(first, second, betrays)
        if found is not None:
            return found
    return None


def _confused(first: Node, second: Node, betrays: Betrays) -> tuple[Node, Node] | None:
    if _types(first).isdisjoint(_types(second)):
        return None
    if first.kind is Kind.UNION or second.kind is Kind.UNION:
        firsts = first.branches if first.kind is Kind.UNION else (first,)
        seconds = second.branches if second.kind is Kind.UNION else (second,)
        return _first(_confused(one, other, betrays) for one in firsts for other in seconds)
    if first.kind is Kind.ARRAY and second.kind is Kind.ARRAY and first.items and second.items:
        return _confused(first.items, second.items, betrays)
    if first.kind is Kind.RECORD and second.kind is Kind.RECORD:
        if _told_apart(first, second):
            return None
        others = {entry.name: entry.node for entry in second.fields}
        return _first(
            _confused(entry.node, others[entry.name], betrays) for entry in first.fields if entry.name in others
        )
    # What a map or a type that repeats holds may stand for anything of the other.
    pairs = ((one, other) for one in _scalars(first) for other in _scalars(second))
    return next((pair for pair in pairs if betrays(*pair)), None)


def _told_apart(first: Node, second: Node) -> bool:
    """Return whether no object that follows ``second`` has what ``first`` requires, by its type or its enum."""
    others = {entry.name: entry.node for entry in second.fields}
    return any(
        entry.required and entry.name in others and _disjoint(entry.node, others[entry.name]) for entry in first.fields
    )


def _disjoint(first: Node, second: Node) -> bool:
    if _types(first).isdisjoint(_types(second)):
        return True
    if first.kind is Kind.ENUM and second.kind is Kind.ENUM:
        return set(first.symbols).isdisjoint(second.symbols)
    choices, others = (set(node.attributes.get("enum", ())) for node in (first, second))
    return first.kind is second.kind and bool(choices) and bool(others) and choices.isdisjoint(others)


def _types(node: Node) -> frozenset[str]:
    if node.kind is Kind.UNION:
        return frozenset[str]().union(*map(_types, node.branches))
    name = _JSON_TYPES.get(node.kind)
    return _ANYTHING if name is None else frozenset({name})


def _scalars(node: Node) -> list[Node]:
    containers = {Kind.RECORD, Kind.MAP, Kind.ARRAY, Kind.UNION, Kind.NULL}
    return [place for place in node.walk() if place.kind not in containers]


def _first(found: Iterator[tuple[Node, Node] | None]) -> tuple[Node, Node] | None:
    return next((pair for pair in found if pair is not None), None)
