"""The examples of schemas/examples: what is committed is what the policies do, and the policies do what they say."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import jsonschema
import pytest
from tests.support.examples import DIRECTORY, EXAMPLES, NOW_MS, Example, Output, decode, differing, events, run
from tests.support.sanitizing import sanitize

from tokenweir.core.outcome import Fate

DATA = Path(__file__).parents[1] / "data"
by_name = {example.name: example for example in EXAMPLES}
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)

#: The fields of the top level that each audience's derived schema has.
FIELDS = {
    "insights": ["product_id", "user_id", "view_time", "page_url", "ip", "ts"],
    "adnet": ["product_id", "user_id", "view_time", "page_url", "ts"],
    "dispatch": ["vehicle_id", "location", "ts"],
    "research": ["vehicle_id", "location", "ts"],
}
#: The field with the data subject.
SUBJECT = {"clickstream": "user_id", "locations": "vehicle_id", "purchases": "storeOrderId"}
#: The published original of each schema or of the events.
ORIGINALS = {
    "clickstream": ("shoe_clickstream.avsc", "avro/datagen/shoe_clickstream.avsc"),
    "locations": ("fleet_mgmt_location.avsc", "avro/datagen/fleet_mgmt_location.avsc"),
    "purchases": ("events.jsonl", "json/demo_scene/pizza_orders.jsonl"),
}


def outputs(name: str) -> dict[str, Output]:
    """Return what the audiences of an example get."""
    return {output.audience: output for output in run(by_name[name])}


def fates(output: Output) -> str:
    """Return the fates as one text: a letter for each event."""
    return "".join(outcome.fate.value[0] for outcome in output.outcomes)


@each_example
def test_the_committed_files_are_what_the_engine_makes(example: Example) -> None:
    """Nothing is stale: events, outputs, derived schemas and the generated part of the README."""
    assert differing(example) == []


@each_example
def test_the_policies_are_clean(example: Example) -> None:
    """Neither the policy alone nor its plan against the schema has an error or a warning."""
    workspace = example.workspace()
    assert workspace.findings == []
    assert all(outcome.fate is not Fate.REJECTED for output in run(example) for outcome in output.outcomes)


@each_example
def test_files_and_engine_agree(example: Example, tmp_path: Path) -> None:
    """Sanitizing the file of events, as the command line does, gives the same records and counts."""
    result = sanitize(
        example.workspace(),
        example.stream,
        [example.events],
        tmp_path,
        keyset=example.keyset(),
        consent=example.consent(),
        now_ms=NOW_MS,
    )
    expected = {output.audience: output for output in run(example)}
    assert result.report.read == len(events(example))
    assert sorted(result.files) == sorted(expected)
    for audience, output in expected.items():
        counts = result.report.outputs[audience]
        assert counts == {fate: fates(output).count(fate.value[0]) for fate in Fate if fate.value[0] in fates(output)}
        if example.avro:
            [(schema, records)] = result.containers(audience)
            assert schema["name"] == f"{output.schema['namespace']}.{output.schema['name']}"
            parsed = fastavro.parse_schema(output.schema)
            assert records == [_read(record, parsed) for record in output.records]
        else:
            assert result.lines(audience) == output.records


def _read(record: bytes, schema: Any) -> Any:  # noqa: ANN401 - a foreign schema and value
    return fastavro.schemaless_reader(io.BytesIO(record), schema, None)


@each_example
def test_no_identifier_leaves(example: Example) -> None:
    """Every id of a person becomes a token; one person has one token in an audience, and another in the other."""
    field = SUBJECT[example.name]
    before = [event[field] for event in events(example)]
    tokens: list[dict[Any, Any]] = []
    for output in run(example):
        after = [output.document(number) for number in range(len(before))]
        pairs = {(raw, record[field]) for raw, record in zip(before, after, strict=True) if record is not None}
        tokens.append(dict(pairs))
        assert len(pairs) == len({raw for raw, _ in pairs}) == len({token for _, token in pairs}) > 10
        assert not {token for _, token in pairs} & set(before)
        for outcome in output.outcomes:
            assert (outcome.key is None) == (outcome.value is None)
            if outcome.value is not None:
                token = decode(outcome.value, output.schema)[field]
                assert outcome.key == str(token).encode()
    assert not set(tokens[0].values()) & set(tokens[1].values())


@each_example
def test_schemas_and_events_are_as_published(example: Example) -> None:
    """What the README calls published is byte for byte the published file, or its first lines."""
    name, original = ORIGINALS[example.name]
    assert (DATA / original).read_bytes().startswith(example.path(name).read_bytes())


@each_example
def test_decisions_follow_their_published_schema(example: Example) -> None:
    """Each line of consent.jsonl is valid by schemas/consent.schema.json, so editors do not mark it."""
    schema = json.loads((DIRECTORY.parent / "consent.schema.json").read_text("utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    for line in example.path("consent.jsonl").read_text("utf-8").splitlines():
        assert [error.message for error in validator.iter_errors(json.loads(line))] == []


@pytest.mark.parametrize("name", ["clickstream", "locations"])
def test_fields_of_the_derived_schemas(name: str) -> None:
    """What an audience can never get is not in its schema."""
    for audience, output in outputs(name).items():
        assert [field["name"] for field in output.schema["fields"]] == FIELDS[audience]
        assert "arg.properties" not in json.dumps(output.schema)


def test_decisions_about_clicks() -> None:
    """The first twelve people of the clickstream decided in twelve ways, and each decision has its effect."""
    found = outputs("clickstream")
    # 1 all, 2 all, 3 offers only, 4 measurement only, 5 nothing, 6 all, 7 expired, 8 a minor, 9 allowed later,
    # 10 objects to analysis, 11 the newer source denies measurement, 12 all but this recipient.
    assert fates(found["insights"])[:12] == "sssswsswswss"
    assert fates(found["adnet"])[:12] == "sswswswwwwww"
    pages = [record and record["page_url"] for record in map(found["insights"].document, range(12))]
    whole = [page is not None and page.count("/") == 4 for page in pages]
    assert whole == [True, True, True, False, False, True, False, False, False, False, True, False]


def test_decisions_about_positions() -> None:
    """Dispatch always gets something, the exact position only with consent; research gets cells or nothing."""
    found = outputs("locations")
    before = events(by_name["locations"])
    assert set(fates(found["dispatch"])) == {"s"}
    # 1 all, 2 advice only, 3 nothing, 4 all but this recipient, 5 research only, 6 the newer source denies,
    # 7 allowed later, 8 nothing known, 9 all.
    assert fates(found["research"])[:9] == "swwwswwws"
    exact = [found["dispatch"].document(number)["location"] == before[number]["location"] for number in range(9)]
    assert exact == [True, True, False, False, False, False, False, False, True]
    for number, event in enumerate(before):
        document = found["research"].document(number)
        if document is not None:
            assert document["location"] != event["location"]
            assert abs(document["location"]["latitude"] - event["location"]["latitude"]) < 0.1
            assert document["ts"] == event["ts"] // 3_600_000 * 3_600_000


def test_decisions_about_orders() -> None:
    """Coupons need consent, suppliers never get them, and kept numbers stay as they are written."""
    found = outputs("purchases")
    # 1 all, 2 nothing allowed, 3 objects to planning, 4 denies everything, 5 an allow that has expired, 6 unknown.
    assert fates(found["menu"])[:6] == "sswwss"
    assert fates(found["suppliers"])[:6] == "swswsw"
    coupons = ["coupons" in (found["menu"].document(number) or {}) for number in range(9)]
    assert coupons == [True, False, False, False, False, False, True, True, True]
    assert all("coupons" not in (found["suppliers"].document(number) or {}) for number in range(40))
    first = found["menu"].outcomes[0].value
    assert first is not None
    assert b'"net_price":28.0' in first
    lines = found["suppliers"].document(0)["orderLines"]
    assert [line["unit_price"] for line in lines] == [5, 0, 10, 5, 10]
    assert all("quantity" not in line for line in lines)
