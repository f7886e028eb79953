"""What several JSON Schemas that hold at one place say together: ``allOf``, ``$ref`` and the keywords beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tokenweir.core.jsonschema_documents import Documents, Part, Target, shown
from tokenweir.errors import SchemaError

TYPES: Final = ("string", "integer", "number", "boolean", "null", "object", "array")

#: The type of one place would depend on a value elsewhere, or it takes more than a type to say it.
REFUSED: Final = (
    "if", "then", "else", "not", "dependentRequired", "dependentSchemas", "dependencies", "patternProperties",
    "prefixItems", "$dynamicRef", "$recursiveRef", "extends", "disallow",
)  # fmt: skip

_LENGTHS: Final = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
_BOUNDS: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_TEXTS: Final = frozenset({"pattern", "format", "contentEncoding", "contentMediaType"})
_CONSTRAINTS: Final = _LENGTHS | _BOUNDS | _TEXTS | {"uniqueItems"}
_EXCLUSIVE: Final = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}

_COMBINING: Final = frozenset({"$ref", "allOf", "oneOf", "anyOf"})

#: More tags say nothing more, and every place holds its own.
_MAX_TAGS: Final = 64

#: Keywords whose schemas are read where a ``$ref`` names them, or that hold examples of values and no schemas.
_APART: Final = frozenset({"definitions", "$defs", "default", "examples"})

#: Keywords that say something about values; all others are remarks.
STRUCTURE: Final = (
    _COMBINING | _CONSTRAINTS | frozenset(REFUSED)
    | {"type", "properties", "required", "additionalProperties", "items", "enum", "const"}
)  # fmt: skip


@dataclass(slots=True)
class Merged:
    """All that is said about one place.

    Attributes:
        types: The types that are allowed, in the order of the schema, or None where none is named.
        properties: What is said of each declared property.
        required: The names of properties that must be there, in the order of the schema.
        additional: What is said of the properties that are not declared.
        closed: No others than the declared properties are allowed.
        items: What is said of array elements.
        choices: The values that are allowed, or None where ``enum`` and ``const`` name none.
        unions: The branches of each ``oneOf`` and ``anyOf``.
        constraints: Limits on the values of a type, by keyword.
        tags: Inline tags.
        title: The first title.
        targets: What it is exactly, where nothing but remarks stands beside a ``$ref``.
        structured: Anything is said at all.
    """

    types: tuple[str, ...] | None = None
    properties: dict[str, tuple[Part, ...]] = field(default_factory=dict)
    required: dict[str, None] = field(default_factory=dict)
    additional: tuple[Part, ...] = ()
    closed: bool = False
    items: tuple[Part, ...] = ()
    choices: list[Any] | None = None
    unions: list[tuple[Part, ...]] = field(default_factory=list)
    constraints: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    title: str = ""
    targets: tuple[Target, ...] = ()
    structured: bool = False

    def without_union(self) -> Merged:
        """Return what holds for every branch of the union at this place, as a start for a branch of its own."""
        return replace(
            self,
            properties=dict(self.properties),
            required=dict(self.required),
            constraints=dict(self.constraints),
            unions=[],
            tags=(),
            title="",
            targets=(),
        )

    @property
    def bare_union(self) -> bool:
        """Whether nothing but a union is said, so that each branch stands for itself."""
        return not (
            self.types or self.properties or self.required or self.additional or self.closed or self.items
            or self.choices is not None or self.constraints
        )  # fmt: skip


def unite(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    """Return the texts of both, each once, in their order."""
    return tuple(dict.fromkeys((*first, *second)))


def unite_tags(first: Iterable[str], second: Iterable[str], path: str) -> tuple[str, ...]:
    """Return the tags of both.

    Raises:
        SchemaError: if they are more than 64.
    """
    tags = unite(first, second)
    if len(tags) > _MAX_TAGS:
        raise SchemaError(f"more than {_MAX_TAGS} tags at one place", path)
    return tags


def typed(value: object) -> tuple[str, Any]:
    """Return a JSON value with its type, so that ``1``, ``1.0`` and ``true`` compare as JSON Schema compares them."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, int | float):
        return ("number", value)
    names = {str: "string", type(None): "null", dict: "object", list: "array"}
    return (names[type(value)], value)


class Merger:
    """Merges the schemas of one place; ``charge`` is called with the cost of each step and ends what costs too much."""

    def __init__(self, documents: Documents, tag_attributes: Sequence[str], charge: Callable[[int, str], None]) -> None:
        self._documents = documents
        self._tag_attributes = tag_attributes
        self._charge = charge
        #: What was found under the keywords that are not read, by the identity of the schema that has them.
        self._unread_tags: dict[int, str] = {}

    def only_requires(self, part: Part) -> bool:
        """Return whether a branch says no more than which properties must be there."""
        telling = {*STRUCTURE, *self._tag_attributes} - {"required"}
        schema = part.schema
        return isinstance(schema, dict) and telling.isdisjoint(schema) and not self._keyword_with_unread_tags(schema)

    def merge(self, parts: Sequence[Part], path: str, start: Merged | None = None) -> Merged:
        """Return what ``parts``, and ``start`` if given, say together about the place ``path``.

        Raises:
            SchemaError: if they contradict each other, are malformed, or use a keyword that cannot be worked with.
        """
        merged = start or Merged()
        if start is None and len(parts) == 1:
            parts = [self._follow(parts[0], merged, path)]
        pending = list(reversed(parts))
        # To say the same twice says nothing more, which also ends what would include itself.
        included: set[Target] = set()
        while pending:
            part = pending.pop()
            self._charge(1, path)
            schema = _checked(part.schema, path)
            self._remark(merged, schema, path)
            self._absorb(merged, part, schema, path)
            if "allOf" in schema:
                pending.extend(part.child(entry) for entry in reversed(_schemas(schema["allOf"], "allOf", path)))
            if "$ref" in schema:
                target, found = self._documents.resolve(schema["$ref"], part, path)
                if target not in included:
                    included.add(target)
                    pending.append(found)
        return merged

    def _follow(self, part: Part, merged: Merged, path: str) -> Part:
        """Return what a place is exactly: through each ``$ref``, or ``allOf`` of one, with only remarks beside it."""
        while isinstance(part.schema, dict):
            keywords = STRUCTURE & part.schema.keys()
            if keywords == {"$ref"}:
                self._remark(merged, part.schema, path)
                target, part = self._documents.resolve(part.schema["$ref"], part, path)
                if target in merged.targets:
                    raise SchemaError("a $ref leads back to itself", path)
                merged.targets += (target,)
            elif keywords == {"allOf"} and len(entries := _schemas(part.schema["allOf"], "allOf", path)) == 1:
                self._remark(merged, part.schema, path)
                part = part.child(entries[0])
            else:
                break
            self._charge(1, path)
        return part

    def _remark(self, merged: Merged, schema: Mapping[str, Any], path: str) -> None:
        """Take over title and tags."""
        keyword = self._keyword_with_unread_tags(schema)
        if keyword:
            raise SchemaError(f"there are tags under {shown(keyword)}, which is not read: tag the place itself", path)
        title = schema.get("title")
        if not merged.title and isinstance(title, str):
            merged.title = title
        for attribute in self._tag_attributes:
            if attribute in schema:
                # A tag that cannot be read must not be lost: it may be what keeps the value inside.
                tags = [schema[attribute]] if isinstance(schema[attribute], str) else schema[attribute]
                if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.isprintable() for tag in tags):
                    raise SchemaError(f"{attribute} must be a list of printable texts", path)
                if len(tags) > _MAX_TAGS:
                    raise SchemaError(f"more than {_MAX_TAGS} tags at one place", path)
                # The first tag comes with the place, which is charged for already.
                self._charge(max(len(tags) - 1, 0), path)
                merged.tags = unite_tags(merged.tags, tags, path)

    def _keyword_with_unread_tags(self, schema: Mapping[str, Any]) -> str:
        """Return a keyword that is not read and has tags somewhere below it, which would be lost; "" for none."""
        if id(schema) not in self._unread_tags:
            unread = (keyword for keyword in schema if keyword not in STRUCTURE and keyword not in _APART)
            found = next((keyword for keyword in unread if self._has_tags(schema[keyword])), "")
            self._unread_tags[id(schema)] = found
        return self._unread_tags[id(schema)]

    def _has_tags(self, value: object) -> bool:
        if isinstance(value, dict):
            return any(attribute in value for attribute in self._tag_attributes) or any(
                map(self._has_tags, value.values())
            )
        return isinstance(value, list) and any(map(self._has_tags, value))

    def _absorb(self, merged: Merged, part: Part, schema: Mapping[str, Any], path: str) -> None:
        """Add what one schema says by itself."""
        merged.structured = merged.structured or bool(STRUCTURE & schema.keys())
        if "type" in schema:
            merged.types = _common_types(merged.types, _types(schema["type"], path), path)
        if "properties" in schema or "required" in schema or "additionalProperties" in schema:
            self._absorb_object(merged, part, schema, path)
        if "items" in schema:
            if isinstance(schema["items"], list):
                raise SchemaError("a list of items (a tuple) has no one type for its elements", path)
            merged.items += (part.child(schema["items"]),)
        for choices in (schema.get("enum"), [schema["const"]] if "const" in schema else None):
            if choices is not None:
                merged.choices = _common_choices(merged.choices, choices, path)
                self._charge(len(merged.choices), path)
        for keyword in ("oneOf", "anyOf"):
            if keyword in schema:
                merged.unions.append(tuple(map(part.child, _schemas(schema[keyword], keyword, path))))
        for keyword in filter(_CONSTRAINTS.__contains__, schema):
            _constrain(merged.constraints, keyword, schema, path)

    def _absorb_object(self, merged: Merged, part: Part, schema: Mapping[str, Any], path: str) -> None:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        additional = schema.get("additionalProperties", True)
        if not isinstance(properties, dict):
            raise SchemaError("properties must be an object", path)
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise SchemaError("required must be a list of names", path)
        self._charge(len(properties) + len(required), path)
        for name, entry in properties.items():
            merged.properties[name] = (*merged.properties.get(name, ()), part.child(entry))
        merged.required.update(dict.fromkeys(required))
        if additional is False:
            merged.closed = True
        elif additional is not True:
            merged.additional += (part.child(additional),)


def _checked(schema: object, path: str) -> Mapping[str, Any]:
    if schema is True:
        return {}
    if schema is False:
        raise SchemaError("false allows no value here at all", path)
    if not isinstance(schema, dict):
        raise SchemaError("a schema is an object or true", path)
    for keyword in REFUSED:
        if keyword in schema and (schema[keyword] or keyword == "not"):
            raise SchemaError(f"{keyword} cannot be worked with: what stands here would not have one type", path)
    for keyword in ("unevaluatedProperties", "unevaluatedItems"):
        if not isinstance(schema.get(keyword, False), bool):
            raise SchemaError(f"{keyword} with a schema cannot be worked with", path)
    return schema


def _schemas(entries: object, keyword: str, path: str) -> list[Any]:
    if not isinstance(entries, list) or not entries:
        raise SchemaError(f"{keyword} must be a list of schemas", path)
    return entries


def _types(value: object, path: str) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name in TYPES for name in names):
        raise SchemaError(f"type must be one or more of {', '.join(TYPES)}", path)
    return tuple(dict.fromkeys(names))


def _common_types(known: tuple[str, ...] | None, named: tuple[str, ...], path: str) -> tuple[str, ...]:
    if known is None:
        return named
    common = [
        "integer" if {name, other} == {"integer", "number"} else name
        for name in known
        for other in named
        if name == other or {name, other} == {"integer", "number"}
    ]
    if not common:
        raise SchemaError(f"the types {'|'.join(known)} and {'|'.join(named)} exclude each other", path)
    return tuple(dict.fromkeys(common))


def _common_choices(known: list[Any] | None, choices: object, path: str) -> list[Any]:
    if not isinstance(choices, list) or not choices:
        raise SchemaError("enum must be a list of values", path)
    if known is None:
        return choices
    if any(isinstance(choice, dict | list) for choice in (*known, *choices)):
        raise SchemaError("an enum of objects or arrays cannot be worked with", path)
    others = {typed(choice) for choice in choices}
    common = [choice for choice in known if typed(choice) in others]
    if not common:
        raise SchemaError("two enums at this place have no value in common", path)
    return common


def _constrain(constraints: dict[str, Any], keyword: str, schema: Mapping[str, Any], path: str) -> None:
    """Add one constraint; where there is one already, the stricter of both holds."""
    value = schema[keyword]
    if keyword in _EXCLUSIVE and isinstance(value, bool):
        # Draft 4: a flag beside the bound.
        if not value or _EXCLUSIVE[keyword] not in schema:
            return
        value = schema[_EXCLUSIVE[keyword]]
    if not _well_formed(keyword, value):
        raise SchemaError(f"{keyword} has no value that it can have", path)
    known = constraints.get(keyword)
    if known is None or known == value:
        constraints[keyword] = value
    elif keyword == "format":
        raise SchemaError("two formats at this place", path)
    elif keyword in _TEXTS or keyword == "multipleOf":
        # Both hold and one can be said; what is said less only makes the derived schema wider.
        return
    elif keyword == "uniqueItems":
        constraints[keyword] = True
    else:
        constraints[keyword] = max(known, value) if "min" in keyword.lower() else min(known, value)


def _well_formed(keyword: str, value: object) -> bool:
    if keyword == "uniqueItems":
        return isinstance(value, bool)
    if keyword in _TEXTS:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if keyword in _LENGTHS:
        return value >= 0 and value == int(value)
    return keyword != "multipleOf" or value > 0
