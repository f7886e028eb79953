"""The reference engine's binding of LMDB: py-lmdb."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import lmdb

from tokenweir.adapters.consentbinding import StoreCorruptError, StoreError, StoreUnavailableError

_DAMAGE: Final = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.PanicError,
    lmdb.BadTxnError,
    lmdb.IncompatibleError,
    lmdb.CursorFullError,
    lmdb.PageFullError,
)


class LmdbEnvironment:
    """An open environment; see :class:`tokenweir.adapters.consentbinding.Environment`."""

    def __init__(self, directory: Path, map_bytes: int, max_readers: int, *, reads_only: bool) -> None:
        self.closed = False
        with _store_errors():
            self._environment = lmdb.open(
                str(directory),
                map_size=map_bytes,
                mode=0o600,
                readonly=reads_only,
                create=not reads_only,
                readahead=not reads_only,
                sync=False,
                metasync=False,
                writemap=False,
                max_readers=max_readers,
                max_spare_txns=1,
            )

    def read(self) -> LmdbView:
        """Return the entries as they are now."""
        with _store_errors():
            return LmdbView(self, self._environment.begin())

    def write(self, changes: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Put entries, or remove those without a value: all or none."""
        with _store_errors(), self._environment.begin(write=True) as transaction:
            for key, value in changes:
                if value is None:
                    transaction.delete(key)
                else:
                    transaction.put(key, value)

    def reader_check(self) -> int:
        """Free the pages that killed readers had pinned; return the number of those readers."""
        with _store_errors():
            return int(self._environment.reader_check())

    def sync(self) -> None:
        """Wait until everything that was written is on the disk."""
        with _store_errors():
            self._environment.sync(True)  # LMDB's parameter is positional.

    def close(self) -> None:
        """Close it and all views of it."""
        self.closed = True
        self._environment.close()


class LmdbView:
    """The entries as they were at one moment; see :class:`tokenweir.adapters.consentbinding.View`."""

    def __init__(self, environment: LmdbEnvironment, transaction: lmdb.Transaction[bytes]) -> None:
        self._environment = environment
        self._transaction = transaction
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key."""
        try:
            return self._open.get(key)
        except lmdb.Error as error:
            raise _store_error(error) from None

    def neighbours(self, key: bytes) -> tuple[tuple[bytes, bytes] | None, tuple[bytes, bytes] | None]:
        """Return the last entry before a key, and the first that is not."""
        with _store_errors(), self._open.cursor() as cursor:
            after = cursor.item() if cursor.set_range(key) else None
            before = cursor.item() if (cursor.last() if after is None else cursor.prev()) else None
            return before, after

    def entries_after(self, key: bytes, count: int) -> Sequence[tuple[bytes, bytes]]:
        """Return the first entries after a key, at most so many; after an empty key, the first of all."""
        with _store_errors(), self._open.cursor() as cursor:
            found = cursor.set_range(key) if key else cursor.first()
            if found and cursor.key() == key:
                found = cursor.next()
            return list(islice(cursor, count)) if found else []

    def close(self) -> None:
        """Let go of it, so that its pages can be used again."""
        self._closed = True
        self._transaction.abort()

    @property
    def _open(self) -> lmdb.Transaction[bytes]:
        # py-lmdb would say of a closed one what it says of one that damage has broken.
        if self._closed or self._environment.closed:
            raise StoreUnavailableError("what was read of the consent store is closed")
        return self._transaction


def _store_error(error: lmdb.Error) -> StoreError:
    """Return the error that stands for one of LMDB's, whose text may name files."""
    if isinstance(error, _DAMAGE):
        return StoreCorruptError(f"LMDB finds the consent store damaged ({type(error).__name__})")
    return StoreUnavailableError(f"LMDB cannot use the consent store ({type(error).__name__})")


@contextmanager
def _store_errors() -> Iterator[None]:
    """Turn LMDB's errors into :class:`StoreError`."""
    try:
        yield
    except lmdb.Error as error:
        raise _store_error(error) from None
