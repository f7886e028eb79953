"""The audit log on disk: durable before the answer, exact among processes, truthful after a crash, closed when hurt."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokenweir.adapters import auditfiles
from tokenweir.adapters.auditfiles import (
    AuditError,
    SigningKey,
    make_signing_key,
    public_key_path,
    read_checkpoint,
    read_public_key,
    read_signing_key,
    segments,
)
from tokenweir.adapters.auditlog import AuditLog
from tokenweir.adapters.auditthread import AuditThread
from tokenweir.core.detokenize.chain import Body, Verdict, verify
from tokenweir.core.detokenize.ledger import Ledger
from tokenweir.errors import FileFormatError, KeysError

KEY = SigningKey(bytes(range(32)))
NOW_MS = 1_764_600_000_000


def accept(number: int = 0) -> dict[str, Any]:
    """Return a record."""
    return {"kind": "accept", "id": "1", "principal": f"p{number}", "statement": "s", "digest": "d"}


def write(*bodies: Body) -> Callable[[Ledger, int], tuple[tuple[Body, ...], Ledger]]:
    """Return a decision that appends these and gives the state."""
    return lambda ledger, _now_ms: (bodies, ledger)


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a log that has begun."""
    open_log(tmp_path / "audit").create()
    return tmp_path / "audit"


def open_log(
    directory: Path,
    clock: Callable[[], int] = lambda: NOW_MS,
    sync: Callable[[int], None] = os.fsync,
    segment_bytes: int = 1_000_000,
) -> AuditLog:
    """Open the log."""
    checkpoint = directory / "checkpoint.json"
    return AuditLog(directory, checkpoint, KEY, clock, lock_seconds=0.2, sync=sync, segment_bytes=segment_bytes)


def verdict(directory: Path) -> Verdict:
    """Verify the log with the checkpoint beside it."""
    checkpoint = read_checkpoint(directory / "checkpoint.json", KEY.public())
    anchors = {} if checkpoint is None else {"beside": checkpoint}
    return verify([(path.name, path.read_bytes()) for path in segments(directory)], KEY.public(), anchors)


def bodies(directory: Path) -> list[dict[str, Any]]:
    """Return all records."""
    return [json.loads(line) for path in segments(directory) for line in path.read_text().splitlines()]


def newest(directory: Path) -> Path:
    """Return the newest segment."""
    return segments(directory)[-1]


def test_records_are_kept_in_order(directory: Path) -> None:
    """What is appended can be verified, and a second writer sees what the first one wrote."""
    one, two = open_log(directory), open_log(directory)
    one.transact(write(accept(1)))
    two.transact(write(accept(2), accept(3)))
    ledger = one.transact(write())
    assert {name for name, _, _ in ledger.accepted} == {"p1", "p2", "p3"}
    assert [body.get("principal") for body in bodies(directory)] == [None, "p1", "p2", "p3"]
    assert (verdict(directory).faults, verdict(directory).records) == ([], 4)


def test_everything_is_for_the_owner_only(directory: Path) -> None:
    """Directory, segments and checkpoint."""
    open_log(directory).transact(write(accept()))
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_segments_carry_on_what_must_not_be_forgotten(directory: Path) -> None:
    """A new segment begins with acceptances and cases, and a reader need not look at older segments for them."""
    clock = Clock()
    log = open_log(directory, segment_bytes=2000, clock=clock)
    case = {"kind": "request", "id": "c1", "principal": "p", "classes": ["a"], "entry": "e", "domain": "d", "epoch": 1}
    log.transact(write(accept(1), case | {"tokens": ["t"], "reason": "r", "ticket": "t", "expires_ms": NOW_MS * 2}))
    log.transact(write({"kind": "approve", "case": "c1", "principal": "lea"}))
    for number in range(2, 12):
        clock.now_ms += 86_400_000 * 10
        log.transact(write(accept(number)))
    files = segments(directory)
    assert len(files) > 3
    for path in files[:1]:
        path.rename(path.with_suffix(".moved"))  # A start must not need it; verification does.
    ledger = open_log(directory, clock=clock).transact(write())
    assert {name for name, _, _ in ledger.accepted} == {f"p{number}" for number in range(1, 12)}
    assert ledger.cases["c1"].approver == "lea"
    assert verdict(directory).faults
    files[0].with_suffix(".moved").rename(files[0])
    assert verdict(directory).faults == []


def test_the_record_is_durable_before_the_answer(directory: Path) -> None:
    """File, checkpoint and directory are synced before a transaction returns, the log before its checkpoint."""
    synced: list[str] = []

    def sync(descriptor: int) -> None:
        os.fsync(descriptor)
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    log = open_log(directory, sync=sync)
    log.transact(write(accept()))
    assert [name.removeprefix(".").partition(".json.")[0] for name in synced] == [
        "audit-000001.jsonl", "checkpoint", "audit"
    ]  # fmt: skip
    synced.clear()
    open_log(directory, sync=sync, segment_bytes=100).transact(write(accept()))
    assert synced[:2] == ["audit-000002.jsonl", "audit"]


@pytest.mark.parametrize("torn", [b"x", b'{"v":1,"seq":2,"ti', b"\0" * 300, b"\0" * 40 + b"\n", b'{"v":1}\n{"v":1}\n'])
def test_a_torn_end_is_taken_away_and_told(directory: Path, torn: bytes) -> None:
    """What a crash left behind the checkpoint was never answered; it goes, and a record says what went."""
    log = open_log(directory)
    log.transact(write(accept(1)))
    with newest(directory).open("ab") as file:
        file.write(torn)
    assert verdict(directory).faults
    open_log(directory).transact(write(accept(2)))
    assert [body["kind"] for body in bodies(directory)] == ["genesis", "accept", "recover", "accept"]
    assert bodies(directory)[2]["bytes"] == len(torn)
    assert verdict(directory).faults == []
    log.transact(write(accept(3)))  # A writer that was open meanwhile follows.
    assert verdict(directory).records == 5


@pytest.mark.parametrize("cut", [0, 1], ids=["whole", "without its newline"])
def test_a_record_without_its_checkpoint_stays(directory: Path, cut: int) -> None:
    """A crash between the record and its checkpoint: it was recorded and not answered, and it counts."""
    checkpoint = directory / "checkpoint.json"
    before = checkpoint.read_bytes()
    open_log(directory).transact(write(accept(1)))
    checkpoint.write_bytes(before)
    path = newest(directory)
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    ledger = open_log(directory).transact(write())
    assert {name for name, _, _ in ledger.accepted} == {"p1"}
    assert (verdict(directory).faults, verdict(directory).last.seq) == ([], 1)


@pytest.mark.parametrize("content", [b"", b'{"v":1,"seq'])
def test_a_segment_that_was_only_begun_goes(directory: Path, content: bytes) -> None:
    """A crash while a segment is made leaves a file without a record."""
    (directory / "audit-000002.jsonl").write_bytes(content)
    log = open_log(directory, segment_bytes=100)
    log.transact(write(accept(1)))
    assert verdict(directory).faults == []
    kinds = [body["kind"] for body in bodies(directory)]
    assert kinds.count("recover") == bool(content)
    assert kinds[-1] == "accept"


def _cut_record(directory: Path) -> None:
    path = newest(directory)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _cut_newline(directory: Path) -> None:
    path = newest(directory)
    path.write_bytes(path.read_bytes()[:-1])


def _change(directory: Path) -> None:
    path = newest(directory)
    path.write_bytes(path.read_bytes().replace(b'"p1"', b'"p7"'))


def _remove_segment(directory: Path) -> None:
    newest(directory).unlink()


def _remove_checkpoint(directory: Path) -> None:
    (directory / "checkpoint.json").unlink()


def _forge_checkpoint(directory: Path) -> None:
    path = directory / "checkpoint.json"
    path.write_text(path.read_text().replace('"seq":3', '"seq":2'))


_DAMAGE = [_cut_record, _cut_newline, _remove_segment, _remove_checkpoint, _forge_checkpoint]


# A writer does not read again what it has checked, so an old record that is edited while it runs is left to verify.
@pytest.mark.parametrize(
    ("damage", "running"), [*((each, False) for each in [*_DAMAGE, _change]), *((each, True) for each in _DAMAGE)]
)
def test_nothing_is_answered_on_a_log_that_was_changed(
    directory: Path, damage: Callable[[Path], None], *, running: bool
) -> None:
    """A log that was cut or edited before its checkpoint is not continued, and no answer leaves; verify says why."""
    log = open_log(directory)
    for number in (1, 2, 3):
        log.transact(write(accept(number)))
    damage(directory)
    if not running:
        log = open_log(directory)
    with pytest.raises(AuditError) as caught:
        log.transact(write(accept(4)))
    assert caught.value.kind in {"broken", "gone"}
    assert b"p4" not in b"".join(path.read_bytes() for path in directory.iterdir())


def test_a_log_rolled_back_with_its_checkpoint_needs_one_from_elsewhere(directory: Path) -> None:
    """The stated limit: both files of an hour ago are sound by themselves."""
    log = open_log(directory)
    log.transact(write(accept(1)))
    earlier = {path: path.read_bytes() for path in directory.iterdir()}
    log.transact(write(accept(2)))
    kept = log.checkpoint()
    for path, data in earlier.items():
        path.write_bytes(data)
    assert verdict(directory).faults == []
    read = [(path.name, path.read_bytes()) for path in segments(directory)]
    assert "it was cut" in verify(read, KEY.public(), {"kept": kept}).faults[0].message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("step", range(3))
def test_a_failing_disk_gives_no_answer_and_loses_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: int
) -> None:
    """Whichever sync fails: no answer, and when the disk works again the log goes on and verifies."""
    log = open_log(directory)
    log.transact(write(accept(1)))
    calls = itertools.count()

    def sync(descriptor: int) -> None:
        if next(calls) == step:
            raise OSError(number, os.strerror(number))
        os.fsync(descriptor)

    monkeypatch.setattr(log, "_sync", sync)
    with pytest.raises(AuditError) as caught:
        log.transact(write(accept(2)))
    assert caught.value.kind == {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EROFS: "gone"}.get(number, "failed")
    monkeypatch.setattr(log, "_sync", os.fsync)
    log.transact(write(accept(3)))
    assert verdict(directory).faults == []
    names = {body.get("principal") for body in bodies(directory)}
    assert {"p1", "p3"} <= names


@pytest.mark.parametrize("kept", [0, 1, 40])
def test_a_write_that_was_cut_short_is_told_of(directory: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """A full disk takes a part of the line: no answer, and the part is taken away later with a record of it."""
    log = open_log(directory)
    log.transact(write(accept(1)))

    def write_all(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:kept])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tokenweir.adapters.auditlog.write_all", write_all)
    with pytest.raises(AuditError, match="full"):
        log.transact(write(accept(2)))
    monkeypatch.undo()
    log.transact(write(accept(3)))
    kinds = [body["kind"] for body in bodies(directory)]
    assert kinds == ["genesis", "accept", *(["recover"] if kept else []), "accept"]
    assert verdict(directory).faults == []


@pytest.mark.skipif(os.getuid() != 0 or not Path("/bin/mount").exists(), reason="mounting a file system needs root")
def test_a_really_full_disk(tmp_path: Path) -> None:
    """A file system of 64 kB fills up: the first record that does not fit is not answered, all others verify."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        log = open_log(place / "audit")
        log.create()
        answered = 0
        kind = None
        while kind is None and answered < 1000:
            try:
                log.transact(write(accept(answered)))
                answered += 1
            except AuditError as error:
                kind = error.kind
        assert kind == "full"
        assert answered > 20
        with pytest.raises(AuditError):
            log.transact(write(accept(answered)))
        subprocess.run(["/bin/mount", "-o", "remount,size=256k", str(place)], check=True)
        log.transact(write(accept(9999)))
        assert verdict(place / "audit").faults == []
        assert {f"p{number}" for number in range(answered)} <= {
            body.get("principal") for body in bodies(place / "audit")
        }
    finally:
        subprocess.run(["/bin/umount", str(place)], check=True)


def test_a_directory_that_is_gone_gives_no_answer(directory: Path) -> None:
    """Removed while it runs: an open file would still take bytes, and nobody would ever see them."""
    log = open_log(directory)
    log.transact(write(accept(1)))
    moved = directory.with_name("moved")
    directory.rename(moved)
    with pytest.raises(AuditError) as caught:
        log.transact(write(accept(2)))
    assert caught.value.kind == "gone"
    directory.mkdir()
    with pytest.raises(AuditError) as caught:
        log.transact(write(accept(2)))
    assert caught.value.kind == "broken"
    directory.rmdir()
    moved.rename(directory)
    log.transact(write(accept(3)))
    assert [body.get("principal") for body in bodies(directory)] == [None, "p1", "p3"]


def test_a_segment_that_is_removed_while_it_is_written_gives_no_answer(directory: Path) -> None:
    """Removed between the write and the sync: the bytes are nowhere."""
    log = open_log(directory)

    def sync(descriptor: int) -> None:
        os.fsync(descriptor)
        newest(directory).unlink(missing_ok=True) if segments(directory) else None

    log._sync = sync
    with pytest.raises(AuditError) as caught:
        log.transact(write(accept(1)))
    assert caught.value.kind == "broken"


def test_a_slow_disk_is_told_in_time(directory: Path) -> None:
    """A sync that hangs: every caller gets `slow` after the limit, a queued one leaves no record, and it goes on."""
    release = threading.Event()
    hanging = threading.Event()

    def sync(descriptor: int) -> None:
        if hanging.is_set():
            release.wait(20)
        os.fsync(descriptor)

    audit = AuditThread(open_log(directory, sync=sync), 1.0)
    audit.transact(write(accept(1)))
    hanging.set()
    started = time.monotonic()
    for number in (2, 3):
        with pytest.raises(AuditError) as caught:
            audit.transact(write(accept(number)))
        assert caught.value.kind == "slow"
    assert time.monotonic() - started < 10
    hanging.clear()
    release.set()
    for _ in range(100):
        try:
            audit.transact(write(accept(4)))
        except AuditError:
            time.sleep(0.05)
        else:
            break
    names = [body.get("principal") for body in bodies(directory)]
    assert "p3" not in names  # It had not begun; p2 had, and is recorded though unanswered.
    assert names[:3] == [None, "p1", "p2"]
    assert names[-1] == "p4"
    assert verdict(directory).faults == []


def test_too_many_who_wait_are_refused_at_once(directory: Path) -> None:
    """Behind a disk that hangs no endless queue grows."""
    release = threading.Event()

    def sync(descriptor: int) -> None:
        release.wait(20)
        os.fsync(descriptor)

    audit = AuditThread(open_log(directory, sync=sync), 0.01)
    kinds = set()
    for _ in range(80):
        with pytest.raises(AuditError) as caught:
            audit.transact(write(accept(1)))
        kinds.add(str(caught.value))
    release.set()
    assert any("too many callers" in text for text in kinds)


def test_another_writer_that_holds_the_lock_is_waited_for_in_vain(directory: Path) -> None:
    """A writer that is stopped holds the lock: `slow`, not for ever."""
    script = (
        "import fcntl,os,sys,time\n"
        f"d=os.open({str(directory)!r},os.O_RDONLY)\nfcntl.flock(d,fcntl.LOCK_EX)\nprint('held',flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(AuditError) as caught:
                open_log(directory).transact(write(accept(1)))
            assert caught.value.kind == "slow"
        finally:
            other.kill()


def test_time_in_the_log_never_goes_back(directory: Path) -> None:
    """A clock that is set back refreshes no budget: the log's time stays."""
    clock = Clock()
    log = open_log(directory, clock=clock)
    clock.now_ms += 5000
    log.transact(write(accept(1)))
    clock.now_ms -= 60_000_000
    assert log.transact(lambda _ledger, now_ms: ((accept(2),), now_ms)) == NOW_MS + 5000
    assert verdict(directory).faults == []


def test_no_log_is_begun_in_the_place_of_another(directory: Path) -> None:
    """Neither beside segments nor beside a checkpoint, and none is begun by itself."""
    with pytest.raises(AuditError, match="already"):
        open_log(directory).create()
    newest(directory).unlink()
    with pytest.raises(AuditError, match="already"):
        open_log(directory).create()
    with pytest.raises(AuditError) as caught:
        open_log(directory.with_name("none")).transact(write(accept()))
    assert caught.value.kind == "gone"


_WORKER = """
import os, sys
from pathlib import Path
from tokenweir.adapters.auditfiles import SigningKey
from tokenweir.adapters.auditlog import AuditLog

directory, name, limit, die = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
calls = 0
def sync(descriptor):
    global calls
    calls += 1
    if calls == die:
        os.kill(os.getpid(), 9)
    os.fsync(descriptor)

log = AuditLog(directory, directory / "checkpoint.json", SigningKey(bytes(range(32))), lambda: 1764600000000,
               lock_seconds=60, sync=sync, segment_bytes=int(sys.argv[5]))
def decide(ledger, now_ms):
    answers, _ = ledger.used("p", "c", 86400000, now_ms)
    if answers >= limit:
        return (), False
    body = {"kind": "answer", "id": name, "principal": "p", "classes": ["c"], "tokens": [name], "case": None}
    return (body,), True
while log.transact(decide):
    print(name, flush=True)
"""


def _work(directory: Path, name: str, limit: int, die: int = 0, segment_bytes: int = 20_000) -> subprocess.Popen[bytes]:
    numbers = map(str, (limit, die, segment_bytes))
    return subprocess.Popen([sys.executable, "-c", _WORKER, str(directory), name, *numbers], stdout=subprocess.PIPE)


def test_a_budget_is_exact_among_processes(directory: Path) -> None:
    """Three processes answer as fast as they can: together exactly as often as the budget says."""
    workers = [_work(directory, name, 60) for name in "abc"]
    answers = [worker.communicate(timeout=120)[0].split() for worker in workers]
    assert sum(map(len, answers)) == 60
    assert [body["kind"] for body in bodies(directory)].count("answer") == 60
    assert verdict(directory).faults == []


@pytest.mark.parametrize(
    ("die", "segment_bytes"),
    [*((number, 20_000) for number in range(1, 5)), *((number, 500) for number in range(1, 10))],
)
def test_a_budget_holds_whenever_a_process_is_killed(directory: Path, die: int, segment_bytes: int) -> None:
    """SIGKILL at each sync: no answer without its record, never more answers than the budget, and the log verifies."""
    first = _work(directory, "a", 5, die, segment_bytes).communicate(timeout=60)[0].split()
    recorded = [body["kind"] for body in bodies(directory)].count("answer")
    assert len(first) <= recorded
    second = _work(directory, "b", 5, 0, segment_bytes).communicate(timeout=60)[0].split()
    assert len(first) + len(second) <= 5
    assert [body["kind"] for body in bodies(directory)].count("answer") == 5
    assert verdict(directory).faults == []


def test_signing_keys(tmp_path: Path) -> None:
    """A key is made once, for its owner only, with its public key beside it; a wrong file is refused."""
    path = tmp_path / "keys" / "audit.key"
    made = make_signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_signing_key(path).sign(b"x") == made.sign(b"x")
    read_public_key(public_key_path(path)).verify(made.sign(b"x"), b"x")
    with pytest.raises(KeysError, match="not replaced"):
        make_signing_key(path)
    path.chmod(0o640)
    with pytest.raises(KeysError, match="chmod 600"):
        read_signing_key(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(KeysError, match="32 bytes"):
        read_signing_key(path)
    with pytest.raises(KeysError, match="audit init"):
        read_signing_key(tmp_path / "none")
    for content in (b"", b"-----BEGIN PUBLIC KEY-----\n"):
        path.write_bytes(content)
        with pytest.raises(FileFormatError):
            read_public_key(path)
    with pytest.raises(FileFormatError):
        read_public_key(tmp_path / "none")


def test_a_signing_key_shows_nothing() -> None:
    """Neither by repr nor by pickle."""
    import pickle  # noqa: PLC0415 - it must refuse.

    assert repr(KEY) == "<SigningKey>"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_faults_have_one_word_each() -> None:
    """Every kind of fault has its sentence, and the word is a label of a metric."""
    assert set(auditfiles._SAID) == {"full", "slow", "gone", "broken", "failed"}
