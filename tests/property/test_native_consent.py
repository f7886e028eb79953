"""The native engine's own look into the consent store finds what a snapshot's lookup does, and breaks where that does.

Stores, subjects and damage to entries are drawn at random; damage to pages is in ``tests/unit/test_consent_damage.py``.
"""

from __future__ import annotations

import json
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import engines
from tests.support.engines import NOW_MS, avro_encode, record_schema, small_policy
from tests.support.native import native_module, outcome
from tests.support.nativepeople import People
from tests.support.storedamage import FATAL, KEYS, MAP_BYTES, ROOT, open_store, reader_of, writer
from tests.support.stores import ENGINES, Row, engine_of, native_rows, row

from tokenweir.adapters import consentfiles
from tokenweir.adapters.consentbinding import all_entries, open_environment, store_directory
from tokenweir.adapters.consentreader import ConsentSnapshot, ConsentStoreReader
from tokenweir.adapters.consentstore import StoreCorruptError, StoreUnavailableError
from tokenweir.adapters.readersigns import died_inside
from tokenweir.core.consent import DENIED, ConsentRecord, SourceState, SubjectConsent, encode
from tokenweir.core.engineapi import Record
from tokenweir.core.subjects import Subject

native_module()

from tokenweir.adapters.nativeengine import NativeEngine, NativePlan  # noqa: E402 - it needs the native module

Entries = dict[bytes, bytes]

SEAL: Final = consentfiles.Seal(*KEYS)
#: Types and ids as policies and people make them: plain, to be escaped, and beyond one byte.
_TYPES: Final = ("customer", "loyalty-card", "gerät")
_IDS: Final = (
    "0000000007",
    "anna@example.com",
    "a:b#c",
    "Jos\u00e9 M.",
    "%2F",
    "\u4e2d\u6587",
    "\U0001f600",
    "~._@+-",
    "x" * 256,
)
_CANARY: Final = "canary-7391"
_people = People(engines.rig(small_policy(), record_schema()).bound[0].plan.source, 5)


def _subjects(dice: random.Random) -> list[Subject]:
    numbered = [Subject(dice.choice(_TYPES), f"{dice.randrange(10**10):010}") for _ in range(dice.randrange(60))]
    return [*numbered, *(Subject(dice.choice(_TYPES), id_) for id_ in _IDS), Subject("customer", _CANARY)]


def _states(dice: random.Random) -> dict[str, SourceState]:
    sources = dice.sample(["", "web", "#gpc", "caf\u00e9", "\ufffd", "\U0001f600"], dice.randrange(1, 4))
    return {source: _people._state(dice) for source in sources}


def _stored(subjects: Mapping[Subject, Mapping[str, SourceState]]) -> Entries:
    keys = {subject: SEAL.id_of(subject) for subject in subjects}
    return {key: SEAL.seal(key, encode(subjects[subject])) for subject, key in keys.items()}


def _flipped(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << dice.randrange(8),)) + data[at + 1 :]


def _damage(entries: Entries, dice: random.Random) -> None:
    """Do to one entry what a disk may do, or another version of this program."""
    key = dice.choice(list(entries))
    entry = entries[key]
    match dice.choice(["value", "key", "swapped", "short", "lost", "form", "longer key"]):
        case "value":
            entries[key] = _flipped(entry, dice)
        case "key":
            entries[_flipped(key, dice)] = entries.pop(key)
        case "swapped":
            other = dice.choice(list(entries))
            entries[key], entries[other] = entries[other], entry
        case "short":
            entries[key] = entry[: dice.randrange(len(entry))]
        case "lost":
            del entries[key]
        case "form":
            content = entry[:-8] if dice.random() < 0.8 else dice.randbytes(dice.randrange(40))
            content = dice.choice(
                [content[: dice.randrange(len(content) + 1)], content + b"\0", _flipped(content + b"\0", dice)]
            )
            entries[key] = SEAL.seal(key, content)
        case "longer key":
            entries[key + b"\0"] = entry


def _fill(directory: Path, entries: Entries) -> None:
    """Let a store have these entries, beside what it says of itself."""
    with closing(open_environment(engine_of(directory), directory, MAP_BYTES, reads_only=False)) as environment:
        view = environment.read()
        old = [key for key, _ in all_entries(view) if key != consentfiles.META]
        view.close()
        environment.write([*((key, None) for key in old), *entries.items()])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A complete, empty store for each engine."""
    state = tmp_path_factory.mktemp("state")
    directories = {engine: store_directory(state, engine) for engine in ENGINES}
    for directory in directories.values():
        store = writer(directory)
        open_store(store)
        store.mark_complete(NOW_MS)
        store.close()
    return directories


@pytest.fixture
def snapshot(stores: dict[str, Path]) -> Iterator[Callable[[Entries], ConsentSnapshot]]:
    """Gives snapshots of the native engine's store, filled with entries; one at a time."""
    readers: list[ConsentStoreReader] = []

    def make(entries: Entries) -> ConsentSnapshot:
        while readers:
            readers.pop().close()
        _fill(stores["native"], entries)
        readers.append(reader_of(stores["native"]))
        return readers[-1].snapshot()

    yield make
    while readers:
        readers.pop().close()
    (stores["native"] / consentfiles.CORRUPT).unlink(missing_ok=True)


def _one(found: ConsentSnapshot, subject: Subject) -> Row:
    return native_rows(found, [subject])[0]


def _row_of_lookup(found: ConsentSnapshot, subject: Subject) -> Row:
    return row(found.lookup(subject))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_both_lookups_find_the_same(snapshot: Callable[[Entries], ConsentSnapshot], seed: int) -> None:
    """Of everybody, known or not, in sound stores and damaged ones; and the same errors, which name nobody."""
    dice = random.Random(seed)
    subjects = _subjects(dice)
    known = {subject: _states(dice) for subject in subjects if dice.random() < 0.7}
    entries = _stored(known)
    damages = dice.choice([0, 0, 1, 3])
    for _ in range(damages if entries else 0):
        if entries:
            _damage(entries, dice)
    with snapshot(entries) as found:
        expected: list[Any] = [outcome(_row_of_lookup, found, subject) for subject in subjects]
        assert [outcome(_one, found, subject) for subject in subjects] == expected
        errors = [error for error in expected if isinstance(error[0], type)]
        everybody = outcome(native_rows, found, subjects)
        if not errors:
            assert everybody == expected
        else:
            assert everybody in errors
            assert {kind for kind, _ in errors} == {StoreCorruptError}
            assert not any(subject.id in str(error) for error in errors for subject in subjects)
    if not damages:
        assert expected == [row(_consent(known, subject)) for subject in subjects]


def _consent(known: Mapping[Subject, Mapping[str, SourceState]], subject: Subject) -> SubjectConsent:
    return SubjectConsent({source: known[subject][source] for source in sorted(known.get(subject, {}))})


def _source(name: bytes, decisions: list[bytes], flags: int = 0) -> bytes:
    jurisdiction = b"\x02DE" if flags & 4 else b""
    head = bytes((len(name),)) + name + bytes((flags,)) + (7).to_bytes(8) + jurisdiction
    return head + len(decisions).to_bytes(2) + b"".join(decisions)


def _decision(name: bytes, flags: int = 0) -> bytes:
    return bytes((len(name),)) + name + bytes((flags,)) + bytes(16 if flags & 2 else 8)


_A, _B = _decision(b"a", 1), _decision(b"b", 3)
_FORMS: Final[dict[bytes, bool]] = {
    b"\x01" + len(sources).to_bytes(4) + b"".join(sources) + rest: good
    for sources, rest, good in (
        ([], b"", True),
        ([], b"\0", False),
        ([_source(b"", [_A, _B], 7), _source(b"web", [])], b"", True),
        ([_source(b"web", []), _source(b"", [])], b"", False),
        ([_source(b"web", []), _source(b"web", [])], b"", False),
        ([_source(b"", [_B, _A])], b"", False),
        ([_source(b"", [_A, _A])], b"", False),
        ([_source(b"", [_decision(b"")])], b"", False),
        ([_source(b"", [_decision(b"a", 4)])], b"", False),
        ([_source(b"", [], 8)], b"", False),
        ([_source(b"\xff", [])], b"", False),
        ([_source(b"", [_decision(b"\xed\xa0\x80")])], b"", False),
        ([_source("\uffff".encode(), []), _source("\U00010000".encode(), [])], b"", True),
        ([_source("\U00010000".encode(), []), _source("\uffff".encode(), [])], b"", False),
    )
} | {b"": False, b"\x02\0\0\0\0": False, b"\x01\xff\xff\xff\xff": False}


def test_both_know_the_form_of_entries(snapshot: Callable[[Entries], ConsentSnapshot]) -> None:
    """What is not exactly what is written for some consent is of another version, although its MAC is right."""
    subject = Subject("customer", "anna")
    key = SEAL.id_of(subject)
    for content, good in _FORMS.items():
        with snapshot({key: SEAL.seal(key, content)}) as found:
            expected = outcome(_row_of_lookup, found, subject)
            assert outcome(_one, found, subject) == expected
            error = (StoreCorruptError, "an entry of the consent store has the format of another version")
            assert (expected != error) is good, content


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_both_engines_make_the_same_of_stores_with_the_same_content(stores: dict[str, Path], seed: int) -> None:
    """Each in its own store; the native engine asks Python about nobody."""
    dice = random.Random(seed)
    schema = record_schema(
        {"name": "note", "type": "string", "confluent:tags": ["asked"]},
        {"name": "free", "type": "string", "confluent:tags": ["open"]},
    )
    stream = engines.rig(small_policy(), schema)
    people = People(stream.bound[0].plan.source, seed)
    records = [people.record() for _ in range(30)]
    subjects = [Subject("customer", f"{number:010}") for number in range(20)]
    entries = _stored({subject: _states(dice) for subject in subjects if dice.random() < 0.7})
    made = {}
    for engine, directory in stores.items():
        _fill(directory, entries)
        reader = reader_of(directory)
        with closing(reader), reader.snapshot() as found, pytest.MonkeyPatch.context() as patch:
            if engine == "native":
                patch.setattr(ConsentSnapshot, "lookup", _never)
                native = NativeEngine(stream.loaded.policy, stream.keyset)
                bound = native.bind(stream.bound[0].plan)
                made[engine] = native.process([(bound, record) for record in records], found, NOW_MS)
            else:
                made[engine] = stream.engine.process([(stream.bound[0], record) for record in records], found, NOW_MS)
    assert made["native"] == made["reference"]


def _never(*_: object) -> None:
    raise AssertionError("Python was asked")


def _native() -> tuple[NativeEngine, NativePlan, Callable[[str], Record]]:
    stream = engines.rig(small_policy(subjects="customer: {class: id.customer, form: text}"), record_schema())
    engine = NativeEngine(stream.loaded.policy, stream.keyset)
    schema = json.loads(stream.planned.versions[0].source.text)
    bound = engine.bind(stream.planned.versions[0].compiled.plan)
    return engine, bound, lambda id_: Record(avro_encode(schema, {"id": id_}), None, NOW_MS)


def test_damage_is_told_and_names_nobody(
    stores: dict[str, Path], snapshot: Callable[[Entries], ConsentSnapshot]
) -> None:
    """The writer hears of it, the reader's sign says that LMDB came back, and the error has nothing of the entry."""
    engine, bound, record = _native()
    key = SEAL.id_of(Subject("customer", _CANARY))
    found = snapshot({key: b"x" * 40})
    with pytest.raises(StoreCorruptError) as caught:
        engine.process([(bound, record(_CANARY))], found, NOW_MS)
    sign = found._reader._sign
    assert sign is not None
    assert sign._words[0] == 0
    assert consentfiles.corruption_reported(stores["native"])
    assert caught.value.__cause__ is None
    for text in (str(caught.value), repr(caught.value)):
        assert _CANARY not in text
        assert key.hex() not in text


def test_a_closed_snapshot_is_refused(stores: dict[str, Path], snapshot: Callable[[Entries], ConsentSnapshot]) -> None:
    """Whether it or its store was closed, and also for whom it knew before; that is no damage."""
    engine, bound, record = _native()
    for close in (ConsentSnapshot.close, lambda found: found._reader.close()):
        found = snapshot({})
        assert len(engine.process([(bound, record("anna"))], found, NOW_MS)) == 1
        close(found)
        for ask in (
            lambda: engine.process([(bound, record("anna"))], found, NOW_MS),  # noqa: B023  # Asked at once.
            lambda: native_rows(found, [Subject("customer", "anna")]),  # noqa: B023  # As above.
            lambda: found.lookup(Subject("customer", "anna")),  # noqa: B023  # As above.
        ):
            with pytest.raises(StoreUnavailableError):
                ask()
    assert not consentfiles.corruption_reported(stores["native"])


def test_everybody_is_denied_while_a_partition_is_blocked(tmp_path: Path) -> None:
    """By both lookups, without a look at any entry."""
    store = writer(store_directory(tmp_path, "native"))
    open_store(store)
    store.apply([ConsentRecord(0, 0, b"nobody", b"{}", NOW_MS)], {0: 1})
    store.mark_complete(NOW_MS)
    store.close()
    subject = Subject("customer", "anna")
    reader = reader_of(store_directory(tmp_path, "native"))
    with closing(reader), reader.snapshot() as found:
        assert _one(found, subject) == row(DENIED) == _row_of_lookup(found, subject)


def test_a_damaged_description_gives_no_snapshot(stores: dict[str, Path]) -> None:
    """Every byte of it counts, for both bindings."""
    for engine, directory in stores.items():
        environment = open_environment(engine, directory, MAP_BYTES, reads_only=False)
        view = environment.read()
        meta = view.get(consentfiles.META)
        view.close()
        assert meta is not None
        environment.close()
        for at in range(0, len(meta), 7):
            _fill(directory, {consentfiles.META: meta[:at] + bytes((meta[at] ^ 1,)) + meta[at + 1 :]})
            with closing(reader_of(directory)) as reader, pytest.raises(StoreCorruptError):
                reader.snapshot()
        _fill(directory, {consentfiles.META: meta})
        (directory / consentfiles.CORRUPT).unlink(missing_ok=True)


def test_a_death_in_the_store_is_told_from_others(tmp_path: Path) -> None:
    """Where LMDB reads a page that is gone, the process ends, and its sign says to the writer where it was."""
    directory = store_directory(tmp_path, "native")
    store = writer(directory)
    open_store(store)
    store.apply([], {0: 1})
    store.mark_complete(NOW_MS)
    store.close()
    _fill(
        directory,
        _stored({Subject("customer", f"{number:010}"): _states(random.Random(number)) for number in range(500)}),
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.property.test_native_consent", str(directory)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=120,
    )
    assert done.returncode in FATAL, done.stderr
    assert done.stdout == "alive\n"
    assert done.returncode == -signal.SIGBUS
    assert died_inside(directory, consentfiles.inode(directory))


def _die(directory: Path) -> None:
    """Take the pages away under a snapshot, and give a record to the engine."""
    engine, bound, record = _native()
    found = reader_of(directory).snapshot()
    with (directory / consentfiles.DATA).open("r+b") as data:
        data.truncate(8192)
    print("alive", flush=True)  # noqa: T201  # The protocol with the test.
    engine.process([(bound, record("0000000007"))], found, NOW_MS)


def test_parts_of_a_store_are_neither_pickled_nor_copied(snapshot: Callable[[Entries], ConsentSnapshot]) -> None:
    """They hold keys, or what is open in this process."""
    found = snapshot({})
    for part in (found.lookups, found._view, found._reader._environment, found._reader._native_seal):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            pickle.dumps(part)
        assert KEYS[0].hex() not in repr(part)
    with pytest.raises(ValueError, match="too short"):
        native_module().ConsentSeal(KEYS[0], KEYS[1][:31])


if __name__ == "__main__":
    _die(Path(sys.argv[1]))
