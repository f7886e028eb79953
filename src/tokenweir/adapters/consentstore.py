"""The local copy of the consent topic in LMDB: one process writes it, workers read snapshots of it.

Decisions and the position up to which they are applied are one LMDB transaction. Nothing is fsynced meanwhile: what a
process wrote survives its own death in the page cache, and after a crash of the machine the store is rebuilt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from enum import StrEnum
from operator import itemgetter
from pathlib import Path
from typing import Final

from tokenweir.adapters import consentfiles as files
from tokenweir.adapters import readersigns
from tokenweir.adapters.consentbinding import (
    Environment,
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
    all_entries,
    open_environment,
    store_directories,
    store_directory,
)
from tokenweir.adapters.consentfiles import (
    MAP_BYTES,
    META,
    Mark,
    Seal,
    StoreMeta,
    acknowledge,
    boot_id,
    consent_of,
)
from tokenweir.adapters.consentreader import ConsentSnapshot, ConsentStoreReader
from tokenweir.core.consent import Applied, Changes, ConsentRecord, SourceState, encode, merge
from tokenweir.errors import RefusedError

__all__ = [
    "MAX_PARTITIONS",
    "Applied",
    "ConsentRecord",
    "ConsentSnapshot",
    "ConsentStoreReader",
    "ConsentStoreWriter",
    "OpenReason",
    "StoreCorruptError",
    "StoreError",
    "StoreUnavailableError",
    "acknowledge",
    "boot_id",
    "store_directories",
    "store_directory",
]

#: What a position may have for its text to fit beside a committed offset.
MAX_PARTITIONS: Final = 128

#: So often in a row the store may be found unclosed in one boot before damage to it is suspected of the crashes.
MAX_UNCLEAN_OPENS: Final = 3


class OpenReason(StrEnum):
    """Why a store was kept or begun anew."""

    KEPT = "kept"
    NEW = "new"
    TOPIC_CHANGED = "topic_changed"
    PARTITIONS_CHANGED = "partitions_changed"
    OTHER_BOOT = "other_boot"
    TOO_OLD = "too_old"
    CORRUPT = "corrupt"
    UNCLEAN = "unclean"


class ConsentStoreWriter:
    """The one writer of the store. Not thread-safe.

    Every method may raise :class:`StoreCorruptError`, after which :meth:`wipe` begins it anew, and
    :class:`StoreUnavailableError` if the disk does not take it.
    """

    def __init__(  # noqa: PLR0913  # The last three have defaults that fit.
        self,
        directory: Path,
        id_key: bytes,
        mac_key: bytes,
        boot_id: str,
        *,
        purposes: frozenset[str] | None = None,
        engine: str = "reference",
        map_bytes: int = MAP_BYTES,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            directory: The store's own directory in the state directory, made if it is missing. What was acknowledged
                lies beside it.
            id_key: At least 32 bytes, for the names of entries.
            mac_key: At least 32 bytes, for their MACs.
            boot_id: See :func:`boot_id`.
            purposes: Those that the policy knows, to count others; None counts nothing.
            engine: ``native`` or ``reference``, whose binding of LMDB is used; see :func:`store_directory`.
            map_bytes: The most that the store can ever hold.
        """
        self._directory = directory
        self._seal = Seal(id_key, mac_key)
        self._boot_id = boot_id
        self._purposes = purposes
        self._engine = engine
        self._map_bytes = map_bytes
        self._owner: int | None = None
        self._environment: Environment | None = None
        self._meta = StoreMeta.new("", 0, 0)
        self._meta_entry: bytes | None = None
        self._acknowledged: Mapping[int, int] = {}
        self._told_blocked: tuple[str, Mapping[int, int]] | None = None

    @property
    def position(self) -> tuple[int, ...]:
        """The next offset to apply, by partition."""
        return self._meta.position

    @property
    def complete(self) -> bool:
        """Whether it has been restored once since it was begun."""
        return self._meta.complete

    @property
    def generation(self) -> int:
        """Another number after every rebuild."""
        return self._meta.generation

    @property
    def current_at_ms(self) -> int:
        """The last time at which nothing was missing from it, in milliseconds since 1970."""
        return self._meta.current_at_ms

    @property
    def blocked(self) -> frozenset[int]:
        """Consent partitions with a key that could not be read; while there is one, all subjects are denied."""
        return frozenset(self._meta.blocked)

    @property
    def blocked_at(self) -> Mapping[int, int]:
        """By blocked partition, the offset of the last record that has to be acknowledged."""
        return self._meta.blocked

    def claim(self) -> None:
        """Make the directory this writer's own until it is closed; :meth:`open` does it too.

        Raises:
            RefusedError: Another process has the store open.
        """
        if self._owner is None:
            self._owner = files.own(self._directory)

    def open(self, topic_id: str, partitions: int, max_age_ms: int, now_ms: int) -> OpenReason:
        """Open the store, keep what is in it if it can be trusted, and begin it anew otherwise.

        Args:
            topic_id: The consent topic as it is now.
            partitions: How many it has.
            max_age_ms: For how long a store may have been away from the topic: half of ``delete.retention.ms``, after
                which it might have missed a tombstone.
            now_ms: Milliseconds since 1970.

        Raises:
            RefusedError: The topic has too many partitions, or another process has the store open.
        """
        if not 1 <= partitions <= MAX_PARTITIONS:
            raise RefusedError(f"the consent topic must have 1 to {MAX_PARTITIONS} partitions, it has {partitions}")
        self.claim()
        self._acknowledged = files.acknowledged(self._directory.parent, topic_id)
        reason, opens = self._judge_files()
        # This has to be on the disk before the first page is written.
        Mark(self._boot_id, clean=False, opens=opens + 1).write(self._directory, self._seal)
        if reason is OpenReason.KEPT:
            reason = self._open_kept(topic_id, partitions, max_age_ms, now_ms)
        if reason is not OpenReason.KEPT:
            self._begin(topic_id, partitions, now_ms)
        self._tell_blocked()
        return reason

    def apply(
        self, records: Iterable[ConsentRecord], position: Mapping[int, int], current_at_ms: int | None = None
    ) -> Applied:
        """Apply records in the order of each partition, and make this the position, both or neither.

        Args:
            records: What the consumer gave.
            position: The next offset of the partitions that moved; never smaller than before.
            current_at_ms: A time at which nothing was missing, if it is known.
        """
        changes = Changes(len(self._meta.position), self._seal.name_of, self._purposes, key_id=self._seal.key_id)
        for record in records:
            changes.add(record)
        blocked = {
            partition: offset
            for partition, offset in changes.unreadable.items()
            if offset > self._acknowledged.get(partition, -1)
        }
        meta = replace(
            self._meta,
            position=tuple(
                max(position.get(partition, offset), offset) for partition, offset in enumerate(self._meta.position)
            ),
            current_at_ms=self._meta.current_at_ms if current_at_ms is None else current_at_ms,
            blocked={**self._meta.blocked, **blocked},
        )
        self._write(meta, changes)
        return changes.applied

    def mark_complete(self, now_ms: int) -> None:
        """Say that the store is the whole topic up to its position."""
        self._write(replace(self._meta, complete=True, current_at_ms=now_ms))

    def take_acknowledged(self) -> frozenset[int]:
        """Look for new acknowledgements; return the partitions that are no longer blocked."""
        self._acknowledged = files.acknowledged(self._directory.parent, self._meta.topic_id)
        blocked = {
            partition: offset
            for partition, offset in self._meta.blocked.items()
            if offset > self._acknowledged.get(partition, -1)
        }
        freed = self._meta.blocked.keys() - blocked.keys()
        if freed:
            self._write(replace(self._meta, blocked=blocked))
        return frozenset(freed)

    def settle(self) -> None:
        """Say that the store has been found sound in use, so that later crashes are not blamed on it."""
        Mark(self._boot_id, clean=False, opens=1).write(self._directory, self._seal)

    def corruption_reported(self) -> bool:
        """Whether a reader found damage, or died inside of LMDB, which is how some damage shows."""
        return files.corruption_reported(self._directory) or readersigns.died_inside(
            self._directory, files.inode(self._directory)
        )

    def reader_check(self) -> int:
        """Free the pages that killed readers had pinned; return the number of those readers."""
        return self._opened.reader_check()

    def wipe(self, now_ms: int) -> None:
        """Begin the store anew for the same topic; its generation changes and it is not complete."""
        self._begin(self._meta.topic_id, len(self._meta.position), now_ms)

    def close(self) -> None:
        """Put everything on the disk and mark the store as cleanly closed.

        If the disk does not take it, the store is closed too, and is begun anew when it is opened again.
        """
        try:
            if self._environment is not None:
                self._sync()
                self._close_environment()
                Mark(self._boot_id, clean=True, opens=0).write(self._directory, self._seal)
        finally:
            self._close_environment()
            if self._owner is not None:
                os.close(self._owner)
                self._owner = None

    def _sync(self) -> None:
        try:
            self._opened.sync()
        except StoreError:
            # The system forgets which pages the disk did not take, and reads them later as they were before.
            Mark.remove(self._directory)
            raise

    @property
    def _opened(self) -> Environment:
        if self._environment is None:
            raise StoreUnavailableError("the consent store is not open")
        return self._environment

    def _judge_files(self) -> tuple[OpenReason, int]:
        """Return whether the data file may be opened at all, and how often it was left unclosed in this boot."""
        if not files.inode(self._directory):
            return OpenReason.NEW, 0
        try:
            mark = Mark.read(self._directory, self._seal)
        except StoreCorruptError:
            mark = None
        if mark is None or self.corruption_reported():
            return OpenReason.CORRUPT, 0
        if mark.clean:
            return OpenReason.KEPT, 0
        if mark.boot_id != self._boot_id:
            return OpenReason.OTHER_BOOT, 0
        return (OpenReason.UNCLEAN, 0) if mark.opens >= MAX_UNCLEAN_OPENS else (OpenReason.KEPT, mark.opens)

    def _open_kept(self, topic_id: str, partitions: int, max_age_ms: int, now_ms: int) -> OpenReason:
        try:
            self._open_environment()
            entry, meta = self._read_meta()
            if meta.topic_id != topic_id:
                return OpenReason.TOPIC_CHANGED
            if len(meta.position) != partitions:
                return OpenReason.PARTITIONS_CHANGED
            # A clock that was set back cannot tell the age.
            if not 0 <= now_ms - meta.current_at_ms <= max_age_ms:
                return OpenReason.TOO_OLD
            self._verify(meta)
        except StoreError:
            # Damage shows in many ways. If it was the disk, beginning anew will say so.
            return OpenReason.CORRUPT
        self._meta, self._meta_entry = meta, entry
        self.take_acknowledged()
        return OpenReason.KEPT

    def _read_meta(self) -> tuple[bytes, StoreMeta]:
        with closing(self._opened.read()) as view:
            entry = view.get(META)
        if entry is None:
            raise StoreCorruptError("the consent store does not say what it is")
        return entry, StoreMeta.from_bytes(self._seal.open(META, entry))

    def _verify(self, meta: StoreMeta) -> None:
        """Check every entry and their number: a reader cannot tell a lost entry from a subject without decisions."""
        entries = 0
        last = b""
        with closing(self._opened.read()) as view:
            for key, entry in all_entries(view):
                self._seal.open(key, entry)
                # One that stands in the place of another has a valid MAC too.
                if key <= last:
                    raise StoreCorruptError("entries of the consent store are out of order")
                last = key
                entries += 1
        if entries != meta.entries + 1:
            raise StoreCorruptError("entries of the consent store are missing")

    def _begin(self, topic_id: str, partitions: int, now_ms: int) -> None:
        self._close_environment()
        files.remove_data(self._directory)
        # A new file may be given the identity of the old one.
        readersigns.forget_the_dead(self._directory)
        self._open_environment()
        self._meta_entry = None
        self._write(StoreMeta.new(topic_id, partitions, now_ms))

    def _open_environment(self) -> None:
        self._environment = open_environment(self._engine, self._directory, self._map_bytes, reads_only=False)

    def _close_environment(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _write(self, meta: StoreMeta, changes: Changes | None = None) -> None:
        entries: list[tuple[bytes, bytes | None]] = []
        # Nobody else writes, so that the view still holds when the entries are put.
        with closing(self._opened.read()) as view:
            if view.get(META) != self._meta_entry:
                raise StoreCorruptError("the consent store is not as its writer left it")
            if changes is not None:
                more = 0
                for key, states in self._by_key(changes).items():
                    old = view.get(key)
                    new = self._changed(key, old, states)
                    entries.append((key, new))
                    more += (new is not None) - (old is not None)
                meta = replace(meta, entries=meta.entries + more)
        # Neighbours share pages.
        entries.sort(key=itemgetter(0))
        entry = self._seal.seal(META, meta.to_bytes())
        self._opened.write([*entries, (META, entry)])
        # Only what is committed counts.
        self._meta, self._meta_entry = meta, entry
        self._tell_blocked()

    def _by_key(self, changes: Changes) -> Mapping[bytes, Mapping[str, SourceState | None]]:
        """Return what changes, by the key of its entry: an erasure has no id, and names the entry itself."""
        by_key = {self._seal.id_of(subject): dict(states) for subject, states in changes.by_subject.items()}
        for digest, states in changes.by_digest.items():
            by_key.setdefault(digest, {}).update(states)
        return by_key

    def _tell_blocked(self) -> None:
        """Tell tools what is blocked, when it has changed."""
        blocked = self._meta.topic_id, self._meta.blocked
        if blocked == self._told_blocked:
            return
        try:
            files.tell_blocked(self._directory, *blocked)
        except OSError as error:
            raise StoreUnavailableError(f"the consent store's directory cannot be written ({error.strerror})") from None
        self._told_blocked = blocked

    def _changed(self, key: bytes, entry: bytes | None, changes: Mapping[str, SourceState | None]) -> bytes | None:
        """Return one subject's entry after changes, None where nothing is left of it."""
        states = {} if entry is None else consent_of(self._seal, key, entry).states
        for source, state in changes.items():
            states = merge(states, source, state)
        return self._seal.seal(key, encode(states)) if states else None
