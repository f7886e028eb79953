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
        try:
            entry = self._transaction.get(key)
            return UNKNOWN if entry is None else consent_of(seal, key, bytes(entry))
        except (lmdb.Error, StoreCorruptError) as error:
            raise self._reader.damage(error) from None

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

    def reader_check(self) -> int:
        """Free the pages that killed readers had pinned; return the number of those readers."""
        with lmdb_errors():
            return 0 if self._environment is None else self._environment.reader_check()

    def close(self) -> None:
        """Close the store; a later snapshot opens it again."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def damage(self, error: lmdb.Error | StoreError) -> StoreError:
        """Return what is to be raised for an error, and tell the writer if it means damage."""
        found = store_error(error) if isinstance(error, lmdb.Error) else error
        if isinstance(found, StoreCorruptError):
            with suppress(OSError):
                files.report_corrupt(self._directory, self._inode)
        return found

    def _current_environment(self) -> lmdb.Environment:
        """Return the environment of the data file that is there now: a rebuild replaces the file."""
        inode = files.inode(self._directory)
        if self._environment is None or inode != self._inode:
            self.close()
            if not inode:
                raise StoreUnavailableError("there is no consent store")
            self._inode = inode
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

    def _meta(self, transaction: lmdb.Transaction) -> StoreMeta:
        entry = bytes(transaction.get(META, b""))
        if entry and entry != self._last[0]:
            self._last = entry, StoreMeta.from_bytes(self.seal.open(META, entry))
        meta = self._last[1]
        if not entry or not meta.complete:
            raise StoreUnavailableError("the consent store is not restored yet")
        return meta
