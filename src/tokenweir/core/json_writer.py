"""Writers of JSON records: the values of :mod:`tokenweir.core.schema` to bytes, as the tree of a JSON Schema says."""

from __future__ import annotations

import re
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any, Final, TypeAlias

from tokenweir.core.schema import ABSENT, Field, JsonNumber, Kind, Node, Schema
from tokenweir.errors import InvalidValueError, SchemaError

Value: TypeAlias = Any
Writer = Callable[[Value], bytes]

_Write = Callable[[Value], str]

#: A number as JSON has it (RFC 8259, section 6).
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def writer(schema: Schema) -> Writer:
    """Return the function that encodes a value of the schema as compact UTF-8.

    Properties stand in the order of the schema, map entries in their own. What is :data:`ABSENT` is left out, and
    numbers are written as the text that they are. The function raises an :class:`InvalidValueError` if the value is
    none of the schema, whatever it is.
    """
    write = _Writer(schema).compile(schema.root)

    def write_record(value: Value) -> bytes:
        # Some of these exceptions hold the text, also as the context of another one; so they are let go first.
        try:
            return write(value).encode("utf-8")
        except (TypeError, ValueError, LookupError, RecursionError):
            pass
        raise InvalidValueError("a value does not follow the schema that it should be written with")

    return write_record


class _Writer:
    """Compiles nodes into functions from values to JSON text.

    The functions raise a ``TypeError``, ``ValueError`` or ``LookupError`` for what is no value of the node.
    """

    def __init__(self, schema: Schema) -> None:
        self._types = schema.types
        self._references: dict[str, _Write] = {}
        self._makers: dict[Kind, Callable[[Node], _Write]] = {
            Kind.NULL: lambda _node: _write_null,
            Kind.BOOLEAN: lambda _node: _write_boolean,
            Kind.INTEGER: lambda _node: _write_number,
            Kind.NUMBER: lambda _node: _write_number,
            Kind.STRING: lambda _node: encode_basestring,
            # An enum restricts what is read. What leaves may have been treated, and is a text all the same.
            Kind.ENUM: lambda _node: encode_basestring,
            Kind.RECORD: self._record,
            Kind.ARRAY: self._array,
            Kind.MAP: self._map,
            Kind.UNION: self._union,
            Kind.REFERENCE: self._reference,
            Kind.ANY: lambda _node: _write_nothing,
        }

    def compile(self, node: Node) -> _Write:
        """Return the function that writes the values of a node."""
        make = self._makers.get(node.kind)
        if make is None:
            raise SchemaError(f"{node.kind} is nothing that JSON has", node.path)
        return make(node)

    def _record(self, node: Node) -> _Write:
        steps = [
            (encode_basestring(entry.name) + ":", self.compile(entry.node), _must_stand(entry)) for entry in node.fields
        ]

        def write(value: Value) -> str:
            if type(value) is not list:
                raise TypeError
            parts = []
            for (name, write_item, required), item in zip(steps, value, strict=True):
                if item is not ABSENT:
                    parts.append(name + write_item(item))
                elif required:
                    raise ValueError
            return "{" + ",".join(parts) + "}"

        return write

    def _array(self, node: Node) -> _Write:
        write_item = self.compile(_items(node))

        def write(value: Value) -> str:
            if type(value) is not list:
                raise TypeError
            return "[" + ",".join([write_item(item) for item in value if item is not ABSENT]) + "]"

        return write

    def _map(self, node: Node) -> _Write:
        write_item = self.compile(_items(node))

        def write(value: Value) -> str:
            if type(value) is not dict:
                raise TypeError
            entries = [
                encode_basestring(key) + ":" + write_item(item) for key, item in value.items() if item is not ABSENT
            ]
            return "{" + ",".join(entries) + "}"

        return write

    def _union(self, node: Node) -> _Write:
        nullable = any(branch.kind is Kind.NULL for branch in node.branches)
        writes = dict(enumerate(map(self.compile, node.branches)))

        def write(value: Value) -> str:
            if value is None and nullable:
                return "null"
            index, inner = value
            return writes[index](inner)

        return write

    def _reference(self, node: Node) -> _Write:
        name, references = node.name, self._references
        if name not in references:
            references[name] = _write_nothing
            references[name] = self.compile(self._types[name])

        def write(value: Value) -> str:
            return references[name](value)

        return write


def _must_stand(entry: Field) -> bool:
    """Return whether a record cannot do without this field; what is not described is read as absent."""
    return entry.required and entry.node.kind is not Kind.ANY


def _items(node: Node) -> Node:
    if node.items is None:
        raise SchemaError("an array or map without items", node.path)
    return node.items


def _write_number(value: Value) -> str:
    if type(value) is not JsonNumber or not _NUMBER.fullmatch(value):
        raise TypeError
    return value


def _write_boolean(value: Value) -> str:
    if type(value) is not bool:
        raise TypeError
    return "true" if value else "false"


def _write_null(value: Value) -> str:
    if value is not None:
        raise TypeError
    return "null"


def _write_nothing(_value: Value) -> str:
    """Refuse a value where the schema does not say what stands there."""
    raise TypeError
