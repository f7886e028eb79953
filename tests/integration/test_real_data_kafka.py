"""The examples of schemas/examples through the gateway on a real broker: the records that the files give."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

import pytest
from confluent_kafka import Producer
from tests.support.capture import Captured, Decoder, RegistryClient, RegistryError, in_order, pruned, read_to_end, until
from tests.support.counters import RECORDS, series
from tests.support.examples import EXAMPLES, NOW_MS, Example
from tests.support.gatewayrun import GatewayRun, Progress
from tests.support.rig import Broker, SchemaRegistry
from tests.support.sanitizing import Sanitized, sanitize

from tokenweir.adapters.keysource import load_keyset
from tokenweir.app.files import open_source
from tokenweir.core import wire
from tokenweir.core.outcome import Fate

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Passage:
    """One example that went through a gateway and through files with the same keyset.

    Attributes:
        example: Which.
        captured: By audience, the records of its topic in order.
        dead_letters: How many records became dead letters.
        files: What the files gave.
        gateway: The gateway, which has stopped.
        topic: The source.
        registry: A client of the registry.
    """

    example: Example
    captured: dict[str, list[tuple[int, Captured]]]
    dead_letters: int
    files: Sanitized
    gateway: GatewayRun
    topic: str
    registry: RegistryClient


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda example: example.name)
def passage(
    request: pytest.FixtureRequest, kafka: Broker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory
) -> Passage:
    """Run one example's events through a gateway of its own."""
    example: Example = request.param
    directory = tmp_path_factory.mktemp(example.name)
    prefix = f"{example.name}-{uuid.uuid4().hex[:8]}"
    policy = example.workspace().policy.policy
    stream = policy.streams[example.stream]
    topic = f"{prefix}.events"
    text = example.path("policy.yaml").read_text("utf-8").replace(f"topic: {stream.source.topic}", f"topic: {topic}")
    # The gateway has the machine's clock, and the events are old: nothing may be too old for its purpose.
    text = text.replace("retention_days: 3650", "retention_days: 36500")
    gateway = GatewayRun(
        directory / "gateway",
        text,
        kafka.bootstrap,
        registry.url,
        {"consent": {"topic": f"{prefix}.consent"}, "gateway": {"group_prefix": prefix}},
    )
    for name in (example.schema, "consent.jsonl"):
        (gateway.config_directory / name).write_bytes(example.path(name).read_bytes())
    client = RegistryClient(registry.url)
    kafka.create_topic(topic)
    schema_id = None
    if example.avro:
        schema_id = client.register(f"{topic}-value", json.loads(example.path(example.schema).read_text()), "AVRO")
    try:
        gateway.command("keys", "init")
        gateway.command("doctor", "--fix")
        gateway.command("consent", "import", "consent.jsonl")
        gateway.start()
        until(gateway.ready, 90, "the gateway is ready")
        _write(kafka.bootstrap, topic, example, schema_id)
        until(Progress(kafka.bootstrap, {f"{prefix}.{example.stream}": (topic, 1)}).done, 60, "everything is processed")
        until(lambda: _counted(gateway, example) == _length(example), 20, "everything is counted")
        assert gateway.stop() == 0
    finally:
        gateway.end()
    audiences = [output.audience for output in stream.outputs]
    topics = {f"{topic}.{audience}": 1 for audience in audiences} | {f"{topic}.dead-letters": 1}
    capture = read_to_end(kafka.bootstrap, topics, "read_committed")
    keys = gateway.config_directory / "keys"
    files = sanitize(
        example.workspace(),
        example.stream,
        [example.events],
        directory / "files",
        keyset=load_keyset(keys / "keyset.json", keys / "kek.key"),
        consent=example.consent(),
        now_ms=NOW_MS,
    )
    captured = {audience: in_order(capture, f"{topic}.{audience}") for audience in audiences}
    return Passage(example, captured, len(in_order(capture, f"{topic}.dead-letters")), files, gateway, topic, client)


def _length(example: Example) -> int:
    with open_source(str(example.events)) as source:
        return sum(1 for _ in source.records)


def _counted(gateway: GatewayRun, example: Example) -> float:
    last = gateway.scrapes[-1] if gateway.scrapes else {}
    return last.get(series("tokenweir_records_consumed_total", stream=example.stream), 0)


def _write(bootstrap: str, topic: str, example: Example, schema_id: int | None) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    with open_source(str(example.events)) as source:
        for datum in source.records:
            producer.produce(topic, datum if schema_id is None else wire.frame(schema_id, datum))
    assert producer.flush(30) == 0


def test_the_topics_hold_what_the_files_hold(passage: Passage) -> None:
    """Bare data of the topics are byte for byte the sanitized records of the files, in the same order."""
    for audience, records in passage.captured.items():
        values = [record.value or b"" for _, record in records]
        if passage.example.avro:
            [path] = passage.files.files[audience]
            with open_source(str(path)) as source:
                assert [wire.unframe(value)[1] for value in values] == list(source.records)
        else:
            assert values == passage.files.lines(audience)
        assert len(values) > 10
    assert passage.dead_letters == 0


def test_keys_and_timestamps_follow_the_policy(passage: Passage) -> None:
    """The record key is the token in the field, and external recipients get the day instead of the time."""
    field = {"clickstream": "user_id", "locations": "vehicle_id", "purchases": "storeOrderId"}[passage.example.name]
    policy = passage.example.workspace().policy.policy
    decoder = Decoder(passage.registry)
    for audience, records in passage.captured.items():
        internal = all(recipient.role == "internal" for recipient in policy.audiences[audience].recipients)
        if passage.example.avro:
            topic = f"{passage.topic}.{audience}"
            documents = [found.value for found in decoder.sanitized(topic, records, avro=True)]
        else:
            documents = [pruned(json.loads(record.value or b"")) for _, record in records]
        assert [record.key for _, record in records] == [str(document[field]).encode() for document in documents]
        assert all((record.timestamp_ms % 86_400_000 == 0) is not internal for _, record in records)
        assert all(record.headers == () for _, record in records)


def test_the_metrics_count_what_the_report_counts(passage: Passage) -> None:
    """Each record has one fate per audience, the same as in the report of the files."""
    last = passage.gateway.scrapes[-1]
    for audience, counts in passage.files.report.outputs.items():
        for fate in Fate:
            key = series(RECORDS, stream=passage.example.stream, audience=audience, fate=fate.value)
            assert last[key] == counts[fate]


def test_the_registry_has_the_derived_schemas(passage: Passage) -> None:
    """The registered schema of each Avro output is the one in schemas/examples; bare JSON has none."""
    for audience in passage.captured:
        if not passage.example.avro:
            with pytest.raises(RegistryError):
                passage.registry.ids_of(f"{passage.topic}.{audience}-value")
            continue
        [schema_id] = passage.registry.ids_of(f"{passage.topic}.{audience}-value")
        registered = passage.registry.schema(schema_id)
        committed = json.loads(passage.example.path(f"{audience}.avsc").read_text("utf-8"))
        assert registered["name"] == f"{committed['namespace']}.{committed['name']}"
        assert [entry["name"] for entry in registered["fields"]] == [entry["name"] for entry in committed["fields"]]
        assert [entry["tokenweir"] for entry in registered["fields"]] == [
            entry["tokenweir"] for entry in committed["fields"]
        ]
