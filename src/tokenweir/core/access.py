"""Find a place of a schema by its path, and compile the path into a function that reads it from a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from tokenweir.core.paths import PathError, Pattern, Step, StepKind, Steps, format_steps, parse_path
from tokenweir.core.schema import ABSENT, Kind, Node, Schema

#: A decoded value; the table in :mod:`tokenweir.core.schema` says how it looks. Its type follows from the schema.
Value: TypeAlias = Any

_SUGGESTIONS: Final = 3


class Move(NamedTuple):
    """One step deeper into a decoded value: the field or the branch at an index, or the map entry with a key.

    ``several`` stands where a path has many values, which no value can be read by.
    """

    kind: Literal["field", "branch", "key", "several"]
    at: int = 0
    key: str = ""


def root_name(schema: Schema) -> str:
    """Return the name of the record type at the root, or "" where the root is a union that names its branches."""
    root = schema.root.optional_of or schema.root
    return "" if root.kind is Kind.UNION else root.name


def locate_all(schema: Schema, path: str) -> list[Node]:
    """Return the places that a concrete path means, at least one.

    There are several where the path goes through a union without naming the branch. Of an optional field it is the
    union, as in ``fields`` of the record around. ``[*]``, ``{*}`` and map keys may occur; a key that has no place of
    its own is the place of the map's values.

    Raises:
        PathError: If the path does not follow the grammar or means no place; the remedy has similar paths.
    """
    return [node for node, _ in _places(schema, path)]


def locate(schema: Schema, path: str) -> Node:
    """Return the only place that a concrete path means, as :func:`locate_all` does.

    Raises:
        PathError: Also if the path goes through a union and there is more than one place.
    """
    nodes = locate_all(schema, path)
    if len(nodes) > 1:
        choices = ", ".join(f"`{node.path}`" for node in nodes)
        raise PathError(path, 0, "the path means several places", f"name the branch: {choices}")
    return nodes[0]


def accessor(schema: Schema, path: str) -> Callable[[Value], Value]:
    """Return a function that reads the value at a concrete path out of a decoded record.

    It gives None where a step on the way, or the value itself, is null, absent or in another branch of a union. A path
    that ends at a union of several types gives the pair of branch and value. It does not check the record: that
    follows the schema because a reader made it.

    Raises:
        PathError: If the path means no place, or more than one value of a record (``[*]``, ``{*}``, ``{@key}``).
    """
    getters = [_getter(moves) for moves in plain_moves(schema, path)]
    if len(getters) == 1:
        return getters[0]

    def first_present(value: Value) -> Value:
        """Read through whichever branch the record took; all others give None."""
        for getter in getters:
            found = getter(value)
            if found is not None:
                return found
        return None

    return first_present


def plain_moves(schema: Schema, path: str) -> list[tuple[Move, ...]]:
    """Return what :func:`accessor` does for a path: per place that it means, in their order, the moves to read it by.

    A move is never made from null or from what is absent. The value is what the first place gives that has one.

    Raises:
        PathError: If the path means no place, or more than one value of a record (``[*]``, ``{*}``, ``{@key}``).
    """
    for step in parse_path(path):
        if step.kind in {StepKind.ELEMENTS, StepKind.VALUES, StepKind.KEYS}:
            raise PathError(path, 0, f"`{step}` is more than one value", "name one value; a map key may be named")
    return [moves for _, moves in _places(schema, path)]


def suggestions(schema: Schema, path: str) -> list[str]:
    """Return paths of the schema that ``path`` may have meant, best first, at most three."""
    known = list(dict.fromkeys(node.path for node in schema.root.walk() if node.path))
    return list(dict.fromkeys([*_with_brackets(schema, path), *get_close_matches(path, known)]))[:_SUGGESTIONS]


def _places(schema: Schema, path: str) -> list[tuple[Node, tuple[Move, ...]]]:
    steps = parse_path(path)
    places = list(_resolve(schema, steps))
    if places:
        return places
    record = root_name(schema)
    for node in schema.root.walk():
        if node.kind is Kind.REFERENCE and any(
            Pattern(path, steps[:end]).matches(node.path, record) for end in range(1, len(steps))
        ):
            raise PathError(path, 0, f"the type {node.name} repeats at `{node.path}`", "no path can go deeper")
    if steps and steps[-1].kind is StepKind.KEYS:
        raise PathError(path, 0, "the keys of a map are no place of a schema", "only `fields` may name them")
    similar = " or ".join(f"`{candidate}`" for candidate in suggestions(schema, path))
    raise PathError(path, 0, "the schema has no such field", f"did you mean {similar}?" if similar else "")


def _resolve(schema: Schema, steps: Steps) -> Iterator[tuple[Node, tuple[Move, ...]]]:
    """Yield every place that ``steps`` lead to, with the moves that lead there."""
    record = root_name(schema)
    if record and steps and steps[0].kind is StepKind.BRANCH:
        if not steps[0].names_type(record):
            return
        steps = steps[1:]
    yield from _descend(schema.root, steps, ())


def _descend(node: Node, steps: Steps, moves: tuple[Move, ...]) -> Iterator[tuple[Node, tuple[Move, ...]]]:
    if node.kind is Kind.UNION:
        yield from _through_union(node, steps, moves)
    elif not steps:
        yield node, moves
    else:
        for child, move in _children(node, steps[0]):
            yield from _descend(child, steps[1:], (*moves, move))


def _children(node: Node, step: Step) -> Iterator[tuple[Node, Move]]:
    """Yield the child of a record, array or map that a step leads to, if there is one."""
    match node.kind, step.kind:
        case Kind.RECORD, StepKind.NAME:
            for position, field in enumerate(node.fields):
                if field.name == step.text:
                    yield field.node, Move("field", position)
        case (Kind.ARRAY, StepKind.ELEMENTS) | (Kind.MAP, StepKind.VALUES):
            if node.items is not None:
                yield node.items, Move("several")
        case Kind.MAP, StepKind.KEY:
            named = next((field.node for field in node.fields if field.name == step.text), node.items)
            if named is not None:
                yield named, Move("key", key=step.text)
        case _:
            return


def _through_union(node: Node, steps: Steps, moves: tuple[Move, ...]) -> Iterator[tuple[Node, tuple[Move, ...]]]:
    is_optional = node.optional_of is not None
    if not steps and not is_optional:
        yield node, moves
        return
    for position, branch in enumerate(node.branches):
        if branch.kind is Kind.NULL:
            continue
        if not steps:
            yield node, (*moves, Move("branch", position))
            continue
        rest = steps
        if not is_optional and steps[0].kind is StepKind.BRANCH:
            if not any(steps[0].covers(own) for own in parse_path(branch.path)[-1:]):
                continue
            rest = steps[1:]
        yield from _descend(branch, rest, (*moves, Move("branch", position)))


def _with_brackets(schema: Schema, path: str) -> Iterator[str]:
    """Yield the path with ``{name}`` or ``[*]`` at one place where only a dot stood, if that is a place."""
    try:
        steps = parse_path(path)
    except PathError:
        return
    elements = Step(StepKind.ELEMENTS)
    for index, step in enumerate(steps):
        if index and step.kind is StepKind.NAME:
            for instead in ((Step(StepKind.KEY, step.text),), (elements, step)):
                changed = (*steps[:index], *instead, *steps[index + 1 :])
                if any(True for _ in _resolve(schema, changed)):
                    yield format_steps(changed)


def _reader(move: Move) -> Callable[[Value], Value]:
    """Return the function that makes one move; it is never called with None or ``ABSENT``."""
    index, key = move.at, move.key
    match move.kind:
        case "field":
            return itemgetter(index)
        case "branch":
            return lambda value: value[1] if value[0] == index else None
        case "key":
            return lambda value: value.get(key)
        case "several":
            raise ValueError("no value can be read where there are several")


def _getter(moves: tuple[Move, ...]) -> Callable[[Value], Value]:
    readers = tuple(map(_reader, moves))

    def get(value: Value) -> Value:
        """Make one move after the other as long as there is something to read."""
        for read in readers:
            if value is None or value is ABSENT:
                return None
            value = read(value)
        return None if value is ABSENT else value

    return get
