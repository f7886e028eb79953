"""A rotation under load, judged: what is in each epoch's topics, with whose tokens, and what none of them may lack.

The key domain of one audience is rotated while events flow through two gateways; that of the other stays, and its
outputs tell how far every record was decided. Judged are, beside what :mod:`tests.support.proof` judges:

- each topic holds the tokens of its own epoch and no other, made anew here from the keyset;
- a record that left is in the old topic until the old epoch ends, and in the new one from the moment that every gateway
  feeds it: never in none, never twice in one, and treated alike in both;
- within an epoch, one customer has one token in both streams;
- a mapping leads from each reversible token of the old topic to that of the new one, and from nothing else.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.capture import Capture, Decoder, compare_captures, in_order, read_to_end, until
from tests.support.counters import check_falls, check_never_twice, expected_counters
from tests.support.events import ADS, AUDIENCES, CRM, INTERACTIONS, STREAMS, dead_letter_topic, output_topic
from tests.support.feeder import Feeder
from tests.support.gatewayrun import GatewayRun
from tests.support.ledger import InputRecord
from tests.support.oracle import FateOracle, Found, Seen, Violation
from tests.support.outputs import OutputCheck, Sanitized
from tests.support.proof import MAX_STALENESS_SECONDS, PARTITIONS, POLICY, SLACK_SECONDS, Proof, Scale
from tests.support.rig import Broker, SchemaRegistry

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.keysource import load_keyset
from tokenweir.core.policy.loader import load_policy
from tokenweir.core.tokens import Tokenizer

OLD: Final = 1
NEW: Final = 2
_READY_SECONDS: Final = 120
#: Field and token entry; tokens of e-mail addresses cannot be reversed, so that they are in no mapping.
_ENTRIES: Final = {"customer_id": "customer", "email": "email", "phone": "phone", "card": "card"}
_REVERSIBLE: Final = ("customer", "phone", "card")


def topic_in(stream: str, epoch: int) -> str:
    """Return the topic of the rotated audience in an epoch."""
    base = output_topic(stream, CRM)
    return base if epoch == OLD else f"{base}.e{epoch}"


NEW_TOPICS: Final = {topic_in(stream, NEW): PARTITIONS for stream in STREAMS}
MAPPINGS: Final = {f"{topic}.mapping": PARTITIONS for topic in NEW_TOPICS}


class Rotation(Proof):
    """A run of two gateways in which one key domain is rotated, and its judgement."""

    def __init__(self, scale: Scale, broker: Broker, registry: SchemaRegistry, directory: Path) -> None:
        super().__init__(scale, broker, registry, directory, settings={"gateway": {"workers": 1, "ordinal": 0}})
        self.second = self.add_gateway("second", {"ordinal": 1})
        self.mapped: dict[str, dict[str, str]] = {}
        self._marks: dict[str, Mapping[str, Sequence[int]]] = {}
        self._tokenizers: dict[tuple[int, str], Tokenizer] = {}
        self._new: Capture = {}
        self._shares = [0, 0, 0]
        self._known: dict[tuple[int, str, str], str] = {}

    @property
    def keys_directory(self) -> Path:
        """The directory of the keyset, which both gateways share."""
        return self.gateway.config_directory / "keys"

    def begin(self) -> Feeder:
        """Start both gateways, and begin to write events."""
        feeder = super().begin()
        self.second.start()
        until(self.second.ready, _READY_SECONDS, "the second gateway is ready")
        return feeder

    def keys(self, *arguments: str, code: int = 0) -> str:
        """Run a verb of the group ``keys`` with the first gateway's configuration, and return its data."""
        config = self.gateway.config_directory / "tokenweir.yaml"
        command = [sys.executable, "-m", "tokenweir", "keys", *arguments, "--config", str(config)]
        done = subprocess.run(command, cwd=config.parent, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr if code else done.stdout

    # The steps of a rotation.

    def rotate(self) -> None:
        """Begin the new epoch: the keyset is changed, the topics are made, and no gateway knows of it yet."""
        self.keys("rotate", CRM)
        self.gateway.command("doctor", "--fix")
        self.mark("rotated", self.catch_up())
        self._open_keys()

    def restart(self, gateway: GatewayRun) -> None:
        """Restart a gateway in good order."""
        assert gateway.terminate() == 0, gateway.last_words()
        gateway.start()
        until(gateway.ready, _READY_SECONDS, "the gateway is ready", 0.05)

    def roll(self, mark: str) -> None:
        """Restart one gateway after the other; from then on every record is decided with the keyset as it is now."""
        for gateway in self.gateways:
            self.restart(gateway)
        self.mark(mark, self.progress.ends())
        self.catch_up()

    def map_tokens(self) -> list[dict[str, Any]]:
        """Write the mapping topics, keep what is in them, and return the report."""
        self.mark("mapped", self.catch_up())
        said: list[dict[str, Any]] = json.loads(self.keys("map", CRM, "--create", "--format", "json"))["mappings"]
        found = read_to_end(self._broker.bootstrap, MAPPINGS, "read_committed")
        for place in found:
            for record in found[place]:
                key, value = json.loads(record.key or b""), json.loads(record.value or b"")
                known = self.mapped.setdefault(key["entry"], {})
                assert known.setdefault(key["token"], value["token"]) == value["token"]
        return said

    def retire(self) -> None:
        """End the old epoch in the keyset; gateways feed it until they are restarted."""
        self.mark("retired", self.catch_up())
        self.keys("retire", CRM, "--yes")

    def catch_up(self) -> Mapping[str, Sequence[int]]:
        """Wait until everything is committed that is written now, and return how far that is."""
        ends = self.progress.ends()
        until(lambda: self.progress.reached(ends), _READY_SECONDS, "everything is committed", 0.1)
        return ends

    def mark(self, name: str, ends: Mapping[str, Sequence[int]]) -> None:
        """Note how far the sources had come at a step."""
        self._marks[name] = ends

    def finish(self) -> tuple[Capture, Capture]:
        """Wait until everything is processed and stop; keep also what is in the new epoch's topics."""
        found = super().finish()
        self._new = read_to_end(self._broker.bootstrap, NEW_TOPICS, "read_committed")
        return found

    # The judgement.

    def judge_restarted(self, concurrent: Capture, final: Capture) -> list[Violation]:
        """Return everything that is wrong in all epochs."""
        decoder = Decoder(self._registry)
        checks = {epoch: OutputCheck(self.ledger) for epoch in (OLD, NEW)}
        frontier = self._frontier(concurrent, decoder, checks[OLD])
        wrong: list[Violation] = []
        for stream in STREAMS:
            for record in self._decoded(decoder, final, stream, output_topic(stream, ADS)):
                checks[OLD].sanitized(stream, ADS, record)
            for epoch, capture in ((OLD, final), (NEW, self._new)):
                for record in self._decoded(decoder, capture, stream, topic_in(stream, epoch)):
                    checks[epoch].sanitized(stream, CRM, record)
                    wrong += self._tokens(checks[epoch].source_of(record.value), epoch, stream, record)
            letters = dead_letter_topic(stream)
            for letter in decoder.dead_letters(letters, in_order(final, letters)):
                # A letter names the topic that it is about, and so the epoch.
                epoch = NEW if letter.output in NEW_TOPICS else OLD
                output = output_topic(stream, CRM) if epoch == NEW else letter.output
                checks[epoch].dead_letter(stream, letter._replace(output=output))
        checks[OLD].finish()
        wrong += self._joined(final)
        found = self._together({epoch: check.found for epoch, check in checks.items()}, wrong)
        report = FateOracle(self.ledger, frontier, MAX_STALENESS_SECONDS + SLACK_SECONDS).check(found)
        self._note(report)
        lives = [scrapes for gateway in self.gateways for scrapes in gateway.lives if scrapes]
        for scrapes in lives:
            wrong += check_falls(scrapes)
        wrong += check_never_twice([scrapes[-1] for scrapes in lives], expected_counters(self.ledger, found))
        every = [violation for check in checks.values() for violation in check.violations]
        return [*compare_captures(concurrent, final), *every, *wrong, *report.violations]

    def _joined(self, final: Capture) -> Iterator[Violation]:
        """Yield tokens that stand in two epochs or key domains; the topics of one must join across streams."""
        sides: dict[str, list[set[bytes]]] = {}
        for name, capture, topics in (
            ("old epoch", final, [topic_in(stream, OLD) for stream in STREAMS]),
            ("new epoch", self._new, [topic_in(stream, NEW) for stream in STREAMS]),
            ("other key domain", final, [output_topic(stream, ADS) for stream in STREAMS]),
        ):
            keys = [
                {record.key for place in capture if place[0] == topic for record in capture[place] if record.key}
                for topic in topics
            ]
            if len(keys[0] & keys[1]) < min(map(len, keys)) / 10:
                yield Violation("join", f"the streams have {len(keys[0] & keys[1])} keys in common in the {name}")
            sides[name] = keys
        for one, other in itertools.combinations(sides, 2):
            # Of 10^16 possible tokens no two sides have one in common by chance.
            if (sides[one][0] | sides[one][1]) & (sides[other][0] | sides[other][1]):
                yield Violation("join", f"one token in the {one} and the {other}")

    @staticmethod
    def _decoded(decoder: Decoder, capture: Capture, stream: str, topic: str) -> Iterator[Sanitized]:
        return decoder.sanitized(topic, in_order(capture, topic), avro=stream == INTERACTIONS)

    def _open_keys(self) -> None:
        """Make the tokens of both epochs from the keyset, which has both roots now."""
        keyset = load_keyset(self.keys_directory / "keyset.json", self.keys_directory / "kek.key")
        policy = load_policy(POLICY.read_text(), str(POLICY)).policy
        for epoch in (OLD, NEW):
            for entry in _ENTRIES.values():
                self._tokenizers[epoch, entry] = keyset.tokenizer(CRM, entry, policy.tokens[entry], epoch)

    def _tokens(self, source: InputRecord | None, epoch: int, stream: str, record: Sanitized) -> Iterator[Violation]:
        """Yield what is no token of its topic's epoch, and what the mapping leads elsewhere."""
        if source is None:
            return
        document = self.ledger.event(source).document
        for name, entry in _ENTRIES.items():
            if name not in record.value:
                continue
            token = self._token(epoch, entry, document[name])
            where = f"{topic_in(stream, epoch)}: {name} of record {source.number}"
            if record.value[name] != token:
                yield Violation("epoch", f"{where} is no token of epoch {epoch}")
            mapped = epoch == OLD and entry in _REVERSIBLE and self._offset_is_before("mapped", source)
            if mapped and self.mapped.get(entry, {}).get(token) != self._token(NEW, entry, document[name]):
                yield Violation("mapping", f"{where} does not lead to its successor")

    def _token(self, epoch: int, entry: str, value: str) -> str:
        """Return the token of a value, remembered: customers come again and again."""
        known = self._known.get((epoch, entry, value))
        if known is None:
            known = self._known[epoch, entry, value] = self._tokenizers[epoch, entry].tokenize(value)
        return known

    def _offset_is_before(self, mark: str, record: InputRecord) -> bool:
        ends = self._marks.get(mark)
        return ends is not None and record.offset < ends[f"tokenweir.{record.stream}"][record.partition]

    def shares(self) -> tuple[int, int, int]:
        """Return how many records were found in the topics of both epochs, of the old one alone, of the new one."""
        return self._shares[0], self._shares[1], self._shares[2]

    def admin(self) -> Admin:
        """Return an administrator of the cluster."""
        return Admin({"bootstrap.servers": self._broker.bootstrap})

    def _together(self, found: Mapping[int, Found], wrong: list[Violation]) -> Found:
        """Return what was found of each record in any epoch, and note where the epochs differ though they must not."""
        sanitized: dict[str, dict[int, Seen]] = {ADS: dict(found[OLD].sanitized[ADS]), CRM: {}}
        rejected: dict[str, dict[int, str]] = {ADS: dict(found[OLD].rejected[ADS]), CRM: {}}
        for record in self.ledger.records:
            seen = {epoch: each.sanitized[CRM].get(record.number) for epoch, each in found.items()}
            reasons = {epoch: each.rejected[CRM].get(record.number) for epoch, each in found.items()}
            for epoch in (NEW, OLD):
                if (one := seen[epoch]) is not None:
                    sanitized[CRM][record.number] = one
                if (reason := reasons[epoch]) is not None:
                    rejected[CRM][record.number] = reason
            fates: dict[int, object] = {
                epoch: reasons[epoch] if (one := seen[epoch]) is None else one.shape for epoch in seen
            }
            wrong += self._apart(record, fates)
            if any(fates.values()):
                self._shares[0 if all(fates.values()) else 1 if fates[OLD] else 2] += 1
        assert set(sanitized) == set(AUDIENCES)
        return Found(sanitized, rejected)

    def _apart(self, record: InputRecord, fates: Mapping[int, object]) -> Iterator[Violation]:
        """Yield what the topics of two epochs must not have of one record."""
        where = f"{record.stream}-{record.partition}@{record.offset}"
        fed = not self._offset_is_before("fed", record)
        ending = not self._offset_is_before("retired", record)
        if all(fates.values()) and fates[OLD] != fates[NEW]:
            yield Violation("epochs", f"{where} was treated in two ways: {fates}")
        if fates[NEW] and self._offset_is_before("rotated", record) and "rotated" in self._marks:
            yield Violation("epochs", f"{where} is in the new epoch, which had not begun")
        if fates[OLD] and fed and not fates[NEW]:
            yield Violation("loss", f"{where} is missing in the new epoch, which every gateway feeds")
        if fates[NEW] and not ending and not fates[OLD]:
            yield Violation("loss", f"{where} is missing in the old epoch, which had not ended")
        if fates[OLD] and "ended" in self._marks and not self._offset_is_before("ended", record):
            yield Violation("epochs", f"{where} is in the old epoch, which had ended")
