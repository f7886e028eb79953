"""Builds schema trees by hand, with the canonical paths that every parser gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tokenweir.core.schema import Field, Kind, Node, Schema, join

#: Makes the node for the place at a path.
Maker = Callable[[str], Node]


def leaf(kind: Kind = Kind.STRING, *tags: str) -> Maker:
    """A place that holds one value."""
    return lambda path: Node(kind, path, tags=tags)


def tagged(*tags: str) -> Maker:
    """A text with tags."""
    return leaf(Kind.STRING, *tags)


def record(name: str, fields: Mapping[str, Maker], *tags: str) -> Maker:
    """A record; ``tags`` speak of the whole."""
    return lambda path: Node(
        Kind.RECORD,
        path,
        name,
        tags=tags,
        fields=tuple(Field(entry, maker(join(path, entry))) for entry, maker in fields.items()),
    )


def array(items: Maker, *tags: str) -> Maker:
    """An array."""
    return lambda path: Node(Kind.ARRAY, path, tags=tags, items=items(f"{path}[*]"))


def map_of(values: Maker, *tags: str) -> Maker:
    """A map from text."""
    return lambda path: Node(Kind.MAP, path, tags=tags, items=values(f"{path}{{*}}"))


def union(branches: Mapping[str, Maker], *tags: str) -> Maker:
    """A union by label, of which ``null`` is the null branch; with one other branch it is transparent."""
    several = sum(label != "null" for label in branches) > 1

    def make(path: str) -> Node:
        return Node(
            Kind.UNION,
            path,
            tags=tags,
            branches=tuple(maker(f"{path}<{label}>" if several else path) for label, maker in branches.items()),
        )

    return make


def optional(maker: Maker, *tags: str) -> Maker:
    """A union with null, null first."""
    return union({"null": leaf(Kind.NULL), "value": maker}, *tags)


def reference(name: str) -> Maker:
    """A place where a type repeats inside itself."""
    return lambda path: Node(Kind.REFERENCE, path, name)


def schema(maker: Maker, format_: str = "avro") -> Schema:
    """The schema with this root."""
    root = maker("")
    types: dict[str, Node] = {}
    for node in root.walk():
        if node.kind is Kind.RECORD and node.name:
            types.setdefault(node.name, node)
    return Schema(root, format_, types)


def purchase() -> Schema:
    """A record with every structure in it, as the tests of paths and classes share it."""
    person = record("shop.Person", {"email": leaf(), "age": leaf(Kind.INT)})
    company = record("shop.Company", {"email": leaf(), "vat": leaf()})
    return schema(
        record(
            "shop.Purchase",
            {
                "customer_id": optional(leaf(Kind.LONG)),
                "note": union({"value": leaf(), "null": leaf(Kind.NULL)}),
                "total": leaf(Kind.DOUBLE),
                "location": record("shop.Location", {"lat": leaf(Kind.DOUBLE), "lon": leaf(Kind.DOUBLE)}),
                "items": array(record("shop.Item", {"sku": leaf(), "labels": array(leaf())})),
                "attributes": map_of(leaf()),
                "offers": optional(map_of(record("shop.Offer", {"code": leaf(), "extra": map_of(leaf())}))),
                "contact": union({"Person": person, "null": leaf(Kind.NULL), "Company": company, "string": leaf()}),
                "traits": record("shop.Traits", {"first name": leaf(), "a.b": leaf(), 'quo"te': leaf()}),
                "parent": optional(reference("shop.Purchase")),
            },
        )
    )


def events() -> Schema:
    """A top-level union of two record types."""
    return schema(
        union(
            {
                "Purchase": record("shop.Purchase", {"customer_id": leaf(), "total": leaf(Kind.DOUBLE)}),
                "Refund": record("shop.Refund", {"customer_id": leaf(), "reason": leaf()}),
            }
        )
    )
