"""The consent store in LMDB, its marks, and the freshness file."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from unittest import mock

import pytest
from tests.support.canaries import Canary
from tests.support.stores import ENGINES, engine_of, store_of

from tokenweir.adapters import consentfiles
from tokenweir.adapters.consentbinding import Environment, open_environment, store_directory
from tokenweir.adapters.consentstore import (
    MAX_PARTITIONS,
    MAX_UNCLEAN_OPENS,
    ConsentStoreReader,
    ConsentStoreWriter,
    OpenReason,
    StoreCorruptError,
    StoreUnavailableError,
    acknowledge,
    boot_id,
    store_directories,
)
from tokenweir.adapters.freshness import Freshness, FreshnessWriter
from tokenweir.core.consent import (
    DENIED,
    UNDECODABLE,
    UNKNOWN,
    Applied,
    ConsentRecord,
    Decision,
    SourceState,
    SubjectConsent,
    encode,
    to_value,
)
from tokenweir.core.subjects import Subject, partition_of
from tokenweir.errors import RefusedError

ID_KEY, MAC_KEY = bytes(range(32)), bytes(range(32, 64))
# HMAC-SHA-256 of "customer:0000000001", its first 16 bytes, and of 00 01 "k" "content", its first 8, by OpenSSL.
ID_OF_ANN = "1bc42dbe028fc1e72573f6a1932edfe8"
MAC_OF_CONTENT = "fdb4e8049b6f935e"
ROOT = Path(__file__).parents[2]
NOW_MS = 1_795_341_600_000
HOUR_MS = 3_600_000
MAP_BYTES = 2**26
PARTITIONS = 3
FLIP_STRIDE = 41
TOPIC_ID = "dG9waWMtMS1pZC0xMjM0NQ"
ANN, BOB = Subject("customer", "0000000001"), Subject("customer", "0000000002")
STATE = SourceState(NOW_MS, {"a": Decision("allow", NOW_MS), "b": Decision("deny", NOW_MS)}, "DE")


def writer(directory: Path, boot: str = "boot-1", mac_key: bytes = MAC_KEY) -> ConsentStoreWriter:
    """Return a writer that is not open yet."""
    return ConsentStoreWriter(
        directory,
        ID_KEY,
        mac_key,
        boot,
        purposes=frozenset({"a"}),
        engine=engine_of(directory),
        map_bytes=MAP_BYTES,
    )


def opened(directory: Path, boot: str = "boot-1") -> tuple[ConsentStoreWriter, OpenReason]:
    """Return an open writer and how it was opened."""
    store = writer(directory, boot)
    return store, store.open(TOPIC_ID, PARTITIONS, HOUR_MS, NOW_MS)


def reader(directory: Path) -> ConsentStoreReader:
    """Return a reader."""
    return ConsentStoreReader(directory, ID_KEY, MAC_KEY, engine=engine_of(directory), map_bytes=MAP_BYTES)


def record(subject: Subject, state: SourceState | None, offset: int = 0, source: str = "") -> ConsentRecord:
    """Return a record in the partition of its key."""
    key = f"{subject.canonical}#{source}".encode() if source else subject.canonical.encode()
    value = None if state is None else b"?" if state.undecodable else to_value(state)
    return ConsentRecord(partition_of(key, PARTITIONS), offset, key, value, NOW_MS)


def look_up(directory: Path, *subjects: Subject) -> list[SubjectConsent]:
    """Return what a reader finds."""
    view = reader(directory)
    try:
        with view.snapshot() as snapshot:
            return [snapshot.lookup(subject) for subject in subjects]
    finally:
        view.close()


def put_raw(directory: Path, key: bytes, entry: bytes | None) -> None:
    """Write an entry past the writer, or remove it."""
    environment = open_environment(engine_of(directory), directory, MAP_BYTES, reads_only=False)
    environment.write([(key, entry)])
    environment.close()


def crash(store: ConsentStoreWriter) -> None:
    """Leave a store as a killed process does: its descriptors closed, and no mark."""
    assert store._environment is not None
    store._environment.close()
    store._environment = None
    store.close()


class _Unsynced:
    """An environment on a disk that takes nothing more, as no disk here does when it is asked to."""

    def __init__(self, environment: Environment) -> None:
        self.read, self.write = environment.read, environment.write
        self.reader_check, self.close = environment.reader_check, environment.close

    def sync(self) -> None:
        """Fail as a binding does."""
        raise StoreUnavailableError("the disk does not take it")


@pytest.fixture(params=ENGINES)
def directory(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return the store's directory, which is not there yet."""
    return store_of(tmp_path / "state", request.param)


@pytest.fixture
def filled(directory: Path) -> Path:
    """Return the directory of a complete, cleanly closed store that knows Ann."""
    store, _ = opened(directory)
    store.apply([record(ANN, STATE)], {0: 5, 2: 7})
    store.mark_complete(NOW_MS)
    store.close()
    return directory


class TestContent:
    """What is written is what is read."""

    def test_states_and_position_are_read_together(self, filled: Path) -> None:
        """A snapshot has the subjects' states and the position up to which they are applied."""
        view = reader(filled)
        with view.snapshot() as snapshot:
            assert snapshot.lookup(ANN) == SubjectConsent({"": STATE})
            assert snapshot.lookup(BOB) is UNKNOWN
            assert (snapshot.topic_id, snapshot.position, snapshot.blocked) == (TOPIC_ID, (5, 0, 7), frozenset())
        view.close()

    def test_sources_are_merged_and_forgotten(self, filled: Path) -> None:
        """Each source has its own state; a tombstone takes one away, and the last one the subject."""
        store, reason = opened(filled)
        assert reason is OpenReason.KEPT
        store.apply([record(ANN, UNDECODABLE, 8, "web"), record(BOB, STATE)], {1: 1})
        store.close()
        assert look_up(filled, ANN, BOB) == [
            SubjectConsent({"": STATE, "web": UNDECODABLE}),
            SubjectConsent({"": STATE}),
        ]
        store, _ = opened(filled)
        applied = store.apply([record(ANN, None, 9, "web"), record(BOB, None, 9), record(BOB, None, 10)], {})
        assert applied == Applied(records=3)
        store.close()
        assert look_up(filled, ANN, BOB) == [SubjectConsent({"": STATE}), UNKNOWN]

    def test_the_position_never_goes_back(self, directory: Path) -> None:
        """A smaller offset than is known is ignored."""
        store, _ = opened(directory)
        store.apply([], {0: 5, 1: 3})
        store.apply([], {0: 4, 2: 1})
        assert store.position == (5, 3, 1)
        store.close()

    def test_no_file_holds_an_id(self, filled: Path) -> None:
        """Ids are hashed under a key, in every file of the store; purposes are not personal data."""
        for path in filled.iterdir():
            assert ANN.id.encode() not in path.read_bytes()

    def test_keys_are_not_shown(self) -> None:
        """Neither by repr nor by pickle; too short ones are refused."""
        seal = consentfiles.Seal(ID_KEY, MAC_KEY)
        assert ID_KEY.hex() not in repr(vars(writer(store_directory(Path("x"), "reference")))["_seal"])
        with pytest.raises(TypeError):
            seal.__reduce__()
        with pytest.raises(ValueError, match="32 bytes"):
            consentfiles.Seal(ID_KEY[:31], MAC_KEY)

    def test_the_name_of_an_entry_is_pinned(self) -> None:
        """Another name would lose every decision that is stored."""
        seal = consentfiles.Seal(ID_KEY, MAC_KEY)
        assert seal.id_of(ANN).hex() == ID_OF_ANN
        assert seal.seal(b"k", b"content") == b"content" + bytes.fromhex(MAC_OF_CONTENT)

    def test_a_wrong_partition_denies_its_subject_only(self, directory: Path) -> None:
        """A key outside of its partition is denied until it is deleted there."""
        store, _ = opened(directory)
        right = record(ANN, STATE)
        wrong = right._replace(partition=(right.partition + 1) % PARTITIONS)
        assert store.apply([right, wrong, record(BOB, STATE)], {}).misplaced == 1
        store.mark_complete(NOW_MS)
        store.close()
        ann, bob = look_up(directory, ANN, BOB)
        assert ann.undecodable
        assert not bob.undecodable
        store, _ = opened(directory)
        store.apply([wrong._replace(value=None, offset=9)], {})
        store.close()
        assert look_up(directory, ANN) == [SubjectConsent({"": STATE})]


class TestBlocked:
    """Keys that cannot be read."""

    def test_an_unreadable_key_denies_everyone_until_it_is_acknowledged(self, filled: Path) -> None:
        """Nobody knows whose withdrawal it was; that somebody looked is kept, also through a rebuild."""
        store, _ = opened(filled)
        bad = ConsentRecord(1, 40, b"nobody", b"{}", NOW_MS)
        assert store.apply([bad, bad._replace(offset=41)], {1: 42}).unreadable == 2
        assert store.blocked == {1}
        store.close()
        assert look_up(filled, ANN, BOB) == [DENIED, DENIED]

        acknowledge(filled.parent, TOPIC_ID, 1, 40)
        store, _ = opened(filled)
        assert store.blocked == {1}
        acknowledge(filled.parent, "another topic", 1, 41)
        assert store.take_acknowledged() == frozenset()
        acknowledge(filled.parent, TOPIC_ID, 1, 41)
        assert store.take_acknowledged() == {1}
        store.wipe(NOW_MS)
        store.apply([bad, record(ANN, STATE)], {1: 42})
        assert store.blocked == frozenset()
        store.apply([bad._replace(offset=42)], {1: 43})
        assert store.blocked == {1}
        store.close()

    def test_tools_are_told_what_is_blocked(self, filled: Path) -> None:
        """They do not open the store; what is told is true from the opening on, and after every change."""
        store, _ = opened(filled)
        assert consentfiles.told_blocked(filled, TOPIC_ID) == {}
        bad = ConsentRecord(1, 40, b"nobody", b"{}", NOW_MS)
        store.apply([bad], {1: 41})
        assert consentfiles.told_blocked(filled, TOPIC_ID) == {1: 40}
        assert consentfiles.told_blocked(filled, "another topic") is None
        store.close()
        (filled / consentfiles.BLOCKED).unlink()
        store, _ = opened(filled)
        assert consentfiles.told_blocked(filled, TOPIC_ID) == {1: 40}
        acknowledge(filled.parent, TOPIC_ID, 1, 40)
        store.take_acknowledged()
        assert consentfiles.told_blocked(filled, TOPIC_ID) == {}
        store.apply([bad._replace(offset=41)], {1: 42})
        store.wipe(NOW_MS)
        assert consentfiles.told_blocked(filled, TOPIC_ID) == {}
        store.close()

    def test_a_disk_that_does_not_take_it_stops_the_writer(self, filled: Path) -> None:
        """Otherwise tools would go on saying that nobody is denied."""
        store, _ = opened(filled)
        bad = ConsentRecord(1, 40, b"nobody", b"{}", NOW_MS)
        with (
            mock.patch.object(consentfiles, "tell_blocked", side_effect=OSError(28, "full")),
            pytest.raises(StoreUnavailableError),
        ):
            store.apply([bad], {1: 41})
        store.close()

    def test_what_tools_are_told_of_a_block_holds_nothing_of_the_key(self, filled: Path) -> None:
        """An unreadable key may be anything, a person's id as well; tools need its place only."""
        canary = Canary.of_text("key", "canary7f3a2b canary")
        store, _ = opened(filled)
        store.apply(
            [ConsentRecord(1, 40, b"no colon canary7f3a2b canary", b'{"canary7f3a2b canary": 1}', NOW_MS)], {1: 41}
        )
        told = (filled / consentfiles.BLOCKED).read_bytes()
        store.close()

        assert json.loads(told) == {"topic_id": TOPIC_ID, "offsets": {"1": 40}}
        files = [path for path in filled.parent.rglob("*") if path.is_file()]
        assert len(files) > 3
        assert not [path for path in files if canary.is_in(path.read_bytes() + path.name.encode())]

    def test_what_was_acknowledged_counts_for_both_engines(self, tmp_path: Path) -> None:
        """It is the topic that was looked at; what an older version wrote beside one store is read as well."""
        for store, offset in zip(store_directories(tmp_path), (7, 9), strict=True):
            store.mkdir()
            (store / consentfiles.ACKNOWLEDGED).write_text(
                json.dumps({"topic_id": TOPIC_ID, "offsets": {"0": offset, str(offset): 1}})
            )
        assert consentfiles.acknowledged(tmp_path, TOPIC_ID) == {0: 9, 7: 1, 9: 1}

        acknowledge(tmp_path, TOPIC_ID, 0, 11)
        assert consentfiles.acknowledged(tmp_path, TOPIC_ID)[0] == 11
        for engine in ENGINES:
            fresh, _ = opened(store_of(tmp_path, engine))
            fresh.apply([ConsentRecord(0, 11, b"nobody", b"{}", NOW_MS)], {0: 12})
            assert fresh.blocked == frozenset()
            fresh.close()

    def test_a_damaged_acknowledgement_acknowledges_nothing(self, filled: Path) -> None:
        """A file that cannot be read lifts no block."""
        for content in (
            b"",
            b"{",
            b"[]",
            b'{"topic_id": 1}',
            b'{"topic_id": "%s", "offsets": [1]}' % TOPIC_ID.encode(),
        ):
            (filled / consentfiles.ACKNOWLEDGED).write_bytes(content)
            assert consentfiles.acknowledged(filled.parent, TOPIC_ID) == {}


class TestOpening:
    """What is kept, and what is begun anew."""

    def test_a_closed_store_is_kept_through_a_reboot(self, filled: Path) -> None:
        """Its pages are on the disk."""
        store, reason = opened(filled, "boot-2")
        assert (reason, store.position, store.complete) == (OpenReason.KEPT, (5, 0, 7), True)
        store.close()

    def test_a_killed_writer_loses_nothing(self, filled: Path) -> None:
        """Without a reboot the page cache has everything."""
        store, _ = opened(filled)
        store.apply([record(BOB, STATE)], {1: 9})
        crash(store)
        store, reason = opened(filled)
        assert (reason, store.position) == (OpenReason.KEPT, (5, 9, 7))
        store.close()
        assert look_up(filled, BOB) == [SubjectConsent({"": STATE})]

    def test_a_reboot_without_a_close_wipes(self, filled: Path) -> None:
        """What of it reached the disk is unknown, so nothing of it counts."""
        store, _ = opened(filled)
        generation = store.generation
        crash(store)
        store, reason = opened(filled, "boot-2")
        assert (reason, store.position, store.complete) == (OpenReason.OTHER_BOOT, (0, 0, 0), False)
        assert store.generation != generation
        store.close()

    def test_a_disk_that_did_not_take_it_wipes(self, filled: Path) -> None:
        """Not even in the same boot can anybody know what the page cache still has of it; the directory is free."""
        store, _ = opened(filled)
        assert store._environment is not None
        store._environment = _Unsynced(store._environment)
        store.apply([record(BOB, STATE)], {1: 9})
        with pytest.raises(StoreUnavailableError, match="disk"):
            store.close()
        store, reason = opened(filled)
        assert (reason, store.position, store.complete) == (OpenReason.CORRUPT, (0, 0, 0), False)
        store.close()

    def test_crashes_in_a_row_are_blamed_on_the_store(self, filled: Path) -> None:
        """Damage that kills the process which touches it would otherwise do so for ever."""
        for _ in range(MAX_UNCLEAN_OPENS):
            store, reason = opened(filled)
            assert reason is OpenReason.KEPT
            crash(store)
        store, reason = opened(filled)
        assert reason is OpenReason.UNCLEAN
        store.close()

    def test_a_store_that_was_found_sound_starts_afresh(self, filled: Path) -> None:
        """Crashes with long work between them are not its fault."""
        for _ in range(2 * MAX_UNCLEAN_OPENS):
            store, reason = opened(filled)
            assert reason is OpenReason.KEPT
            store.settle()
            crash(store)

    @pytest.mark.parametrize(
        ("topic_id", "partitions", "later_ms", "reason"),
        [
            (TOPIC_ID, PARTITIONS, HOUR_MS, OpenReason.KEPT),
            ("other", PARTITIONS, 0, OpenReason.TOPIC_CHANGED),
            (TOPIC_ID, PARTITIONS + 1, 0, OpenReason.PARTITIONS_CHANGED),
            (TOPIC_ID, PARTITIONS, HOUR_MS + 1, OpenReason.TOO_OLD),
            (TOPIC_ID, PARTITIONS, -1, OpenReason.TOO_OLD),
        ],
    )
    def test_another_topic_or_too_old(
        self, filled: Path, topic_id: str, partitions: int, later_ms: int, reason: OpenReason
    ) -> None:
        """A store of another topic, or one that may have missed a tombstone, is begun anew."""
        store = writer(filled)
        assert store.open(topic_id, partitions, HOUR_MS, NOW_MS + later_ms) is reason
        assert store.complete is (reason is OpenReason.KEPT)
        assert len(store.position) == partitions
        store.close()

    def test_its_age_counts_from_when_nothing_was_missing(self, filled: Path) -> None:
        """Not from when it was made."""
        store, _ = opened(filled)
        store.apply([], {}, NOW_MS + HOUR_MS)
        store.close()
        store = writer(filled)
        assert store.open(TOPIC_ID, PARTITIONS, HOUR_MS, NOW_MS + 2 * HOUR_MS) is OpenReason.KEPT
        store.close()

    def test_other_keys_wipe(self, filled: Path) -> None:
        """A store that was written with other keys cannot be told from a damaged one."""
        store = writer(filled, mac_key=bytes(32))
        assert store.open(TOPIC_ID, PARTITIONS, HOUR_MS, NOW_MS) is OpenReason.CORRUPT
        store.close()

    @pytest.mark.parametrize("name", [consentfiles.MARK, consentfiles.DATA])
    @pytest.mark.parametrize("content", [b"", b"x", b"x" * 65536])
    def test_files_that_are_none_wipe(self, filled: Path, name: str, content: bytes) -> None:
        """Whatever stands in the files, the store opens, and never with something that was not written."""
        (filled / name).write_bytes(content)
        store, reason = opened(filled)
        assert reason in (OpenReason.CORRUPT, OpenReason.NEW)
        assert (store.position, store.complete) == ((0, 0, 0), False)
        store.close()

    def test_too_many_partitions_are_refused(self, directory: Path) -> None:
        """The position has to fit beside a committed offset."""
        store = writer(directory)
        for partitions in (0, MAX_PARTITIONS + 1):
            with pytest.raises(RefusedError):
                store.open(TOPIC_ID, partitions, HOUR_MS, NOW_MS)
        assert store.open(TOPIC_ID, MAX_PARTITIONS, HOUR_MS, NOW_MS) is OpenReason.NEW
        store.close()

    def test_a_second_writer_is_refused(self, filled: Path) -> None:
        """Two gateways on one state directory would mix two positions."""
        store, _ = opened(filled)
        with pytest.raises(RefusedError):
            writer(filled).claim()
        store.close()
        opened(filled)[0].close()


class TestDamage:
    """A flipped bit is found, told to the writer, and never read as an allow."""

    def test_every_flipped_byte_of_an_entry_is_found(self, filled: Path) -> None:
        """No byte of an entry can change without a reader noticing; the writer then begins anew."""
        seal = consentfiles.Seal(ID_KEY, MAC_KEY)
        entry = seal.seal(seal.id_of(ANN), encode({"": STATE}))
        for offset in range(len(entry)):
            put_raw(filled, seal.id_of(ANN), entry[:offset] + bytes((entry[offset] ^ 1,)) + entry[offset + 1 :])
            with pytest.raises(StoreCorruptError):
                look_up(filled, ANN)
        store, reason = opened(filled)
        assert (reason, store.complete) == (OpenReason.CORRUPT, False)
        store.close()

    def test_an_entry_is_bound_to_its_subject(self, filled: Path) -> None:
        """One subject's allow does not become another's by renaming its entry."""
        seal = consentfiles.Seal(ID_KEY, MAC_KEY)
        put_raw(filled, seal.id_of(BOB), seal.seal(seal.id_of(ANN), encode({"": STATE})))
        with pytest.raises(StoreCorruptError):
            look_up(filled, BOB)

    @pytest.mark.parametrize("lost", [True, False])
    def test_a_store_with_entries_lost_or_added_is_begun_anew(self, filled: Path, *, lost: bool) -> None:
        """A subject whose entry is gone would look as if it had never decided anything."""
        seal = consentfiles.Seal(ID_KEY, MAC_KEY)
        key = seal.id_of(ANN if lost else BOB)
        put_raw(filled, key, None if lost else seal.seal(key, encode({"": STATE})))
        store, reason = opened(filled)
        assert reason is OpenReason.CORRUPT
        store.close()

    def test_flipped_bytes_of_the_file_never_change_an_answer(self, filled: Path) -> None:
        """After damage anywhere in the file, a store that is kept still gives exactly what was written."""
        start = "0"
        outcomes: list[str] = []
        while start:
            # LMDB itself may crash on damage, and MAX_UNCLEAN_OPENS ends that; here the next byte is next.
            found = subprocess.run(
                [sys.executable, "-m", "tests.unit.test_consentstore", "flip", str(filled), start],
                capture_output=True,
                text=True,
                cwd=ROOT,
                check=False,
                timeout=120,
            )
            assert found.returncode <= 0, found.stderr
            lines = found.stdout.split()
            outcomes += lines
            start = str(int(start) + FLIP_STRIDE * (len(lines) + 1)) if found.returncode else ""
        assert set(outcomes) <= {"exact", "rebuilt", "unavailable"}
        assert min(outcomes.count("exact"), outcomes.count("rebuilt")) > 4

    def test_a_running_writer_hears_of_it_and_finds_it_itself(self, filled: Path) -> None:
        """Damage that a reader reports, or the writer meets, ends in a rebuild."""
        seal = consentfiles.Seal(ID_KEY, MAC_KEY)
        store, _ = opened(filled)
        assert not store.corruption_reported()
        consentfiles.report_corrupt(filled, consentfiles.inode(filled))
        assert store.corruption_reported()
        store._opened.write([(seal.id_of(ANN), b"x" * 40)])
        before = store.position, store.generation
        with pytest.raises(StoreCorruptError):
            store.apply([record(BOB, STATE), record(ANN, STATE)], {0: 99})
        assert (store.position, store.generation) == before
        store.wipe(NOW_MS)
        assert (store.position, store.complete, store.corruption_reported()) == ((0, 0, 0), False, False)
        assert store.generation != before[1]
        store.close()


class TestReaders:
    """What a worker sees."""

    def test_nothing_is_given_before_it_is_restored(self, directory: Path) -> None:
        """No store, no entry, not complete: each is an error and not an empty answer."""
        view = reader(directory)
        with pytest.raises(StoreUnavailableError):
            view.snapshot()
        directory.mkdir(parents=True)
        (directory / consentfiles.DATA).touch()
        with pytest.raises(StoreUnavailableError):
            view.snapshot()
        store, _ = opened(directory)
        store.apply([record(ANN, STATE)], {})
        store.close()
        with pytest.raises(StoreUnavailableError):
            view.snapshot()
        assert view.reader_check() == 0
        view.close()

    def test_a_snapshot_stands_still_and_a_rebuild_is_noticed(self, filled: Path) -> None:
        """While another process writes, a snapshot keeps its position; the next one sees the new store."""
        view = reader(filled)
        with view.snapshot() as snapshot, Writer(filled) as remote:
            generation = snapshot.generation
            remote.do("apply")
            assert snapshot.lookup(BOB) is UNKNOWN
            assert snapshot.position == (5, 0, 7)
            snapshot.close()
            with view.snapshot() as later:
                assert later.lookup(BOB) == SubjectConsent({"": STATE})
                assert (later.position, later.generation) == ((5, 9, 7), generation)
            remote.do("wipe")
            with pytest.raises(StoreUnavailableError):
                view.snapshot()
            remote.do("apply")
            remote.do("complete")
            with view.snapshot() as rebuilt:
                assert rebuilt.lookup(ANN) is UNKNOWN
                assert rebuilt.position == (0, 9, 0)
                assert rebuilt.generation != generation
        view.close()

    def test_a_killed_reader_is_cleared_away(self, filled: Path) -> None:
        """Its pages would otherwise stay pinned, and the store would grow for ever."""
        store, _ = opened(filled)
        code = (
            f"from tests.unit.test_consentstore import *; view = reader(Path({str(filled)!r}))\n"
            "snapshot = view.snapshot(); print('held', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, cwd=ROOT
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            assert store.reader_check() == 0
            process.send_signal(signal.SIGKILL)
        assert store.reader_check() == 1
        store.close()


class Writer:
    """A writer in a process of its own, as LMDB asks for."""

    def __init__(self, directory: Path) -> None:
        self._command = [sys.executable, "-m", "tests.unit.test_consentstore", "write", str(directory)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        return self

    def do(self, verb: str) -> None:
        """Have it do something, and wait until it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(verb, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0


def write(directory: Path) -> None:
    """Be a writer process: one verb a line."""
    store, reason = opened(directory)
    assert reason is OpenReason.KEPT
    for verb in sys.stdin:
        if verb == "apply\n":
            store.apply([record(BOB, STATE)], {1: 9})
        elif verb == "wipe\n":
            store.wipe(NOW_MS)
        else:
            store.mark_complete(NOW_MS)
        print("done", flush=True)  # noqa: T201  # The protocol with the test.
    store.close()


def flip(directory: Path, start: int) -> None:
    """Flip bits of the data file, one at a time, and print what each comes to."""
    names = (consentfiles.DATA, consentfiles.MARK)
    originals = directory.with_name("originals")
    if not originals.exists():
        shutil.copytree(directory, originals)
    for at in range(start, (originals / consentfiles.DATA).stat().st_size, FLIP_STRIDE):
        for name in names:
            shutil.copyfile(originals / name, directory / name)
        with (directory / consentfiles.DATA).open("r+b") as data:
            data.seek(at)
            (byte,) = data.read(1)
            data.seek(at)
            data.write(bytes((byte ^ (1 << at % 8),)))
        print(outcome_of_damage(directory), flush=True)  # noqa: T201  # The protocol with the test.


def outcome_of_damage(directory: Path) -> str:
    """Open the store as a gateway would, and say what its readers then get."""
    store, reason = opened(directory)
    position = store.position
    store.close()
    if reason is not OpenReason.KEPT:
        return "rebuilt"
    try:
        found = look_up(directory, ANN, BOB)
    except StoreUnavailableError:
        # LMDB keeps two root pages; without the newer one the store is as it was one transaction before.
        return "unavailable"
    return "exact" if (position, found) == ((5, 0, 7), [SubjectConsent({"": STATE}), UNKNOWN]) else "wrong"


class TestFreshness:
    """The file that says how fresh the store is."""

    SECOND_NS = 1_000_000_000

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Return where it lies."""
        return tmp_path / "state" / "consent.fresh"

    @pytest.fixture
    def pair(self, path: Path) -> Iterator[tuple[FreshnessWriter, Freshness]]:
        """Return both sides of one file."""
        applier, worker = FreshnessWriter(path, "boot"), Freshness(path, "boot")
        yield applier, worker
        worker.close()
        applier.close()

    def test_the_oldest_partition_counts(self, pair: tuple[FreshnessWriter, Freshness]) -> None:
        """One stale partition makes the whole consent stale."""
        applier, worker = pair
        applier.begin(2, 77)
        applier.prove({0: 5 * self.SECOND_NS, 1: 3 * self.SECOND_NS})
        assert (worker.generation, worker.restored, worker.staleness_seconds(6 * self.SECOND_NS)) == (
            77,
            False,
            math.inf,
        )
        applier.restored()
        assert worker.restored
        assert worker.staleness_seconds(6 * self.SECOND_NS) == 3.0
        applier.prove({1: 6 * self.SECOND_NS})
        assert worker.staleness_seconds(6 * self.SECOND_NS) == 1.0

    def test_nothing_is_fresh_without_a_proof(self, pair: tuple[FreshnessWriter, Freshness]) -> None:
        """A partition without a proof, a proof from the future and no partitions at all are infinitely old."""
        applier, worker = pair
        applier.begin(2, 77)
        applier.restored()
        applier.prove({0: 5})
        assert worker.staleness_seconds(10) == math.inf
        applier.prove({1: 2 * self.SECOND_NS})
        assert worker.staleness_seconds(10) == math.inf
        assert worker.staleness_seconds(2 * self.SECOND_NS) < 2
        applier.prove({0: 2 * self.SECOND_NS})
        assert worker.staleness_seconds(2 * self.SECOND_NS - 1) == 0
        applier.begin(0, 78)
        applier.restored()
        assert worker.staleness_seconds(11) == math.inf

    def test_it_can_be_withdrawn(self, pair: tuple[FreshnessWriter, Freshness]) -> None:
        """Before a rebuild and at the end nothing is restored."""
        applier, worker = pair
        applier.begin(1, 77)
        applier.prove({0: 5})
        applier.restored()
        applier.withdraw()
        assert not worker.restored
        assert worker.staleness_seconds(6) == math.inf
        applier.restored()
        applier.begin(1, 78)
        assert not worker.restored
        assert worker.generation == 78

    def test_a_new_applier_makes_the_old_word_void(self, path: Path) -> None:
        """The same file is used on, so that connected readers see it at once."""
        first, worker = FreshnessWriter(path, "boot"), Freshness(path, "boot")
        first.begin(1, 77)
        first.prove({0: 5})
        first.restored()
        assert worker.restored
        second = FreshnessWriter(path, "boot")
        assert not worker.restored
        assert worker.generation == 0
        for side in (first, second, worker):
            side.close()

    def test_another_boots_word_is_void(self, path: Path) -> None:
        """Its clock was another one; neither is a file trusted that is missing or of another size."""
        worker = Freshness(path, "boot-2")
        assert (worker.restored, worker.generation, worker.staleness_seconds(9)) == (False, 0, math.inf)
        path.parent.mkdir()
        path.write_bytes(b"short")
        assert not worker.restored
        applier = FreshnessWriter(path, "boot-1")
        applier.begin(1, 77)
        applier.prove({0: 5})
        applier.restored()
        assert (worker.restored, worker.generation, worker.staleness_seconds(9)) == (False, 0, math.inf)
        worker.close()
        applier.close()

    def test_its_layout_is_pinned(self, path: Path) -> None:
        """The native engine reads the same file."""
        applier = FreshnessWriter(path, "boot")
        applier.begin(2, 77)
        applier.prove({1: 6})
        applier.restored()
        words = memoryview(path.read_bytes()).cast("Q")
        assert bytes(words[:1]) == b"twfresh1"
        assert list(words[3:10]) == [77, 1, 2, 0, 0, 0, 6]
        assert len(words) == 8 + MAX_PARTITIONS
        applier.close()


def test_the_boot_id_is_the_kernels() -> None:
    """It is the same for every process of a boot."""
    assert boot_id() == boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


if __name__ == "__main__":
    if sys.argv[1] == "flip":
        # Hundreds of stores, none of which has to outlive the machine.
        with mock.patch("os.fsync"):
            flip(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        write(Path(sys.argv[2]))
