"""Records that end their worker: how often each did, counted durably by the supervisor and heeded by the workers.

A record that crashes, hangs or exhausts its process cannot be caught in that process. So the worker marks on which
records its engine works (:mod:`tokenweir.runtime.status`), and whoever sees it die counts one attempt for each marked
record. A record with an attempt runs alone from then on, so that the next death names exactly it; with three it
becomes a dead letter without being decoded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tokenweir.runtime.status import Place
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

#: After so many deaths of its worker a record is not decoded again.
MAX_ATTEMPTS: Final = 3
#: More suspects than many deaths leave behind; of more, those with the fewest attempts are forgotten.
_MAX_RECORDS: Final = 20_000
_VERSION: Final = 1


def records_path(state_directory: Path, stream: str) -> Path:
    """Return the file with the counts of a stream."""
    return state_directory / "quarantine" / f"{stream}.json"


def settled_path(state_directory: Path, stream: str, slot: int) -> Path:
    """Return the file into which a worker writes which records were decided after all."""
    return state_directory / "quarantine" / f"{stream}-{slot}.settled"


def read_attempts(path: Path) -> dict[Place, int]:
    """Return the attempts of each record; none where the file is missing or not whole.

    A lost count is no danger: the record is tried again, and counted again.
    """
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != _VERSION:
            return {}
        return {Place(int(partition), int(offset)): int(count) for partition, offset, count in content["records"]}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}


class Attempts:
    """The supervisor's side for one stream: the only writer of the counts."""

    def __init__(self, state_directory: Path, stream: str) -> None:
        self._path = records_path(state_directory, stream)
        self._attempts = read_attempts(self._path)

    def count(self, records: Iterable[Place]) -> int:
        """Count one more attempt for each record, durably; return the highest count among them.

        Raises:
            OSError: if the count cannot be written.
        """
        counted = [self._add(place) for place in records]
        if counted:
            self._save()
        return max(counted, default=0)

    def settle(self, path: Path) -> None:
        """Forget the records that a worker has written into a file as decided."""
        taken = path.with_suffix(".taken")
        try:
            path.replace(taken)
            lines = taken.read_text("ascii").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return
        for line in lines:
            partition, _, offset = line.partition(" ")
            if partition.isdigit() and offset.isdigit():
                self._attempts.pop(Place(int(partition), int(offset)), None)
        self._save()
        taken.unlink(missing_ok=True)

    def _add(self, place: Place) -> int:
        count = self._attempts[place] = self._attempts.get(place, 0) + 1
        return count

    def _save(self) -> None:
        kept = sorted(self._attempts.items(), key=lambda entry: (-entry[1], entry[0]))[:_MAX_RECORDS]
        self._attempts = dict(kept)
        content = {"version": _VERSION, "records": [[*place, count] for place, count in sorted(kept)]}
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        with temporary.open("w", encoding="ascii") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


class Suspects:
    """The worker's side: which records run alone, and which not at all."""

    def __init__(self, state_directory: Path, stream: str, slot: int) -> None:
        self._path = records_path(state_directory, stream)
        self._settled = settled_path(state_directory, stream, slot)
        self._attempts: dict[Place, int] = {}

    def refresh(self, next_offsets: Mapping[int, int]) -> None:
        """Read the counts again, and forget those of records that lie before the next offset of their partition."""
        self._attempts = read_attempts(self._path)
        self.settle(place for place in list(self._attempts) if place.offset < next_offsets.get(place.partition, 0))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._attempts)

    def attempts(self, partition: int, offset: int) -> int:
        """Return how often a record has ended its worker."""
        return self._attempts.get(Place(partition, offset), 0)

    def settle(self, records: Iterable[Place]) -> None:
        """Forget records that are decided and committed.

        A disk that does not take this is no reason to stop: the supervisor only counts on for records that are behind.
        """
        if not self._attempts:
            return
        decided = [place for place in records if self._attempts.pop(place, None) is not None]
        if not decided:
            return
        try:
            with self._settled.open("a", encoding="ascii") as file:
                file.writelines(f"{place.partition} {place.offset}\n" for place in decided)
        except OSError as error:
            log(Event.EXCEPTION_RAISED, error=error)
