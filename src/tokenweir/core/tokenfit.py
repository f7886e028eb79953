"""Whether a token entry fits a place: types are kept, and a token must satisfy the schema that its value satisfied."""

from __future__ import annotations

from typing import Final

from tokenweir.core import tokens
from tokenweir.core.schema import Kind, Node
from tokenweir.core.tokens.addresses import AddressFormat, Ipv4RankFormat
from tokenweir.core.tokens.base import DigestFormat, SealedFormat, TokenFormat
from tokenweir.core.tokens.lengths import length_bounds
from tokenweir.core.tokens.permutations import PermutationFormat
from tokenweir.core.tokens.specs import DigitsSpec, HexSpec, IntegerSpec, TokenSpec, UuidSpec

#: Values of these types are measures or choices and no identifiers; a token of them would not be one either.
_NEVER: Final = frozenset({Kind.BOOLEAN, Kind.ENUM, Kind.FLOAT, Kind.DOUBLE, Kind.NUMBER, Kind.NULL, Kind.BYTES})

#: Decimal digits of which every number fits the type.
_SAFE_DIGITS: Final = {Kind.INT: 9, Kind.LONG: 18}


def misfit(spec: TokenSpec, node: Node) -> str:
    """Return why tokens of this entry cannot stand at this place, "" if they can."""
    if node.kind in _NEVER:
        return f"a {node.kind} cannot be tokenized"
    if node.logical and not _logical_fits(spec, node):
        return f"a token of format {spec.format} is no {node.logical}"
    token_format = tokens.build(spec)
    if node.kind.value not in token_format.kinds:
        return _typed_misfit(spec, node) or f"format {spec.format} does not work on a {node.kind}"
    broken = _broken_constraint(spec, token_format, node)
    if broken:
        return f"tokens of format {spec.format} would break the schema's {broken}"
    return _typed_misfit(spec, node)


def _typed_misfit(spec: TokenSpec, node: Node) -> str:
    """Return why tokens do not fit the size of an Avro integer or fixed."""
    if node.kind in {Kind.INT, Kind.LONG}:
        return _integer_misfit(spec, node.kind)
    return _fixed_misfit(spec, node.size) if node.kind is Kind.FIXED else ""


def _broken_constraint(spec: TokenSpec, token_format: TokenFormat, node: Node) -> str:
    """Return the JSON Schema constraint that tokens would break, "" for none.

    What only some tokens may break, such as a pattern, is left out of the derived schema instead.
    """
    limits = node.attributes
    if "enum" in limits or limits.get("multipleOf", 1) != 1:
        return "enum" if "enum" in limits else "multipleOf"
    if node.kind is Kind.INTEGER:
        lowest, highest = _integer_range(spec)
        if isinstance(spec, IntegerSpec) and lowest < limits.get("minimum", lowest):
            return "minimum"
        return "maximum" if highest > limits.get("maximum", highest) else ""
    if isinstance(token_format, DigestFormat | SealedFormat | AddressFormat | Ipv4RankFormat | PermutationFormat):
        # Tokens of the other formats are as long as their values.
        shortest, longest = token_format.token_length
        if shortest > limits.get("maxLength", shortest):
            return "maxLength"
        if longest is not None and longest < limits.get("minLength", 0):
            return "minLength"
    return ""


def _integer_range(spec: TokenSpec) -> tuple[int, int]:
    if isinstance(spec, IntegerSpec):
        return spec.min, spec.max
    return (0, 10 ** length_bounds(spec.length)[1] - 1) if isinstance(spec, DigitsSpec) else (0, 0)


def _logical_fits(spec: TokenSpec, node: Node) -> bool:
    if node.logical == "uuid":
        return isinstance(spec, UuidSpec)
    # In JSON Schema a format is a remark that the derived schema leaves out where the value is tokenized, but a time
    # that is tokenized would be no time; in Avro every other logical type is a number, a date or a time.
    return node.kind is Kind.STRING and node.logical not in {"date", "date-time", "time"}


def _integer_misfit(spec: TokenSpec, kind: Kind) -> str:
    digits = _SAFE_DIGITS[kind]
    if isinstance(spec, DigitsSpec):
        shortest, longest = length_bounds(spec.length)
        if shortest != longest:
            return f"an {kind} has no leading zeros, so digits need one fixed length"
        if longest > digits:
            return f"tokens of {longest} digits do not fit an {kind}; at most {digits} do"
    if isinstance(spec, IntegerSpec) and not _in_range(spec, 31 if kind is Kind.INT else 63):
        return f"min and max do not fit an {kind}"
    return ""


def _in_range(spec: IntegerSpec, bits: int) -> bool:
    return -(1 << bits) <= spec.min and spec.max < (1 << bits)


def _fixed_misfit(spec: TokenSpec, size: int) -> str:
    if isinstance(spec, UuidSpec):
        return "" if size == 16 else "a UUID has 16 bytes"
    if isinstance(spec, HexSpec):
        shortest, longest = length_bounds(spec.length)
        return "" if shortest <= 2 * size <= longest else f"a fixed of {size} bytes has {2 * size} hex digits"
    return f"format {spec.format} does not work on a fixed"
