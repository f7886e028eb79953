"""What the death of a worker means for the records that it worked on, and for its slot."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from tokenweir.adapters.consentfiles import inode
from tokenweir.adapters.consentstore import store_directory
from tokenweir.adapters.readersigns import died_inside
from tokenweir.runtime.endings import ExitCode
from tokenweir.runtime.quarantine import Attempts, settled_path
from tokenweir.runtime.status import Phase, Place, Sign, read_sign

#: After so many crashes for which no record can be named, and without a commit between them, a slot stays down.
_MAX_CRASHES: Final = 5
#: Who sends these wants an end, and not because of what is being read.
_KILLED_FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
#: A worker that ends like this has decided so itself.
_ORDERLY: Final = frozenset({ExitCode.DONE, ExitCode.REFUSED, ExitCode.FENCED, ExitCode.UNSERVED})


class Verdict(NamedTuple):
    """What a death says.

    Attributes:
        records: On which records the engine worked.
        attempts: The deaths that the most suspicious of them has been counted for.
        crashes: The crashes in a row in which no record could be named and nothing was committed.
    """

    records: tuple[Place, ...] = ()
    attempts: int = 0
    crashes: int = 0

    @property
    def stops(self) -> bool:
        """Whether the slot is to stay down."""
        return self.crashes >= _MAX_CRASHES


class Casualties:
    """Counts for all workers of one gateway."""

    def __init__(self, state_directory: Path, streams: Iterable[str], engine: str) -> None:
        self._state_directory = state_directory
        self._store = store_directory(state_directory, engine)
        self._attempts = {stream: Attempts(state_directory, stream) for stream in streams}
        self._crashes: dict[tuple[str, int], int] = {}

    def died(self, stream: str, slot: int, sign: Sign | None, code: int) -> Verdict:
        """Return what the death of a worker says; ``code`` is its exit code, or the negative number of a signal.

        A worker that was killed while no record was worked on says nothing: its end came from outside. One that died
        inside of LMDB has met a damaged page of the consent store, which the applier makes anew, and no record is to
        blame. One that lacked a broker or the registry tries again for as long as it takes.

        Raises:
            OSError: if a count cannot be written.
        """
        if sign is None or code in _ORDERLY or died_inside(self._store, inode(self._store), sign.pid):
            return Verdict()
        place = (stream, slot)
        if sign.commits:
            self._crashes.pop(place, None)
        if sign.phase is Phase.ENGINE:
            return Verdict(sign.records, self._attempts[stream].count(sign.records))
        if -code not in _KILLED_FROM_OUTSIDE:
            self._crashes[place] = self._crashes.get(place, 0) + 1
        return Verdict(crashes=self._crashes.get(place, 0))

    def died_with_the_supervisor(self, stream: str, slot: int, status_file: Path) -> Verdict:
        """Return what the life signs say that the workers of an earlier life have left.

        Raises:
            OSError: if a count cannot be written.
        """
        verdict = self.died(stream, slot, read_sign(status_file), -signal.SIGKILL)
        status_file.unlink(missing_ok=True)
        return verdict

    def settle(self, stream: str, slot: int) -> None:
        """Forget the records that a worker has decided after all."""
        path = settled_path(self._state_directory, stream, slot)
        if path.exists():
            self._attempts[stream].settle(path)
