"""JSON Schema, draft 4 to 2020-12, as schema registries hold it, made into the tree of :mod:`tokenweir.core.schema`.

A JSON Schema restricts values; it need not say what they are. The tree says what stands where, so this module takes
from a schema what describes places and refuses what makes the type of one place depend on the value of another.

============================================  ==================================================================
in the schema                                 in the tree
============================================  ==================================================================
``properties``                                RECORD; properties that are not declared never leave
an object without declared properties         MAP, of ANY where its values are not described
``items``                                     ARRAY; a list of items (a tuple) is refused
``enum`` or ``const`` of texts                ENUM
several types, ``oneOf``, ``anyOf``           UNION, flat; scalars of one type are one branch, with
                                              the same tags
``allOf``, keywords beside ``$ref``           merged into one; what contradicts is refused
``$ref`` into this schema or its references   the node of the target, or REFERENCE inside of the target itself
``oneOf`` of nothing but ``required``         nothing: it says which properties come together, not what they are
a required property that is not declared      ANY
no type, nothing described                    ANY
``if``, ``not``, ``dependentRequired``, …     refused
============================================  ==================================================================

``properties`` or ``items`` without a ``type`` count as object and array. Nothing is ever retrieved: a ``$ref`` that
neither this schema nor a given reference answers is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from tokenweir.core.jsonschema_documents import Document, Documents, Part, Target
from tokenweir.core.jsonschema_merge import Merged, Merger, typed, unite, unite_tags
from tokenweir.core.schema import DEFAULT_LIMITS, Field, Kind, Limits, Node, Schema, join, segment
from tokenweir.errors import SchemaError

#: Every node holds its path, so long names over many nodes would take memory out of proportion to the text.
_MAX_PATH_CHARACTERS: Final = 1000

#: Formats that a treatment may rely on (JSON Schema Validation, section 7.3).
_KNOWN_FORMATS: Final = frozenset({"date-time", "date", "uuid", "email", "ipv4", "ipv6", "uri"})

#: The branches of a union are compared with each other, each with each.
_MAX_BRANCHES: Final = 256

_ANY: Final = "any"
_REFERENCE: Final = "reference"

#: The constraints that say something about values of a type.
_CONSTRAINTS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": ("minItems", "maxItems", "uniqueItems"),
    "object": ("minProperties", "maxProperties"),
}

_SCALARS: Final = frozenset({"string", "integer", "number", "boolean", "null"})

_UNDESCRIBED: Final = Part(schema=True, document=Document("", "", {}))


def parse(
    text: str,
    references: Mapping[str, str] = MappingProxyType({}),
    *,
    limits: Limits = DEFAULT_LIMITS,
    tag_attributes: Sequence[str] = ("confluent:tags",),
) -> Schema:
    """Return the tree of a JSON Schema.

    Args:
        text: The schema.
        references: Other schemas that a ``$ref`` may name, by the name of the reference. Their ``$id`` counts as well.
        limits: What a schema may cost; every place of the tree counts, after each ``$ref`` is written out.
        tag_attributes: The keywords that hold inline tags.

    Raises:
        SchemaError: if the schema is malformed, passes a limit, or says something that no tree of places can say.
    """
    documents = Documents(text, references, limits)
    target, part = documents.root()
    builder = _Builder(documents, limits, tag_attributes)
    try:
        root = builder.node((part,), "", 1, target)
    except RecursionError:
        raise SchemaError("the schema is nested too deep") from None
    if root.kind is Kind.ANY:
        raise SchemaError("the schema does not say what a record is")
    types = {name: node for name, node in builder.types.items() if name in builder.referenced}
    return Schema(root, "json", types)


@dataclass(frozen=True, slots=True)
class _Branch:
    """One type that a place may have, with what is said of it. ``choices`` are those of its own type."""

    type: str
    merged: Merged
    choices: tuple[Any, ...] | None = None
    constraints: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()

    @property
    def name(self) -> str:
        """The name of the definition or the title."""
        targets = self.targets or self.merged.targets
        return targets[0].name if targets else self.merged.title

    @property
    def kind(self) -> str:
        """Scalars of one kind cannot be told apart by their type."""
        return "number" if self.type == "integer" else self.type


class _Builder:
    def __init__(self, documents: Documents, limits: Limits, tag_attributes: Sequence[str]) -> None:
        self._merger = Merger(documents, tag_attributes, self._charge)
        self._limits = limits
        self._left = limits.schema_nodes
        #: The targets whose node is being built.
        self._active: set[Target] = set()
        self.types: dict[str, Node] = {}
        self.referenced: set[str] = set()

    def _charge(self, cost: int, path: str) -> None:
        self._left -= cost
        if self._left < 0:
            raise SchemaError(f"the schema has more than {self._limits.schema_nodes} places when written out", path)

    def node(self, parts: Sequence[Part], path: str, level: int, root: Target | None = None) -> Node:
        """Return the node of the place ``path`` that ``parts`` describe together.

        ``level`` counts the records, arrays and maps down to this one, as the depth of a record is counted.
        """
        if len(path) > _MAX_PATH_CHARACTERS:
            raise SchemaError(f"a path is longer than {_MAX_PATH_CHARACTERS} characters", path[:60] + "…")
        if level > self._limits.depth + 1:
            raise SchemaError(f"the schema is nested deeper than {self._limits.depth} levels", path)
        merged = self._merger.merge(parts, path)
        active = self._active_in(merged.targets)
        if active:
            return self._reference(active, path, merged.tags)
        targets = merged.targets if root is None else (*merged.targets, root)
        with self._building(targets):
            branches = _one_for_each_kind(self._branches(merged, path, frozenset(targets)), merged.tags, path)
            if len(branches) > _MAX_BRANCHES:
                raise SchemaError(f"a union has more than {_MAX_BRANCHES} branches", path)
            node = self._assemble(merged, branches, path, level)
        self._register(targets, node)
        return node

    def _active_in(self, targets: Sequence[Target]) -> Target | None:
        return next((target for target in targets if target in self._active), None)

    def _reference(self, target: Target, path: str, tags: tuple[str, ...]) -> Node:
        self.referenced.add(target.name)
        return Node(Kind.REFERENCE, path, target.name, tags=tags)

    @contextmanager
    def _building(self, targets: Sequence[Target]) -> Iterator[None]:
        self._active.update(targets)
        yield
        self._active.difference_update(targets)

    def _register(self, targets: Sequence[Target], node: Node) -> None:
        for target in targets:
            self.types.setdefault(target.name, node)

    def _branches(self, merged: Merged, path: str, within: frozenset[Target]) -> list[_Branch]:
        """Return each type that a place may have, with unions inside of unions flattened.

        ``within`` holds the targets that lead here without an object or array between, so that none contains itself.
        """
        unions = [union for union in merged.unions if not all(map(self._merger.only_requires, union))]
        if not unions:
            return _single_types(merged, path)
        if len(unions) > 1:
            raise SchemaError("two unions (oneOf, anyOf) at one place cannot be combined", path)
        found: list[_Branch] = []
        for part in unions[0]:
            branch = self._merge_branch(merged, part, path)
            if within.intersection(branch.targets):
                raise SchemaError("a union contains itself", path)
            if self._active_in(branch.targets):
                found.append(_Branch(_REFERENCE, branch, tags=branch.tags, targets=branch.targets))
                continue
            inner = self._branches(branch, path, within.union(branch.targets))
            if len(inner) == 1:
                inner = [replace(inner[0], targets=(*branch.targets, *inner[0].targets))]
            found.extend(replace(entry, tags=unite_tags(branch.tags, entry.tags, path)) for entry in inner)
        return found

    def _merge_branch(self, merged: Merged, part: Part, path: str) -> Merged:
        self._charge(1, path)
        if merged.bare_union:
            return self._merger.merge((part,), path)
        self._charge(len(merged.properties) + len(merged.required), path)
        return self._merger.merge((part,), path, merged.without_union())

    def _assemble(self, merged: Merged, branches: Sequence[_Branch], path: str, level: int) -> Node:
        """Return the node of one branch, or the union of several."""
        name = merged.targets[0].name if merged.targets else merged.title
        others = [branch for branch in branches if branch.type != "null"]
        if len(branches) == 1:
            node = self._build(branches[0], path, level)
            return replace(node, name=node.name or name, tags=unite_tags(merged.tags, node.tags, path))
        tags = merged.tags
        if len(others) == 1:
            # Union and branch are one place with one path, and the tags of a place stand at its top.
            tags = unite_tags(tags, others[0].tags, path)
            nodes = [replace(self._build(branch, path, level), tags=()) for branch in branches]
        else:
            labels = _labels(branches, path)
            places = [f"{path}<{segment(label)}>" for label in labels]
            nodes = [self._build(branch, place, level) for branch, place in zip(branches, places, strict=True)]
        return Node(Kind.UNION, path, name, tags=tags, branches=tuple(nodes))

    def _build(self, branch: _Branch, path: str, level: int) -> Node:
        """Return the node of one type."""
        self._charge(1, path)
        active = self._active_in(branch.targets)
        if active:
            return self._reference(active, path, branch.tags)
        with self._building(branch.targets):
            node = self._typed(branch, path, level)
        self._register(branch.targets, node)
        return node

    def _typed(self, branch: _Branch, path: str, level: int) -> Node:
        merged = branch.merged
        node = Node(Kind.ANY, path, branch.name, tags=branch.tags, attributes=dict(branch.constraints))
        match branch.type:
            case "object" if merged.properties or merged.required or merged.closed:
                return replace(node, kind=Kind.RECORD, fields=self._fields(merged, path, level))
            case "object":
                values = merged.additional or (_UNDESCRIBED,)
                return replace(node, kind=Kind.MAP, items=self.node(values, path + "{*}", level + 1))
            case "array":
                items = merged.items or (_UNDESCRIBED,)
                return replace(node, kind=Kind.ARRAY, items=self.node(items, path + "[*]", level + 1))
            case _:
                return _scalar(node, branch)

    def _fields(self, merged: Merged, path: str, level: int) -> tuple[Field, ...]:
        undeclared = {name: (_UNDESCRIBED,) for name in merged.required if name not in merged.properties}
        return tuple(
            Field(name, self.node(parts, join(path, name), level + 1), name in merged.required)
            for name, parts in (merged.properties | undeclared).items()
        )


def _scalar(node: Node, branch: _Branch) -> Node:
    """Return ``node`` as what stands there: a value without parts, or anything."""
    if branch.type != "string":
        choices = {} if branch.choices is None else {"enum": list(branch.choices)}
        return replace(node, kind=Kind(branch.type), attributes={**node.attributes, **choices})
    if branch.choices is not None:
        return replace(node, kind=Kind.ENUM, symbols=branch.choices)
    known = node.attributes.get("format")
    return replace(node, kind=Kind.STRING, logical=known if known in _KNOWN_FORMATS else "")


def _single_types(merged: Merged, path: str) -> list[_Branch]:
    """Return one branch for each type that is allowed where no union is."""
    found = []
    for name in merged.types or _implied_types(merged):
        choices = None if merged.choices is None else _choices_of(merged.choices, name, path)
        if choices is None or choices:
            known = {key: merged.constraints[key] for key in _CONSTRAINTS_OF.get(name, ()) if key in merged.constraints}
            found.append(_Branch(name, merged, None if name == "null" else choices, known))
    if not found:
        raise SchemaError("no value of the enum has a type that is allowed here", path)
    return found


def _implied_types(merged: Merged) -> tuple[str, ...]:
    """Return the types that a place without ``type`` has by what else is said of it."""
    if merged.properties or merged.required or merged.additional or merged.closed:
        return ("object",)
    if merged.items:
        return ("array",)
    if merged.choices is None:
        return (_ANY,)
    named = [typed(choice) for choice in merged.choices]
    return unite((), ("integer" if name == "number" and value == int(value) else name for name, value in named))


def _choices_of(choices: Sequence[Any], name: str, path: str) -> tuple[Any, ...]:
    """Return the choices that are values of one type, each once."""
    found = {}
    for choice in choices:
        kind, value = typed(choice)
        if kind == name or (kind == "number" and name == "integer" and value == int(value)):
            if name in {"object", "array"}:
                raise SchemaError("an enum of objects or arrays cannot be worked with", path)
            found[value] = choice
    return tuple(found.values())


def _one_for_each_kind(branches: Sequence[_Branch], tags: tuple[str, ...], path: str) -> list[_Branch]:
    """Return the branches with the scalars of each kind joined; what may be anything swallows all others.

    ``tags`` are those of the union itself, which speak of each branch.
    """
    anything = [branch for branch in branches if branch.type == _ANY]
    if anything:
        return anything[:1]
    found: dict[object, _Branch] = {}
    for position, branch in enumerate(branches):
        key: object = branch.kind if branch.type in _SCALARS else position
        known = found.get(key)
        # A value does not say which of both it is meant for, so that the tags of one would speak of all.
        if known and branch.type != "null" and {*tags, *known.tags} != {*tags, *branch.tags}:
            message = f"alternatives of the type {branch.kind} have different tags: tag all alike, or only the union"
            raise SchemaError(message, path)
        found[key] = _widened(known, branch) if known else branch
    return list(found.values())


def _widened(first: _Branch, second: _Branch) -> _Branch:
    """Return one branch for the values of both."""
    choices = None
    if first.choices is not None and second.choices is not None:
        choices = tuple({typed(choice): choice for choice in (*first.choices, *second.choices)}.values())
    common = {key: value for key, value in first.constraints.items() if second.constraints.get(key) == value}
    name = first.type if first.type == second.type else first.kind
    return _Branch(name, Merged(), choices, common, unite(first.tags, second.tags))


def _labels(branches: Sequence[_Branch], path: str) -> list[str]:
    """Return how paths name the branches: by type, objects by their own name where they have one.

    Branches that would have one name get their position as well.
    """
    names = [(branch.name if branch.type in {"object", _REFERENCE} else "") or branch.type for branch in branches]
    count = Counter(names)
    labels = [name if count[name] == 1 else f"{name}{position}" for position, name in enumerate(names, 1)]
    if len(set(labels)) < len(labels):
        raise SchemaError("a union has two branches that no path can tell apart", path)
    return labels
