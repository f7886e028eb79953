"""The plan as plain data, and the decisions that its parts take by themselves."""

from __future__ import annotations

import json

import pytest
from tests.support.engines import record_schema, rig, small_policy

from tokenweir.core.plan import PLAN_VERSION, Action, Requires, Rule, Rules

_KEEP, _DROP, _TOKEN = Action("keep"), Action("drop"), Action("tokenize", token="t")  # noqa: S106 - no password


def test_the_plain_form_survives_json_unchanged() -> None:
    """It holds only what JSON holds, so that any engine can read it."""
    policy = small_policy(
        classes="""
        cell: {do: {generalize: {cell: h3, resolution: 6}}}
        map: {do: {generalize: {map: {A: B}, else: A}}}
        """,
        fields='{lat: cell, lon: cell, kind: map, "m{x}": asked, "u<string>": open, list: open}',
        stream="pairs: [[lat, lon]]\nheaders: {trace: open}",
        outputs="[{audience: crm, key: subject}, {audience: ads, requires: [offers]}]",
    )
    schema = record_schema(
        ("lat", "double"),
        ("lon", "double"),
        ("kind", {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}),
        ("m", {"type": "map", "values": "string"}),
        ("u", ["null", "string", "long"]),
        ("list", {"type": "array", "items": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}}),
    )
    compiled = rig(policy, schema).bound[0].plan

    plain = compiled.plain()

    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["version"] == PLAN_VERSION
    assert plain["tokens"] == {"customer": {"format": "digits", "length": 10, "null_values": []}}
    assert plain["subjects"][0]["form"] == {"digits": 10}
    assert [output["audience"] for output in plain["outputs"]] == ["crm", "ads"]
    for output in plain["outputs"]:
        assert output["root"]["op"] == "record"
        assert output["headers"] == ["trace"]
    names = {entry["name"]: entry["value"] for entry in plain["outputs"][0]["root"]["fields"]}
    assert names["lat"]["rules"]["rules"][0]["action"]["generalize"] == {"cell": "h3", "resolution": 6}
    assert names["lat"]["pair"] == [1, 2]
    assert names["m"]["named"][0][0] == "x"
    assert names["u"]["branches"][0] is None
    assert names["list"]["items"]["source"]["attributes"] == {"precision": 4, "scale": 2}


@pytest.mark.parametrize(
    ("requires", "passed", "met"),
    [
        (Requires(all=False, mask=0b011), 0b010, True),
        (Requires(all=False, mask=0b011), 0b100, False),
        (Requires(all=True, mask=0b011), 0b111, True),
        (Requires(all=True, mask=0b011), 0b010, False),
        (Requires(all=True, mask=0), 0b111, False),
        (Requires(all=False, mask=0), 0b111, False),
    ],
)
def test_requires(requires: Requires, passed: int, met: bool) -> None:  # noqa: FBT001 - a table
    """All or one of the purposes; without any purpose nothing is enough."""
    assert requires.met(passed) is met


@pytest.mark.parametrize(
    ("rules", "passed", "anonymous", "expected"),
    [
        ([Rule(0b01, _KEEP), Rule(0, _TOKEN)], 0b01, False, _KEEP),
        ([Rule(0b01, _KEEP), Rule(0, _TOKEN)], 0b10, False, _TOKEN),
        ([Rule(0b11, _KEEP)], 0b01, False, None),
        ([Rule(0b01, _DROP), Rule(0, _KEEP)], 0b01, False, None),
        ([Rule(0, _KEEP)], 0, True, _KEEP),
        ([], 0b11, False, None),
    ],
)
def test_the_first_rule_that_matches_wins(
    rules: list[Rule],
    passed: int,
    anonymous: bool,  # noqa: FBT001 - a table
    expected: Action | None,
) -> None:
    """``when`` is AND, a later rule is OR, and a drop withholds."""
    assert Rules("c", tuple(rules), person=False).action(passed, anonymous=anonymous) == expected


def test_what_links_to_a_person_is_nothing_for_anonymous_records() -> None:
    """However unconditional its treatment is."""
    assert Rules("c", (Rule(0, _KEEP),), person=True).action(0b1, anonymous=True) is None
