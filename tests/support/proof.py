"""One run of gateways over the whole input, and its judgement by the checkers of the proof."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException
from tests.support.capture import (
    Capture,
    ContinuousReader,
    Decoder,
    RegistryClient,
    TransactionWatch,
    compare_captures,
    in_order,
    read_to_end,
    until,
)
from tests.support.counters import check_counters, check_falls, check_never_twice, expected_counters, restarts
from tests.support.events import (
    AUDIENCES,
    AVRO_SCHEMA,
    INTERACTIONS,
    JSON_SCHEMA,
    PINGS,
    STREAMS,
    dead_letter_topic,
    output_topic,
    source_topic,
)
from tests.support.faults import FaultBox
from tests.support.feeder import Feeder
from tests.support.gatewayrun import GatewayRun, Progress
from tests.support.generator import Encoder, make_ledger
from tests.support.oracle import FateOracle, FateReport, Found, Frontier, Violation
from tests.support.outputs import OutputCheck
from tests.support.rig import Broker, SchemaRegistry
from tests.support.scan import CanaryScanner, Hit, plain_segments, scanner_for

POLICY: Final = Path(__file__).parent / "policies" / "chaos.yaml"
CONSENT_TOPIC: Final = "consent.decisions"
PARTITIONS: Final = 6
CONSENT_PARTITIONS: Final = 4
MAX_STALENESS_SECONDS: Final = 5
#: How long after its consent was found fresh a worker may still read records for a transaction.
SLACK_SECONDS: Final = 1
COMMIT_RECORDS: Final = 1_000
OUTPUT_TOPICS: Final = {output_topic(stream, audience): PARTITIONS for stream in STREAMS for audience in AUDIENCES}
DEAD_LETTER_TOPICS: Final = {dead_letter_topic(stream): PARTITIONS for stream in STREAMS}
WRITTEN_TOPICS: Final = {**OUTPUT_TOPICS, **DEAD_LETTER_TOPICS}
INTERNAL_TOPICS: Final = ("__consumer_offsets", "__transaction_state")


@dataclass(frozen=True)
class Scale:
    """How large a run is."""

    seed: int
    events: int
    customers: int
    kills: int
    per_second: float


@dataclass
class Numbers:
    """What a run measured."""

    events: int = 0
    kills: int = 0
    pairs: int = 0
    sanitized: int = 0
    withheld: int = 0
    rejected: int = 0
    racing: int = 0
    aborted_records: int = 0
    canaries: int = 0
    scanned_bytes: int = 0
    flow_seconds: float = 0
    total_seconds: float = 0
    events_per_second: float = 0


class Sighting(NamedTuple):
    """When a record was written to its source topic, and when the concurrent reader had what was made of it."""

    stream: str
    partition: int
    written_seconds: float
    read_seconds: float


class Proof:
    """One run of one or more gateways and its judgement.

    Args:
        scale: How large it is.
        broker: A broker without topics of an earlier run.
        registry: The registry.
        directory: An empty directory.
        settings: Sections of the gateway's configuration instead of those of the proof.
        faults: Faults that the child processes of all its gateways meet.
    """

    def __init__(
        self,
        scale: Scale,
        broker: Broker,
        registry: SchemaRegistry,
        directory: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        faults: FaultBox | None = None,
    ) -> None:
        self.scale = scale
        self.numbers = Numbers(events=scale.events, kills=scale.kills)
        self.sightings: list[Sighting] = []
        self.watch = TransactionWatch(broker.bootstrap, OUTPUT_TOPICS)
        groups = {f"tokenweir.{stream}": (source_topic(stream), PARTITIONS) for stream in STREAMS}
        self.progress = Progress(broker.bootstrap, groups)
        self._broker = broker
        self._registry_url = registry.url
        self._registry = RegistryClient(registry.url)
        self._directory = directory
        self._faults = faults
        self._reader: ContinuousReader | None = None
        self._started = self._flowing = time.monotonic()
        self._settings = {
            "consent": {"topic": CONSENT_TOPIC, "max_staleness_seconds": MAX_STALENESS_SECONDS},
            "gateway": {"workers": 2, "commit": {"records": COMMIT_RECORDS}},
            "logging": {"level": "debug"},
            **(settings or {}),
        }
        self.ledger = make_ledger(
            scale.seed,
            events=scale.events,
            customers=scale.customers,
            start_ms=time.time_ns() // 1_000_000,
            partitions=PARTITIONS,
        )
        self.gateways: list[GatewayRun] = []
        self.gateway = self.add_gateway("gateway", {})

    def add_gateway(self, name: str, section: Mapping[str, Any]) -> GatewayRun:
        """Return one more gateway with the policy and the keys of the first, and a state directory of its own.

        Args:
            name: Of its directory.
            section: What is different in the section ``gateway`` of its configuration.
        """
        settings = {**self._settings, "gateway": {**self._settings["gateway"], **section}}
        if self.gateways:
            keys = self.gateway.config_directory / "keys"
            settings["keys"] = {"directory": str(keys), "kek": {"file": str(keys / "kek.key")}}
        gateway = GatewayRun(
            self._directory / name,
            POLICY.read_text(),
            self._broker.bootstrap,
            self._registry_url,
            settings,
            faults=self._faults,
        )
        self.gateways.append(gateway)
        return gateway

    def run(self) -> tuple[Capture, Capture]:
        """Run the gateway over the whole input; return what the concurrent and the final reader saw."""
        feeder = self.begin()
        self._kill_workers(feeder)
        feeder.wait(300)
        return self.finish()

    def begin(self) -> Feeder:
        """Start the gateway and, once it is ready, begin to write the input."""
        bootstrap = self._broker.bootstrap
        encoder = Encoder(self.ledger, self._prepare())
        feeder = Feeder(self.ledger, encoder, bootstrap, CONSENT_TOPIC, self.scale.per_second)
        feeder.write_initial_consent()
        self.gateway.command("keys", "init")
        self._reader = ContinuousReader(bootstrap, WRITTEN_TOPICS)
        self.gateway.start()
        until(self.gateway.ready, 90, "the gateway is ready")
        self._flowing = time.monotonic()
        feeder.start()
        return feeder

    def finish(self) -> tuple[Capture, Capture]:
        """Wait until everything is processed and stop; return what the concurrent and the final reader saw."""
        assert self._reader is not None
        until(self.progress.done, 180, "everything is processed", 0.25)
        self.numbers.flow_seconds = time.monotonic() - self._flowing
        self.numbers.events = len(self.ledger.records)
        self.numbers.events_per_second = self.numbers.events / self.numbers.flow_seconds
        time.sleep(1)  # The last transactions are counted after their commits.
        for gateway in self.gateways:
            assert not gateway.running or gateway.stop() == 0, gateway.last_words()
        # One that a killed process left open ends with its time-out.
        self.watch = TransactionWatch(self._broker.bootstrap, OUTPUT_TOPICS)
        until(self._nothing_open, 30, "no transaction is left open")
        return self._reader.finish(), read_to_end(self._broker.bootstrap, WRITTEN_TOPICS, "read_committed")

    def _nothing_open(self) -> bool:
        try:
            return not self.watch.open()
        except KafkaException:
            return False  # Its leader's epoch is from before the broker was killed.

    def end(self) -> None:
        """Leave no process of a gateway behind, whatever happened."""
        for gateway in self.gateways:
            gateway.end()

    def _prepare(self) -> dict[str, int]:
        """Create topics and register the schemas of the sources; return the schema ids."""
        for stream in STREAMS:
            self._broker.create_topic(source_topic(stream), PARTITIONS)
        for topic, count in WRITTEN_TOPICS.items():
            self._broker.create_topic(topic, count)
        self._broker.create_topic(CONSENT_TOPIC, CONSENT_PARTITIONS, {"cleanup.policy": "compact"})
        return {
            INTERACTIONS: self._registry.register(f"{source_topic(INTERACTIONS)}-value", AVRO_SCHEMA, "AVRO"),
            PINGS: self._registry.register(f"{source_topic(PINGS)}-value", JSON_SCHEMA, "JSON"),
        }

    def _kill_workers(self, feeder: Feeder) -> None:
        """Kill workers at random moments while events are written; every other one in the middle of a transaction."""
        dice = random.Random(self.scale.seed)
        gateway, watch = self.gateway, self.watch
        duration = self.scale.events / self.scale.per_second
        moments = sorted(time.monotonic() + dice.uniform(0.02, 0.6) * duration for _ in range(self.scale.kills))
        for number, moment in enumerate(moments):
            time.sleep(max(0.0, moment - time.monotonic()))
            if number % 2:
                until(lambda: gateway.kill_in_transaction(dice, watch), 60, "there is a worker to kill", 0.05)
            else:
                until(lambda: gateway.kill_a_worker(dice), 60, "there is a worker to kill", 0.05)
            assert feeder.writing, "the last kills came too late"

    def judge(self, concurrent: Capture, final: Capture) -> list[Violation]:
        """Return everything that is wrong with what the readers saw and with the counters."""
        found, violations = self._judge_ledger(concurrent, final)
        expected = expected_counters(self.ledger, found)
        counters = check_counters(self.gateway.scrapes, expected, self.scale.kills * COMMIT_RECORDS)
        if (restarted := restarts(self.gateway.scrapes[-1])) != self.scale.kills:
            counters.append(Violation("restarts", f"{restarted} restarts of workers after {self.scale.kills} kills"))
        return [*violations, *counters]

    def judge_restarted(self, concurrent: Capture, final: Capture) -> list[Violation]:
        """Do the same where gateways were started more than once, which sets their counters to zero."""
        found, violations = self._judge_ledger(concurrent, final)
        lives = [scrapes for gateway in self.gateways for scrapes in gateway.lives if scrapes]
        falls = [violation for scrapes in lives for violation in check_falls(scrapes)]
        twice = check_never_twice([scrapes[-1] for scrapes in lives], expected_counters(self.ledger, found))
        return [*violations, *falls, *twice]

    def _judge_ledger(self, concurrent: Capture, final: Capture) -> tuple[Found, list[Violation]]:
        """Return what was found of each record, and what is wrong with it."""
        check = OutputCheck(self.ledger)
        decoder = Decoder(self._registry)
        frontier = self._frontier(concurrent, decoder, check)
        for stream in STREAMS:
            for audience in AUDIENCES:
                topic = output_topic(stream, audience)
                for record in decoder.sanitized(topic, in_order(final, topic), avro=stream == INTERACTIONS):
                    check.sanitized(stream, audience, record)
            topic = dead_letter_topic(stream)
            for letter in decoder.dead_letters(topic, in_order(final, topic)):
                check.dead_letter(stream, letter)
        check.finish()
        report = FateOracle(self.ledger, frontier, MAX_STALENESS_SECONDS + SLACK_SECONDS).check(check.found)
        self._note(report)
        return check.found, [*compare_captures(concurrent, final), *check.violations, *report.violations]

    def _note(self, report: FateReport) -> None:
        numbers = self.numbers
        numbers.pairs, numbers.racing = report.pairs, report.racing
        numbers.sanitized, numbers.withheld, numbers.rejected = report.sanitized, report.withheld, report.rejected

    def _frontier(self, concurrent: Capture, decoder: Decoder, check: OutputCheck) -> Frontier:
        """Return how far records were decided at each time, as the concurrent reader saw it in one output."""
        frontier = Frontier()
        self.sightings = []
        for stream in STREAMS:
            topic = output_topic(stream, AUDIENCES[-1])
            records = in_order(concurrent, topic)
            decoded = decoder.sanitized(topic, records, avro=stream == INTERACTIONS)
            seen = []
            for (_, captured), sanitized in zip(records, decoded, strict=True):
                source = check.source_of(sanitized.value)
                if source is not None:
                    seen.append((captured.read_seconds, source.partition, source.offset))
                    written, read = source.written_seconds, captured.read_seconds
                    self.sightings.append(Sighting(stream, source.partition, written, read))
            for seconds, partition, offset in sorted(seen):
                frontier.saw(stream, partition, offset, seconds)
        return frontier

    def steady_record(self, final: Capture) -> tuple[tuple[str, int], int]:
        """Return partition and index of a sanitized record whose customer changes nothing and has more there."""
        changing = {change.customer for change in self.ledger.changes if change.after_number >= 0}
        check = OutputCheck(self.ledger)
        topic = output_topic(INTERACTIONS, AUDIENCES[0])
        for place in sorted(place for place in final if place[0] == topic):
            records = [(place[1], record) for record in final[place]]
            keys = Counter(record.key for record in final[place])
            for index, sanitized in enumerate(Decoder(self._registry).sanitized(topic, records, avro=True)):
                source = check.source_of(sanitized.value)
                if source and source.facts.customer not in changing and keys[final[place][index].key] == 2:
                    return place, index
        raise LookupError("there is no such record")

    def scan(self, final: Capture) -> list[Hit]:
        """Search for every canary in everything that the gateway wrote or said."""
        scanner, self.numbers.canaries = scanner_for(self.ledger, self.scale.customers)
        hits = list(self._scan_everything(scanner, final))
        self.numbers.scanned_bytes = scanner.searched_bytes
        return hits

    def _scan_everything(self, scanner: CanaryScanner, final: Capture) -> Iterator[Hit]:
        uncommitted = read_to_end(self._broker.bootstrap, WRITTEN_TOPICS, "read_uncommitted")
        self.numbers.aborted_records = _count(uncommitted) - _count(final)
        for (topic, partition), records in uncommitted.items():
            parts = ((record.key, record.value, *_flat(record.headers)) for record in records)
            yield from scanner.scan_records(f"{topic}-{partition}", parts)
        segments = self._broker.log_directory
        for name in (*WRITTEN_TOPICS, *INTERNAL_TOPICS):
            for path in segments.glob(f"{name}-[0-9]*/*"):
                assert path.suffix != ".log" or plain_segments(path.read_bytes()), f"{path} is compressed"
                yield from scanner.scan_file(path)
        for gateway in self.gateways:
            yield from scanner.scan_records("admin port", ((body,) for body in gateway.bodies))
            for directory in (gateway.config_directory, gateway.state_directory, gateway.output_directory):
                files = [path for path in directory.rglob("*") if path.is_file()]
                assert files, f"{directory} is empty"
                for path in files:
                    yield from scanner.scan_file(path)

    def report(self) -> None:
        """Write the numbers to the file that the environment names, and to standard output."""
        self.numbers.total_seconds = time.monotonic() - self._started
        line = json.dumps({name: round(value, 1) for name, value in asdict(self.numbers).items()})
        sys.stdout.write(f"\n{line}\n")
        if path := os.environ.get("TOKENWEIR_REPORT"):
            with Path(path).open("a") as file:
                file.write(f"{line}\n")


def _count(capture: Capture) -> int:
    return sum(map(len, capture.values()))


def _flat(headers: tuple[tuple[str, bytes | None], ...]) -> Iterator[bytes | None]:
    for name, value in headers:
        yield name.encode()
        yield value
