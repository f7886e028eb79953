"""Paths find their places in a schema and read them from decoded records."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.trees import array, events, leaf, map_of, optional, purchase, record, schema, tagged, union

from tokenweir.core.access import accessor, locate, locate_all, root_name, suggestions
from tokenweir.core.paths import PathError
from tokenweir.core.schema import ABSENT, Kind

# In the order of the fields of `purchase`.
RECORD = [
    (1, 42),
    (0, "hello"),
    9.5,
    [1.0, 2.0],
    [["sku-1", ["x"]]],
    {"coupon": "SAVE", "a b": "c"},
    (1, {"spring": ["CODE", {"deep": "value"}]}),
    (2, ["sales@example.com", "DE1"]),
    ["Ann", "dotted", "quoted"],
    None,
]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("customer_id", 42),
        ("note", "hello"),
        ("total", 9.5),
        ("location", [1.0, 2.0]),
        ("location.lat", 1.0),
        ("location.lon", 2.0),
        ("items", [["sku-1", ["x"]]]),
        ("attributes{coupon}", "SAVE"),
        ('attributes{"a b"}', "c"),
        ("attributes{missing}", None),
        ("offers{spring}.code", "CODE"),
        ("offers{spring}.extra{deep}", "value"),
        ("offers{autumn}.code", None),
        ("contact<Company>.email", "sales@example.com"),
        ("contact<shop.Company>.vat", "DE1"),
        ("contact<Person>.email", None),
        ("contact<string>", None),
        ("contact.email", "sales@example.com"),
        ("contact.age", None),
        ("contact", (2, ["sales@example.com", "DE1"])),
        ('traits."first name"', "Ann"),
        ('traits."a.b"', "dotted"),
        ("parent", None),
        ("<Purchase>.total", 9.5),
    ],
)
def test_accessor_reads(path: str, value: object) -> None:
    """A compiled path gives the value at the place, None where the record has none."""
    assert accessor(purchase(), path)(RECORD) == value


def test_accessor_reads_the_whole_of_a_scalar_record() -> None:
    """The empty path is the root."""
    assert accessor(schema(leaf()), "")("text") == "text"
    assert accessor(schema(optional(leaf())), "")((1, "text")) == "text"


@pytest.mark.parametrize("nothing", [None, ABSENT])
def test_accessor_gives_none_for_null_and_absent_on_every_step(nothing: object) -> None:
    """Null and absence are the same to a reader, wherever they stand."""
    tree = schema(record("R", {"a": record("A", {"b": map_of(record("B", {"c": leaf()}))})}), "json")
    get = accessor(tree, "a.b{k}.c")
    values: list[Any] = [
        nothing,
        [nothing],
        [[nothing]],
        [[{}]],
        [[{"k": nothing}]],
        [[{"k": [nothing]}]],
    ]
    assert [get(value) for value in values] == [None] * 6
    assert get([[{"k": ["found"]}]]) == "found"


@pytest.mark.parametrize("falsy", [0, "", False, 0.0, b"", [], {}])
def test_accessor_keeps_falsy_values(falsy: object) -> None:
    """Only null and absence are nothing; zero and empty are values."""
    assert accessor(schema(record("R", {"a": leaf()})), "a")([falsy]) is falsy
    wide = schema(union({"A": record("A", {"a": leaf()}), "B": record("B", {"a": leaf()})}))
    assert accessor(wide, "a")((1, [falsy])) is falsy


def test_accessor_goes_through_any_branch_of_a_top_level_union() -> None:
    """Without a branch the path reads whichever record type came; with one only that."""
    tree = events()
    purchased, refunded = (0, ["c1", 2.5]), (1, ["c2", "broken"])
    assert [accessor(tree, "customer_id")(value) for value in (purchased, refunded)] == ["c1", "c2"]
    assert [accessor(tree, "<Refund>.customer_id")(value) for value in (purchased, refunded)] == [None, "c2"]
    assert [accessor(tree, "reason")(value) for value in (purchased, refunded)] == [None, "broken"]


def test_accessor_follows_the_branch_index_past_null() -> None:
    """Null in the middle of a union counts as a branch."""
    get = accessor(purchase(), "contact<string>")
    changed = [*RECORD[:7], (3, "call me"), *RECORD[8:]]
    assert get(changed) == "call me"
    assert get([*RECORD[:7], None, *RECORD[8:]]) is None


@pytest.mark.parametrize("path", ["items[*].sku", "attributes{*}", "attributes{@key}", "offers{spring}.extra{*}"])
def test_accessor_refuses_several_values(path: str) -> None:
    """A path with many values cannot be read as one."""
    with pytest.raises(PathError, match="more than one value"):
        accessor(purchase(), path)


def test_locate_finds_every_place_by_its_own_path() -> None:
    """The canonical path of each place leads back to it; an optional field and its union are one place."""
    for tree in (purchase(), events()):
        seen = set()
        for node in tree.root.walk():
            if node.kind is Kind.NULL or node.path in seen:
                continue
            seen.add(node.path)
            assert locate(tree, node.path) is node


def test_locate_gives_the_union_of_an_optional_field() -> None:
    """The place of an optional field is the node that the record around holds."""
    node = locate(purchase(), "customer_id")
    assert node.kind is Kind.UNION
    assert node.optional_of is not None
    assert node.optional_of.kind is Kind.LONG


def test_locate_takes_the_map_value_for_a_key() -> None:
    """A key without a place of its own is the place of the map's values."""
    assert locate(purchase(), "attributes{any}").path == "attributes{*}"


def test_locate_refuses_several_places() -> None:
    """One place is asked for: the branches to choose from are named."""
    with pytest.raises(PathError, match=r"name the branch: `<Purchase>\.customer_id`, `<Refund>\.customer_id`"):
        locate(events(), "customer_id")
    assert [node.path for node in locate_all(events(), "customer_id")] == [
        "<Purchase>.customer_id",
        "<Refund>.customer_id",
    ]


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [
        ("custmer_id", "`customer_id`"),
        ("items.sku", "`items[*].sku`"),
        ("attributes.coupon", "`attributes{coupon}`"),
        ("location.latt", "`location.lat`"),
        ("contact<Persn>.email", "`contact<Person>.email`"),
        ("traits.first_name", "first name"),
    ],
)
def test_unknown_path_suggests_what_was_meant(path: str, suggestion: str) -> None:
    """A path that matches nothing is answered with those that come close."""
    with pytest.raises(PathError, match="did you mean") as caught:
        locate(purchase(), path)
    assert suggestion in caught.value.remedy


@pytest.mark.parametrize("path", ["zzzzzz", "total.x", "total[*]", "attributes[*]", "<Refund>.total", "contact<long>"])
def test_unknown_path_is_refused(path: str) -> None:
    """A step that the schema does not have leads nowhere."""
    with pytest.raises(PathError, match="no such field"):
        locate(schema(record("shop.Purchase", {"total": leaf(), "attributes": map_of(leaf())})), path)


def test_path_into_a_repeated_type_is_refused() -> None:
    """Behind a type that repeats there are no places."""
    with pytest.raises(PathError, match="repeats at `parent`"):
        locate(purchase(), "parent.total")


def test_keys_are_no_place() -> None:
    """The keys of a map have a class but no place."""
    with pytest.raises(PathError, match="keys of a map"):
        locate(purchase(), "attributes{@key}")


def test_suggestions_answer_malformed_paths() -> None:
    """Even what does not parse can be close to a path."""
    assert suggestions(purchase(), "location..lat") == ["location.lat", "location.lon", "location"]


def test_root_name() -> None:
    """The root's record type has a name also where it is optional; a union leaves the names to its branches."""
    assert root_name(purchase()) == "shop.Purchase"
    assert root_name(schema(optional(record("a.R", {"x": tagged()})))) == "a.R"
    assert root_name(events()) == ""
    assert root_name(schema(array(leaf()))) == ""
