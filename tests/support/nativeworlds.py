"""Random worlds for comparing engines: schemas, and policies that say something of each of their places."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hypothesis import strategies as st
from tests.support.engines import json_schema_of
from tests.support.goldentokens import golden_tokens

from tokenweir.core import avro, jsonschema
from tokenweir.core.schema import CONTAINERS, Kind, Node, Schema

Document = dict[str, Any]
Json = Any

#: Each way of making tokens that there is, once.
_PINNED: Final = {
    f"pinned{number}": json.loads(parameters)
    for number, parameters in enumerate(dict.fromkeys(json.dumps(entry) for entry, _, _ in golden_tokens()))
}
_UUIDS: Final = tuple(name for name, parameters in _PINNED.items() if parameters["format"] == "uuid")

_TEXT_TREATMENTS: Final = (
    "keep", "drop", {"tokenize": "opaque"}, {"tokenize": "sealed"}, {"tokenize": "digits"}, {"tokenize": "email"},
    {"tokenize": "phone"}, {"tokenize": "card"}, {"tokenize": "uuid"}, {"tokenize": "order"}, {"tokenize": "number"},
    {"generalize": {"prefix": 2}}, {"generalize": {"prefix": 20, "of": "ip"}}, {"generalize": {"time": "hour"}},
    {"generalize": {"map": {"A": "B", "Anna": ""}, "else": "other"}}, {"generalize": {"map": {"A": "B"}}},
    {"generalize": {"url": {"path": 1, "query": ["page", "caf\u00e9"]}}},
    {"generalize": {"user_agent": "family"}}, {"generalize": {"shift_days": 400}},
    *({"tokenize": name} for name in _PINNED),
)  # fmt: skip
_WHOLE_TREATMENTS: Final = (
    "keep", "drop", {"tokenize": "digits"}, {"tokenize": "number"}, {"generalize": {"round": 10}},
    {"generalize": {"buckets": [0, 10, 1000]}}, {"generalize": {"shift_days": 9000}},
    {"generalize": {"time": "month"}},
)  # fmt: skip
_REAL_TREATMENTS: Final = (
    "keep", "drop", {"generalize": {"round": 0.1}}, {"generalize": {"round": 2.5}}, {"generalize": {"round": 1e-9}},
    {"generalize": {"buckets": [-1, 0.3, 0.7, 1e21]}},
)  # fmt: skip
_TIME_TREATMENTS: Final = (
    "keep",
    "drop",
    *({"generalize": {"time": unit}} for unit in ("hour", "day", "month", "year")),
    *({"generalize": {"shift_days": days}} for days in (1, 36_525)),
)
_DATE_TREATMENTS: Final = (
    "keep",
    "drop",
    {"generalize": {"time": "month"}},
    {"generalize": {"time": "year"}},
    {"generalize": {"shift_days": 400}},
)
_DECIMAL_TREATMENTS: Final = (
    "keep",
    "drop",
    {"generalize": {"round": 0.25}},
    {"generalize": {"buckets": [0, 1.5, 90]}},
)
_FIXED_TREATMENTS: Final = ("keep", "drop", *({"tokenize": name} for name in ("uuid", "hex", *_UUIDS)))
_ENUM_TREATMENTS: Final = (
    "keep",
    "drop",
    {"generalize": {"map": {"A": "B", "B": "B"}}},
    {"generalize": {"map": {"B": "A"}, "else": "C"}},
)
_CELL: Final = {"generalize": {"cell": "h3", "resolution": 5}}
_NOISE: Final = tuple({"generalize": {"noise": "laplace", "metres": metres}} for metres in (10, 50_000))

_TOKENS: Final = {
    "customer": {"format": "digits", "length": 10},
    "opaque": {"format": "opaque", "null_values": ["nobody"]},
    "sealed": {"format": "opaque", "reversible": True, "encoding": "hex"},
    "digits": {"format": "digits", "length": 9, "null_values": ["000000007"]},
    "number": {"format": "integer", "min": -5, "max": 2_000_000_000},
    "email": {"format": "email"},
    "phone": {"format": "phone"},
    "card": {"format": "pan"},
    "uuid": {"format": "uuid"},
    "hex": {"format": "hex", "length": 32},
    "order": {"format": "pattern", "pattern": "([a-z0-9]{6})"},
    **_PINNED,
}
_SCALARS: Final[tuple[Json, ...]] = (
    "string", "string", "boolean", "int", "long", "float", "double", "bytes",
    {"type": "string", "logicalType": "uuid"},
    {"type": "int", "logicalType": "date"},
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "long", "logicalType": "timestamp-micros"},
    {"type": "long", "logicalType": "local-timestamp-millis"},
    {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2},
)  # fmt: skip


def _parsed(text: str, format_: str) -> Schema:
    return avro.parse(text) if format_ == "avro" else jsonschema.parse(text)


class _Names:
    """Names of types, each given once; ``avro`` says whether the types that JSON does not have may occur."""

    def __init__(self, *, avro: bool) -> None:
        self.avro = avro
        self._count = 0

    def next(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"


def _type(draw: st.DrawFn, names: _Names, depth: int) -> Json:
    """Return a random type; below the last level only one without another inside."""
    make = draw(st.sampled_from(_INNER if not depth else (*_INNER, *_OUTER)))
    found = make(draw, names, depth)
    return found if names.avro or not isinstance(found, dict) or found["type"] != "fixed" else "string"


def _scalar_type(draw: st.DrawFn, names: _Names, _depth: int) -> Json:
    return draw(st.sampled_from(_SCALARS if names.avro else _SCALARS[:7]))


def _enum_type(_draw: st.DrawFn, names: _Names, _depth: int) -> Json:
    return {"type": "enum", "name": names.next("Enum"), "symbols": ["A", "B", "C"]}


def _fixed_type(draw: st.DrawFn, names: _Names, _depth: int) -> Json:
    decimal = {"size": 4, "logicalType": "decimal", "precision": 5, "scale": 1}
    return {"type": "fixed", "name": names.next("Fixed"), "size": 16, **draw(st.sampled_from([{}, {}, decimal]))}


def _record_type(draw: st.DrawFn, names: _Names, depth: int) -> Json:
    return _record(draw, names, depth - 1, draw(st.integers(1, 3)))


def _array_type(draw: st.DrawFn, names: _Names, depth: int) -> Json:
    return {"type": "array", "items": _type(draw, names, depth - 1)}


def _map_type(draw: st.DrawFn, names: _Names, depth: int) -> Json:
    return {"type": "map", "values": _type(draw, names, depth - 1)}


def _optional_type(draw: st.DrawFn, names: _Names, depth: int) -> Json:
    found = _type(draw, names, depth - 1)
    branches = ["null", "string" if isinstance(found, list) else found]
    return branches if draw(st.booleans()) else branches[::-1]


def _union_type(draw: st.DrawFn, names: _Names, depth: int) -> Json:
    record = _record(draw, names, depth - 1, 1)
    return draw(st.permutations(["null", "string", "long", record]))[: draw(st.integers(2, 4))]


_INNER: Final = (_scalar_type, _scalar_type, _enum_type, _fixed_type)
_OUTER: Final = (_record_type, _array_type, _map_type, _union_type, _optional_type, _optional_type)


def _record(draw: st.DrawFn, names: _Names, depth: int, width: int) -> Document:
    fields = [{"name": f"f{number}", "type": _type(draw, names, depth)} for number in range(width)]
    return {"type": "record", "name": names.next("Record"), "fields": fields}


_FORMS: Final = ({"digits": 10}, "text", "lowercase")


@st.composite
def _schemas(draw: st.DrawFn, *, in_avro: bool) -> Document:
    """Return a record with an id, a time, a place and anything else."""
    names = _Names(avro=in_avro)
    found = _record(draw, names, 3, draw(st.integers(1, 4)))
    coordinate = draw(st.sampled_from(["double", ["null", "double"], "float"]))
    position = {"type": "record", "name": "Place", "fields": [{"name": n, "type": coordinate} for n in ("lat", "lon")]}
    fixed = [
        {"name": "id", "type": draw(st.sampled_from([["null", "string"], "string", ["null", "long"]]))},
        {"name": "at", "type": draw(st.sampled_from([["null", "long"], "string", _SCALARS[10], _SCALARS[11]]))},
        {"name": "place", "type": draw(st.sampled_from([position, ["null", position]]))},
    ]
    return {**found, "namespace": "shop", "fields": [*fixed, *found["fields"]]}


_FITTING: Final[Mapping[Kind, tuple[Json, ...]]] = {
    Kind.STRING: _TEXT_TREATMENTS,
    Kind.LONG: _WHOLE_TREATMENTS,
    Kind.INTEGER: _WHOLE_TREATMENTS,
    Kind.INT: _WHOLE_TREATMENTS[:-2],
    Kind.FLOAT: _REAL_TREATMENTS,
    Kind.DOUBLE: _REAL_TREATMENTS,
    Kind.NUMBER: _REAL_TREATMENTS,
    Kind.FIXED: _FIXED_TREATMENTS,
    Kind.ENUM: _ENUM_TREATMENTS,
}


def _fitting(node: Node) -> tuple[Json, ...]:
    """Return the treatments that a place can have."""
    if node.logical == "decimal":
        return _DECIMAL_TREATMENTS
    if node.logical == "date":
        return _DATE_TREATMENTS
    if "timestamp" in node.logical or node.logical == "date-time":
        return _TIME_TREATMENTS
    if node.logical == "uuid":
        return ("keep", "drop", {"tokenize": "uuid"}, *({"tokenize": name} for name in _UUIDS))
    return _FITTING.get(node.kind, ("keep", "drop"))


def _class(draw: st.DrawFn, treatments: tuple[Json, ...]) -> Document:
    """Return a class with one or two of these treatments."""
    lines = []
    for _ in range(draw(st.integers(1, 2))):
        line: Document = {"do": draw(st.sampled_from(treatments))}
        when = draw(st.sampled_from([[], [], ["offers"], ["billing"], ["offers", "billing"]]))
        audiences = draw(st.sampled_from([[], [], [], ["crm"], ["ads"]]))
        lines.append(line | ({"when": when} if when else {}) | ({"for": audiences} if audiences else {}))
    found: Document = {"treatments": lines, "on_invalid": draw(st.sampled_from(["drop", "drop", "drop", "reject"]))}
    links: Document = draw(st.sampled_from([{}, {}, {"links": "person"}]))
    return found | links


def _classes(draw: st.DrawFn, node: Node) -> Iterator[tuple[str, Document]]:
    """Yield classes for the places below a node, with their paths."""
    if node.kind in CONTAINERS:
        if node.path and node.kind is not Kind.UNION and draw(st.integers(0, 5)) == 0:
            yield node.path, _class(draw, ("keep", "drop"))
            return
        if node.kind is Kind.MAP:
            if draw(st.booleans()):
                yield f"{node.path}{{@key}}", _class(draw, ("keep", "keep", "drop"))
            if node.items is not None and node.items.kind not in CONTAINERS and draw(st.booleans()):
                yield f"{node.path}{{A}}", _class(draw, _fitting(node.items))
        for child in node.children():
            if child.kind is not Kind.NULL:
                yield from _classes(draw, child)
    elif node.path and node.path not in {"id", "at", "place.lat", "place.lon"} and draw(st.integers(0, 9)):
        if node.kind in {Kind.STRING, Kind.LONG} and not node.logical and draw(st.integers(0, 5)) == 0:
            yield node.path, {}
        else:
            yield node.path, _class(draw, _fitting(node))


def _used(classes: Document) -> Document:
    """Return the token entries that classes use."""
    text = json.dumps(classes)
    return {name: parameters for name, parameters in _TOKENS.items() if f'"tokenize": "{name}"' in text}


_BASES: Final = ("consent", "consent", "opt_out", "legitimate_interest", "contract")


def _purpose(draw: st.DrawFn) -> Document:
    basis = draw(st.sampled_from(_BASES))
    found: Document = {"title": "Purpose", "basis": basis, "assessment": "A-1"}
    found |= {"retention_days": draw(st.sampled_from([1, 365])), "minors": draw(st.sampled_from(["refuse", "allow"]))}
    found |= {"covers_earlier": True} if draw(st.booleans()) and basis == "consent" else {}
    return found | ({"basis_by": {"US-CA": "opt_out"}} if draw(st.booleans()) else {})


def _named(root: Node, name: str) -> Node:
    return next(entry.node for entry in root.fields if entry.name == name)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[str, str]:
    """Return a policy and a schema."""
    format_ = draw(st.sampled_from(["avro", "avro", "json_schema"]))
    schema = draw(_schemas(in_avro=format_ == "avro"))
    text = json.dumps(schema if format_ == "avro" else json_schema_of(schema))
    root = _parsed(text, format_).root
    is_number = {branch.kind for branch in _named(root, "id").walk()} & {Kind.LONG, Kind.INTEGER}
    form = _FORMS[0] if is_number else draw(st.sampled_from(_FORMS))
    entries = ["customer"] if is_number else ["customer", "opaque"]
    classes: Document = {
        "person": {"do": {"tokenize": draw(st.sampled_from(entries))}},
        "device": {"do": {"tokenize": "opaque"}},
        "time": _class(draw, ("keep", {"generalize": {"time": "day"}})),
        "place": draw(
            st.sampled_from([{"do": _CELL}, {"do": _NOISE[0]}, _class(draw, ("keep", _CELL, *_NOISE, "drop"))])
        ),
        "open": {"do": "keep"},
    }
    fields = {"id": "person", "at": "time", "place": "place"}
    for number, (path, found) in enumerate(_classes(draw, root)):
        if not found:
            fields[path] = "person"
        elif not path.startswith("place"):
            classes[f"c{number}"] = found
            fields[path] = f"c{number}"
    about = [{"type": "customer", "path": "id"}]
    extra = draw(st.sampled_from(["", "$key", "$headers{device}"]))
    about += [{"type": "device", "path": extra}] if extra else []
    about = draw(st.permutations(about))
    requires: st.SearchStrategy[Document] = st.sampled_from(
        [{}, {}, {"requires": ["billing"]}, {"requires": {"any": ["offers", "billing"]}}]
    )
    key, timestamp = st.sampled_from(["subject", "none"]), st.sampled_from(["keep", "hour", "day"])
    stream: Document = {
        "source": {"topic": "raw", "format": format_},
        "subjects": about,
        "no_subject": draw(st.sampled_from(["withhold", "anonymous"])),
        "pairs": [["place.lat", "place.lon"]],
        "fields": fields,
        "headers": {"open": "open"},
        "outputs": [
            {"audience": "crm", "key": draw(key), "timestamp": draw(timestamp), **draw(requires)},
            {"audience": "ads", "key": draw(key), "timestamp": draw(timestamp)},
        ],
    }
    if draw(st.booleans()):
        stream["event_time"] = "at"
    recipient = {"name": "A", "role": "internal"}
    policy = {
        "version": 1,
        "unclassified": "drop",
        "purposes": {"offers": _purpose(draw), "billing": _purpose(draw)},
        "subjects": {"customer": {"class": "person", "form": form}, "device": {"class": "device", "form": "text"}},
        "classes": classes,
        "tokens": _used(classes),
        "audiences": {
            "crm": {"title": "CRM", "purposes": ["offers", "billing"], "recipients": [{"id": "a", **recipient}]},
            "ads": {"title": "Ads", "purposes": ["offers"], "recipients": [{"id": "b", **recipient}]},
        },
        "streams": {"raw": stream},
    }
    return json.dumps(policy), text
