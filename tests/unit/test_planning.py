"""Planning all versions of a stream: what is an error in one of them, and what only in all."""

from __future__ import annotations

import json

from tests.support.engines import plan, record_schema, rig, small_policy

from tokenweir.core.outcome import Fate
from tokenweir.core.planning import SourceSchema, parse_schema, plan_schema


def _rules(policy: str, *schemas: str) -> list[str]:
    _, planned, _ = plan(policy, *schemas)
    return [finding.rule for finding in planned.findings]


def test_a_rule_for_later_versions_only_is_no_error() -> None:
    """It is one if it matches in none of the known versions."""
    policy = small_policy(fields="{late: open}")
    old, new = record_schema(), record_schema(("late", "string"))
    assert _rules(policy, old, new) == []
    assert _rules(policy, old) == ["unmatched-rule"]


def test_subjects_times_and_pairs_of_later_versions_are_no_error_either() -> None:
    """An old version may lack what the stream names, as long as another has it."""
    place = [("at", "long"), ("lat", "double"), ("lon", "double"), ("member", "string")]
    policy = small_policy(
        subjects="customer: {class: id.customer, form: {digits: 10}}\n  member: {class: id.member, form: text}",
        classes="id.member: {do: drop}",
        about="[{type: customer, path: id}, {type: member, path: member}]",
        fields="{at: open, lat: open, lon: open, member: id.member}",
        stream="event_time: at\npairs: [[lat, lon]]",
    )
    old, new = record_schema(), record_schema(*place)
    assert _rules(policy, old, new) == []
    assert set(_rules(policy, old)) == {"unknown-path", "unmatched-rule"}


def test_a_known_version_that_lost_the_subject_is_refused_as_well() -> None:
    """Otherwise a restart would accept what was refused while running, and drop the denials of a second person."""
    policy = small_policy(
        subjects="customer: {class: id.customer, form: {digits: 10}}\n  member: {class: id.member, form: text}",
        classes="id.member: {do: drop}",
        about="[{type: customer, path: id}, {type: member, path: to}]",
        fields='{to: id.member, "recipient": id.member}',
    )
    before, has, renamed = record_schema(), record_schema(("to", "string")), record_schema(("recipient", "string"))
    assert _rules(policy, before, has, has) == ["unmatched-rule"]
    for versions in ((has, renamed), (before, has, renamed), (has, renamed, has)):
        _, planned, _ = plan(policy, *versions)
        (error,) = planned.errors
        assert error.rule == "unknown-path"
        assert f"[version {versions.index(renamed) + 1}]" in error.message


def test_a_version_that_appears_later_without_the_subject_is_refused() -> None:
    """A producer that renames the id of a subject would otherwise take its denials away."""
    policy = small_policy()
    _, planned, _ = plan(policy, record_schema())
    renamed = json.dumps(
        {"type": "record", "name": "Event", "namespace": "shop", "fields": [{"name": "number", "type": "string"}]}
    )
    later = plan_schema(planned.context, SourceSchema(renamed, "version 2", 2))
    assert "unknown-path" in {problem.rule for problem in later.compiled.problems}


def test_findings_stand_at_the_rule_of_the_policy() -> None:
    """With line and column, the schema and the field."""
    policy = small_policy(classes="token: {do: {tokenize: customer}}", fields="{flag: token}")
    loaded, planned, _ = plan(policy, record_schema(("flag", "boolean")))
    (finding,) = planned.errors
    assert finding.rule == "treatment-type"
    assert "'flag'" in finding.message
    assert finding.message.endswith("[version 1]")
    assert loaded.text.splitlines()[finding.line - 1].strip().startswith("source:")


def test_an_unreadable_schema_is_a_finding_of_its_own() -> None:
    """The other versions are planned all the same."""
    _, planned, _ = plan(small_policy(), record_schema(), "{")
    assert [finding.rule for finding in planned.findings] == ["schema"]
    assert planned.findings[0].file == "version 2"
    assert len(planned.versions) == 1


def test_each_version_has_its_own_derived_schema() -> None:
    """None where nothing of it can leave."""
    stream = rig(small_policy(fields="{late: open}"), record_schema(), record_schema(("late", "string")))
    names = [[entry["name"] for entry in stream.derived("crm", version)["fields"]] for version in (0, 1)]
    assert names == [["id"], ["id", "late"]]


def test_a_json_stream_is_parsed_as_json_schema() -> None:
    """The format of the stream decides, not the look of the text."""
    assert parse_schema(SourceSchema('{"type":"object"}', "x"), "json").format == "json"
    assert parse_schema(SourceSchema(record_schema(), "x"), "avro").format == "avro"
    assert {fate.value for fate in Fate} == {"sanitized", "withheld", "rejected"}
