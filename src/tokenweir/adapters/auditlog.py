"""Appending to the audit log: one writer at a time, durable before anybody is answered, truthful after a crash.

Every change runs under an exclusive lock of the directory (flock), after the writer has read and checked what other
processes appended, so a budget is exact for the command line and any number of servers on one machine together. The
order is fixed: the line is written and synced, then the checkpoint beside it, then the caller is told. So

- what the checkpoint does not reach was never answered: a torn line behind it is taken away, and a `recover` record
  says so with length and digest of what was taken;
- a log that ends before its checkpoint, or differs from it, was cut or replaced: nothing is appended to it any more.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from tokenweir.adapters.auditfiles import (
    AuditError,
    SigningKey,
    Sync,
    audit_fault,
    public_hex,
    read_checkpoint,
    segment_name,
    segment_number,
    segments,
    sync_directory,
    write_all,
    write_checkpoint,
)
from tokenweir.core.detokenize.chain import (
    START,
    Body,
    ChainError,
    Checkpoint,
    Kind,
    Position,
    Record,
    check_signature,
    decode,
    encode,
    first_record,
)
from tokenweir.core.detokenize.ledger import Ledger
from tokenweir.core.detokenize.models import LONGEST_WINDOW_MS

Result = TypeVar("Result")
#: Decides under the lock: gets the state and the log's time, gives the records to append and what to hand back.
Decide = Callable[[Ledger, int], tuple[Sequence[Body], Result]]

_POLL_SECONDS: Final = 0.005


class _Placed(NamedTuple):
    """A record and where its line ends in its segment."""

    record: Record
    segment: int
    end: int


@dataclass(slots=True)
class _State:
    """What a writer knows of the log as of its last look."""

    log: str
    segment: int
    size: int
    inode: int
    last: Record
    ledger: Ledger = field(default_factory=Ledger)


class AuditLog:
    """One audit log on disk.

    Args:
        directory: Where the segments are.
        checkpoint: The file of the checkpoint beside it; better on another disk.
        key: Signs every record.
        clock: Milliseconds since 1970.
        segment_bytes: A segment that is longer gets a successor.
        lock_seconds: How long to wait for another writer.
        sync: Makes a file durable; :func:`os.fsync` but in tests.
    """

    def __init__(  # noqa: PLR0913 - the parts of a log, and its surroundings.
        self,
        directory: Path,
        checkpoint: Path,
        key: SigningKey,
        clock: Callable[[], int],
        *,
        segment_bytes: int = 16 * 1024 * 1024,
        lock_seconds: float = 5,
        sync: Sync = os.fsync,
    ) -> None:
        self._directory = directory
        self._checkpoint_path = checkpoint
        self._key = key
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._lock_seconds = lock_seconds
        self._sync = sync
        self._state: _State | None = None

    def create(self) -> str:
        """Begin a log in an empty or new directory; return its id.

        Raises:
            AuditError: there is a log already, or it cannot be written.
        """
        log = secrets.token_hex(16)
        body = {"kind": Kind.GENESIS, "log": log, "key": public_hex(self._key.public())}
        try:
            for directory in (self._directory, self._checkpoint_path.parent):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                if segments(self._directory) or self._checkpoint_path.exists():
                    raise AuditError("broken", "there is a log or a checkpoint already, and none is begun anew")
                line, record = encode(log, START, self._clock(), body, self._key.sign)
                self._write_new(1, line)
                write_checkpoint(self._checkpoint_path, self._checkpoint(log, record), self._sync)
        except OSError as error:
            raise audit_fault(error) from None
        return log

    def transact(self, decide: Decide[Result]) -> Result:
        """Decide and append under the lock, and return only when every record and the checkpoint are durable.

        The log's time never goes back, whatever the clock does.

        Raises:
            AuditError: nothing may be answered; whether a record was written is not known, and the next look at the log
                will tell.
        """
        try:
            with self._locked():
                state = self._look()
                now_ms = max(self._clock(), state.last.time_ms)
                bodies, result = decide(state.ledger, now_ms)
                self._append(state, bodies, now_ms)
                return result
        except ChainError as error:
            self._state = None
            raise AuditError("broken", str(error)) from None
        except OSError as error:
            self._state = None
            raise audit_fault(error) from None
        except BaseException:
            self._state = None
            raise

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint of the log's last record, after a look at the log.

        Raises:
            AuditError: the log cannot be read, or is not what it was.
        """
        self.transact(lambda _ledger, _now_ms: ((), None))
        state = self._state
        assert state is not None  # noqa: S101 - a transaction without an error leaves its state.
        return self._checkpoint(state.log, state.last)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the directory alone."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + self._lock_seconds
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise AuditError("slow", "another writer holds it") from None
                    time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _look(self) -> _State:
        """Bring the state up to what is on disk."""
        state = self._state
        if state is None or not self._follow(state):
            state = self._state = self._open()
        return state

    def _follow(self, state: _State) -> bool:
        """Take what others appended to the segment that the state is in; say whether that was all and in order."""
        checkpoint = read_checkpoint(self._checkpoint_path, self._key.public())
        path = self._directory / segment_name(state.segment)
        if checkpoint is None or (self._directory / segment_name(state.segment + 1)).exists():
            return False
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != state.inode or status.st_size < state.size:
                return False
            file.seek(state.size)
            data = file.read()
        record = state.last
        for line in data.splitlines(keepends=True):
            try:
                record = decode(line, record.position, record.time_ms)
                check_signature(state.log, record, self._key.public())
            except ChainError:
                return False
            state.ledger.apply(record)
            state.last, state.size = record, state.size + len(line)
        return checkpoint.position == record.position and checkpoint.log == state.log

    def _open(self) -> _State:
        """Read the log as far back as budgets look, settle what a crash left behind, and refuse what was changed.

        Raises:
            ChainError: the log was changed.
        """
        checkpoint = read_checkpoint(self._checkpoint_path, self._key.public())
        files = segments(self._directory)
        if checkpoint is None or not files:
            raise ChainError(
                "log or checkpoint is missing; `tokenweir audit init` begins a log where there never was one"
            )
        placed, torn = self._read(files, checkpoint)
        committed = [entry for entry in placed if entry.record.position.seq <= checkpoint.position.seq]
        if not committed or committed[-1].record.position != checkpoint.position:
            raise ChainError("the log ends before its checkpoint or differs from it: it was cut or rewritten")
        tail = placed[len(committed) :]
        last = placed[-1]
        state = _State(checkpoint.log, last.segment, last.end, 0, last.record)
        for entry in tail:  # Of what stands before the checkpoint the chain and the checkpoint's signature vouch.
            check_signature(checkpoint.log, entry.record, self._key.public())
        for entry in placed:
            state.ledger.apply(entry.record)
        if tail or torn or segment_number(files[-1]) != last.segment:
            self._settle(committed[-1], tail, torn, files)
            write_checkpoint(self._checkpoint_path, self._checkpoint(state.log, state.last), self._sync)
        state.inode = (self._directory / segment_name(state.segment)).stat().st_ino
        if torn:
            body = {"kind": Kind.RECOVER, "bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
            self._append(state, [body], max(self._clock(), state.last.time_ms))
        return state

    def _read(self, files: Sequence[Path], checkpoint: Checkpoint) -> tuple[list[_Placed], bytes]:
        """Return the records that matter from the newest segments, and the bytes at the end that are no record."""
        oldest_ms = min(self._clock(), checkpoint.time_ms) - LONGEST_WINDOW_MS
        chosen: list[tuple[Path, bytes]] = []
        for path in reversed(files):
            data = path.read_bytes()
            chosen.insert(0, (path, data))
            first = first_record(data)
            if first is not None and first.time_ms <= oldest_ms and first.position.seq <= checkpoint.position.seq:
                break
        placed: list[_Placed] = []
        for index, (path, data) in enumerate(chosen):
            torn = self._read_segment(path, data, placed, first=index == 0)
            if torn:
                if index != len(chosen) - 1:
                    raise ChainError(f"{path.name} was changed: it does not end with a record")
                return placed, torn
        return placed, b""

    @staticmethod
    def _read_segment(path: Path, data: bytes, placed: list[_Placed], *, first: bool) -> bytes:
        """Add the records of a segment; return what follows the last line that is one."""
        end = 0
        for line in data.splitlines(keepends=True):
            # A line that is whole but for its newline was signed, so it is a record; settling writes it anew.
            whole = line if line.endswith(b"\n") else line + b"\n"
            if placed:
                before, before_ms = placed[-1].record.position, placed[-1].record.time_ms
            elif first and (head := first_record(data)) is not None:
                before, before_ms = Position(head.position.seq - 1, str(head.body["prev"])), 0
            else:
                before, before_ms = START, 0
            try:
                record = decode(whole, before, before_ms)
            except ChainError:
                break
            end += len(whole)
            placed.append(_Placed(record, segment_number(path), end))
        return data[end:]

    def _settle(self, committed: _Placed, tail: Sequence[_Placed], torn: bytes, files: Sequence[Path]) -> None:
        """Write what stands behind the checkpoint once more, because a sync that failed may have lost it."""
        for path in files:
            number = segment_number(path)
            if number < committed.segment:
                continue
            start = committed.end if number == committed.segment else 0
            kept = [entry.end for entry in tail if entry.segment == number]
            data = path.read_bytes()[start:]
            if kept:
                data = (data + b"\n")[: kept[-1] - start]
            elif torn or number > committed.segment:
                data = b""
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.ftruncate(descriptor, start)
                os.lseek(descriptor, start, os.SEEK_SET)
                write_all(descriptor, data)
                self._sync(descriptor)
            finally:
                os.close(descriptor)
            if not start and not data:
                path.unlink()  # A segment that was begun and got no record.
        sync_directory(self._directory, self._sync)

    def _append(self, state: _State, bodies: Sequence[Body], now_ms: int) -> None:
        """Write records and make them durable, then the checkpoint; only then does the state have them."""
        if not bodies:
            return
        if state.size >= self._segment_bytes:
            self._rotate(state, now_ms)
        lines, records, before = [], [], state.last.position
        for body in bodies:
            line, record = encode(state.log, before, now_ms, body, self._key.sign)
            lines.append(line)
            records.append(record)
            before = record.position
        data = b"".join(lines)
        path = self._directory / segment_name(state.segment)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if status.st_ino != state.inode or status.st_size != state.size:
                raise ChainError("the segment was exchanged")
            write_all(descriptor, data)
            self._sync(descriptor)
            if os.fstat(descriptor).st_nlink == 0:
                raise ChainError("the segment was removed")
        finally:
            os.close(descriptor)
        write_checkpoint(self._checkpoint_path, self._checkpoint(state.log, records[-1]), self._sync)
        if path.stat().st_ino != state.inode:
            raise ChainError("the segment was exchanged")
        for record in records:
            state.ledger.apply(record)
        state.last, state.size = records[-1], state.size + len(data)

    def _rotate(self, state: _State, now_ms: int) -> None:
        """Begin the next segment with what must outlive this one."""
        body: dict[str, Any] = {"kind": Kind.SEGMENT, "log": state.log, "carried": state.ledger.carried()}
        line, record = encode(state.log, state.last.position, now_ms, body, self._key.sign)
        state.inode = self._write_new(state.segment + 1, line)
        write_checkpoint(self._checkpoint_path, self._checkpoint(state.log, record), self._sync)
        state.segment, state.size, state.last = state.segment + 1, len(line), record

    def _write_new(self, number: int, line: bytes) -> int:
        """Make a segment with its first line, durable with its name; return its inode."""
        path = self._directory / segment_name(number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, line)
            self._sync(descriptor)
            inode = os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)
        sync_directory(self._directory, self._sync)
        return inode

    @staticmethod
    def _checkpoint(log: str, record: Record) -> Checkpoint:
        return Checkpoint(log, record.position, record.time_ms, record.signature)
