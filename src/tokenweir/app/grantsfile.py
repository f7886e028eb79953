"""The grants file as a running process sees it: what stands there now counts, at once."""

from __future__ import annotations

import stat
from pathlib import Path

from tokenweir.core.detokenize.grants import LoadedGrants, load_grants
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.errors import FileFormatError
from tokenweir.runtime.sources import read_text


class GrantsFile:
    """The grants of a file, read anew whenever its text has changed, so that a withdrawn grant ends with the edit.

    A file that is not sound grants nothing: the error goes to whoever asks.
    """

    def __init__(self, path: Path, policy: LoadedPolicy) -> None:
        self._path = path
        self._policy = policy
        # One tuple, so that no thread ever sees the text of one version with the grants of another.
        self._known: tuple[str, LoadedGrants] | None = None

    def current(self) -> LoadedGrants:
        """Return the grants in force.

        Raises:
            FileFormatError: the file cannot be read, or can be written by everybody.
            FindingsError: the file is not sound; every reason is in it.
        """
        text = read_text(self._path)
        if self._path.stat().st_mode & stat.S_IWOTH:
            raise FileFormatError(f"{self._path} can be written by everybody; run: chmod o-w {self._path}")
        known = self._known
        if known is None or known[0] != text:
            # Of two threads the later one wins, and both have loaded what they read.
            known = self._known = (text, load_grants(text, str(self._path), self._policy))
        return known[1]
