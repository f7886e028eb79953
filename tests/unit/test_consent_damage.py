"""A damaged consent store: no answer that was not written, and no crash that repeats itself without end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.support.storedamage import (
    ROOT,
    after_a_reader_died,
    after_the_writer_died,
    build,
    do_damage,
    open_store,
    put,
    reader_of,
    writer,
)
from tests.support.stores import ENGINES, store_of

from tokenweir.adapters import consentfiles
from tokenweir.adapters.consentstore import StoreCorruptError
from tokenweir.adapters.readersigns import ReaderSign, died_inside, forget_the_dead


@pytest.fixture(params=ENGINES)
def directory(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The directory of a store of several pages."""
    store = store_of(tmp_path, request.param)
    build(store)
    return store


@pytest.mark.parametrize(("damage", "count"), [("flip", 100), ("tear", 20), ("cut_short", 1)])
def test_damage_under_a_reader_is_found_or_harmless(directory: Path, damage: str, count: int) -> None:
    """While a worker has the store open; where LMDB crashes the worker, the next look of the writer finds that."""
    outcomes = do_damage(directory, "live", damage, count, lambda: after_a_reader_died(directory))

    assert set(outcomes) <= {"exact", "found", "crashed"}
    assert outcomes["found"] + outcomes["crashed"] > count / 10


@pytest.mark.parametrize("damage", ["mislead", "hide"])
def test_a_search_that_is_led_astray_is_found(tmp_path: Path, damage: str) -> None:
    """All that is found on the wrong way is genuine and in order, and who is not found there would be unknown.

    The reference binding shows nothing of pages.
    """
    store = store_of(tmp_path, "native")
    build(store)
    outcomes = do_damage(store, "live", damage, 60, lambda: after_a_reader_died(store))

    assert set(outcomes) <= {"found", "crashed"}


@pytest.mark.parametrize(("damage", "count"), [("flip", 50), ("tear", 10), ("cut_short", 1)])
def test_a_start_on_a_damaged_store_keeps_what_is_right_or_begins_anew(
    directory: Path, damage: str, count: int
) -> None:
    """Where LMDB crashes the writer, it does so a few times, and then the store is begun anew."""
    outcomes = do_damage(directory, "start", damage, count, lambda: after_the_writer_died(directory))

    assert set(outcomes) <= {"exact", "rebuilt", "resumed", "crashed"}
    assert outcomes["rebuilt"] + outcomes["crashed"] > count / 10


class TestSigns:
    """What tells that a reader died inside of LMDB."""

    INODE: Final = 77

    def _die(self, directory: Path, inode: int) -> int:
        """Let a process die with this inode in its sign, and return its process id."""
        code = (
            "import os, signal\nfrom pathlib import Path\nfrom tokenweir.adapters.readersigns import ReaderSign\n"
            f"sign = ReaderSign(Path({str(directory)!r})); sign.enter({inode})\n"
            "print(os.getpid(), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        return int(done.stdout)

    def test_the_dead_are_told_from_the_living(self, tmp_path: Path) -> None:
        """Only who is dead counts, only in that file, and only until it is forgotten; each process can be asked for."""
        sign = ReaderSign(tmp_path)
        sign.enter(self.INODE)
        assert not died_inside(tmp_path, self.INODE)
        dead = self._die(tmp_path, self.INODE)
        assert died_inside(tmp_path, self.INODE)
        assert died_inside(tmp_path, self.INODE, dead)
        assert not died_inside(tmp_path, self.INODE, dead + 1)
        assert not died_inside(tmp_path, self.INODE + 1)
        forget_the_dead(tmp_path)
        assert not died_inside(tmp_path, self.INODE)
        assert len(list((tmp_path / "readers").iterdir())) == 1
        sign.close()
        assert list((tmp_path / "readers").iterdir()) == []

    def test_who_died_outside_of_lmdb_did_not_die_of_it(self, tmp_path: Path) -> None:
        """A worker that is killed at another moment costs no rebuild."""
        self._die(tmp_path, 0)
        assert not died_inside(tmp_path, self.INODE)

    def test_no_reader_means_no_dead_reader(self, tmp_path: Path) -> None:
        """The directory need not be there."""
        assert not died_inside(tmp_path / "nowhere", self.INODE)
        forget_the_dead(tmp_path / "nowhere")


def test_a_full_disk_leaves_no_files_behind(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader asks for its file again and again until there is room."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            ReaderSign(directory)
    assert list((directory / "readers").iterdir()) == []


def test_a_reader_does_not_go_back(directory: Path) -> None:
    """LMDB keeps two roots and takes the older one if the newer is damaged; that lacks what was seen already."""
    data = directory / consentfiles.DATA
    before = data.read_bytes()
    store = writer(directory)
    open_store(store)
    store.apply((), {0: 5_000})
    store.close()
    reader = reader_of(directory)
    with reader.snapshot() as snapshot:
        assert snapshot.position == (5_000,)
    put(data, before)
    with pytest.raises(StoreCorruptError, match="lost"):
        reader.snapshot()
    assert consentfiles.corruption_reported(directory)
    reader.close()


def test_a_writer_does_not_write_on_what_is_not_its_own(directory: Path) -> None:
    """Its next change would hide for good that the one before it is missing."""
    data = directory / consentfiles.DATA
    store = writer(directory)
    open_store(store)
    before = data.read_bytes()
    store.apply((), {0: 5_000})
    put(data, before)
    with pytest.raises(StoreCorruptError):
        store.apply((), {0: 5_001})
    store.close()
