"""Texts and enum symbols: only their beginning stays, or a table says what they become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenweir.core.generalize.address import NetworkGeneralizer
from tokenweir.core.generalize.base import Generalizer
from tokenweir.core.generalize.specs import MapSpec, PrefixSpec
from tokenweir.core.schema import Kind, Node
from tokenweir.errors import InvalidValueError, SchemaError


@dataclass(frozen=True, slots=True)
class _Prefix:
    """Keeps the first characters, counted in code points; an empty text passes."""

    characters: int

    def apply(self, value: object) -> str:
        if not isinstance(value, str):
            raise InvalidValueError("expected text")
        if value and len(value) <= self.characters:
            raise InvalidValueError(f"expected more than {self.characters} characters")
        return value[: self.characters]


@dataclass(frozen=True, slots=True)
class _Table:
    """Looks a text up; without a default what is not in the table is invalid."""

    table: Mapping[str, str]
    default: str | None

    def apply(self, value: object) -> str:
        if not isinstance(value, str):
            raise InvalidValueError("expected text")
        if not value:
            return value
        result = self.table.get(value, self.default)
        if result is None:
            raise InvalidValueError("expected one of the values of the map")
        return result


def build_prefix(spec: PrefixSpec, node: Node) -> Generalizer:
    """Compile ``{prefix: n}`` for a text, or ``{prefix: n, of: ip}`` for an IP address in a text.

    Raises:
        SchemaError: if the place holds no text, or a text whose format the result would not have.
    """
    formats = ("", "ipv4", "ipv6") if spec.of == "ip" else ("",)
    if node.kind is not Kind.STRING or node.logical not in formats:
        raise SchemaError(f"prefix of {spec.of} needs a string without another format", path=node.path)
    if spec.of == "text":
        return _Prefix(spec.prefix)
    longest = {"ipv4": 31, "": 127, "ipv6": 127}[node.logical]
    if spec.prefix > longest:
        raise SchemaError(f"prefix of an IP address keeps at most {longest} bits here", path=node.path)
    return NetworkGeneralizer(spec.prefix)


def build_map(spec: MapSpec, node: Node) -> Generalizer:
    """Compile ``{map: {value: value, ...}, else: value}``. The symbols of an enum stay those of its source.

    Raises:
        SchemaError: if the place holds no text or enum, or the map names what the enum does not have.
    """
    if node.kind is Kind.ENUM:
        named = {*spec.map, *spec.map.values()} | ({spec.else_} if spec.else_ is not None else set())
        unknown = sorted(named - set(node.symbols))
        if unknown:
            raise SchemaError(f"the enum has no symbol {', '.join(unknown)}", path=node.path)
    elif node.kind is not Kind.STRING or node.logical:
        raise SchemaError("map needs an enum or a string without another format", path=node.path)
    return _Table(dict(spec.map), spec.else_)
