"""Every published schema and event file goes through the path of ``tokenweir sanitize``, or is refused by name.

Each gets a policy by rule (tests/support/autopolicy.py). Whatever works must give every record one fate, decode with
the derived schema, and let out nothing that the rule drops or replaces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import fastavro
import jsonschema as jsonschema_validator
import pytest
from tests.support.autopolicy import INSIDE, PARTNER, PURPOSE, STREAM, auto_policy, subject_path
from tests.support.datagen import AvroGenerator, json_lines, without_generator_properties
from tests.support.infer import infer
from tests.support.keysets import published_keyset
from tests.support.sanitizing import Sanitized, sanitize

from tokenweir.app.consentlines import ConsentLines
from tokenweir.app.containers import ContainerWriter
from tokenweir.app.files import open_source
from tokenweir.app.sanitize import Report
from tokenweir.app.workspace import Workspace
from tokenweir.core import avro, jsonschema
from tokenweir.core.outcome import Fate, Reason
from tokenweir.core.planning import PlannedStream, SourceSchema, plan_stream
from tokenweir.core.policy.check import load_and_check
from tokenweir.core.schema import Schema
from tokenweir.core.subjects import Subject
from tokenweir.errors import FileFormatError, FindingsError
from tokenweir.runtime.sources import stream_context

DATA: Final = Path(__file__).parents[1] / "data"
#: 1 March 2026; every generated event without a time of its own happens then.
NOW_MS: Final = 1_772_323_200_000
RECORDS: Final = 25
#: What each schema of the folder "references" needs, in an order in which each can be parsed.
REFERENCES: Final = {
    "customer": ("address",),
    "member": ("membership-level",),
    "enriched-checkin": ("membership-level",),
    "customer-command": ("address", "customer"),
}
#: The root is an enum or a fixed, so nothing in it can have a name; only dropping the whole value would compile.
NO_RECORD: Final = {"avro/references/membership-level.avsc", "avro/structures/Id.avsc"}
#: Places of a type that contains itself, or of which the schema says nothing, can only be dropped.
CANNOT_KEEP: Final = {
    "avro/gobblin/recursive.avsc",
    "avro/structures/Json.avsc",
    "avro/structures/interop.avsc",
    "json/rudder_events.jsonl",
}
Json = Any


#: Compressed by a codec whose library does not come with tokenweir.
NOT_INSTALLED: Final = {"avro/gobblin/pickfields_nested_with_union.avro"}
#: Records of which the rule leaves nothing at all, so that they are withheld although nobody objected.
NOTHING_LEFT: Final = {
    # Texts that are no identifiers, and branches of unions with such texts, bytes, null or more of the same type.
    "avro/gobblin/record_with_arrays.avsc": 25,
    "avro/structures/Json.avsc": 9,
    "avro/structures/arg_unions.avsc": 7,
    "avro/structures/union_and_fixed_fields.avsc": 3,
    "iglu/com.snowplowanalytics.snowplow.payload_data.1-0-4.json": 16,
    # Tokens only, in a record without a data subject.
    "avro/references/customer.avsc": 14,
    "iglu/com.google.tag-manager.server-side.user_data.1-0-0.json": 12,
    "iglu/com.snowplowanalytics.snowplow.link_click.1-0-1.json": 9,
    "iglu/dev.amp.snowplow.amp_consent.1-0-0.json": 1,
    "json/rudder_events.jsonl": 9,
    "json/segment_spec_events.jsonl": 10,
}
#: Decimals of 69 bytes, more than the limit of 64: the container cannot even be cut into records.
TOO_LARGE: Final = {"avro/structures/arg_decimals.avsc"}


@dataclass(frozen=True)
class Case:
    """A schema and records for it; ``container`` is a published container that holds both."""

    name: str
    schema: str
    records: tuple[bytes, ...] = ()
    container: Path | None = None
    documents: list[Json] = field(default_factory=list)

    @property
    def avro(self) -> bool:
        """Whether it is Avro."""
        return self.name.startswith("avro/")

    @property
    def source(self) -> SourceSchema:
        """The schema as it is planned."""
        return SourceSchema(self.schema, self.name)

    def parse(self) -> Schema:
        """Return the schema's tree."""
        return avro.parse(self.schema) if self.avro else jsonschema.parse(self.schema)

    def write(self, directory: Path) -> Path:
        """Return a file with the records."""
        if self.container is not None:
            return self.container
        path = directory / f"input.{'avro' if self.avro else 'jsonl'}"
        with path.open("wb") as stream:
            if self.avro:
                writer = ContainerWriter(stream, self.schema, b"sixteen bytes ok")
                for record in self.records:
                    writer.write(record)
                writer.flush()
            else:
                stream.writelines(record + b"\n" for record in self.records)
        return path


def _avro_case(path: Path) -> Case:
    schema = json.loads(path.read_text("utf-8"))
    needed = REFERENCES.get(path.stem, ()) if path.parent.name == "references" else ()
    references = [json.loads(path.with_name(f"{name}.avsc").read_text("utf-8")) for name in needed]
    generator = AvroGenerator(schema, references=references)
    documents = list(generator.records(RECORDS))
    named = {f"{reference['namespace']}.{reference['name']}": reference for reference in references}
    whole = json.dumps(without_generator_properties(_inline(schema, named)))
    return Case(_name(path), whole, tuple(map(generator.encode, documents)), documents=documents)


def _inline(schema: Json, named: dict[str, Json]) -> Json:
    """Return a schema that holds the types that it names, each where it is first named."""
    if isinstance(schema, str) and schema in named:
        return _inline(named.pop(schema), named)
    if isinstance(schema, list):
        return [_inline(branch, named) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    whole = {
        name: _inline(part, named) if name in {"type", "items", "values"} else part for name, part in schema.items()
    }
    if "fields" in whole:
        whole["fields"] = [_inline(entry, named) for entry in whole["fields"]]
    return whole


def _container_case(path: Path) -> Case:
    with path.open("rb") as stream:
        reader = fastavro.reader(stream)
        return Case(_name(path), str(reader.metadata["avro.schema"]), container=path, documents=list(reader))


def _iglu_case(path: Path) -> Case:
    text = path.read_text("utf-8")
    return Case(_name(path), text, tuple(json_lines(jsonschema.parse(text).root, 1, RECORDS)))


def _events_case(path: Path) -> Case:
    lines = path.read_bytes().splitlines()
    return Case(_name(path), json.dumps(infer([json.loads(line) for line in lines])), tuple(lines))


def _name(path: Path) -> str:
    return path.relative_to(DATA).as_posix()


_KINDS: Final[dict[str, Callable[[Path], Case]]] = {
    "avro/**/*.avsc": _avro_case,
    "avro/**/*.avro": _container_case,
    "iglu/*.json": _iglu_case,
    "json/**/*.jsonl": _events_case,
}
PATHS: Final = {_name(path): kind for kind in _KINDS for path in sorted(DATA.glob(kind))}
WORKING: Final = sorted(PATHS.keys() - NO_RECORD - NOT_INSTALLED - TOO_LARGE)


@cache
def case(name: str) -> Case:
    """Return a case by the path of its file below tests/data."""
    return _KINDS[PATHS[name]](DATA / name)


def workspace_of(subject: Case, *, careless: bool = False) -> tuple[Workspace, str]:
    """Return the automatic policy of a case, and its text."""
    text = auto_policy(subject.parse(), careless=careless)
    loaded, warnings = load_and_check(text, "policy.yaml")
    return Workspace(loaded, Path(), None, list(warnings)), text


def plan(workspace: Workspace, subject: Case) -> PlannedStream:
    """Return the plan of a case."""
    context = stream_context(workspace.policy, STREAM, published_keyset([INSIDE, PARTNER]))
    return plan_stream(workspace.policy, context, [subject.source])


@cache
def derived_schemas(name: str) -> list[Json]:
    """Return the derived schemas of a case, for the audiences INSIDE and PARTNER."""
    [version] = plan(workspace_of(case(name))[0], case(name)).versions
    return [found and json.loads(found.text) for found in version.derived]


def documents_of(subject: Case) -> list[Json]:
    """Return the records as JSON values; in generated Avro records a branch of a union is (name, value)."""
    return subject.documents or [json.loads(record) for record in subject.records]


def at(document: Json, path: str) -> Json:
    """Return what stands at a path of names, None where it is missing."""
    for name in re.findall(r'"[^"]*"|[^.]+', path):
        document = _untagged(document)
        document = document.get(name.strip('"')) if isinstance(document, dict) else None
    return _untagged(document)


def _untagged(value: Json) -> Json:
    return value[1] if isinstance(value, tuple) else value


def consent_of(subject: Case, policy: str) -> ConsentLines:
    """Return an allow of every second person, by the order of their first event."""
    path = subject_path(policy)
    ids = [] if path == "$key" else [at(document, path) for document in documents_of(subject)]
    people = sorted({value for value in ids if isinstance(value, str) and value})[::2]
    lines = [
        {
            "subject": Subject("person", person).canonical,
            "version": 1,
            "decided_at": "2020-01-01T00:00:00Z",
            "decisions": {PURPOSE: "allow"},
        }
        for person in people
    ]
    text = "\n".join(map(json.dumps, lines))
    return ConsentLines.read(text, "consent.jsonl", NOW_MS, load_and_check(policy, "policy.yaml")[0].policy)


@dataclass(frozen=True)
class Result:
    """What sanitizing a case gave: the report, and by audience the records, decoded by other libraries than ours."""

    report: Report
    records: dict[str, list[Json]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Result]:
    """Sanitize the records of a case; each case once."""

    @cache
    def once(name: str) -> Result:
        result = sanitize_case(case(name), tmp_path_factory.mktemp("case"))
        records = {audience: list(_decoded(case(name), result, audience)) for audience in (INSIDE, PARTNER)}
        return Result(result.report, records)

    return once


def sanitize_case(subject: Case, directory: Path) -> Sanitized:
    """Sanitize the records of a case into a directory."""
    workspace, text = workspace_of(subject)
    return sanitize(
        workspace,
        STREAM,
        [subject.write(directory)],
        directory / "out",
        keyset=published_keyset([INSIDE, PARTNER]),
        consent=consent_of(subject, text),
        now_ms=NOW_MS,
        schema=None if subject.avro else subject.source,
    )


def test_every_published_file_is_here() -> None:
    """No file is skipped silently: the numbers are those of the folders."""
    counts = {kind: sum(found == kind for found in PATHS.values()) for kind in _KINDS}
    assert counts == {"avro/**/*.avsc": 62, "avro/**/*.avro": 5, "iglu/*.json": 21, "json/**/*.jsonl": 7}
    assert len(WORKING) == 91
    assert NO_RECORD | NOT_INSTALLED | TOO_LARGE | CANNOT_KEEP | NOTHING_LEFT.keys() <= PATHS.keys()
    assert {name: len(case(name).records) for name in PATHS if name.startswith("json/")} == {
        "json/demo_scene/customer_activity.jsonl": 300,
        "json/demo_scene/customers_fin.jsonl": 300,
        "json/demo_scene/pizza_orders.jsonl": 200,
        "json/demo_scene/truck_location.jsonl": 300,
        "json/rudder_events.jsonl": 398,
        "json/rudder_sdk_consent_events.jsonl": 4,
        "json/segment_spec_events.jsonl": 71,
    }


@pytest.mark.parametrize("name", WORKING)
def test_every_record_has_one_fate_and_decodes(name: str, run: Callable[[str], Result]) -> None:
    """All records are counted once per audience, and what was written is read with the derived schema."""
    subject, result = case(name), run(name)
    read = len(documents_of(subject))
    assert result.report.read == read > 0
    assert result.report.rejections == {}
    for audience in (INSIDE, PARTNER):
        counts = result.report.outputs[audience]
        assert sum(counts.values()) == read
        assert counts[Fate.SANITIZED] == len(result.records[audience])
    assert result.report.outputs[INSIDE][Fate.WITHHELD] == NOTHING_LEFT.get(name, 0)


@pytest.mark.parametrize("name", [name for name in WORKING if name not in NOTHING_LEFT])
def test_consent_decides_for_the_partner(name: str, run: Callable[[str], Result]) -> None:
    """The partner gets the records of the people who allowed it, and those that are about nobody."""
    subject = case(name)
    policy = workspace_of(subject)[1]
    allowed = {found.id for found in consent_of(subject, policy).subjects}
    people = _people(subject, policy)
    expected = sum(person is None or person in allowed for person in people)
    assert run(name).report.outputs[PARTNER][Fate.SANITIZED] == expected
    assert not allowed or expected < len(people) or len(set(people)) == 1


def _people(subject: Case, policy: str) -> list[str | None]:
    """Return the data subject of each record."""
    path = subject_path(policy)
    found = [None if path == "$key" else at(document, path) for document in documents_of(subject)]
    return [person or None for person in found]


def _decoded(subject: Case, result: Sanitized, audience: str) -> Iterator[Json]:
    """Yield an audience's records, read or validated with the derived schema by other libraries than ours."""
    if subject.avro:
        for _, records in result.containers(audience):
            yield from records
        return
    validator = jsonschema_validator.Draft7Validator(derived_schemas(subject.name)[(INSIDE, PARTNER).index(audience)])
    for line in result.lines(audience):
        document = json.loads(line)
        assert [error.message for error in validator.iter_errors(document)] == []
        yield document


@pytest.mark.parametrize("name", WORKING)
def test_dropped_and_replaced_texts_do_not_leave(name: str, run: Callable[[str], Result]) -> None:
    """No text of nine characters or more is in any output, except where the rule keeps texts: enums and map keys."""
    subject = case(name)
    kept = _kept_texts(subject)
    secrets = {text for document in documents_of(subject) for text in _texts(document) if len(text) > 8} - kept
    written = "\n".join(
        json.dumps(document, ensure_ascii=False, default=str)
        for audience in (INSIDE, PARTNER)
        for document in run(name).records[audience]
    )
    quoted = set(re.findall(r'"((?:[^"\\]|\\.)*)"', written))
    assert not {secret for secret in secrets if json.dumps(secret, ensure_ascii=False)[1:-1] in quoted}


def _kept_texts(subject: Case) -> set[str]:
    """Return the texts that may leave: names, symbols, and times, which become the first of their month."""
    symbols = {symbol for node in subject.parse().root.walk() for symbol in node.symbols}
    return symbols | {text for document in documents_of(subject) for text in _keys(document)}


def _keys(value: Json) -> Iterator[str]:
    value = _untagged(value)
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(part)


def _texts(value: Json) -> Iterator[str]:
    value = _untagged(value)
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(part)


@pytest.mark.parametrize("name", [name for name in WORKING if name.endswith(".avsc") and name not in NOTHING_LEFT])
def test_kept_numbers_do_not_change(name: str, run: Callable[[str], Result]) -> None:
    """The integers at the top of each record that have no logical type come out as they went in."""
    subject = case(name)
    tree = subject.parse().root
    whole = [entry.name for entry in tree.fields if entry.node.kind.value in {"int", "long"} and not entry.node.logical]
    if whole:
        before = [{key: document[key] for key in whole} for document in documents_of(subject)]
        assert [{key: record[key] for key in whole} for record in run(name).records[INSIDE]] == before


@pytest.mark.parametrize("name", sorted(NO_RECORD))
def test_a_root_that_is_no_record_is_refused(name: str, tmp_path: Path) -> None:
    """The finding says why, and nothing is written."""
    subject = case(name)
    if name.endswith("membership-level.avsc"):
        with pytest.raises(FindingsError) as caught:
            sanitize_case(subject, tmp_path)
        assert {finding.rule for finding in caught.value.findings} == {"underivable-schema"}
        assert "the value is not a record" in str(caught.value)
        assert not list((tmp_path / "out").glob("*"))
    else:
        # A fixed that is dropped needs no schema: there is nothing left, so every record is withheld.
        result = sanitize_case(subject, tmp_path)
        assert result.report.outputs[INSIDE] == {Fate.WITHHELD: RECORDS}
        assert result.files[INSIDE] == []


@pytest.mark.parametrize("name", sorted(TOO_LARGE))
def test_a_datum_over_a_limit_is_rejected(name: str, tmp_path: Path) -> None:
    """As on Kafka, each such record is rejected with its reason and the rest of the file goes on."""
    result = sanitize_case(case(name), tmp_path)
    assert result.report.outputs[INSIDE] == {Fate.REJECTED: RECORDS}
    assert set(result.report.rejections) == {Reason.TOO_LARGE.value}


def test_what_nothing_can_keep_is_refused() -> None:
    """A policy that keeps every place is refused for schemas with recursion or places without a type, and no others."""
    refused = set()
    for name in WORKING:
        workspace, _ = workspace_of(case(name), careless=True)
        findings = plan(workspace, case(name)).errors
        if findings:
            refused.add(name)
            assert {finding.rule for finding in findings} == {"cannot-treat"}
            assert all("can only be dropped" in finding.message for finding in findings)
    assert refused == CANNOT_KEEP


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_references_and_one_whole_schema_give_the_same(name: str) -> None:
    """Planned with references, as a registry has them, a schema gives what it gives written out."""
    folder = DATA / "avro" / "references"
    texts = {needed: (folder / f"{needed}.avsc").read_text("utf-8") for needed in REFERENCES[name]}
    subject = case(f"avro/references/{name}.avsc")
    workspace, _ = workspace_of(subject)
    split = SourceSchema((folder / f"{name}.avsc").read_text("utf-8"), name, 1, texts)
    context = stream_context(workspace.policy, STREAM, published_keyset([INSIDE, PARTNER]))
    planned = plan_stream(workspace.policy, context, [split])
    assert planned.findings == []
    found = [derived and json.loads(derived.text) for derived in planned.versions[0].derived]
    assert found == derived_schemas(subject.name)


def test_published_containers_are_read_as_they_are() -> None:
    """The reader of containers finds the number of records that fastavro finds, and says which codec it lacks."""
    for name in (name for name in PATHS if name.endswith(".avro")):
        with open_source(str(DATA / name)) as source:
            if name in NOT_INSTALLED:
                with pytest.raises(FileFormatError, match="codec"):
                    list(source.records)
            else:
                assert len(list(source.records)) == len(case(name).documents) > 0
