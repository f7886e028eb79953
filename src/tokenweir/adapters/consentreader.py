"""A worker's side of the consent store: snapshots of it, in each of which subjects are looked up."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb

from tokenweir.adapters import consentfiles as files
from tokenweir.adapters.consentfiles import (
    MAP_BYTES,
    MAX_READERS,
    META,
    Seal,
    StoreCorruptError,
    StoreError,
    StoreMeta,
    StoreUnavailableError,
    consent_of,
    lmdb_errors,
    store_error,
)
from tokenweir.adapters.readersigns import ReaderSign
from tokenweir.core.consent import DENIED, UNKNOWN, SubjectConsent
from tokenweir.core.subjects import Subject


class ConsentSnapshot:
    """The store as it is at one position; to be closed, best as a context manager.

    Attributes:
        topic_id: The consent topic.
        generation: Another number after every rebuild of the store.
        position: The next offset to apply, by partition: everything below is in the snapshot.
        blocked: Consent partitions with a key that could not be read; while there is one, all subjects are denied.
    """

    def __init__(self, reader: ConsentStoreReader, transaction: lmdb.Transaction, meta: StoreMeta) -> None:
        self._reader = reader
        self._seal = reader.seal
        self._transaction = transaction
        self.topic_id = meta.topic_id
        self.generation = meta.generation
        self.position = meta.position
        self.blocked = frozenset(meta.blocked)

    def lookup(self, subject: Subject) -> SubjectConsent:
        """Return what is known of a subject; nothing, where the topic has no record of it.

        Raises:
            StoreCorruptError: Its entry is damaged. The writer is told.
        """
        if self.blocked:
            return DENIED
        seal = self._seal
        key = seal.id_of(subject)
        self._reader.enter()
        try:
            entry = self._transaction.get(key)
            if entry is None:
                self._prove_absent(key)
                return UNKNOWN
            return consent_of(seal, key, bytes(entry))
        except (lmdb.Error, StoreCorruptError) as error:
            raise self._reader.damage(error) from None
        finally:
            self._reader.leave()

    def _prove_absent(self, key: bytes) -> None:
        """Check that the two entries between which this key would stand are genuine and in order.

        Unknown is an answer that some legal bases take for yes. A key that was damaged on a page leads the search
        astray, and then its neighbours there are out of order, or one of them has no valid MAC.

        Raises:
            StoreCorruptError: They are not.
        """
        with self._transaction.cursor() as cursor:
            more = cursor.set_range(key)
            if more:
                self._check_neighbour(cursor, after=key)
            if cursor.prev() if more else cursor.last():
                self._check_neighbour(cursor, before=key)

    def _check_neighbour(self, cursor: lmdb.Cursor, *, before: bytes = b"", after: bytes = b"") -> None:
        found = bytes(cursor.key())
        if (before and found >= before) or (after and found <= after):
            raise StoreCorruptError("entries of the consent store are out of order")
        self._seal.open(found, bytes(cursor.value()))

    def close(self) -> None:
        """Let go of the snapshot, so that its pages can be used again."""
        self._transaction.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ConsentStoreReader:
    """A process's view of the store. Not thread-safe; one snapshot at a time.

    LMDB allows one open environment per file and process, so a process has one reader, or the writer.
    """

    def __init__(self, directory: Path, id_key: bytes, mac_key: bytes, *, map_bytes: int = MAP_BYTES) -> None:
        """Prepare; the store is opened by the first snapshot. The parameters are the writer's."""
        self.seal = Seal(id_key, mac_key)
        self._directory = directory
        self._map_bytes = map_bytes
        self._environment: lmdb.Environment | None = None
        self._inode = 0
        self._sign: ReaderSign | None = None
        self._last: tuple[bytes, StoreMeta] = (b"", StoreMeta.new("", 0, 0))

    def snapshot(self) -> ConsentSnapshot:
        """Return the store as it is now.

        Raises:
            StoreUnavailableError: There is none, or it has not been restored yet.
            StoreCorruptError: It is damaged. The writer is told and rebuilds it.
        """
        transaction = None
        try:
            transaction = self._current_environment().begin()
            return ConsentSnapshot(self, transaction, self._meta(transaction))
        except BaseException as error:
            if transaction is not None:
                transaction.abort()
            if isinstance(error, (lmdb.Error, StoreCorruptError)):
                raise self.damage(error) from None
            raise
        finally:
            self.leave()

    def enter(self) -> None:
        """Say that LMDB is going to run; if the process dies of it, the writer rebuilds the store."""
        if self._sign is not None:
            self._sign.enter(self._inode)

    def leave(self) -> None:
        """Say that LMDB came back."""
        if self._sign is not None:
            self._sign.leave()

    def reader_check(self) -> int:
        """Free the pages that killed readers had pinned; return the number of those readers."""
        with lmdb_errors():
            return 0 if self._environment is None else self._environment.reader_check()

    def close(self) -> None:
        """Close the store; a later snapshot opens it again."""
        self._close_environment()
        if self._sign is not None:
            self._sign.close()
            self._sign = None

    def damage(self, error: lmdb.Error | StoreError) -> StoreError:
        """Return what is to be raised for an error, and tell the writer if it means damage."""
        found = store_error(error) if isinstance(error, lmdb.Error) else error
        if isinstance(found, StoreCorruptError):
            with suppress(OSError):
                files.report_corrupt(self._directory, self._inode)
        return found

    def _current_environment(self) -> lmdb.Environment:
        """Enter, and return the environment of the data file that is there now: a rebuild replaces the file."""
        inode = files.inode(self._directory)
        if inode != self._inode:
            self._close_environment()
            self._inode = inode
        if not inode:
            raise StoreUnavailableError("there is no consent store")
        if self._sign is None:
            self._sign = self._new_sign()
        self.enter()
        if self._environment is None:
            self._environment = lmdb.open(
                str(self._directory),
                map_size=self._map_bytes,
                readonly=True,
                create=False,
                readahead=False,
                max_readers=MAX_READERS,
                max_spare_txns=1,
            )
        return self._environment

    def _close_environment(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _new_sign(self) -> ReaderSign:
        try:
            return ReaderSign(self._directory)
        except OSError as error:
            raise StoreUnavailableError(f"a reader of the consent store cannot sign in ({error.strerror})") from None

    def _meta(self, transaction: lmdb.Transaction) -> StoreMeta:
        entry = bytes(transaction.get(META, b""))
        if entry and entry != self._last[0]:
            meta = StoreMeta.from_bytes(self.seal.open(META, entry))
            if meta.is_behind(self._last[1]):
                raise StoreCorruptError("the consent store has lost what it had")
            self._last = entry, meta
        meta = self._last[1]
        if not entry or not meta.complete:
            raise StoreUnavailableError("the consent store is not restored yet")
        return meta
