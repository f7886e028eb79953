"""The verbs that touch a cluster, run as commands against a real broker and a real schema registry."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from tests.support.rig import Broker, SchemaRegistry
from tests.support.worlds import NEXT_SCHEMA, RunningGateway, World, until

from tokenweir.core import deadletter
from tokenweir.core.consent import parse_key, read_value
from tokenweir.core.subjects import partition_of

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]

Make = Callable[..., World]


@pytest.fixture(scope="module")
def make(kafka: Broker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make worlds with names of their own."""

    def new(workers: int = 1, start: str = "earliest") -> World:
        name = f"cli-{uuid.uuid4().hex[:8]}"
        return World(tmp_path_factory.mktemp(name), name, kafka.bootstrap, registry.url, workers, start)

    return new


@pytest.fixture(scope="module")
def world(make: Make) -> World:
    """A world whose topics ``doctor --fix`` has created, for a gateway of two workers."""
    made = make(workers=2)
    fixed = made.cli("doctor", "--fix", "--format", "json")
    assert fixed.returncode == 0, fixed.stdout
    return made


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[RunningGateway]:
    """A gateway of two workers that runs."""
    running = world.start()
    try:
        until(running.ready, running.log)
        yield running
    finally:
        running.stop()


def _count(world: World, topic: str) -> int:
    return len(world.read(topic))


# doctor and the start


def test_doctor_and_run_refuse_a_cluster_without_outputs_and_fix_creates_them(make: Make) -> None:
    """Missing topics are named by both; --fix creates exactly them, with the policy's retention."""
    world = make()
    before = world.cli("doctor", "--format", "json")
    run = world.refused_run()
    fixed = world.cli("doctor", "--fix")
    after = world.cli("doctor", "--format", "json")

    failed = {check["name"] for check in json.loads(before.stdout)["checks"] if not check["ok"]}
    assert before.returncode == 3
    assert failed == {
        f"consent topic {world.name}.consent",
        f"output topic {world.source}.crm",
        f"output topic {world.source}.ads",
        f"dead-letter topic {world.source}.dead-letters",
    }
    assert run.returncode == 3
    assert f"error: output topic {world.source}.crm: does not exist" in run.stderr
    assert fixed.returncode == 0, fixed.stdout
    assert f"created {world.source}.ads: 2 partitions" in fixed.stderr
    assert after.returncode == 0
    assert json.loads(after.stdout)["ok"] is True
    assert world.admin.topic_config(f"{world.source}.ads")["retention.ms"] == str(30 * 86_400_000)
    assert world.admin.topic_config(f"{world.name}.consent")["cleanup.policy"] == "compact"


def test_doctor_finds_keys_that_others_can_read_and_misplaced_consent(make: Make) -> None:
    """A key file with the wrong mode and a writer with another partitioner are both told, with what to do."""
    world = make()
    world.cli("doctor", "--fix")
    (world.directory / "keys" / "kek.key").chmod(0o644)
    key = b"customer:0000000001"
    wrong = (partition_of(key, 8) + 1) % 8
    world.write("consent", key, b"{}", wrong)

    done = world.cli("doctor")

    assert done.returncode == 3
    assert "chmod 600" in done.stderr
    assert f"1 key in a wrong partition ({wrong}@0)" in done.stdout


def test_run_warns_of_what_keeps_it_not_from_starting(make: Make) -> None:
    """A keyset that others can read and misplaced consent are told at the start, as doctor does, and it runs."""
    world = make()
    world.cli("doctor", "--fix")
    (world.directory / "keys" / "keyset.json").chmod(0o644)
    key = b"customer:0000000001"
    wrong = (partition_of(key, 8) + 1) % 8
    world.write("consent", key, b"{}", wrong)

    running = world.start()
    try:
        until(running.ready, running.log)
        warned = {event["check"] for event in running.events("start_warned")}
        told = [line for line in running.log().splitlines() if line.startswith("warning: ")]
    finally:
        running.stop()

    assert warned == {"keyset_mode", "consent_keys"}
    assert len(told) == 2
    assert "chmod 600" in told[0]
    assert f"1 key in a wrong partition ({wrong}@0)" in told[1]
    assert "0000000001" not in "".join(told)


def test_run_stops_with_every_finding_of_a_bad_policy(make: Make) -> None:
    """What the files alone show ends with exit code 1 before any broker is asked."""
    world = make()
    policy = world.directory / "policy.yaml"
    policy.write_text(policy.read_text().replace("purposes: [email_marketing]", "purposes: [emial_marketing]"))

    done = world.refused_run()

    assert done.returncode == 1
    assert "did you mean 'email_marketing'" in done.stderr


def test_a_gateway_that_starts_at_the_latest_record_leaves_older_ones_alone(make: Make) -> None:
    """With one worker and start: latest, only records from after the first start leave; SIGTERM ends it with 0."""
    world = make(start="latest")
    world.cli("doctor", "--fix")
    world.allow(1, "email_marketing")
    world.send(1, 3, partition=0)
    running = world.start()
    try:
        until(running.ready, running.log)
        world.send(1, 4, partition=0)
        until(lambda: _count(world, "raw.crm") == 4, running.log)
        begun = time.monotonic()
    finally:
        code = running.stop()

    assert code == 0
    assert time.monotonic() - begun < 10
    committed = world.admin.committed(f"{world.name}.interactions", world.source, range(2))
    assert committed[0].offset == 7


# The running gateway, which the tests share; each of them looks at its own customer or partition.


def test_consented_fields_leave_and_everything_adds_up(world: World, gateway: RunningGateway) -> None:
    """Outputs hold tokens only, each record has one fate per output, and offsets carry the consent position."""
    gateway.allow(10, "email_marketing")
    before = gateway.metric('tokenweir_records_total{audience="crm",fate="sanitized",stream="interactions"}')

    world.send(10, 5, partition=0)
    world.send(11, 5, partition=1)  # Nobody knows this one.
    series = 'tokenweir_records_total{{audience="crm",fate="{}",stream="interactions"}}'.format
    until(lambda: gateway.metric(series("sanitized")) - before == 5, gateway.log)

    def adds_up() -> bool:
        consumed = gateway.metric('tokenweir_records_consumed_total{stream="interactions"}')
        return sum(gateway.metric(series(fate)) for fate in ("sanitized", "withheld", "rejected")) == consumed

    # Two workers may be between two counters while the first is asked.
    until(adds_up, gateway.log)
    leaving = b"".join(record.key + record.value for record in world.read("raw.crm") + world.read("raw.ads"))
    assert b"0000000010" not in leaving
    assert b"someone10" not in leaving
    topic_id = world.admin.describe_topic(f"{world.name}.consent").topic_id
    group = world.admin.committed(f"{world.name}.interactions", world.source, range(2))
    assert all(found.metadata.startswith(f"tw1;{topic_id};") for found in group.values())


def test_probes_and_metrics_answer(gateway: RunningGateway) -> None:
    """All probes pass while it runs, verbose ones name their checks, and the build and policy are shown."""
    until(gateway.ready, gateway.log)
    assert gateway.get("/livez")[0] == 200
    assert gateway.get("/startupz")[0] == 200
    assert "[+]consent ok" in gateway.get("/readyz?verbose")[1]
    metrics = gateway.get("/metrics")[1]
    assert 'revision="3"' in metrics
    assert "tokenweir_build_info{" in metrics
    assert 0 <= gateway.metric("tokenweir_key_epoch_age_seconds") < 3600
    # Each worker shows its own once a second, and knows none before.
    until(lambda: gateway.metric("tokenweir_consent_staleness_seconds") < 2, gateway.log)


def test_an_unknown_schema_holds_up_its_partition_only_and_then_becomes_a_dead_letter(
    world: World, gateway: RunningGateway
) -> None:
    """Records behind it wait, other partitions go on; after the wait one dead letter per output says why."""
    gateway.allow(20, "email_marketing")
    before = _count(world, "raw.crm")
    letters = _count(world, "raw.dead-letters")

    world.send(20, partition=0, schema_id=987_654)
    world.send(20, 3, partition=0)
    world.send(20, 2, partition=1)
    until(lambda: _count(world, "raw.crm") == before + 2, gateway.log)
    held = _count(world, "raw.dead-letters")
    until(lambda: _count(world, "raw.crm") == before + 5, gateway.log)

    assert held == letters
    written = world.read("raw.dead-letters")[letters:]
    schema = fastavro.parse_schema(json.loads(deadletter.SCHEMA))
    decoded: list[Any] = [fastavro.schemaless_reader(io.BytesIO(m.value[5:]), schema, None) for m in written]
    assert {letter["output"] for letter in decoded} == {f"{world.source}.crm", f"{world.source}.ads"}
    assert {letter["reason"] for letter in decoded} == {"schema_unknown"}
    assert len(decoded) == 2
    schema_id = world.registry.latest(f"{world.source}.dead-letters-value").id
    assert {m.value[:5] for m in written} == {b"\0" + struct.pack(">I", schema_id)}


def test_a_schema_that_is_registered_while_its_records_wait_loses_none(world: World, gateway: RunningGateway) -> None:
    """A producer that registers a little late costs a pause and no record."""
    gateway.allow(30, "email_marketing")
    before = _count(world, "raw.crm")
    # Ids are given in order, so that the next one is known before it exists.
    probe = world.registry.register(f"{world.name}-probe", json.dumps({"type": "string"}), "AVRO")

    world.send(30, 2, partition=1)
    world.send(30, 2, partition=1, schema_id=probe + 1)
    world.send(30, 1, partition=1)
    until(lambda: _count(world, "raw.crm") == before + 2, gateway.log)
    assert world.register(NEXT_SCHEMA) == probe + 1

    until(lambda: _count(world, "raw.crm") == before + 5, gateway.log)


def test_a_hanging_applier_pauses_everything_until_consent_is_fresh_again(
    world: World, gateway: RunningGateway
) -> None:
    """Nothing leaves while consent is stale, the probe says so, and it goes on by itself."""
    gateway.allow(40, "email_marketing")
    until(gateway.ready, gateway.log)
    before = _count(world, "raw.crm")
    applier = gateway.pid("applier")

    os.kill(applier, signal.SIGSTOP)
    try:
        until(lambda: not gateway.ready(), gateway.log)
        world.send(40, 3)
        time.sleep(1)
        held = _count(world, "raw.crm")
        status, told = gateway.get("/readyz?verbose")
    finally:
        os.kill(applier, signal.SIGCONT)
    until(lambda: _count(world, "raw.crm") == before + 3, gateway.log)

    assert held == before
    assert status == 503
    assert "[-]consent failed" in told
    assert gateway.events("consent_stale")
    assert gateway.events("consent_fresh")


def test_a_killed_worker_is_started_again_and_its_partitions_go_on(world: World, gateway: RunningGateway) -> None:
    """After SIGKILL each record is still there exactly once, and counters do not fall."""
    gateway.allow(50, "email_marketing")
    until(gateway.ready, gateway.log)
    before = _count(world, "raw.crm")
    consumed = gateway.metric('tokenweir_records_consumed_total{stream="interactions"}')

    os.kill(gateway.pid("worker"), signal.SIGKILL)
    world.send(50, 5, partition=0)
    world.send(50, 5, partition=1)
    until(lambda: _count(world, "raw.crm") >= before + 10, gateway.log)

    assert gateway.metric('tokenweir_worker_restarts_total{stream="interactions"}') >= 1
    until(lambda: gateway.metric('tokenweir_records_consumed_total{stream="interactions"}') == consumed + 10)
    assert _count(world, "raw.crm") == before + 10


def test_a_withdrawal_is_applied(world: World, gateway: RunningGateway) -> None:
    """After a deny of everything the same customer's records are withheld."""
    gateway.allow(60, "email_marketing")
    before = _count(world, "raw.crm")
    world.send(60, 1)
    until(lambda: _count(world, "raw.crm") == before + 1, gateway.log)

    world.cli("consent", "set", "customer:0000000060", "*=deny")
    gateway.wait_for_consent()
    series = 'tokenweir_records_total{audience="crm",fate="withheld",stream="interactions"}'
    withheld = gateway.metric(series)
    world.send(60, 2)
    until(lambda: gateway.metric(series) == withheld + 2, gateway.log)

    assert _count(world, "raw.crm") == before + 1


# preview and consent, which need no gateway


def test_preview_shows_what_would_leave_and_leaves_no_trace(make: Make) -> None:
    """Values are shown as they would leave; no group appears, and raw values are shown on demand only."""
    world = make()
    world.cli("doctor", "--fix")
    world.allow(70, "email_marketing")
    world.send(70, 3)
    world.send(71, 1, schema_id=987_654)

    done = world.cli("preview", "--limit", "2", "--format", "json")
    raw = world.cli("preview", "--limit", "2", "--show-raw")

    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)["records"]
    found = [{output["audience"]: output for output in record["outputs"]} for record in records]
    assert [outputs["crm"]["fate"] for outputs in found] == ["sanitized", "rejected"]
    assert [outputs["ads"]["fate"] for outputs in found] == ["withheld", "rejected"]
    assert found[1]["crm"]["reason"] == "schema_unknown"
    fields = found[0]["crm"]["fields"]
    assert fields["kind"] == "click"
    assert fields["customer_id"] == found[0]["crm"]["key"] != "0000000070"
    assert "someone70" not in done.stdout + done.stderr
    assert "someone70@example.com" in raw.stdout
    assert world.admin.groups(world.name) == {}
    assert "consent: 1 record read" in done.stderr


def test_preview_without_a_keyset_says_that_its_tokens_are_of_this_run(make: Make) -> None:
    """A preview needs neither keys nor the consent topic."""
    world = make()
    for name in ("keyset.json", "kek.key"):
        (world.directory / "keys" / name).unlink()
    world.send(1)

    done = world.cli("preview")

    assert done.returncode == 0, done.stderr
    assert "tokens are of this run only" in done.stderr
    assert "every decision is unknown" in done.stderr
    assert "withheld" in done.stdout


def test_consent_set_merges_into_its_own_source(make: Make) -> None:
    """A second call keeps what it does not mention, dates included, and the record lies where murmur2 puts it."""
    world = make()
    world.cli("doctor", "--fix")

    first = world.cli("consent", "set", "customer:0000000007", "email_marketing=allow", "--jurisdiction", "US-CA")
    world.cli("consent", "set", "customer:0000000007", "ad_measurement=deny", "--minor")
    world.cli("consent", "set", "customer:0000000007", "*=deny", "--source", "web")
    got = json.loads(world.cli("consent", "get", "customer:0000000007", "--format", "json").stdout)

    assert first.returncode == 0
    records = {parse_key(record.key): record for record in world.read("consent")}
    assert {key.source for key in records} == {"", "web"}
    assert all(record.partition == partition_of(record.key, 8) for record in records.values())
    own = next(record for key, record in records.items() if not key.source)
    state = read_value(own.value, own.timestamp_ms)
    assert state.minor
    assert state.jurisdiction == "US-CA"
    assert state.decisions["email_marketing"].decided_at_ms < state.decisions["ad_measurement"].decided_at_ms
    assert {purpose: found["answer"] for purpose, found in got["answers"].items()} == {
        "email_marketing": "deny",
        "ad_measurement": "deny",
    }
    assert set(got["sources"]) == {"", "web"}
    alone = world.cli("consent", "get", "customer:0000000007", "--source", "web")
    assert "web     *     deny" in alone.stdout


def test_consent_import_takes_a_file_whole_or_not_at_all(make: Make) -> None:
    """One bad line refuses everything with its number; a tombstone over a deny is refused; a good file is written."""
    world = make()
    world.cli("doctor", "--fix")
    line = '{{"subject":"customer:{:010}","version":1,"decided_at":"2026-01-01T00:00:00Z","decisions":{}}}\n'.format
    good = line(1, '{"email_marketing":"allow"}') + line(2, '{"*":"deny"}') + line(1, '{"email_marketing":"deny"}')
    bad = good + line(3, '{"emial_marketing":"allow"}')

    refused = world.cli("consent", "import", "-", given=bad)
    after_refused = _count(world, "consent")
    done = world.cli("consent", "import", "-", given=good)
    forget_deny = world.cli(
        "consent", "import", "-", "--yes", given='{"subject":"customer:0000000002","decisions":null}'
    )
    unasked = world.cli("consent", "import", "-", given='{"subject":"customer:0000000003","decisions":null}')
    forgotten = world.cli("consent", "import", "-", "--yes", given='{"subject":"customer:0000000003","decisions":null}')

    assert refused.returncode == 1
    assert "-:4:1: consent-line" in refused.stderr
    assert after_refused == 0
    assert done.returncode == 0, done.stderr
    assert "3 lines read (1 line replaced by a later one for the same key), 2 records written" in done.stdout
    assert forget_deny.returncode == 3
    assert unasked.returncode == 2
    assert forgotten.returncode == 0, forgotten.stderr
    assert _count(world, "consent") == 3


def test_an_old_import_does_not_lift_a_newer_withdrawal(make: Make) -> None:
    """The same file is fine twice, but not after one of its subjects decided anew; nothing of it is written then."""
    world = make()
    world.cli("doctor", "--fix")
    line = '{{"subject":"customer:{:010}","version":1,"decided_at":"2026-01-01T00:00:00Z","decisions":{}}}\n'.format
    text = line(1, '{"email_marketing":"allow"}') + line(2, '{"email_marketing":"allow"}')

    codes = [world.cli("consent", "import", "-", given=text).returncode for _ in range(2)]
    world.cli("consent", "set", "customer:0000000002", "*=deny")
    refused = world.cli("consent", "import", "-", given=text)

    assert codes == [0, 0]
    assert refused.returncode == 3
    assert "(line 2)" in refused.stderr
    assert _count(world, "consent") == 5


def test_the_demo_runs_through_a_gateway_as_the_readme_says(
    kafka: Broker, registry: SchemaRegistry, tmp_path: Path
) -> None:
    """The written files, the producers of ``tools/feed_demo.py`` and the verbs of the README give a preview."""
    environ = os.environ | {
        "TOKENWEIR__KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOKENWEIR__REGISTRY__URL": registry.url,
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    run("-m", "tokenweir", "demo", "--write", ".")
    run(str(ROOT / "tools" / "feed_demo.py"), ".")
    for verb in (["keys", "init"], ["doctor", "--fix"], ["consent", "import", "consent.jsonl"]):
        run("-m", "tokenweir", *verb, "--config", "gateway.yaml")
    shown = run("-m", "tokenweir", "preview", "--config", "gateway.yaml", "--limit", "10", "--format", "json")

    fates = [(each["stream"], out["fate"]) for each in json.loads(shown)["records"] for out in each["outputs"]]
    assert ("interactions", "sanitized") in fates
    assert ("web", "sanitized") in fates
