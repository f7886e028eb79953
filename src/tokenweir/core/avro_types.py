"""Avro schema texts as resolved types: every name looked up, every rule of the specification checked, each type once.

Follows the Apache Avro 1.12 specification ("Schema Declaration", "Names", "Logical Types"). Resolved types may contain
themselves; :mod:`tokenweir.core.avro` grows the tree of places out of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from tokenweir.core import strictjson
from tokenweir.core.schema import Kind, Limits, join
from tokenweir.errors import DecodeError, SchemaError

#: Kinds on which each logical type of the specification may stand; decimal, uuid and duration have more conditions.
LOGICAL_TYPES: Final[Mapping[str, frozenset[Kind]]] = {
    "date": frozenset({Kind.INT}),
    "time-millis": frozenset({Kind.INT}),
    "time-micros": frozenset({Kind.LONG}),
    "timestamp-millis": frozenset({Kind.LONG}),
    "timestamp-micros": frozenset({Kind.LONG}),
    "timestamp-nanos": frozenset({Kind.LONG}),
    "local-timestamp-millis": frozenset({Kind.LONG}),
    "local-timestamp-micros": frozenset({Kind.LONG}),
    "local-timestamp-nanos": frozenset({Kind.LONG}),
    "decimal": frozenset({Kind.BYTES, Kind.FIXED}),
    "uuid": frozenset({Kind.STRING, Kind.FIXED}),
    "duration": frozenset({Kind.FIXED}),
}

#: Deeper limits have no effect: parser and codec recurse, and must stay far from the interpreter's own limit.
MAX_DEPTH: Final = 64

_MAX_NAME_CHARACTERS: Final = 1024
_MAX_PATH_CHARACTERS: Final = 4096
#: As in JSON Schemas: every use of a type holds all of its tags.
_MAX_TAGS: Final = 64
_MAX_INT: Final = 2**31 - 1
#: A level of the tree takes at most four brackets: record, list of fields, field, union.
_BRACKETS_PER_LEVEL: Final = 4
#: Brackets that may stand inside the innermost level: attributes, defaults, documentation.
_MORE_BRACKETS: Final = 16

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FULL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_NO_LETTER: Final = re.compile(r"[^a-z]+")

_PRIMITIVES: Final = frozenset(
    {Kind.NULL, Kind.BOOLEAN, Kind.INT, Kind.LONG, Kind.FLOAT, Kind.DOUBLE, Kind.BYTES, Kind.STRING}
)
#: Of the specification's names for named types; an error is a record that only protocols use.
_NAMED: Final = {"record": Kind.RECORD, "error": Kind.RECORD, "enum": Kind.ENUM, "fixed": Kind.FIXED}


class Use(NamedTuple):
    """A type as it is used at one place, with the tags of that place (those of the type itself not included)."""

    type: Type
    tags: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Type:
    """A resolved type. Named types are shared by all their uses, and so may contain themselves."""

    kind: Kind
    name: str = ""
    tags: tuple[str, ...] = ()
    logical: str = ""
    attributes: Mapping[str, int] = field(default_factory=dict)
    symbols: tuple[str, ...] = ()
    size: int = 0
    fields: tuple[tuple[str, Use], ...] = ()
    items: Use | None = None
    branches: tuple[Use, ...] = ()


class Place(NamedTuple):
    """Where in a text the parser is: path for errors, enclosing namespace, records, arrays and maps around it."""

    path: str = ""
    namespace: str = ""
    level: int = 0

    def below(self, path: str) -> Place:
        """Return the place inside a container at this one."""
        return Place(checked_path(path), self.namespace, self.level + 1)


def _load(text: str, limits: Limits) -> object:
    """Return the JSON value of a schema text."""
    brackets = _BRACKETS_PER_LEVEL * min(limits.depth, MAX_DEPTH) + _MORE_BRACKETS
    allowed = replace(limits, depth=brackets, bytes=limits.schema_bytes)
    try:
        value: object = strictjson.parse(text.encode("utf-8", "surrogatepass"), limits=allowed, numbers="python")
    except DecodeError as error:
        raise SchemaError(f"the schema is not strict JSON or passes a limit: {error.reason}") from None
    return value


def _shown(text: object) -> str:
    """Return a piece of a schema for a message: short, printable, and marked where it is no text."""
    return json.dumps(text[:60]) if isinstance(text, str) else f"of JSON type {type(text).__name__}"


def checked_path(path: str) -> str:
    """Return a path that is not too long, as every node holds its own: memory must stay in proportion to the text.

    Raises:
        SchemaError: The path has more than 4096 characters.
    """
    if len(path) > _MAX_PATH_CHARACTERS:
        raise SchemaError(f"a path is longer than {_MAX_PATH_CHARACTERS} characters", path[:60] + "…")
    return path


class Parser:
    """The types of one schema and its references, by full name, as they become known.

    ``warnings`` has what the author most likely did not mean.
    """

    def __init__(self, limits: Limits, tag_attributes: Sequence[str]) -> None:
        self._limits = limits
        self._depth = min(limits.depth, MAX_DEPTH)
        self._tag_attributes = tuple(tag_attributes)
        self._tag_spellings = {_spelling(attribute): attribute for attribute in reversed(self._tag_attributes)}
        self._names: dict[str, Type] = {}
        self.warnings: list[str] = []

    def resolve(self, text: str) -> Use:
        """Return the type that a text declares, and know its named types from now on.

        Raises:
            SchemaError: The text is not an Avro schema or passes a limit.
        """
        return self._use(_load(text, self._limits), Place())

    def _use(self, source: object, place: Place) -> Use:
        if isinstance(source, str):
            return Use(Type(Kind(source)) if source in _PRIMITIVES else self._known(source, place))
        if isinstance(source, list):
            return Use(self._union(source, place))
        if isinstance(source, dict):
            return self._object(source, place)
        raise SchemaError("a type is a name, an object or a list of types", place.path)

    def _object(self, source: Mapping[str, Any], place: Place) -> Use:
        kind = source.get("type")
        if not isinstance(kind, str):
            raise SchemaError('a type object needs a "type" that is a name', place.path)
        tags = self._tags(source, place)
        if kind in _PRIMITIVES:
            return Use(_with_logical_type(Type(Kind(kind), tags=tags), source))
        if kind in _NAMED:
            return Use(self._named(_NAMED[kind], source, tags, place))
        if kind in ("array", "map"):
            return Use(self._collection(Kind(kind), source, tags, place))
        return Use(self._known(kind, place), tags)

    def _known(self, name: str, place: Place) -> Type:
        full = f"{place.namespace}.{name}" if place.namespace and "." not in name else name
        # The Java implementation, and so every registry built on it, falls back to the null namespace.
        known = self._names.get(full) or self._names.get(name)
        if known is None:
            raise SchemaError(f"the type {_shown(name)} is not defined before it is used", place.path)
        return known

    def _tags(self, source: Mapping[str, Any], place: Place) -> tuple[str, ...]:
        tags: list[str] = []
        for attribute in self._tag_attributes:
            found = source.get(attribute, [])
            # A tag that cannot be read must not pass for no tag.
            if not isinstance(found, list) or not all(
                isinstance(tag, str) and tag and tag.isprintable() for tag in found
            ):
                raise SchemaError(f"{attribute} must be a list of printable strings", place.path)
            tags += found
            if len(tags) > _MAX_TAGS:
                raise SchemaError(f"more than {_MAX_TAGS} tags at one place", place.path)
        for key in source:
            meant = self._tag_spellings.get(_spelling(key))
            if meant is not None and key not in self._tag_attributes:
                where = place.path or "(root)"
                self.warnings.append(f"{where}: the attribute {_shown(key)} holds no tags; {meant} does")
        return tuple(tags)

    def _named(self, kind: Kind, source: Mapping[str, Any], tags: tuple[str, ...], place: Place) -> Type:
        full = _full_name(source, place)
        namespace, _, short = full.rpartition(".")
        if short in _PRIMITIVES:
            raise SchemaError(f"a type cannot be named after the primitive {short}", place.path)
        if full in self._names:
            raise SchemaError(f"the type {full} is defined twice", place.path)
        created = self._names[full] = Type(kind, full, tags)
        if kind is Kind.RECORD:
            created.fields = self._fields(source, place._replace(namespace=namespace))
        elif kind is Kind.ENUM:
            created.symbols = _symbols(source, place)
        else:
            created.size = _size(source, place)
            _with_logical_type(created, source)
        return created

    def _fields(self, source: Mapping[str, Any], place: Place) -> tuple[tuple[str, Use], ...]:
        entries = source.get("fields")
        if not isinstance(entries, list):
            raise SchemaError('a record needs a list "fields"', place.path)
        self._check_level(place)
        fields: dict[str, Use] = {}
        for entry in entries:
            if not isinstance(entry, dict) or "type" not in entry:
                raise SchemaError('a field is an object with "name" and "type"', place.path)
            name = _checked_name(entry.get("name"), _NAME, place)
            if name in fields:
                raise SchemaError(f"the field {name} stands twice in one record", place.path)
            inside = place.below(join(place.path, name))
            found = self._use(entry["type"], inside)
            if "logicalType" in entry:
                self.warnings.append(f"{inside.path}: logicalType has no effect on a field; it belongs on its type")
            fields[name] = found._replace(tags=self._tags(entry, inside) + found.tags)
        return tuple(fields.items())

    def _collection(self, kind: Kind, source: Mapping[str, Any], tags: tuple[str, ...], place: Place) -> Type:
        key, suffix = ("items", "[*]") if kind is Kind.ARRAY else ("values", "{*}")
        if key not in source:
            raise SchemaError(f'{"an" if kind is Kind.ARRAY else "a"} {kind} needs "{key}"', place.path)
        self._check_level(place)
        return Type(kind, tags=tags, items=self._use(source[key], place.below(place.path + suffix)))

    def _union(self, source: list[object], place: Place) -> Type:
        if not source:
            raise SchemaError("a union needs a branch", place.path)
        wide = sum(branch not in ("null", {"type": "null"}) for branch in source) > 1
        branches: list[Use] = []
        seen: set[str] = set()
        for branch in source:
            if isinstance(branch, list):
                raise SchemaError("a union cannot be a branch of a union", place.path)
            path = checked_path(f"{place.path}<{_likely_label(branch)}>") if wide else place.path
            found = self._use(branch, place._replace(path=path))
            identity = found.type.name or found.type.kind
            if identity in seen:
                raise SchemaError(f"a union has two branches {_shown(identity)}", place.path)
            seen.add(identity)
            branches.append(found)
        return Type(Kind.UNION, branches=tuple(branches))

    def _check_level(self, place: Place) -> None:
        if place.level >= self._depth:
            raise SchemaError(f"the schema is nested deeper than {self._depth} levels", place.path)


def _spelling(attribute: str) -> str:
    """Return what is left of an attribute's name when case, punctuation and a plural are taken away."""
    return _NO_LETTER.sub("", attribute.lower()).removesuffix("s")


def _checked_name(name: object, pattern: re.Pattern[str], place: Place) -> str:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise SchemaError(f"the name {_shown(name)} is missing or not a name as Avro defines it", place.path)
    if len(name) > _MAX_NAME_CHARACTERS:
        raise SchemaError(f"a name is longer than {_MAX_NAME_CHARACTERS} characters", place.path)
    return name


def _full_name(source: Mapping[str, Any], place: Place) -> str:
    """Return the full name of a definition: a name with dots is one, otherwise its or the enclosing namespace leads."""
    name = _checked_name(source.get("name"), _FULL_NAME, place)
    if "." in name:
        return name
    namespace = source.get("namespace")
    if namespace is None:
        namespace = place.namespace
    if namespace == "":
        return name
    return _checked_name(f"{_checked_name(namespace, _FULL_NAME, place)}.{name}", _FULL_NAME, place)


def _symbols(source: Mapping[str, Any], place: Place) -> tuple[str, ...]:
    symbols = source.get("symbols")
    if not isinstance(symbols, list):
        raise SchemaError('an enum needs a list "symbols"', place.path)
    checked = tuple(_checked_name(symbol, _NAME, place) for symbol in symbols)
    if len(set(checked)) != len(checked):
        raise SchemaError("an enum has a symbol twice", place.path)
    return checked


def _size(source: Mapping[str, Any], place: Place) -> int:
    size = source.get("size")
    if type(size) is not int or not 0 <= size <= _MAX_INT:
        raise SchemaError('a fixed needs a "size" of 0 or more bytes', place.path)
    return size


def _with_logical_type(base: Type, source: Mapping[str, Any]) -> Type:
    """Add the logical type where it is valid; the specification says to ignore unknown and invalid ones."""
    logical = source.get("logicalType")
    if not isinstance(logical, str) or base.kind not in LOGICAL_TYPES.get(logical, ()):
        return base
    if logical == "decimal":
        precision, scale = source.get("precision"), source.get("scale", 0)
        if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision <= _MAX_INT:
            return base
        # A fixed of n bytes holds floor(log10(2 ** (8 * n - 1) - 1)) digits whatever they are.
        if precision < 1 or (base.kind is Kind.FIXED and precision > math.log10(2) * (8 * base.size - 1)):
            return base
        base.attributes = {"precision": precision, "scale": scale}
    elif base.kind is Kind.FIXED and base.size != {"uuid": 16, "duration": 12}[logical]:
        return base
    base.logical = logical
    return base


def _likely_label(source: object) -> str:
    """Return how a branch of a union is named in paths, as far as its unchecked text shows; for error messages."""
    name = source.get("name", source.get("type")) if isinstance(source, dict) else source
    return name.rpartition(".")[2] if isinstance(name, str) else "?"
