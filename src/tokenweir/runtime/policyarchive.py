"""The archive of policies: which policy decided here from when to when, kept in the state directory.

``policies/{digest}.yaml`` is the text that was reviewed. ``policies/log.jsonl`` has a line for each start and each
orderly end of a gateway. A gateway that was killed has no end; its policy then counts as in force until the next start,
which is the latest that it can have been.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenweir.adapters.consentfiles import write_durably
from tokenweir.errors import FileFormatError

_DIRECTORY: Final = "policies"
_LOG: Final = "log.jsonl"


@dataclass(frozen=True, slots=True)
class Period:
    """A time in which one policy decided.

    Attributes:
        digest: The policy.
        revision: The number that it gives itself.
        started_ms: When a gateway began with it, in milliseconds since 1970.
        ended_ms: When that ended; None where it has not, or nobody knows.
    """

    digest: str
    revision: int
    started_ms: int
    ended_ms: int | None = None

    def overlaps(self, since_ms: int, until_ms: int) -> bool:
        """Whether any moment of a span lies in it."""
        return self.started_ms <= until_ms and (self.ended_ms is None or self.ended_ms >= since_ms)


class PolicyArchive:
    """The archive of one state directory. One process writes it: the one that has the directory's lock."""

    def __init__(self, state_directory: Path) -> None:
        self._directory = state_directory / _DIRECTORY

    def begin(self, digest: str, revision: int, text: str, now_ms: int) -> None:
        """Keep a policy, and write down that it decides from now on.

        Raises:
            OSError: The disk does not take it.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(digest)
        if not path.exists():
            write_durably(path, text.encode())
        self._append({"event": "started", "digest": digest, "revision": revision, "at_ms": now_ms})

    def end(self, digest: str, now_ms: int) -> None:
        """Write down that a policy decides no longer.

        Raises:
            OSError: The disk does not take it.
        """
        self._append({"event": "ended", "digest": digest, "at_ms": now_ms})

    def periods(self) -> list[Period]:
        """Return every period, in their order.

        Raises:
            FileFormatError: The log cannot be read.
        """
        path = self._directory / _LOG
        try:
            lines = path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError):
            raise FileFormatError(f"{path}: the archive of policies cannot be read") from None
        found: list[Period] = []
        for number, line in enumerate(lines):
            try:
                _note(found, json.loads(line))
            except (ValueError, KeyError, TypeError):
                # The last line may be half written by a process that was killed meanwhile.
                if number + 1 < len(lines):
                    raise FileFormatError(f"{path}:{number + 1}: the archive of policies is damaged") from None
        return found

    def text(self, digest: str) -> str | None:
        """Return the text of a policy, None where it is not here."""
        try:
            return self._path(digest).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}.yaml"

    def _append(self, line: dict[str, Any]) -> None:
        descriptor = os.open(self._directory / _LOG, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            # What a killed process left of a line must not swallow this one.
            broken = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            if broken:
                os.ftruncate(descriptor, _whole(os.pread(descriptor, size, 0)))
            os.write(descriptor, json.dumps(line, separators=(",", ":")).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _whole(content: bytes) -> int:
    """Return the length of the whole lines."""
    return content.rfind(b"\n") + 1


def _note(found: list[Period], line: dict[str, Any]) -> None:
    """Take one line into account; a start ends what has no end of its own."""
    at_ms = int(line["at_ms"])
    if found and found[-1].ended_ms is None:
        last = found[-1]
        found[-1] = Period(last.digest, last.revision, last.started_ms, at_ms)
    if line["event"] == "started":
        found.append(Period(str(line["digest"]), int(line["revision"]), at_ms))
