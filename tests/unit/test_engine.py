"""The reference engine: every bad input ends as an outcome, and nothing that a record holds ends as an exception."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.canaries import Canary, leaked, surface
from tests.support.engines import (
    NOW_MS,
    Rig,
    allow,
    avro_encode,
    consent_of,
    fixed_keyset,
    json_schema_of,
    record_schema,
    rig,
    small_policy,
)

from tokenweir.core import engine
from tokenweir.core.consent import SubjectConsent
from tokenweir.core.engine import totals
from tokenweir.core.engineapi import Record
from tokenweir.core.keys import Keyset
from tokenweir.core.outcome import REASONS, Fate, Outcome, Reason, Stage
from tokenweir.core.program import ProgramBuilder
from tokenweir.core.subjects import Subject
from tokenweir.core.tokens import Prepared, Tokenizer
from tokenweir.core.tokens.specs import OpaqueSpec
from tokenweir.core.tokentable import TokenNotMadeError, TokenTable
from tokenweir.errors import KeysError

_FIELDS = (
    "{text: open, number: open, ratio: open, tree: secret, list: open, map: secret, kind: open, at: open, mail: mail}"
)
_POLICY = small_policy(
    classes="mail: {do: {tokenize: mail}, on_invalid: reject}",
    tokens="mail: {format: email}",
    fields=_FIELDS,
    stream="event_time: at",
    outputs="[{audience: crm, key: subject}, {audience: ads}]",
)
_SCHEMA = record_schema(
    ("text", "string"),
    ("number", "int"),
    ("ratio", "double"),
    ("tree", {"type": "record", "name": "Tree", "fields": [{"name": "below", "type": ["null", "Tree"]}]}),
    ("list", {"type": "array", "items": "null"}),
    ("map", {"type": "map", "values": "string"}),
    ("kind", {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}),
    ("at", ["null", "long"]),
    ("mail", ["null", "string"]),
)
_GOOD = {
    "id": "0000000007",
    "text": "t",
    "number": 1,
    "ratio": 0.5,
    "tree": {"below": None},
    "list": [],
    "map": {},
    "kind": "A",
    "at": NOW_MS - 1000,
    "mail": None,
}
_JSON_POLICY = _POLICY.replace("format: avro", "format: json_schema")
_JSON_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"], "confluent:tags": ["id.customer"]},
            "text": {"type": "string"},
            "number": {"type": "integer"},
            "ratio": {"type": "number"},
            "tree": {},
            "list": {"type": "array", "items": {"type": "number"}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "kind": {"type": "string", "enum": ["A", "B"]},
            "at": {"type": ["integer", "null"]},
            "mail": {"type": ["string", "null"]},
        },
        "required": ["text"],
    }
)


def _encoded(**changes: Any) -> bytes:  # noqa: ANN401 - field values
    return avro_encode(json.loads(_SCHEMA), {**_GOOD, **changes})


#: The good record in Avro, cut before each field.
def _parts() -> dict[str, bytes]:
    return {
        "id": b"\x140000000007",
        "text": b"\x02t",
        "number": b"\x02",
        "ratio": struct.pack("<d", 0.5),
        "tree": b"\x00",
        "list": b"\x00",
        "map": b"\x00",
        "kind": b"\x00",
        "at": b"\x00",
        "mail": b"\x00",
    }


def _patched(**changes: bytes) -> bytes:
    return b"".join({**_parts(), **changes}.values())


_BAD_AVRO: dict[str, tuple[bytes | None, Reason, str]] = {
    "nothing": (b"", Reason.MALFORMED, "id"),
    "cut off": (_encoded()[:-9], Reason.MALFORMED, "kind"),
    "a byte too much": (_encoded() + b"\x00", Reason.TRAILING_BYTES, ""),
    "not UTF-8": (_patched(text=b"\x02\xff"), Reason.INVALID_UTF8, "text"),
    "a surrogate in UTF-8": (_patched(text=b"\x06\xed\xa0\x80"), Reason.INVALID_UTF8, "text"),
    "not a number": (_patched(ratio=struct.pack("<d", float("nan"))), Reason.NON_FINITE, "ratio"),
    "infinite": (_patched(ratio=struct.pack("<d", float("inf"))), Reason.NON_FINITE, "ratio"),
    "an int of 33 bits": (_patched(number=b"\x80\x80\x80\x80\x20"), Reason.OUT_OF_RANGE, "number"),
    "an endless varint": (_patched(number=b"\xff" * 11), Reason.MALFORMED, "number"),
    "no such branch": (_patched(tree=b"\x04"), Reason.OUT_OF_RANGE, "tree.below"),
    "no such symbol": (_patched(kind=b"\x04"), Reason.OUT_OF_RANGE, "kind"),
    "a recursion bomb": (_patched(tree=b"\x02" * 100_000), Reason.TOO_DEEP, "tree.below"),
    "a collection of nothing": (_patched(list=b"\xfe\xff\xff\xff\x0f\x00"), Reason.TOO_MANY_ELEMENTS, "list"),
    "a negative count of nothing": (_patched(list=b"\xff\xff\xff\xff\x0f\x00\x00"), Reason.TOO_MANY_ELEMENTS, "list"),
    "a key twice": (_patched(map=b"\x04\x02k\x02v\x02k\x02w\x00"), Reason.DUPLICATE_KEY, "map"),
    "too many bytes": (_encoded(text="x" * (8 * 1024 * 1024)), Reason.TOO_LARGE, ""),
    "an id in another form": (_encoded(id="7"), Reason.SUBJECT_INVALID, "id"),
    "a time after the year 9999": (_encoded(at=10**17), Reason.EVENT_TIME_INVALID, "at"),
    "a tombstone": (None, Reason.TOMBSTONE, ""),
}
_BAD_JSON: dict[str, tuple[bytes | None, Reason, str]] = {
    "nothing": (b"", Reason.MALFORMED, ""),
    "no JSON": (b"{", Reason.MALFORMED, ""),
    "a byte-order mark": (b'\xef\xbb\xbf{"text":"t"}', Reason.MALFORMED, ""),
    "UTF-16": ('{"text":"t"}'.encode("utf-16"), Reason.INVALID_UTF8, ""),
    "two documents": (b'{"text":"t"}{}', Reason.TRAILING_BYTES, ""),
    "not UTF-8": (b'{"text":"\xff"}', Reason.INVALID_UTF8, ""),
    "a lone surrogate": (rb'{"text":"\ud800"}', Reason.INVALID_UTF8, ""),
    "a key twice": (b'{"text":"t","text":"u"}', Reason.DUPLICATE_KEY, ""),
    "a key twice in what is dropped": (b'{"text":"t","tree":{"a":1,"a":2}}', Reason.DUPLICATE_KEY, ""),
    "NaN": (b'{"text":"t","ratio":NaN}', Reason.NON_FINITE, ""),
    "1e400": (b'{"text":"t","ratio":1e400}', Reason.NON_FINITE, ""),
    "Infinity in what is dropped": (b'{"text":"t","tree":-Infinity}', Reason.NON_FINITE, ""),
    "a number of a thousand digits": (b'{"text":"t","number":' + b"1" * 1000 + b"}", Reason.TOO_LARGE, ""),
    "too deep": (b'{"text":"t","tree":' + b"[" * 100 + b"]" * 100 + b"}", Reason.TOO_DEEP, ""),
    "too deep by far": (b"[" * 1_000_000, Reason.TOO_MANY_ELEMENTS, ""),
    "too many elements": (b'{"text":"t","list":[' + b"1," * 100_001 + b"1]}", Reason.TOO_MANY_ELEMENTS, ""),
    "too many bytes": (b" " * (8 * 1024 * 1024 + 1), Reason.TOO_LARGE, ""),
    "another type": (b'{"text":1}', Reason.SCHEMA_MISMATCH, "text"),
    "no integer": (b'{"text":"t","number":1.5}', Reason.SCHEMA_MISMATCH, "number"),
    "no such symbol": (b'{"text":"t","kind":"C"}', Reason.SCHEMA_MISMATCH, "kind"),
    "a required property is missing": (b"{}", Reason.SCHEMA_MISMATCH, "text"),
    "an id in another form": (b'{"text":"t","id":"7"}', Reason.SUBJECT_INVALID, "id"),
    "a time with a fraction": (b'{"text":"t","id":"0000000007","at":1e3}', Reason.EVENT_TIME_INVALID, "at"),
    "a tombstone": (None, Reason.TOMBSTONE, ""),
}
_BAD = [
    pytest.param(format_, *case, id=f"{format_}: {name}")
    for format_, cases in (("avro", _BAD_AVRO), ("json", _BAD_JSON))
    for name, case in cases.items()
]


@pytest.fixture(scope="module")
def streams() -> dict[str, Rig]:
    """The same stream in both formats."""
    return {"avro": rig(_POLICY, _SCHEMA), "json": rig(_JSON_POLICY, _JSON_SCHEMA)}


@pytest.mark.parametrize(("format_", "value", "reason", "path"), _BAD)
def test_every_bad_input_is_rejected_for_every_output(
    streams: dict[str, Rig], format_: str, value: bytes | None, reason: Reason, path: str
) -> None:
    """One outcome per output, with the reason and the path of the schema, and nothing else."""
    outcomes = streams[format_].one(Record(value, b"key", NOW_MS, [("h", b"v")]))
    assert list(outcomes.values()) == [Outcome.rejected(reason, path)] * 2


def test_a_bad_record_does_not_touch_its_neighbours(streams: dict[str, Rig]) -> None:
    """Of a batch only the records with a fault are rejected."""
    good, bad = Record(_encoded(), None, NOW_MS), Record(b"\xff", None, NOW_MS)
    rows = streams["avro"].process([bad, good, bad, good])
    assert [row["crm"].fate for row in rows] == ["rejected", "sanitized", "rejected", "sanitized"]
    assert totals(outcome for row in rows for outcome in row.values()) == {
        Fate.SANITIZED: 2,
        Fate.WITHHELD: 2,
        Fate.REJECTED: 4,
    }


def test_each_output_has_an_outcome_of_its_own(streams: dict[str, Rig]) -> None:
    """An outcome can be changed without changing that of another audience."""
    crm, ads = streams["avro"].one(Record(b"\xff", None, NOW_MS)).values()
    assert crm is not ads


def test_withheld_wins_over_invalid(streams: dict[str, Rig]) -> None:
    """A record that does not leave is not rejected for a value that would not have left."""
    record = Record(_encoded(mail="no address"), None, NOW_MS)
    outcomes = streams["avro"].one(record)
    assert outcomes["crm"] == Outcome.rejected(Reason.VALUE_INVALID, "mail")
    assert outcomes["ads"] == Outcome(Fate.WITHHELD)


def test_withheld_wins_over_too_large() -> None:
    """Also where nothing of the record is left after treatment."""
    stream = rig(small_policy(fields="{text: asked}"), record_schema(("text", "string")), max_output_bytes=10)
    value = avro_encode(json.loads(record_schema(("text", "string"))), {"id": "", "text": "x" * 100})
    assert stream.one(Record(value, None, NOW_MS))["crm"] == Outcome(Fate.WITHHELD)


def test_the_size_counts_key_and_headers() -> None:
    """What the broker counts is the record, not only its value."""
    schema = json.loads(record_schema())
    record = Record(avro_encode(schema, {"id": "0000000007"}), None, NOW_MS, [("trace", b"x" * 50)])
    fates = []
    for most in (500, 60):
        policy = small_policy(stream="headers: {trace: open}")
        fates.append(rig(policy, record_schema(), max_output_bytes=most).one(record)["crm"])
    assert [outcome.fate for outcome in fates] == ["sanitized", "rejected"]
    assert fates[1].reason is Reason.OUTPUT_TOO_LARGE


@pytest.mark.parametrize(("most", "fate"), [(2_000, "sanitized"), (1_000, "rejected")])
def test_headers_are_larger_than_what_they_hold(most: int, fate: str) -> None:
    """A hundred empty headers take no bytes but for their names and lengths."""
    record = Record(avro_encode(json.loads(record_schema()), {"id": "0000000007"}), None, NOW_MS, [("t", b"")] * 100)
    stream = rig(small_policy(stream="headers: {t: open}"), record_schema(), max_output_bytes=most)
    assert stream.one(record)["crm"].fate == fate


def test_an_id_without_a_token_rejects_the_record() -> None:
    """An id may have its form and still not fit the token entry: then it is rejected, as record key and as field."""
    policy = small_policy(
        subjects="customer: {class: id.customer, form: text}",
        outputs="[{audience: crm, key: subject}, {audience: ads}]",
    )
    schema = json.loads(record_schema())
    for outputs in (policy, policy.replace(", key: subject", "")):
        record = Record(avro_encode(schema, {"id": "seven"}), None, NOW_MS)
        outcomes = rig(outputs, record_schema()).one(record, [allow("customer:seven", "offers")])
        assert set(map(str, (outcome.reason for outcome in outcomes.values()))) == {"subject_invalid"}
        assert {outcome.field_path for outcome in outcomes.values()} == {"id"}


def test_a_failed_lookup_is_no_fault_of_a_record(streams: dict[str, Rig]) -> None:
    """What the consent snapshot raises comes out as it is, and the batch can be tried again."""
    stream = streams["avro"]
    batch = [(stream.bound[0], Record(_encoded(), None, NOW_MS))]

    def fail(_subject: Subject) -> SubjectConsent:
        raise ConnectionError("the store is gone")

    with pytest.raises(ConnectionError, match="the store is gone"):
        stream.engine.process(batch, fail, NOW_MS)
    assert stream.engine.process(batch, consent_of([]), NOW_MS)[0][0].fate == "sanitized"


def test_each_subject_is_asked_once_in_a_batch(streams: dict[str, Rig]) -> None:
    """All records of a batch see one answer."""
    stream, asked = streams["avro"], list[Subject]()
    known = consent_of([])

    def lookup(subject: Subject) -> SubjectConsent:
        asked.append(subject)
        return known(subject)

    stream.engine.process([(stream.bound[0], Record(_encoded(), None, NOW_MS))] * 3, lookup, NOW_MS)
    assert asked == [Subject("customer", "0000000007")]


def _noting(steps: list[str], step: str, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def noting(value: Any) -> Any:  # noqa: ANN401 - bytes or a decoded value
        steps.append(step)
        return work(value)

    return noting


def _watched(monkeypatch: pytest.MonkeyPatch, stream: Rig) -> list[str]:
    """Return the steps of the engine as they happen: ``r`` for a record read, ``w`` for one written."""
    steps: list[str] = []
    bound = stream.bound[0]
    for target, name, step in ((bound, "read", "r"), (bound.outputs[0], "write", "w")):
        monkeypatch.setattr(target, name, _noting(steps, step, getattr(target, name)))
    return steps


@pytest.mark.parametrize(
    ("bound", "limit", "slices"),
    [("_SLICE_RECORDS", 2, "rrwwrrwwrw"), ("_SLICE_BYTES", 1, "rwrwrwrwrw"), ("_SLICE_RECORDS", 500, "rrrrrwwwww")],
)
def test_only_a_slice_of_a_batch_is_decoded_at_a_time(
    monkeypatch: pytest.MonkeyPatch, bound: str, limit: int, slices: str
) -> None:
    """Memory does not grow with the batch; the outcomes are those of the whole batch."""
    stream = rig(_POLICY, _SCHEMA)
    records = [Record(_encoded(id=f"{number:010}"), None, NOW_MS) for number in range(5)]
    expected = stream.process(records)
    monkeypatch.setattr(engine, bound, limit)
    steps = _watched(monkeypatch, stream)
    assert stream.process(records) == expected
    assert "".join(steps) == slices


def test_a_slice_is_bounded_by_what_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bytes may stand for many values: 30,000 nulls have three bytes."""
    stream = rig(_POLICY, _SCHEMA)
    steps = _watched(monkeypatch, stream)
    stream.process([Record(_patched(list=b"\xe0\xd4\x03\x00"), None, NOW_MS)] * 5)
    assert "".join(steps) == "rrrrwwwwrw"


def test_no_event_is_from_the_future() -> None:
    """A record's timestamp that is ahead of the clock does not make the event later than an allow that is to come."""
    stream = rig(small_policy(fields="{x: asked}", outputs="[{audience: ads}]"), record_schema(("x", "string")))
    value = avro_encode(json.loads(record_schema(("x", "string"))), {"id": "0000000007", "x": "x"})
    coming = [allow("customer:0000000007", "offers", decided_at="2026-11-22T10:00:30Z")]
    given = [allow("customer:0000000007", "offers", decided_at="2026-11-22T09:59:59Z")]
    record = Record(value, None, NOW_MS + 10 * 86_400_000)
    assert stream.one(record, coming)["ads"].fate == "withheld"
    assert stream.one(record, given)["ads"].fate == "sanitized"


def test_a_token_that_cannot_be_made_fails_only_its_own_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the cipher in one text ends as an engine error there; the batch goes on, now and later."""
    faults: list[Exception] = []
    stream = rig(_POLICY, _SCHEMA)
    stream.engine._on_fault = faults.append
    finish = Tokenizer.finish

    def fail(self: Tokenizer, prepared: list[Prepared]) -> list[str]:
        tokens = finish(self, prepared)
        if stream.token("crm", "customer", "0000000666") in tokens and len(prepared) > 0:
            raise RuntimeError("bad block")
        return tokens

    poison, good = _encoded(id="0000000666"), _encoded()
    expected = stream.token("crm", "customer", "0000000666")
    monkeypatch.setattr(Rig, "token", lambda *_: expected)
    monkeypatch.setattr(Tokenizer, "finish", fail)
    for _ in range(2):
        rows = stream.process([Record(value, None, NOW_MS) for value in (good, poison, good)])
        assert [row["crm"].reason for row in rows] == [None, Reason.ENGINE_ERROR, None]
    assert {(type(fault), str(fault)) for fault in faults} == {(TokenNotMadeError, "")}


def test_long_texts_are_forgotten_sooner_than_short_ones() -> None:
    """What a table remembers is bounded in characters, since a text may be as long as its record."""
    tokenizer = fixed_keyset(["d"]).tokenizer("d", "entry", OpaqueSpec(format="opaque"))
    table = TokenTable(tokenizer, limit_characters=100)
    for texts, remembered in ((["a" * 50, "b" * 50], 2), (["c"], 0), (["d" * 99], 1)):
        for text in texts:
            table.want(text)
        table.resolve()
        assert all(table.tokens[text] for text in texts)
        table.trim()
        assert len(table.tokens) == remembered


@pytest.mark.parametrize("step", ["build", "read", "collect", "write"])
def test_a_bug_is_an_engine_error_and_never_an_exception(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Whichever step of the engine fails, the stream goes on and the fault is reported."""
    faults: list[Exception] = []
    stream = rig(_POLICY, _SCHEMA)
    stream.engine._on_fault = faults.append
    bound = stream.bound[0]

    def fail(*_args: object, **_more: object) -> Any:  # noqa: ANN401 - it never returns
        raise RuntimeError("a bug")

    targets: dict[str, tuple[object, str]] = {
        "build": (ProgramBuilder, "build"),
        "read": (bound, "read"),
        "collect": (type(bound.outputs[0]), "key_table"),
        "write": (bound.outputs[0], "write"),
    }
    monkeypatch.setattr(*targets[step], fail)
    record = Record(_encoded(), None, NOW_MS)
    outcomes = stream.one(record, [allow("customer:0000000007", "offers")])
    assert outcomes["crm"] == Outcome.rejected(Reason.ENGINE_ERROR)
    assert (outcomes["ads"].fate == "sanitized") is (step == "write")
    assert {str(fault) for fault in faults} == {"a bug"}


def test_a_missing_key_shows_when_a_plan_is_bound() -> None:
    """Not with the first record that needs it."""
    stream = rig(_POLICY, _SCHEMA)
    stream.engine._keyset = Keyset.ephemeral(["crm"], lambda size: b"k" * size)
    stream.engine._tables.clear()
    with pytest.raises(KeysError):
        stream.engine.bind(stream.bound[0].plan)


def test_a_raw_record_does_not_show_itself() -> None:
    """Its repr could end up in a log or a traceback."""
    canary = Canary.of_text("value", "very-secret")
    assert leaked([canary], repr(Record(b"very-secret", b"very-secret", 1, [("h", b"very-secret")])).encode()) == []


def test_a_record_without_a_timestamp_still_has_none() -> None:
    """-1 is no time that could be cut down to a day."""
    policy = small_policy(stream="no_subject: anonymous", outputs="[{audience: crm, timestamp: day}]")
    value = avro_encode(json.loads(record_schema()), {"id": ""})
    stream = rig(policy.replace("id.customer: {do: {tokenize: customer}}", "id.customer: {do: keep}"), record_schema())
    assert stream.one(Record(value, None, -1))["crm"].fate == "withheld"
    policy = policy.replace("fields: {}", "fields: {x: open}")
    schema = record_schema(("x", "string"))
    value = avro_encode(json.loads(schema), {"id": "", "x": "x"})
    assert rig(policy, schema).one(Record(value, None, -1))["crm"].timestamp_ms == -1


def test_a_timestamp_outside_of_the_calendar_is_rejected() -> None:
    """A producer may write any 64 bits there; that is no fault of the engine."""
    policy = small_policy(outputs="[{audience: crm, timestamp: hour}]")
    value = avro_encode(json.loads(record_schema()), {"id": "0000000007"})
    outcome = rig(policy, record_schema()).one(Record(value, None, 2**63 - 1))["crm"]
    assert outcome == Outcome.rejected(Reason.EVENT_TIME_INVALID)


def test_one_person_has_one_key_however_the_id_is_spelled() -> None:
    """A deny counts for every spelling, and so do key and token."""
    schema = {"type": "object", "properties": {"id": {"type": "string", "confluent:tags": ["id.customer"]}}}
    policy = small_policy(
        subjects="customer: {class: id.customer, form: uuid}",
        outputs="[{audience: ads, key: subject}]",
        format_="json_schema",
    ).replace("customer: {format: digits, length: 10}", "customer: {format: uuid}")
    stream = rig(policy, json.dumps(schema))
    ids = ["7c9e6679-7425-40de-944b-e07fc1f90ae7", "7C9E6679-7425-40DE-944B-E07FC1F90AE7"]
    records = [Record(json.dumps({"id": text}).encode(), None, NOW_MS) for text in ids]
    allowed = stream.process(records, [allow(f"customer:{ids[0]}", "offers")])
    assert len({(row["ads"].key, row["ads"].value) for row in allowed}) == 1
    assert stream.read("ads", allowed[0]["ads"].value)["id"].encode() == allowed[0]["ads"].key
    assert {row["ads"].fate for row in stream.process(records)} == {Fate.WITHHELD}


def test_numbers_leave_as_they_came() -> None:
    """A kept JSON number is the same text, however it is written."""
    schema = json_schema_of(json.loads(record_schema(("x", "double"))))
    stream = rig(small_policy(fields="{x: open}", format_="json_schema"), json.dumps(schema))
    for text in ("1.10", "-0", "1E+2", "123456789012345678901234567890.5", "1e-300"):
        value = f'{{"id":"0000000007","x":{text}}}'.encode()
        sanitized = stream.one(Record(value, None, NOW_MS))["crm"].value
        assert sanitized is not None
        assert f'"x":{text}}}'.encode() in sanitized


def test_purposes_of_one_record_do_not_stick_to_the_next() -> None:
    """What was built for one set of purposes is not used for another."""
    stream = rig(small_policy(fields="{text: asked}"), record_schema(("text", "string")))
    schema = json.loads(record_schema(("text", "string")))
    ids = [f"{number:010}" for number in (1, 2, 1, 3)]
    records = [Record(avro_encode(schema, {"id": text, "text": "t"}), None, NOW_MS) for text in ids]
    rows = stream.process(records, [allow("customer:0000000001", "offers")])
    assert [stream.read("crm", row["crm"].value)["text"] for row in rows] == ["t", None, "t", None]


def test_an_id_that_means_nobody_passes_beside_another_subject() -> None:
    """It is no id that could be invalid, and like null it stays what it is."""
    policy = small_policy(
        subjects="customer: {class: id.customer, form: {digits: 10}}\n  member: {class: id.member, form: text}",
        classes="id.member: {do: {tokenize: member}}",
        tokens="member: {format: opaque}",
        about="[{type: customer, path: id}, {type: member, path: member}]",
        fields="{member: id.member}",
        outputs="[{audience: crm, key: subject}]",
    ).replace("digits, length: 10}", "digits, length: 10, null_values: [guest]}")
    schema = record_schema(("member", "string"))
    stream = rig(policy, schema)
    outcome = stream.one(Record(avro_encode(json.loads(schema), {"id": "guest", "member": "m"}), None, NOW_MS))["crm"]
    member = stream.token("crm", "member", "m")
    assert outcome.key == member.encode()
    assert stream.read("crm", outcome.value) == {"id": "guest", "member": member}


def test_two_outputs_share_no_token() -> None:
    """Each audience is a key domain of its own unless the policy joins them."""
    policy = small_policy(outputs="[{audience: crm, key: subject}, {audience: ads, key: subject}]")
    record = Record(avro_encode(json.loads(record_schema()), {"id": "0000000007"}), None, NOW_MS)
    consent = [allow("customer:0000000007", "offers")]
    crm, ads = rig(policy, record_schema()).one(record, consent).values()
    assert crm.key != ads.key
    joined = policy.replace("ads: {title", "ads: {key_domain: crm, title")
    crm, ads = rig(joined, record_schema()).one(record, consent).values()
    assert crm.key == ads.key


#: Reasons that only the runtime gives, before a record reaches the engine.
_OF_THE_RUNTIME = {
    Reason.OUTPUT_REFUSED,
    Reason.NOT_FRAMED,
    Reason.SCHEMA_UNKNOWN,
    Reason.SCHEMA_FOREIGN,
    Reason.SCHEMA_REFUSED,
    Reason.SCHEMA_INCOMPATIBLE,
    Reason.QUARANTINED,
}
#: Reasons that tests of their own produce.
_ELSEWHERE = {Reason.VALUE_INVALID, Reason.OUTPUT_TOO_LARGE, Reason.ENGINE_ERROR}


def test_a_lack_of_memory_is_no_fault_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the doing of others, so that the batch is tried again and no record becomes a dead letter for it."""
    stream = rig(_POLICY, _SCHEMA)
    record = Record(_encoded(), None, NOW_MS)

    def exhausted(*_: object) -> None:
        raise MemoryError

    for target, name in ((stream.bound[0], "read"), (stream.bound[0].outputs[0], "write")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, exhausted)
            with pytest.raises(MemoryError):
                stream.process([record], [allow("customer:0000000007", "offers")])


def test_every_reason_is_produced_by_a_test_and_documented() -> None:
    """The list of reasons is closed: none without a test, none without a stage and a sentence."""
    produced = {reason for cases in (_BAD_AVRO, _BAD_JSON) for _, reason, _ in cases.values()}
    assert produced | _ELSEWHERE | _OF_THE_RUNTIME == set(Reason)
    assert not produced & (_ELSEWHERE | _OF_THE_RUNTIME)
    assert REASONS.keys() == set(Reason)
    assert {stage for stage, _ in REASONS.values()} == set(Stage)
    assert all(sentence.endswith(".") for _, sentence in REASONS.values())
    assert Outcome.rejected(Reason.TOMBSTONE).stage is Stage.DECODE
    assert Outcome(Fate.WITHHELD).stage is None


def test_a_rejection_shows_nothing_of_the_record(streams: dict[str, Rig]) -> None:
    """Not the value, the key, a header, or a map's key."""
    canaries = [Canary.of_text(place, f"secret-{place}") for place in ("value", "key", "header")]
    value = b'{"text":"secret-value","map":{"secret-key":1}}'
    for outcome in streams["json"].one(Record(value, b"secret-key", NOW_MS, [("x", b"secret-header")])).values():
        assert outcome.reason is Reason.SCHEMA_MISMATCH
        assert leaked(canaries, surface(outcome)) == []
