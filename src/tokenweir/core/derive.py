"""The derived schema: what downstream consumers see, from what may leave.

Avro: every field is nullable with default null unless its class says ``always``, so that each later narrowing or
widening of the policy stays FULL_TRANSITIVE compatible. JSON Schema: what may be withheld is not ``required``, and only
``always`` fields keep the constraints of the source.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from tokenweir.core.paths import Step, StepKind, format_steps, parse_path
from tokenweir.core.plan import ArrayOut, Leaf, MapOut, Out, OutputPlan, Plan, RecordOut, Rules, UnionOut
from tokenweir.core.schema import Field, Kind, Node, Schema
from tokenweir.errors import SchemaError

_NULL: Final = Node(Kind.NULL)
_NO_WORD: Final = re.compile(r"[^A-Za-z0-9]+")

#: JSON Schema attributes that still hold for a value that is kept as it is.
_JSON_CONSTRAINTS: Final = (
    "minLength", "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Derived:
    """A derived schema: its text for the registry, and its tree for the writer of the engine."""

    text: str
    schema: Schema


def derive(plan: Plan, output: OutputPlan) -> Derived | None:
    """Return the derived schema of one output, or None where nothing of the schema can leave.

    Raises:
        SchemaError: if the source's root is neither a record nor a union of records.
    """
    if output.root is None:
        return None
    if plan.format == "avro":
        return _Avro(output, plan.source).derive()
    return _Json(output, plan).derive()


def treatments(rules: Rules) -> str:
    """Return the treatments of a place in the order in which they are tried, joined by ``|``."""
    return "|".join(dict.fromkeys(action.kind for action in rules.actions()))


def annotation(rules: Rules) -> dict[str, str]:
    """Return what a derived schema says of a field: its class, its treatment and its token entry."""
    note = {"class": rules.class_name, "treatment": treatments(rules)}
    entries = [action.token for action in rules.actions() if action.kind == "tokenize"]
    return {**note, "token": "|".join(entries)} if entries else note


def _place_rules(out: Out) -> Rules | None:
    """The rules to name at a field: those of its leaf, or of the class that acts on the container as a whole."""
    match out:
        case Leaf():
            return out.rules
        case UnionOut() if out.gate is None:
            found = [rules for branch in out.branches if branch is not None and (rules := _place_rules(branch))]
            return found[0] if found else None
        case _:
            return out.gate


class _Avro:
    def __init__(self, output: OutputPlan, source: Schema) -> None:
        self._output = output
        #: Where the source uses each record type first.
        self._first_path: dict[str, str] = {}
        for node in source.root.walk():
            if node.kind is Kind.RECORD:
                self._first_path.setdefault(node.name, _without_keys(node.path))
        #: What each type already defined is made of, by its derived full name.
        self._defined: dict[str, object] = {}
        self._written: set[str] = set()

    def derive(self) -> Derived:
        root = self._output.root
        if not isinstance(root, (RecordOut, UnionOut)):
            raise SchemaError("the value is not a record, so nothing in it can have a name or a class")
        node, shape = self._value(root, nullable=False)
        for record in shape if isinstance(shape, list) else [shape]:
            if isinstance(record, dict):
                record["tokenweir"] = {"audience": self._output.audience, "epoch": self._output.epoch}
        return Derived(json.dumps(shape, ensure_ascii=False, separators=(",", ":")), Schema(node, "avro"))

    def _value(self, out: Out, *, nullable: bool) -> tuple[Node, Any]:
        """Return tree and JSON of a place; ``nullable`` adds null, first, where it is not there already."""
        match out:
            case UnionOut():
                return self._union(out, nullable=nullable)
            case Leaf():
                node, shape = self._scalar(out.source)
            case RecordOut():
                node, shape = self._record(out)
            case ArrayOut():
                items, items_shape = self._value(out.items, nullable=False)
                node, shape = Node(Kind.ARRAY, items=items), {"type": "array", "items": items_shape}
            case MapOut():
                node, shape = self._map(out)
        if nullable:
            return Node(Kind.UNION, branches=(_NULL, node)), ["null", shape]
        return node, shape

    def _union(self, out: UnionOut, *, nullable: bool) -> tuple[Node, Any]:
        has_null = nullable or any(branch.kind is Kind.NULL for branch in out.source.branches)
        parts = [self._value(branch, nullable=False) for branch in out.branches if branch is not None]
        nodes = [node for node, _ in parts]
        shapes = [shape for _, shape in parts]
        if has_null:
            nodes.insert(0, _NULL)
            shapes.insert(0, "null")
        return Node(Kind.UNION, branches=tuple(nodes)), shapes

    def _record(self, out: RecordOut) -> tuple[Node, Any]:
        fields: list[Field] = []
        shapes: list[dict[str, Any]] = []
        for entry in out.fields:
            node, shape = self._value(entry.value, nullable=not entry.always)
            fields.append(Field(entry.name, node))
            described: dict[str, Any] = {"name": entry.name, "type": shape}
            if not entry.always:
                described["default"] = None
            rules = _place_rules(entry.value)
            if rules is not None:
                described["tokenweir"] = annotation(rules)
            shapes.append(described)
        shape = self._named(out.source, {"type": "record", "fields": shapes})
        return Node(Kind.RECORD, name=_name_of(shape), fields=tuple(fields)), shape

    def _map(self, out: MapOut) -> tuple[Node, Any]:
        """A map's values all have one type: the widest that its entries need, which is that of the source's values."""
        parts = [self._value(value, nullable=False) for _, value in out.named]
        if out.values is not None:
            parts.append(self._value(out.values, nullable=False))
        if any(_layout(node) != _layout(parts[0][0]) for node, _ in parts):
            raise SchemaError(f"the entries named in '{out.source.path}' end up with different types", out.source.path)
        # The first has the definitions of the types that the others only name.
        node, shape = parts[0]
        return Node(Kind.MAP, items=node), {"type": "map", "values": shape}

    def _scalar(self, source: Node) -> tuple[Node, Any]:
        if source.kind is Kind.ENUM:
            enum = self._named(source, {"type": "enum", "symbols": source.symbols})
            return Node(Kind.ENUM, name=_name_of(enum), symbols=source.symbols), enum
        described: dict[str, Any] = {"type": source.kind.value}
        attributes = {name: source.attributes[name] for name in ("precision", "scale") if name in source.attributes}
        if source.logical:
            described |= {"logicalType": source.logical, **attributes}
        shape: Any = described if source.logical else source.kind.value
        node = Node(source.kind, logical=source.logical, attributes=attributes)
        if source.kind is Kind.FIXED:
            shape = self._named(source, {**described, "size": source.size})
            node = replace(node, name=_name_of(shape), size=source.size)
        return node, shape

    def _named(self, source: Node, body: dict[str, Any]) -> Any:  # noqa: ANN401 - a name or a definition
        """Return the definition of a named type, or its name where the same is defined already.

        A record type that the source uses at several places is one type for each of them: the first place has its
        name, the others ``Name__path``. Which place has which name follows from the source alone, so that no change
        of the policy, which may begin to treat two places differently, ever renames a type.
        """
        name = self._derived_name(source.name)
        path = _without_keys(source.path)
        if source.kind is Kind.RECORD and path != self._first_path.get(source.name):
            name = f"{name}__{_NO_WORD.sub('_', path).strip('_')}"
        # An enum may be large and stand at many places, which share its symbols.
        content = source.symbols if source.kind is Kind.ENUM else json.dumps(body, sort_keys=True)
        known = self._defined.setdefault(name, content)
        if known is not content and known != content:
            raise SchemaError("two places that are treated differently come out with one name", source.path)
        if name in self._written:
            return name
        self._written.add(name)
        namespace, _, short = name.rpartition(".")
        return {"type": body["type"], "name": short, "namespace": namespace, **body}

    def _derived_name(self, name: str) -> str:
        namespace, _, short = name.rpartition(".")
        return ".".join(part for part in (namespace, self._output.audience, short) if part)


def _name_of(shape: Any) -> str:  # noqa: ANN401 - a name or a definition
    return shape if isinstance(shape, str) else f"{shape['namespace']}.{shape['name']}"


class _Json:
    def __init__(self, output: OutputPlan, plan: Plan) -> None:
        self._output = output
        self._plan = plan

    def derive(self) -> Derived:
        root = self._output.root
        if root is None:
            raise SchemaError("nothing can leave")
        node, shape = self._value(root, constraints=False)
        shape = {
            "$schema": "http://json-schema.org/draft-07/schema#",
            **shape,
            "x-tokenweir": {"audience": self._output.audience, "epoch": self._output.epoch},
        }
        return Derived(json.dumps(shape, ensure_ascii=False, separators=(",", ":")), Schema(node, "json"))

    def _value(self, out: Out, *, constraints: bool) -> tuple[Node, dict[str, Any]]:
        """Return tree and JSON of a place; ``constraints`` is set in what is always in the output as it was.

        A constant, an enum or a pattern of what is dropped would tell what was dropped, so that has none. What is kept
        today may be dropped tomorrow, so only what the policy promises forever has them.
        """
        match out:
            case UnionOut():
                return self._union(out, constraints=constraints)
            case RecordOut():
                return self._record(out)
            case ArrayOut():
                node, shape = self._value(out.items, constraints=constraints)
                return Node(Kind.ARRAY, items=node), {"type": "array", "items": shape}
            case MapOut():
                return self._map(out, constraints=constraints)
            case Leaf():
                keeps = all(action.kind == "keep" for action in out.rules.actions())
                shape = declared(out.source, constraints=constraints and keeps)
                return Node(out.source.kind, symbols=out.source.symbols), shape

    def _union(self, out: UnionOut, *, constraints: bool) -> tuple[Node, dict[str, Any]]:
        nodes: list[Node] = []
        shapes: list[dict[str, Any]] = []
        if any(branch.kind is Kind.NULL for branch in out.source.branches):
            nodes.append(_NULL)
            shapes.append({"type": "null"})
        for branch in out.branches:
            if branch is not None:
                node, shape = self._value(branch, constraints=constraints)
                nodes.append(node)
                shapes.append(shape)
        return Node(Kind.UNION, branches=tuple(nodes)), shapes[0] if len(shapes) == 1 else {"anyOf": shapes}

    def _record(self, out: RecordOut) -> tuple[Node, dict[str, Any]]:
        leaving = {entry.name: entry for entry in out.fields}
        fields: list[Field] = []
        properties: dict[str, Any] = {}
        for source in out.source.fields:
            entry = leaving.get(source.name)
            if entry is None:
                # A closed object that gains a property is no longer compatible both ways, so that what is dropped
                # stays declared: a later widening then changes no schema.
                properties[source.name] = declared(source.node, constraints=False)
                continue
            node, shape = self._value(entry.value, constraints=entry.always)
            rules = _place_rules(entry.value)
            properties[source.name] = {**shape, "x-tokenweir": annotation(rules)} if rules else shape
            fields.append(Field(source.name, node, required=entry.always))
        described: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        required = [entry.name for entry in out.fields if entry.always]
        if required:
            described["required"] = required
        return Node(Kind.RECORD, fields=tuple(fields)), described

    def _map(self, out: MapOut, *, constraints: bool) -> tuple[Node, dict[str, Any]]:
        """A map whose keys leave stays open; otherwise only the named entries are allowed."""
        parts = {name: self._value(value, constraints=constraints) for name, value in out.named}
        described: dict[str, Any] = {
            "type": "object",
            "properties": {name: shape for name, (_, shape) in parts.items()},
            "additionalProperties": False,
        }
        nodes = [node for node, _ in parts.values()]
        if out.values is not None:
            node, described["additionalProperties"] = self._value(out.values, constraints=constraints)
            nodes.insert(0, node)
        if any(_layout(node) != _layout(nodes[0]) for node in nodes):
            raise SchemaError(f"the entries named in '{out.source.path}' end up with different types", out.source.path)
        return Node(Kind.MAP, items=nodes[0]), described


def _layout(node: Node) -> tuple[Any, ...]:
    """Return the kinds and names of a tree, which are all that a writer looks at."""
    names = tuple((entry.name, entry.required) for entry in node.fields)
    return (node.kind, node.name, names, tuple(_layout(child) for child in node.children()))


def _without_keys(path: str) -> str:
    """Return a path in which map keys are not named: all values of a map have one type."""
    values = Step(StepKind.VALUES)
    return format_steps([values if step.kind is StepKind.KEY else step for step in parse_path(path)])


def declared(node: Node, *, constraints: bool) -> dict[str, Any]:
    """Return the bare JSON Schema of a source place: types only, and the constraints where values stay as they are."""
    described: dict[str, Any] = {"type": node.kind.value}
    match node.kind:
        case Kind.RECORD:
            properties = {entry.name: declared(entry.node, constraints=constraints) for entry in node.fields}
            described = {"type": "object", "properties": properties, "additionalProperties": False}
        case Kind.ARRAY:
            described["items"] = declared(node.items, constraints=constraints) if node.items else {}
        case Kind.MAP:
            values = declared(node.items, constraints=constraints) if node.items else {}
            described = {"type": "object", "additionalProperties": values}
        case Kind.UNION:
            described = {"anyOf": [declared(branch, constraints=constraints) for branch in node.branches]}
        case Kind.ENUM:
            described = {"type": "string", "enum": list(node.symbols)} if constraints else {"type": "string"}
        case Kind.REFERENCE | Kind.ANY:
            described = {}
        case _ if constraints:
            described.update({name: node.attributes[name] for name in _JSON_CONSTRAINTS if name in node.attributes})
            if node.logical:
                described["format"] = node.logical
        case _:
            pass
    return described
