"""The registry client against a real registry: what it answers is what the client expects."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence

import pytest
from tests.support.rig import SchemaRegistry

from tokenweir.adapters.registry import HttpRegistry, Reference
from tokenweir.errors import RegistryError

pytestmark = pytest.mark.integration

_numbers = itertools.count()


@pytest.fixture
def client(registry: SchemaRegistry) -> HttpRegistry:
    """Give a client of the real registry."""
    return HttpRegistry(registry.url)


def _subject() -> str:
    return f"apicurio.{next(_numbers)}.{time.monotonic_ns()}-value"


def _avro(name: str, *fields: Mapping[str, object]) -> str:
    return json.dumps({"type": "record", "name": name, "namespace": "n", "fields": list(fields)})


def _kinds(client: HttpRegistry, subject: str, ids: Sequence[int]) -> list[tuple[str, bool]]:
    return [(client.schema_by_id(number).kind, (subject, 1) in client.subjects_of(number)) for number in ids]


def test_avro_and_json_schema_come_back_as_registered(client: HttpRegistry) -> None:
    """By id, by version and as the latest; inline tags of fields survive; registering again gives the same id."""
    avro, text = _subject(), _avro("R", {"name": "mail", "type": "string", "confluent:tags": ["PII"]})
    other, schema = _subject(), json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}})

    avro_id = client.register(avro, text, "AVRO")
    json_id = client.register(other, schema, "JSON")

    assert json.loads(client.schema_by_id(avro_id).text) == json.loads(text)
    assert json.loads(client.schema_by_id(json_id).text) == json.loads(schema)
    assert _kinds(client, avro, [avro_id]) == [("AVRO", True)]
    assert _kinds(client, other, [json_id]) == [("JSON", True)]
    assert client.versions(avro) == [1]
    assert client.version(avro, 1) == client.latest(avro) == client.schema_by_id(avro_id)
    assert client.register(avro, text, "AVRO") == avro_id
    assert client.lookup(avro, text, "AVRO") == avro_id


def test_what_is_not_there_is_not_found(client: HttpRegistry) -> None:
    """Unknown ids, subjects, versions and schemas have one kind."""
    subject = _subject()
    assert client.versions(subject) == []
    client.register(subject, _avro("R"), "AVRO")

    for call in (
        lambda: client.schema_by_id(2_000_000_000),
        lambda: client.latest(_subject()),
        lambda: client.version(subject, 9),
        lambda: client.lookup(subject, _avro("S"), "AVRO"),
    ):
        with pytest.raises(RegistryError) as caught:
            call()
        assert caught.value.kind == "not_found"


def test_the_rule_is_set_before_the_first_version(client: HttpRegistry) -> None:
    """Under FULL_TRANSITIVE a nullable field may come and go, and a changed type is refused."""
    subject = _subject()
    plain = {"name": "a", "type": "string"}
    nullable = {"name": "b", "type": ["null", "string"], "default": None}
    changed = _avro("R", {"name": "a", "type": "int"})

    client.set_compatibility(subject, "FULL_TRANSITIVE")
    first = client.register(subject, _avro("R", plain), "AVRO")
    second = client.register(subject, _avro("R", plain, nullable), "AVRO")

    assert first != second
    assert client.versions(subject) == [1, 2]
    assert client.is_compatible(subject, _avro("R", plain), "AVRO")
    assert not client.is_compatible(subject, changed, "AVRO")
    with pytest.raises(RegistryError) as caught:
        client.register(subject, changed, "AVRO")
    assert caught.value.kind == "incompatible"
    assert client.is_compatible(_subject(), changed, "AVRO")


def test_references_are_resolved(client: HttpRegistry) -> None:
    """A schema that uses another subject's type comes with that type's text."""
    address, person = _subject(), _subject()
    inner = _avro("Address", {"name": "city", "type": "string"})
    client.register(address, inner, "AVRO")
    outer = _avro("Person", {"name": "home", "type": "n.Address"})

    schema_id = client.register(person, outer, "AVRO", [Reference("n.Address", address, 1)])
    found = client.schema_by_id(schema_id)

    assert json.loads(found.text) == json.loads(outer)
    assert {name: json.loads(text) for name, text in found.references.items()} == {"n.Address": json.loads(inner)}


def test_subjects_with_any_name(client: HttpRegistry) -> None:
    """A name with characters of an address is one subject."""
    subject = f"{_subject()}/a b?c#d%25-ä"
    schema_id = client.register(subject, _avro("R"), "AVRO")

    assert client.latest(subject).id == schema_id
    assert (subject, 1) in client.subjects_of(schema_id)


def test_a_schema_that_is_none_is_refused(client: HttpRegistry) -> None:
    """What the registry cannot parse is malformed, not unavailable."""
    with pytest.raises(RegistryError) as caught:
        client.register(_subject(), '{"type": "nonsense"}', "AVRO")
    assert caught.value.kind == "malformed"
