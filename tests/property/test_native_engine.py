"""Two engines, one truth: the native engine makes of every batch exactly what the reference engine makes of it.

Policies, schemas, records, damaged records and consents are drawn at random. Whatever other tests give to the engine,
scenarios and examples included, is given to both as well.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from tests.property import test_engine_properties
from tests.scenarios import test_scenarios
from tests.support import engines, examples
from tests.support.engines import NOW_MS, avro_encode, record_schema, small_policy
from tests.support.native import native_module
from tests.support.nativepeople import People
from tests.support.nativeworlds import worlds
from tests.unit import test_engine

from tokenweir.core.batches import RecordBatch
from tokenweir.core.consent import UNKNOWN, SubjectConsent
from tokenweir.core.engineapi import Record
from tokenweir.core.generalize.user_agent import RULES
from tokenweir.core.outcome import Reason, Treated
from tokenweir.core.subjects import Subject
from tokenweir.errors import FindingsError, SchemaError
from tokenweir.runtime import preflight
from tokenweir.runtime.plans import ReadyPlan

native_module()

from tests.support.twins import TwinEngine  # noqa: E402 - it needs the native module

from tokenweir.adapters.nativeengine import NativeEngine, NativePlan  # noqa: E402 - as above

#: Tests of other modules that are run again with both engines. Those that look inside of the reference engine, or count
#: what it asks for, stay.
_BORROWED: Final = (test_engine, test_scenarios, test_engine_properties)
_STAYS: Final = (
    "test_the_hunt_finds", "test_the_memo_of_tokens", "test_each_subject_is_asked_once", "test_a_token_that_cannot",
    "test_a_bug_is_an_engine_error", "test_a_lack_of_memory",
)  # fmt: skip
for _module in _BORROWED:
    for _name, _value in vars(_module).items():
        if _name.startswith("test_") and callable(_value) and not _name.startswith(_STAYS):
            globals()[f"{_name}__with_both_engines"] = _value
        elif hasattr(_value, "_get_wrapped_function"):
            globals()[_name] = _value


@pytest.fixture(scope="module", autouse=True)
def _both_engines() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (engines, examples):
            patch.setattr(module, "ReferenceEngine", TwinEngine)
        yield


@pytest.mark.parametrize("example", examples.EXAMPLES, ids=lambda example: example.name)
def test_the_published_examples_are_made_by_both_engines(example: examples.Example) -> None:
    """The events of every example come out of both engines as they are published."""
    assert any(output.records for output in examples.run(example))


def _check(world: tuple[str, str], seed: int) -> None:
    """Give random records of a world to both engines, as one batch and one by one."""
    policy, text = world
    try:
        stream = engines.rig(policy, text)
    except FindingsError:
        reject()
    engine, bound = stream.engine, stream.bound[0]
    engine._on_fault = lambda _error: None
    people = People(bound.plan.source, seed)
    records = [(bound, people.record()) for _ in range(12)]
    together = engine.process(records, people.consent, NOW_MS)
    assert [engine.process([record], people.consent, NOW_MS)[0] for record in records] == together


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(), st.integers(0, 2**32))
def test_random_worlds(world: tuple[str, str], seed: int) -> None:
    """Whatever the policy, the schema, the records and the consents are, both engines agree in every field."""
    _check(world, seed)


#: Treatments that are given any value at all, and what the values are.
_COARSE: Final = {
    "double": ("{round: 0.1}", "{round: 2.5}", "{round: 1.0e-9}", "{buckets: [-1, 0.3, 0.7, 1.0e+21]}"),
    "float": ("{round: 0.1}", "{buckets: [-1, 0.3, 0.7]}"),
    "long": ("{round: 7}", "{buckets: [-5, 0, 1000]}", "{time: hour}", "{time: month}", "{shift_days: 20000}"),
    "string": (
        "{prefix: 3}", "{prefix: 20, of: ip}", "{prefix: 90, of: ip}", "{time: day}", "{time: year}",
        "{url: {path: 2, query: [q, page, 'a b']}}", "{user_agent: family}", "{shift_days: 5}", "{shift_days: 36525}",
    ),
}  # fmt: skip
_ADDRESSES: Final = st.ip_addresses().map(str) | st.from_regex(r"[0-9a-fA-F:.]{2,30}", fullmatch=True)
_TIMES: Final = st.datetimes().map(lambda time: f"{time.isoformat()}Z") | st.from_regex(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt][012][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,4})?(Z|[+-][012][0-9]:[0-5][0-9])",
    fullmatch=True,
)
_URLS: Final = st.from_regex(
    r"[hH]ttps?://(u:p@)?(h|\[::1\]|h\u00fc|a-b_c\.d)(:[0-9]{0,6})?(/|/%2[fF5]|;x|a|\\|\u00e9|/b){0,5}"
    r"([?&;]|q=|page=1|a\+b=|%61%20b=|%C3%28|x=%3D|=|1|\u00e9|\u0378){0,7}(#f)?",
    fullmatch=True,
)
#: Headers out of the marks that the rules look for, in the wrong order and in parts, too.
_MARKS: Final = sorted({mark for _, marks in RULES for mark in marks})
_AGENTS: Final = st.builds(
    lambda marks, upper: " ".join(marks).upper() if upper else " ".join(marks),
    st.lists(st.sampled_from([*_MARKS, "Mozilla/5.0", "\u212a", "\u0130", "/"]), max_size=5),
    st.booleans(),
)
_VALUES: Final[dict[str, st.SearchStrategy[object]]] = {
    "double": st.floats(allow_nan=False, allow_infinity=False) | st.decimals(-1000, 1000, places=3).map(float),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "long": st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**45), 2**48),
    "string": st.text(max_size=12) | _ADDRESSES | _TIMES | st.dates().map(str) | _URLS | _AGENTS,
}


@pytest.fixture(scope="module", params=_COARSE)
def coarse(request: pytest.FixtureRequest) -> tuple[str, engines.Rig]:
    """A type, and a stream with an array of it for each of its treatments."""
    kind = request.param
    names = [f"f{number}" for number in range(len(_COARSE[kind]))]
    classes = [f"c.{name}: {{do: {{generalize: {how}}}}}" for name, how in zip(names, _COARSE[kind], strict=True)]
    fields = ", ".join(f'"{name}[*]": c.{name}' for name in names)
    policy = small_policy(classes="\n".join(classes), fields=f"{{{fields}}}")
    schema = record_schema(*((name, {"type": "array", "items": kind}) for name in names))
    return kind, engines.rig(policy, schema)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_value_becomes_equally_coarse(coarse: tuple[str, engines.Rig], data: st.DataObject) -> None:
    """Every way to generalize gives the same in both engines, whatever the value."""
    kind, stream = coarse
    values = data.draw(st.lists(_VALUES[kind], max_size=8))
    schema = json.loads(stream.planned.versions[0].source.text)
    document = {"id": "0000000007"} | {field["name"]: values for field in schema["fields"][1:]}
    outcome = stream.one(Record(avro_encode(schema, document), None, NOW_MS))["crm"]
    assert outcome.fate == "sanitized"


class _Watch:
    """Notes what it is told, and has enough after some slices."""

    def __init__(self, slices: int) -> None:
        self.noted: list[tuple[int, ...]] = []
        self._slices = slices

    def alone(self, position: int) -> None:
        """Note one record."""
        self.noted.append((position,))

    def together(self, first: int, count: int) -> None:
        """Note several records."""
        self.noted.append((first, count))

    def enough(self) -> bool:
        """Say whether there were enough slices."""
        return len(self.noted) >= self._slices


def _native() -> tuple[NativeEngine, NativePlan, Record]:
    stream = engines.rig(small_policy(), record_schema())
    engine = NativeEngine(stream.loaded.policy, stream.keyset)
    bound = engine.bind(stream.planned.versions[0].compiled.plan)
    value = avro_encode(json.loads(stream.planned.versions[0].source.text), {"id": "0000000007"})
    return engine, bound, Record(value, None, NOW_MS)


def test_a_watch_is_told_of_each_slice() -> None:
    """Before each of them it hears which records are worked on, and after enough of them no more are."""
    engine, bound, record = _native()
    watch = _Watch(slices=10)
    assert len(engine.process([(bound, record)] * 1001, lambda _: UNKNOWN, NOW_MS, watch)) == 1001
    assert watch.noted == [(0, 500), (500, 500), (1000,)]
    watch = _Watch(slices=1)
    assert len(engine.process([(bound, record)] * 1001, lambda _: UNKNOWN, NOW_MS, watch)) == 500


def _columns(plan: ReadyPlan, record: Record, count: int) -> RecordBatch:
    values = [record.value] * count
    return RecordBatch([plan] * count, values, [None] * count, [record.timestamp_ms] * count)


def test_columns_end_with_the_slice_after_which_it_is_enough() -> None:
    """As outcomes do; a batch without records has no outputs."""
    engine, bound, record = _native()
    plan = ReadyPlan(bound, (7,))
    for slices, decided in ((10, 1001), (2, 1000), (1, 500)):
        watch = _Watch(slices)
        outputs = engine.run(_columns(plan, record, 1001), lambda _: UNKNOWN, NOW_MS, watch)
        assert [len(output) for output in outputs] == [decided]
        assert watch.noted == [(0, 500), (500, 500), (1000,)][:slices]
    assert engine.run(_columns(plan, record, 0), lambda _: UNKNOWN, NOW_MS) == []


def test_columns_that_do_not_fit_are_refused_without_showing_them() -> None:
    """They would put one record's key or time to another's value, or its value into another's output."""
    engine, bound, record = _native()
    plan, other = ReadyPlan(bound, (7,)), ReadyPlan(bound, (7, 8))
    good = _columns(plan, record, 2)
    bad = [
        dataclasses.replace(good, values=[b"canary"]),
        dataclasses.replace(good, values=[cast("bytes", "canary"), b""]),
        dataclasses.replace(good, keys=[b"canary"]),
        dataclasses.replace(good, timestamps_ms=[1]),
        dataclasses.replace(good, headers=[[("canary", b"")]]),
        dataclasses.replace(good, plans=[plan, other]),
    ]
    for batch in bad:
        with pytest.raises((ValueError, TypeError)) as caught:
            engine.run(batch, lambda _: UNKNOWN, NOW_MS)
        assert "canary" not in str(caught.value)


def test_a_value_that_is_no_longer_than_its_frame_is_rejected() -> None:
    """Nothing of the frame is taken for data."""
    engine, bound, record = _native()
    batch = dataclasses.replace(
        _columns(ReadyPlan(bound, (7,)), record, 2), values=[b"\0\0\0\0\7", b"\0"], frame_bytes=5
    )
    for output in engine.run(batch, lambda _: UNKNOWN, NOW_MS):
        assert [entry.reason for entry in output.rejected] == [Reason.MALFORMED] * 2


def test_a_slice_ends_with_the_record_that_fills_it() -> None:
    """Not more than about a megabyte is decoded at a time."""
    engine, bound, record = _native()
    large = record._replace(value=b"\xc0\x9a\x0c" + b"7" * 100_000)
    watch = _Watch(slices=100)
    assert len(engine.process([(bound, large)] * 25, lambda _: UNKNOWN, NOW_MS, watch)) == 25
    assert watch.noted == [(0, 25), (10, 15), (20, 5)]


def test_what_the_consent_lookup_raises_comes_out_as_it_is() -> None:
    """The very exception, so that the whole batch waits."""
    engine, bound, record = _native()
    failure = OSError("the store")

    def ask(_subject: Subject) -> SubjectConsent:
        raise failure

    with pytest.raises(OSError, match="the store") as caught:
        engine.process([(bound, record)], ask, NOW_MS)
    assert caught.value is failure


def test_records_that_take_long_end_their_slice() -> None:
    """Each of these small ones costs the whole effort that a record may cost, before it is rejected."""
    either = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}
    text = {"type": "string"}
    types = {
        name: {"type": "object", "properties": {"x": either, name.lower(): text}, "required": ["x"]} for name in "AB"
    }
    customer = {"type": "string", "confluent:tags": ["id.customer"]}
    root = {"type": "object", "title": "E", "$defs": types, "required": ["id"]}
    stream = engines.rig(
        small_policy(format_="json_schema"), json.dumps({**root, "properties": {"id": customer, "u": either}})
    )
    value: object = 5
    for _ in range(50):
        value = {"x": value}
    record = Record(json.dumps({"id": "0000000007", "u": value}).encode(), None, NOW_MS)
    engine = NativeEngine(stream.loaded.policy, stream.keyset)
    bound = engine.bind(stream.planned.versions[0].compiled.plan)
    outcomes = engine.process([(bound, record)] * 500, lambda _: UNKNOWN, NOW_MS, _Watch(slices=1))
    assert 1 <= len(outcomes) < 500


def test_a_plan_that_the_engine_cannot_run_is_refused() -> None:
    """It says so when the plan is bound, and nothing is done by another engine."""
    stream = engines.rig(small_policy(), record_schema())
    engine = NativeEngine(stream.loaded.policy, stream.keyset)
    plan = stream.planned.versions[0].compiled.plan
    many = dataclasses.replace(plan, purposes=plan.purposes * 40)
    with pytest.raises(SchemaError, match="at most 64 purposes"):
        engine.bind(many)


def test_a_plan_that_the_engine_cannot_run_is_found_before_the_start() -> None:
    """It would come out record by record otherwise, as dead letters."""
    stream = engines.rig(small_policy(), record_schema())
    (version,) = stream.planned.versions
    plan = version.compiled.plan
    compiled = dataclasses.replace(version.compiled, plan=dataclasses.replace(plan, purposes=plan.purposes * 40))
    planned = dataclasses.replace(stream.planned, versions=[dataclasses.replace(version, compiled=compiled)])
    for engine, failed in (("native", 1), ("reference", 0)):
        ground = SimpleNamespace(gateway=SimpleNamespace(engine=engine), loaded=stream.loaded, keyset=stream.keyset)
        checks = list(preflight._bound_checks(cast("Any", ground), "stream raw", planned))
        assert [check.ok for check in checks] == [False] * failed
        assert all("at most 64 purposes" in check.message and "'reference'" in check.remedy for check in checks)


def test_a_plan_with_a_new_token_entry_is_bound_while_the_engine_is_at_work() -> None:
    """A worker meets a new version of a schema in mid-stream, and another thread binds it."""
    policy = small_policy(classes="id.other: {do: {tokenize: other}}", tokens="other: {format: digits, length: 12}")
    more = {"name": "more", "type": ["null", "string"], "default": None, "confluent:tags": ["id.other"]}
    stream = engines.rig(policy, record_schema(), record_schema(more))
    old, new = stream.planned.versions
    engine = NativeEngine(stream.loaded.policy, stream.keyset)
    bound = engine.bind(old.compiled.plan)
    meanwhile: list[NativePlan] = []

    def ask(_subject: Subject) -> SubjectConsent:
        with ThreadPoolExecutor(1) as pool:
            meanwhile.append(pool.submit(engine.bind, new.compiled.plan).result(30))
        return UNKNOWN

    value = avro_encode(json.loads(old.source.text), {"id": "0000000007"})
    engine.process([(bound, Record(value, None, NOW_MS))], ask, NOW_MS)

    event = {"id": "0000000007", "more": "123456789012"}
    record = Record(avro_encode(json.loads(new.source.text), event), None, NOW_MS)
    (native,) = engine.process([(meanwhile[0], record)], lambda _: UNKNOWN, NOW_MS)
    (reference,) = stream.engine.process([(stream.bound[1], record)], lambda _: UNKNOWN, NOW_MS)
    assert native == reference
    assert any(outcome.treated.get(Treated.TOKENIZED, 0) >= 1 for outcome in native)


def test_an_engine_is_neither_pickled_nor_copied() -> None:
    """It holds keys."""
    engine, bound, _ = _native()
    for held in (engine, bound):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            pickle.dumps(held)


@pytest.mark.chaos
@pytest.mark.timeout(6 * 3600)
@settings(
    max_examples=int(os.environ.get("TOKENWEIR_ENGINE_EXAMPLES", "100000")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(worlds(), st.integers(0, 2**32))
def test_many_random_worlds(world: tuple[str, str], seed: int) -> None:
    """The same for longer; TOKENWEIR_ENGINE_EXAMPLES says how long."""
    _check(world, seed)
