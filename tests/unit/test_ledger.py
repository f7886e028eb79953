"""The checkers of the end-to-end proof pass a gateway without mistakes, and each planted mistake makes them fail."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.capture import Capture, Captured, compare_captures
from tests.support.consents import ANALYTICS, EMAIL, EVERYTHING, PHONE, UNKNOWN, ConsentState, Decision
from tests.support.counters import check_counters, expected_counters, parse_metrics, series
from tests.support.events import ADS, CRM, INTERACTIONS, PINGS, luhn_valid, make_event, output_topic
from tests.support.generator import DEFECTS, RARE_DEFECTS, Encoder
from tests.support.ledger import ConsentChange, Ledger
from tests.support.oracle import FateOracle, FateReport, Frontier, expected_shape
from tests.support.outputs import OutputCheck, Sanitized, check_streams
from tests.support.simulator import STALENESS_SECONDS, Simulated, simulate, small_ledger

SUPPORT = Path(__file__).parents[1] / "support"
PROOF = ("proof", "simulator")
EVENTS = 1_500
CUSTOMERS = 150


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    """A ledger of a few thousand events over 30 seconds."""
    return small_ledger(events=EVENTS, customers=CUSTOMERS)


@pytest.fixture(scope="module")
def clean(ledger: Ledger) -> Simulated:
    """What a gateway without mistakes leaves behind."""
    return simulate(ledger)


@pytest.fixture
def run(clean: Simulated) -> Simulated:
    """A copy to plant a mistake in."""
    return copy_of(clean)


def copy_of(run: Simulated) -> Simulated:
    """Return a copy whose lists are its own; their entries never change."""
    outputs = defaultdict(list, {place: list(records) for place, records in run.outputs.items()})
    letters = defaultdict(list, {stream: list(records) for stream, records in run.dead_letters.items()})
    return replace(run, outputs=outputs, dead_letters=letters)


def judge(ledger: Ledger, run: Simulated) -> tuple[set[str], FateReport]:
    """Return the kinds of violations, and the report of the fates."""
    outputs = OutputCheck(ledger)
    check_streams(outputs, run.outputs)
    for stream, letters in run.dead_letters.items():
        for letter in letters:
            outputs.dead_letter(stream, letter)
    outputs.finish()
    report = FateOracle(ledger, run.frontier, STALENESS_SECONDS).check(outputs.found)
    return {violation.kind for violation in outputs.violations + report.violations}, report


def stable(ledger: Ledger, run: Simulated, audience: str = CRM, stream: str = INTERACTIONS) -> int:
    """Return where a record of a customer who changes nothing stands in an output."""
    changing = {change.customer for change in ledger.changes if change.after_number >= 0}
    numbers = {
        ledger.event(record).event_id
        for record in ledger.records
        if record.facts.customer not in changing and not record.facts.blemish
    }
    records = run.outputs[stream, audience]
    return next(
        index
        for index, record in enumerate(records)
        if record.value["event_id"] in numbers and record.value.keys() >= {"location"}
    )


# Independence.


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


def test_the_proof_shares_no_code_with_the_product() -> None:
    """The modules of the proof, with all that they import, use the standard library, Kafka's client and Avro only."""
    pending = [SUPPORT / f"{name}.py" for name in PROOF]
    seen: set[Path] = set()
    foreign: set[str] = set()
    while pending:
        path = pending.pop()
        seen.add(path)
        for name in _imports(path):
            if name.startswith("tests.support."):
                found = SUPPORT / f"{name.removeprefix('tests.support.')}.py"
                pending += [found] if found not in seen else []
            elif name.partition(".")[0] not in sys.stdlib_module_names:
                foreign.add(name.partition(".")[0])

    assert foreign == {"confluent_kafka", "fastavro"}
    assert {path.stem for path in seen} > {"capture", "gatewayrun", "generator", "oracle", "outputs", "scan"}


# The input.


def test_every_customer_and_every_defect_is_in_the_input(ledger: Ledger) -> None:
    """All customers have events in order, and all kinds of broken records and of consent are there."""
    assert len({record.facts.customer for record in ledger.records} - {None}) == CUSTOMERS
    large = small_ledger(events=20_000, customers=CUSTOMERS)
    assert {record.defect for record in large.records} == {"", *DEFECTS, *RARE_DEFECTS}
    states = ledger.states_of()
    assert any(len(changes) > 3 for changes in states.values())
    assert any(change.state.undecodable for change in ledger.changes)
    assert any(change.state.minor for change in ledger.changes)
    assert len(states) < CUSTOMERS


def test_events_follow_from_seed_and_number(ledger: Ledger) -> None:
    """The checker makes the same event again, and no two share a protected value."""
    first, second = ledger.records[1], ledger.records[2]

    assert ledger.event(first) == make_event(ledger.seed, first.number, first.facts)
    for name in ("event_id", "email", "card", "note", "location"):
        assert ledger.event(first).document[name] != ledger.event(second).document[name]
    sound = [record for record in ledger.records if not record.facts.blemish][:50]
    assert all(luhn_valid(ledger.event(record).document["card"]) for record in sound)


def test_records_can_be_encoded(ledger: Ledger) -> None:
    """Broken records differ from sound ones in their bytes, and only tombstones have no value."""
    encoder = Encoder(ledger, {INTERACTIONS: 1, PINGS: 2})
    for record in ledger.records:
        raw = encoder.encode(record)
        assert (raw.value is None) == (record.defect == "tombstone")
        if not record.defect:
            assert raw.value is not None
            assert raw.value[:5] == bytes([0, 0, 0, 0, 1 if record.stream == INTERACTIONS else 2])


def test_a_record_that_was_not_written_is_noticed(ledger: Ledger) -> None:
    """Without its coordinates, or with those of another record, the ledger proves nothing."""
    broken = replace(ledger, records=[*ledger.records, ledger.records[0]])

    with pytest.raises(ValueError, match="exactly once"):
        broken.by_coordinates()


# The rules of consent, by known answers.

_ALLOW = Decision("allow", 100)
_DENY = Decision("deny", 100)


@pytest.mark.parametrize(
    ("state", "event_time_ms", "crm", "ads"),
    [
        (UNKNOWN, 200, False, True),
        (ConsentState({EMAIL: _ALLOW}), 200, True, True),
        (ConsentState({EMAIL: _ALLOW}), 100, True, True),
        (ConsentState({EMAIL: _ALLOW}), 99, False, True),
        (ConsentState({EMAIL: _DENY}), 200, False, True),
        (ConsentState({EMAIL: _ALLOW, ANALYTICS: _DENY}), 200, True, False),
        (ConsentState({ANALYTICS: _ALLOW}), 50, False, True),
        (ConsentState({EMAIL: _ALLOW, EVERYTHING: _DENY}), 200, False, False),
        (ConsentState({EMAIL: Decision("allow", 101), EVERYTHING: _DENY}), 200, True, False),
        (ConsentState({EMAIL: _ALLOW}, minor=True), 200, False, False),
        (ConsentState(undecodable=True), 200, False, False),
    ],
)
def test_consent_decides_as_the_contract_says(state: ConsentState, event_time_ms: int, crm: bool, ads: bool) -> None:  # noqa: FBT001 - a table
    """Consent needs an allow that covers the event, a legitimate interest needs no objection, ``*`` covers both."""
    assert (expected_shape(CRM, state, event_time_ms) is not None) == crm
    assert (expected_shape(ADS, state, event_time_ms) is not None) == ads


def test_single_fields_depend_on_their_own_purposes() -> None:
    """A telephone number needs its own consent, a position needs that analytics are not objected to."""
    shape = expected_shape(CRM, ConsentState({EMAIL: _ALLOW, PHONE: _DENY, ANALYTICS: _DENY}), 200)

    assert shape is not None
    assert shape == (False, False)


# A clean run.


def test_a_gateway_without_mistakes_passes(ledger: Ledger, clean: Simulated) -> None:
    """Nothing is wrong, and nearly all fates are exact although consent changes while records flow."""
    kinds, report = judge(ledger, clean)

    assert kinds == set()
    assert report.pairs == 2 * EVENTS
    assert 0 < report.racing < 0.1 * report.pairs
    assert min(report.sanitized, report.withheld, report.rejected) > 0


def test_a_gateway_that_learns_late_but_in_time_passes(ledger: Ledger) -> None:
    """A change may be applied at any time within the bound, at another time for each customer."""
    kinds, _ = judge(ledger, simulate(ledger, lag_seconds=STALENESS_SECONDS - 0.1))

    assert kinds == set()


def test_a_gateway_that_learns_too_late_fails(ledger: Ledger) -> None:
    """Records that leave after the bound, though consent had been withdrawn, are reported."""
    kinds, _ = judge(ledger, simulate(ledger, lag_seconds=4 * STALENESS_SECONDS))

    assert {"unpermitted", "loss", "shape"} <= kinds


def test_a_gateway_that_knows_a_change_before_it_is_made_fails(ledger: Ledger) -> None:
    """A fate that follows from a change which was sent only after the record was seen is reported."""
    early = simulate(ledger)
    late = replace(ledger, changes=[replace(change) for change in ledger.changes])
    for change in late.changes:
        change.sent_seconds += 2
        change.stored_seconds += 2

    kinds, _ = judge(late, early)

    assert kinds & {"loss", "unpermitted"}


# Planted mistakes.


def _double(run: Simulated, index: int) -> None:
    records = run.outputs[INTERACTIONS, CRM]
    records.append(records[index]._replace(offset=10**6))


def _loss(run: Simulated, index: int) -> None:
    del run.outputs[INTERACTIONS, CRM][index]


def _swap(run: Simulated, _index: int) -> None:
    records = run.outputs[INTERACTIONS, CRM]
    for first, one in enumerate(records):
        for second in range(first + 1, len(records)):
            other = records[second]
            if other.key == one.key:
                records[first] = one._replace(offset=other.offset)
                records[second] = other._replace(offset=one.offset)
                return


def _in_the_wrong_output(run: Simulated, index: int) -> None:
    run.outputs[PINGS, CRM].append(run.outputs[INTERACTIONS, CRM][index]._replace(offset=10**6))


def _invented(run: Simulated, index: int) -> None:
    _change(run, index, event_id="0" * 32)


def _change(run: Simulated, index: int, **members: object) -> None:
    records = run.outputs[INTERACTIONS, CRM]
    value = {**records[index].value, **members}
    records[index] = records[index]._replace(value={name: member for name, member in value.items() if member})


def _replace(**members: object) -> Callable[[Simulated, int], None]:
    def plant(run: Simulated, index: int) -> None:
        records = run.outputs[INTERACTIONS, CRM]
        records[index] = records[index]._replace(**members)  # type: ignore[arg-type]  # Members of the tuple.

    return plant


def _value(**members: object) -> Callable[[Simulated, int], None]:
    return lambda run, index: _change(run, index, **members)


def _key_of(run: Simulated, index: int, key: str) -> None:
    records = run.outputs[INTERACTIONS, CRM]
    records[index] = records[index]._replace(key=key, value={**records[index].value, "customer_id": key})


def _token_of_another(run: Simulated, index: int) -> None:
    keys = [record.key for record in run.outputs[INTERACTIONS, CRM]]
    _key_of(run, index, next(key for key in keys if key and key != keys[index]))


def _emails_alike(run: Simulated, index: int) -> None:
    others = [record.value["email"] for record in run.outputs[PINGS, CRM] if "email" in record.value]
    domain = run.outputs[INTERACTIONS, CRM][index].value["email"].rpartition("@")[2]
    _change(run, index, email=next(email for email in others if email.endswith(domain)))


def _letter_twice(run: Simulated, _index: int) -> None:
    run.dead_letters[PINGS].append(run.dead_letters[PINGS][0])


def _letter_lost(run: Simulated, _index: int) -> None:
    del run.dead_letters[PINGS][0]


def _letter_wrong(**members: object) -> Callable[[Simulated, int], None]:
    def plant(run: Simulated, _index: int) -> None:
        letters = run.dead_letters[PINGS]
        letters[0] = letters[0]._replace(**members)  # type: ignore[arg-type]  # Members of the tuple.

    return plant


MISTAKES: dict[str, tuple[Callable[[Simulated, int], None], str]] = {
    "a record twice": (_double, "double"),
    "a record lost": (_loss, "loss"),
    "two records of a key swapped": (_swap, "order"),
    "a record in the wrong output": (_in_the_wrong_output, "foreign"),
    "a record from nowhere": (_invented, "foreign"),
    "a wrong kept value": (_value(kind="other"), "content"),
    "a field too many": (_value(note="text"), "content"),
    "a field missing": (_value(kind=None), "content"),
    "a name left": (_value(contact={"city": "Berlin", "name": "x"}), "content"),
    "an exact position": (_value(location={"latitude": 52.123456789, "longitude": 13.5}), "content"),
    "a field that consent withholds or gives": (_value(location=None), "shape"),
    "no token but another text": (_value(card="secret"), "token"),
    "a token that is a card": (_value(card="4111111111111111"), "token"),
    "two tokens for one customer": (lambda run, index: _key_of(run, index, "1" * 16), "token"),
    "one token for two customers": (_token_of_another, "token"),
    "one token for two addresses": (_emails_alike, "token"),
    "a key that is no token": (_replace(key="1" * 16), "key"),
    "no key": (_replace(key=None), "key"),
    "headers": (_replace(headers=1), "header"),
    "another time": (_replace(timestamp_ms=0), "timestamp"),
    "another partition": (_replace(partition=99), "partition"),
    "a dead letter twice": (_letter_twice, "double"),
    "a dead letter lost": (_letter_lost, "loss"),
    "a dead letter of nothing": (_letter_wrong(source_offset=10**9), "foreign"),
    "a dead letter for another topic": (_letter_wrong(output="raw.other"), "foreign"),
    "a dead letter with a wrong reason": (_letter_wrong(reason="engine_error"), "fate"),
    "a dead letter with another time": (_letter_wrong(source_timestamp_ms=1), "timestamp"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(ledger: Ledger, run: Simulated, mistake: str) -> None:
    """Each mistake alone makes the check fail with its kind."""
    plant, kind = MISTAKES[mistake]
    plant(run, stable(ledger, run))

    assert kind in judge(ledger, run)[0]


def test_raw_values_instead_of_tokens_are_found(ledger: Ledger, run: Simulated) -> None:
    """A gateway that forgets to tokenize is found in every tokenized field."""
    index = stable(ledger, run)
    event_id = run.outputs[INTERACTIONS, CRM][index].value["event_id"]
    document = next(ledger.event(record) for record in ledger.records if ledger.event(record).event_id == event_id)
    for name in ("customer_id", "email", "card"):
        planted = copy_of(run)
        _change(planted, index, **{name: document.document[name]})
        assert "token" in judge(ledger, planted)[0], name


def test_one_token_in_both_key_domains_is_found(ledger: Ledger, run: Simulated) -> None:
    """Audiences must not be able to join their outputs."""
    tokens = {record.value["event_id"]: record.key for record in run.outputs[INTERACTIONS, CRM]}
    for index, record in enumerate(run.outputs[INTERACTIONS, ADS]):
        key = tokens.get(record.value["event_id"], record.key)
        value = {**record.value, "customer_id": key}
        run.outputs[INTERACTIONS, ADS][index] = record._replace(key=key, value=value)

    assert "token" in judge(ledger, run)[0]


def test_a_sanitized_record_of_a_broken_one_is_found(ledger: Ledger, run: Simulated) -> None:
    """A record that must be rejected or withheld may not leave as well."""
    record = next(record for record in ledger.records if record.reasons)
    event = ledger.event(record)
    run.outputs[record.stream, ADS].append(Sanitized(0, 10**6, "1" * 16, event.document, record.timestamp_ms, 0))

    assert "unpermitted" in judge(ledger, run)[0]


def test_a_rejected_record_that_is_sound_is_found(ledger: Ledger, run: Simulated) -> None:
    """Turning a sound record into a dead letter is a wrong fate, whatever became of it otherwise."""
    index = stable(ledger, run)
    event_id = run.outputs[INTERACTIONS, CRM][index].value["event_id"]
    record = next(record for record in ledger.records if ledger.event(record).event_id == event_id)
    letter = run.dead_letters[INTERACTIONS][0]
    run.dead_letters[INTERACTIONS].append(
        letter._replace(
            source_partition=record.partition,
            source_offset=record.offset,
            source_timestamp_ms=record.timestamp_ms,
            output=output_topic(INTERACTIONS, CRM),
        )
    )

    assert "fate" in judge(ledger, run)[0]


def test_consent_that_goes_back_is_found() -> None:
    """Within the race either state may count, but after a withdrawal was applied it stays applied."""
    ledger = small_ledger(events=400, customers=20)
    person = next(record.facts.customer for record in ledger.records if record.stream == PINGS) or ""
    sound = [r for r in ledger.records if r.stream == PINGS and r.facts.customer == person and not r.defect]
    assert len(sound) >= 3
    allowed = ConsentState({EMAIL: Decision("allow", 0)})
    withdrawn = ConsentState({EMAIL: Decision("deny", 1)})
    racing = replace(ledger, changes=[ConsentChange(person, allowed), ConsentChange(person, withdrawn, 0, 0.0, 1000.0)])
    everything = simulate(replace(ledger, changes=[ConsentChange(person, allowed)]))
    everything.frontier = Frontier()
    middle = everything.index_of(PINGS, CRM, sound[1].number, ledger)

    assert judge(racing, everything)[0] == set()
    del everything.outputs[PINGS, CRM][middle]
    assert judge(racing, everything)[0] == {"consent"}


# Readers and counters.


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 7},
        {"key": b"other"},
        {"value": b"other"},
        {"timestamp_ms": 1},
        {"headers": (("a", b"b"),)},
    ],
)
def test_readers_that_disagree_are_found(change: dict[str, object]) -> None:
    """Offset, key, value, timestamp and headers must be the same; the time of reading need not."""
    record = Captured(3, b"key", b"value", 5, (), 1.0)
    first: Capture = {("topic", 0): [record], ("topic", 1): []}

    assert compare_captures(first, {("topic", 0): [record._replace(read_seconds=2.0)], ("topic", 1): []}) == []
    assert compare_captures(first, {("topic", 0): [record._replace(**change)], ("topic", 1): []})  # type: ignore[arg-type]  # Members of the tuple.
    assert compare_captures(first, {("topic", 0): [record, record], ("topic", 1): []})
    assert compare_captures(first, {("topic", 0): [], ("topic", 1): [record]})
    assert compare_captures(first, {})


def test_counters_that_are_wrong_are_found(ledger: Ledger, clean: Simulated) -> None:
    """A counter may be missing what a killed worker did not count any more, and is never above or falling."""
    outputs = OutputCheck(ledger)
    check_streams(outputs, clean.outputs)
    expected = expected_counters(ledger, outputs.found)
    key = series("tokenweir_records_total", stream=PINGS, audience=CRM, fate="sanitized")
    right = dict(expected)
    low = {**right, key: right[key] - 5}

    assert sum(count for name, count in right.items() if dict(name[1]).get("audience") == CRM) == EVENTS
    assert check_counters([right], expected) == []
    assert check_counters([low, right], expected) == []
    assert check_counters([low], expected, uncounted=5) == []
    assert check_counters([low], expected)
    assert check_counters([{**right, key: right[key] + 1}], expected, uncounted=5)
    assert check_counters([right, low, right], expected)
    assert check_counters([{**right, series("tokenweir_rejections_total", stream=PINGS, reason="x"): 1.0}], expected)


def test_metrics_are_read_from_text() -> None:
    """Samples with and without labels are read, comments are not."""
    text = '# HELP a_total Text.\n# TYPE a_total counter\na_total{stream="pings",fate="x"} 3.0\nb 1e3\n'

    assert parse_metrics(text) == {series("a_total", fate="x", stream="pings"): 3.0, series("b"): 1000.0}
