"""Records that end their worker are named by its life signs, counted durably, and forgotten once they are decided."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tokenweir.adapters.consentfiles import DATA, inode
from tokenweir.adapters.consentstore import store_directory
from tokenweir.runtime.casualties import Casualties
from tokenweir.runtime.endings import ExitCode
from tokenweir.runtime.quarantine import Attempts, Suspects, read_attempts, records_path, settled_path
from tokenweir.runtime.status import MAX_BATCH_RECORDS, Phase, Place, Sign, StatusWriter, read_sign


def _sign(tmp_path: Path, phase: Phase, *, commits: int = 0) -> Sign:
    """Return the life signs of a worker that has begun with the second of three records."""
    status = StatusWriter(tmp_path / "worker-clicks-0.status")
    status.batch([0, 1, 0], [10, 20, 11])
    status.records(1, 1)
    for _ in range(commits):
        status.committed()
    status.phase(phase)
    sign = read_sign(tmp_path / "worker-clicks-0.status")
    assert sign is not None
    return sign


def test_life_signs_name_the_records_of_the_engine(tmp_path: Path) -> None:
    """One alone, several at once, none in another phase, and a full batch."""
    path = tmp_path / "worker.status"
    status = StatusWriter(path)
    places = [Place(number % 7, 2**40 + number) for number in range(MAX_BATCH_RECORDS)]
    status.batch([place.partition for place in places], [place.offset for place in places])
    named = []
    for first, count in [(0, 1), (MAX_BATCH_RECORDS - 1, 1), (5, 500), (0, MAX_BATCH_RECORDS)]:
        status.phase(Phase.ENGINE)
        status.records(first, count)
        sign = read_sign(path)
        status.phase(Phase.POLL)
        other = read_sign(path)
        assert sign is not None
        assert other is not None
        assert other.records == ()
        named.append(list(sign.records))

    assert named == [places[:1], places[-1:], places[5:505], places]


def test_a_torn_file_of_life_signs_says_nothing(tmp_path: Path) -> None:
    """A file that is too short, or has a state that does not exist, is none."""
    path = tmp_path / "worker.status"
    assert read_sign(path) is None
    StatusWriter(path)
    whole = path.read_bytes()
    for broken in (b"", whole[:-1], whole[:-8], whole[:16] + b"\xff" * 8 + whole[24:]):
        path.write_bytes(broken)
        assert read_sign(path) is None


def test_attempts_outlive_the_supervisor(tmp_path: Path) -> None:
    """Each death counts for the records that were worked on; a new supervisor goes on counting."""
    first = Attempts(tmp_path, "clicks").count([Place(0, 1), Place(0, 2)])
    second = Attempts(tmp_path, "clicks").count([Place(0, 2)])
    none = Attempts(tmp_path, "clicks").count([])

    assert (first, second, none) == (1, 2, 0)
    assert read_attempts(records_path(tmp_path, "clicks")) == {Place(0, 1): 1, Place(0, 2): 2}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"version": 2, "records": []}',
        b'{"version": 1}',
        b'{"version": 1, "records": [[0, 1e999, 1]]}',
        b"[" * 100_000,
        b"\xff",
    ],
    ids=range(9),
)
def test_counts_that_are_not_whole_begin_again(tmp_path: Path, content: bytes) -> None:
    """A lost count costs one more attempt and never a record."""
    path = records_path(tmp_path, "clicks")
    path.parent.mkdir()
    path.write_bytes(content)

    assert read_attempts(path) == {}
    assert Attempts(tmp_path, "clicks").count([Place(0, 1)]) == 1


def test_a_decided_record_is_no_suspect_any_more(tmp_path: Path) -> None:
    """The worker forgets it at once, the supervisor when it looks, and what lies behind the offset is forgotten too."""
    attempts = Attempts(tmp_path, "clicks")
    attempts.count([Place(0, 5), Place(0, 6), Place(1, 5), Place(2, 9)])
    suspects = Suspects(tmp_path, "clicks", 0)
    suspects.refresh({0: 5, 1: 6})
    assert [suspects.attempts(0, 5), suspects.attempts(1, 5), suspects.attempts(2, 9), suspects.attempts(3, 5)] == [
        1,
        0,
        1,
        0,
    ]

    suspects.settle([Place(0, 5), Place(0, 4)])

    assert suspects.attempts(0, 5) == 0
    path = settled_path(tmp_path, "clicks", 0)
    assert path.read_text() == "1 5\n0 5\n"
    attempts.settle(path)
    assert not path.exists()
    assert read_attempts(records_path(tmp_path, "clicks")) == {Place(0, 6): 1, Place(2, 9): 1}
    attempts.settle(path)
    assert attempts.count([Place(0, 5)]) == 1


def test_a_death_in_the_engine_counts_for_its_records(tmp_path: Path) -> None:
    """Whoever ended the process: a record that needs all memory is killed from outside."""
    casualties = Casualties(tmp_path, ["clicks"], "reference")
    verdicts = [
        casualties.died("clicks", 0, _sign(tmp_path, Phase.ENGINE), -number)
        for number in (signal.SIGSEGV, signal.SIGKILL)
    ]

    assert [verdict.attempts for verdict in verdicts] == [1, 2]
    assert verdicts[0].records == (Place(1, 20),)
    assert not verdicts[1].stops


@pytest.mark.parametrize("phase", [Phase.POLL, Phase.OTHER])
@pytest.mark.parametrize("code", [-signal.SIGABRT, ExitCode.CRASHED, ExitCode.EXHAUSTED])
def test_crashes_for_which_nothing_is_to_blame_stop_the_slot(tmp_path: Path, phase: Phase, code: int) -> None:
    """Five in a row without a commit; a commit begins anew, and what lies outside of the worker does not count."""
    casualties = Casualties(tmp_path, ["clicks"], "reference")

    def die(*, commits: int = 0, code: int = code, slot: int = 0) -> bool:
        return casualties.died("clicks", slot, _sign(tmp_path, phase, commits=commits), code).stops

    assert [die() for _ in range(5)] == [False, False, False, False, True]
    assert [die(slot=1) for _ in range(4)] == [False] * 4
    assert not any(die(slot=1, code=outside) for outside in (-signal.SIGKILL, -signal.SIGTERM, ExitCode.UNSERVED))
    assert [die(slot=1, commits=1) for _ in range(7)] == [False] * 7
    assert [die(slot=1) for _ in range(4)] == [False, False, False, True]


def test_a_disk_that_takes_nothing_stops_no_worker(tmp_path: Path) -> None:
    """The record was decided and committed; only the count of its attempts stays."""
    Casualties(tmp_path, ["clicks"], "reference").died("clicks", 0, _sign(tmp_path, Phase.ENGINE), -signal.SIGSEGV)
    suspects = Suspects(tmp_path, "clicks", 1)
    # A directory where the file belongs is refused to root as well, unlike one without permissions.
    settled_path(tmp_path, "clicks", 1).mkdir()

    suspects.refresh({1: 21})

    assert suspects.attempts(1, 20) == 0


def test_what_died_with_its_supervisor_is_counted_once(tmp_path: Path) -> None:
    """The next supervisor finds the life signs, and takes them away."""
    _sign(tmp_path, Phase.ENGINE)
    path = tmp_path / "worker-clicks-0.status"
    casualties = Casualties(tmp_path, ["clicks"], "reference")

    attempts = [casualties.died_with_the_supervisor("clicks", 0, path).attempts for _ in range(2)]

    assert attempts == [1, 0]
    assert read_attempts(records_path(tmp_path, "clicks")) == {Place(1, 20): 1}


def test_settled_records_reach_the_counts(tmp_path: Path) -> None:
    """The supervisor folds in what any of its workers has written."""
    casualties = Casualties(tmp_path, ["clicks"], "reference")
    casualties.died("clicks", 0, _sign(tmp_path, Phase.ENGINE), ExitCode.CRASHED)
    suspects = Suspects(tmp_path, "clicks", 1)
    suspects.refresh({})
    suspects.settle([Place(1, 20)])

    casualties.settle("clicks", 0)
    assert read_attempts(records_path(tmp_path, "clicks"))
    casualties.settle("clicks", 1)
    assert read_attempts(records_path(tmp_path, "clicks")) == {}


def test_no_record_is_blamed_for_an_orderly_end_or_a_damaged_store(tmp_path: Path) -> None:
    """A worker that dies while LMDB reads has met a damaged page; when LMDB had come back, its record is counted."""
    store = store_directory(tmp_path, "reference")
    store.mkdir()
    (store / DATA).write_bytes(b"pages")
    reader = (
        "import os, sys; from pathlib import Path; from tokenweir.adapters.readersigns import ReaderSign\n"
        "sign = ReaderSign(Path(sys.argv[1])); sign.enter(int(sys.argv[2])); print(os.getpid(), flush=True); os.abort()"
    )
    attempts = []
    for word in (inode(store), 0):
        died = subprocess.run(
            [sys.executable, "-c", reader, str(store), str(word)], stdout=subprocess.PIPE, check=False, timeout=60
        )
        sign = _sign(tmp_path, Phase.ENGINE)._replace(pid=int(died.stdout))
        attempts.append(Casualties(tmp_path, ["clicks"], "reference").died("clicks", 0, sign, died.returncode).attempts)
    orderly = [
        Casualties(tmp_path, ["clicks"], "reference").died("clicks", 0, _sign(tmp_path, Phase.ENGINE), code).attempts
        for code in (ExitCode.DONE, ExitCode.REFUSED, ExitCode.FENCED)
    ]

    assert attempts == [0, 1]
    assert orderly == [0, 0, 0]
