"""A worker's side of the consent store: snapshots of it, in each of which subjects are looked up."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tokenweir.adapters import consentfiles as files
from tokenweir.adapters.consentbinding import (
    Environment,
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
    View,
    native_seal,
    open_environment,
)
from tokenweir.adapters.consentfiles import MAP_BYTES, META, Seal, StoreMeta, consent_of
from tokenweir.adapters.readersigns import ReaderSign
from tokenweir.core.consent import DENIED, UNKNOWN, SubjectConsent
from tokenweir.core.subjects import Subject

if TYPE_CHECKING:
    from tokenweir._native import ConsentLookups


class ConsentSnapshot:
    """The store as it is at one position; to be closed, best as a context manager.

    Attributes:
        topic_id: The consent topic.
        generation: Another number after every rebuild of the store.
        position: The next offset to apply, by partition: everything below is in the snapshot.
        blocked: Consent partitions with a key that could not be read; while there is one, all subjects are denied.
    """

    def __init__(self, reader: ConsentStoreReader, view: View, meta: StoreMeta) -> None:
        self._reader = reader
        self._seal = reader.seal
        self._view = view
        self.topic_id = meta.topic_id
        self.generation = meta.generation
        self.position = meta.position
        self.blocked = frozenset(meta.blocked)

    @cached_property
    def lookups(self) -> ConsentLookups | None:
        """What looks subjects up as :meth:`lookup` does, in compiled code; None where the binding is not compiled.

        Who uses it calls :meth:`enter` before and :meth:`leave` after, and raises what :meth:`damage` returns.
        """
        return self._reader.lookups(self._view, denied=bool(self.blocked))

    def __call__(self, subject: Subject) -> SubjectConsent:
        """Return what :meth:`lookup` does: a snapshot is what an engine asks."""
        return self.lookup(subject)

    def lookup(self, subject: Subject) -> SubjectConsent:
        """Return what is known of a subject; nothing, where the topic has no record of it.

        Raises:
            StoreCorruptError: Its entry is damaged. The writer is told.
            StoreUnavailableError: The snapshot is closed.
        """
        if self.blocked:
            return DENIED
        seal = self._seal
        key = seal.id_of(subject)
        self.enter()
        try:
            entry = self._view.get(key)
            if entry is None:
                self._prove_absent(key)
                return UNKNOWN
            return consent_of(seal, key, entry)
        except StoreError as error:
            raise self.damage(error) from None
        finally:
            self.leave()

    def enter(self) -> None:
        """Say that LMDB is going to run; if the process dies of it, the writer rebuilds the store."""
        self._reader.enter()

    def leave(self) -> None:
        """Say that LMDB came back."""
        self._reader.leave()

    def damage(self, error: StoreError) -> StoreError:
        """Return an error, and tell the writer if it means damage."""
        return self._reader.damage(error)

    def _prove_absent(self, key: bytes) -> None:
        """Check that the two entries between which this key would stand are genuine and in order.

        Unknown is an answer that some legal bases take for yes. A key that was damaged on a page leads the search
        astray, and then its neighbours there are out of order, or one of them has no valid MAC.

        Raises:
            StoreCorruptError: They are not.
        """
        before, after = self._view.neighbours(key)
        if (before is not None and before[0] >= key) or (after is not None and after[0] <= key):
            raise StoreCorruptError("entries of the consent store are out of order")
        for neighbour in (before, after):
            if neighbour is not None:
                self._seal.open(*neighbour)

    def close(self) -> None:
        """Let go of the snapshot, so that its pages can be used again."""
        self._view.close()

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

    def __init__(
        self, directory: Path, id_key: bytes, mac_key: bytes, *, engine: str = "reference", map_bytes: int = MAP_BYTES
    ) -> None:
        """Prepare; the store is opened by the first snapshot. The parameters are the writer's."""
        self.seal = Seal(id_key, mac_key)
        self._native_seal = native_seal(engine, id_key, mac_key)
        self.directory = directory
        self._engine = engine
        self._map_bytes = map_bytes
        self._environment: Environment | None = None
        self._inode = 0
        self._sign: ReaderSign | None = None
        self._last: tuple[bytes, StoreMeta] = (b"", StoreMeta.new("", 0, 0))

    def snapshot(self) -> ConsentSnapshot:
        """Return the store as it is now.

        Raises:
            StoreUnavailableError: There is none, or it has not been restored yet.
            StoreCorruptError: It is damaged. The writer is told and rebuilds it.
        """
        view = None
        try:
            view = self._current_environment().read()
            return ConsentSnapshot(self, view, self._meta(view))
        except BaseException as error:
            if view is not None:
                view.close()
            if isinstance(error, StoreError):
                raise self.damage(error) from None
            raise
        finally:
            self.leave()

    def lookups(self, view: View, *, denied: bool) -> ConsentLookups | None:
        """Return what looks subjects up in a view in compiled code; None where the binding is not compiled."""
        if self._native_seal is None:
            return None
        from tokenweir._native import ConsentLookups, ConsentView  # noqa: PLC0415  # It may not be there.

        return ConsentLookups(view, self._native_seal, denied) if isinstance(view, ConsentView) else None

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
        return 0 if self._environment is None else self._environment.reader_check()

    def close(self) -> None:
        """Close the store; a later snapshot opens it again."""
        self._close_environment()
        if self._sign is not None:
            self._sign.close()
            self._sign = None

    def damage(self, error: StoreError) -> StoreError:
        """Return an error, and tell the writer if it means damage."""
        if isinstance(error, StoreCorruptError):
            with suppress(OSError):
                files.report_corrupt(self.directory, self._inode)
        return error

    def _current_environment(self) -> Environment:
        """Enter, and return the environment of the data file that is there now: a rebuild replaces the file."""
        inode = files.inode(self.directory)
        if inode != self._inode:
            self._close_environment()
            self._inode = inode
        if not inode:
            raise StoreUnavailableError("there is no consent store")
        if self._sign is None:
            self._sign = self._new_sign()
        self.enter()
        if self._environment is None:
            self._environment = open_environment(self._engine, self.directory, self._map_bytes, reads_only=True)
        return self._environment

    def _close_environment(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _new_sign(self) -> ReaderSign:
        try:
            return ReaderSign(self.directory)
        except OSError as error:
            raise StoreUnavailableError(f"a reader of the consent store cannot sign in ({error.strerror})") from None

    def _meta(self, view: View) -> StoreMeta:
        entry = view.get(META) or b""
        if entry and entry != self._last[0]:
            meta = StoreMeta.from_bytes(self.seal.open(META, entry))
            if meta.is_behind(self._last[1]):
                raise StoreCorruptError("the consent store has lost what it had")
            self._last = entry, meta
        meta = self._last[1]
        if not entry or not meta.complete:
            raise StoreUnavailableError("the consent store is not restored yet")
        return meta
