"""The end of a root: which copies of it there are, what became of each, and what nobody can know without being told.

A root is destroyed when no copy of it can be used any more. Each copy is wrapped by a KEK, so that it is unusable
once every KEK that ever wrapped the root is gone. What a program can do is small: take the root out of the files that
it is shown, and overwrite their old content. Everything else is attested by a person, or remains.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from tokenweir.adapters.keychanges import change_keyset, roots_of
from tokenweir.adapters.keysource import Attestation, KeysetFile, WrappedRoot, instant, read_keyset
from tokenweir.adapters.secretfiles import replace_file
from tokenweir.errors import KeysError, RefusedError, UsageError

#: What overwriting a file can promise, and what it cannot.
OVERWRITING: Final = (
    "Files that are said to be overwritten were overwritten where they stood, after the new content was safe. That "
    "reaches the old bytes only where the file system writes in place. It does not where it copies on write (btrfs, "
    "ZFS, overlayfs), on flash that moves blocks, in snapshots, in a journal that has data, and in backups."
)

#: Attested at once: every copy of the keyset that was not named.
OTHER_COPIES: Final = "other-copies"
#: Before the fingerprint of a KEK that is attested to be gone, with every copy of it.
KEK: Final = "kek:"

_PIECE_BYTES: Final = 1 << 16
#: What the keyset's file has room for.
_MOST_WHAT: Final = 4096
_MOST_WORDS: Final = 1024
#: Before what the program found itself; whoever attests may not say it.
_LOOKED: Final = "tokenweir found: "


class CopyState(StrEnum):
    """What became of a copy."""

    GONE = "gone"
    """The root was taken out of it, or is not in it."""
    ATTESTED = "attested"
    """A person says that it is gone."""
    UNUSABLE = "unusable"
    """It may be there, but no KEK is left that opens it."""
    REMAINS = "remains"


@dataclass(frozen=True, slots=True)
class Copy:
    """One place in which the root, or a key that opens it, is or was."""

    what: str
    state: CopyState
    words: str


@dataclass(frozen=True, slots=True)
class Destruction:
    """How far the destruction of a root is."""

    domain: str
    epoch: int
    copies: tuple[Copy, ...]

    @property
    def complete(self) -> bool:
        """Whether no copy is left that anybody could use."""
        return all(copy.state is not CopyState.REMAINS for copy in self.copies)

    @property
    def remaining(self) -> tuple[Copy, ...]:
        """The copies that are not gone."""
        return tuple(copy for copy in self.copies if copy.state is CopyState.REMAINS)


def destroy(  # noqa: PLR0913 - what it ends, and what is known of its copies.
    keyset_path: Path,
    domain: str,
    epoch: int,
    now: datetime,
    *,
    backups: Sequence[Path] = (),
    attested: Mapping[str, str] | None = None,
) -> Destruction:
    """Take the root of a retired epoch out of the keyset and of the copies that are named, and say what remains.

    It may be run again, with more copies or attestations, until nothing remains; what was said before still counts.

    Args:
        keyset_path: The ``keyset.json``.
        domain: The key domain.
        epoch: The epoch, which must be retired.
        now: The time, with a time zone.
        backups: Copies of the keyset; the root is taken out of each.
        attested: What a person says of copies: by :data:`OTHER_COPIES`, ``kek:`` and a fingerprint, or the path of a
            copy, in words.

    Raises:
        KeysError: the keyset is missing or malformed, or cannot be written.
        RefusedError: the epoch is in use.
        UsageError: the keyset has no such epoch, or what is attested is nothing that could be.
    """
    said = dict(attested or {})
    present = read_keyset(keyset_path)
    known = _root(present, domain, epoch)
    _check_words(said, backups)
    _check_attested(said, present, known, backups)
    places = {copy.what: copy for copy in (_scrub(path, present, known) for path in backups)}

    def change(content: KeysetFile) -> KeysetFile:
        root = _root(content, domain, epoch)
        keks = root.keks or _keks_of(content)
        marks = _marks(root, said, places, now)
        changed = root.model_copy(update={"wrapped": None, "keks": keks, "attested": marks or None})
        done = all(copy.state is not CopyState.REMAINS for copy in _copies(keyset_path, changed, places))
        status = "destroyed" if done else "destroying"
        if changed.status != status:
            changed = changed.model_copy(update={"status": status, "changed_at": instant(now)})
        return content.model_copy(update={"roots": [changed if each is root else each for each in content.roots]})

    after = change_keyset(keyset_path, change, replace_and_overwrite)
    overwrite_leftovers(keyset_path)
    return Destruction(domain, epoch, tuple(_copies(keyset_path, _root(after, domain, epoch), places)))


def _root(content: KeysetFile, domain: str, epoch: int) -> WrappedRoot:
    """Return the root that may be destroyed."""
    known = roots_of(content, domain)
    root = next((each for each in known if each.epoch == epoch), None)
    if root is None:
        epochs = ", ".join(str(each.epoch) for each in known)
        raise UsageError(f"key domain {domain} has no epoch {epoch}; it has {epochs}")
    if root.status == "active":
        raise RefusedError(
            f"epoch {epoch} of key domain {domain} is the active one; "
            f"begin another with 'tokenweir keys rotate {domain}', and retire this one"
        )
    if root.status == "retiring":
        raise RefusedError(f"epoch {epoch} of key domain {domain} is still fed; run 'tokenweir keys retire {domain}'")
    return root


def _keks_of(content: KeysetFile) -> list[str]:
    """Return the fingerprint of every KEK that may have wrapped a root in its life.

    Times do not tell which ones did: a clock that was set back would hide one that opens a copy.
    """
    return list(dict.fromkeys([*(kek.id for kek in content.former_keks or ()), content.kek.id]))


def _check_words(said: Mapping[str, str], backups: Sequence[Path]) -> None:
    """Refuse what the keyset cannot keep, and words that read like those of the program, before anything is touched.

    Raises:
        UsageError: one of them is too long, cannot be printed, or begins as what the program itself found.
    """
    for what in (*said, *map(str, backups)):
        if len(what) > _MOST_WHAT or not what.isprintable():
            raise UsageError(f"the name of a copy has at most {_MOST_WHAT} characters, which can all be printed")
    for what, statement in said.items():
        if len(statement) > _MOST_WORDS or not statement.isprintable():
            raise UsageError(f"say of '{what}' in at most {_MOST_WORDS} characters, which can all be printed")
        if statement.strip().casefold().startswith(_LOOKED.partition(":")[0]):
            raise UsageError(f"say of '{what}' what a person knows; 'tokenweir found' is what the program says")


def _check_attested(said: Mapping[str, str], content: KeysetFile, root: WrappedRoot, backups: Sequence[Path]) -> None:
    """Refuse what says nothing, and what is plainly not so.

    Raises:
        RefusedError: the KEK that wraps the other roots now is said to be gone.
        UsageError: it is nothing that could be attested, or has no words.
    """
    if f"{KEK}{content.kek.id}" in said:
        raise RefusedError(
            f"{KEK}{content.kek.id} wraps the keyset now, so it is not gone; "
            "wrap the other roots anew with 'tokenweir keys rewrap' first"
        )
    keks = root.keks or _keks_of(content)
    named = {str(path) for path in backups} | {mark.what for mark in root.attested or ()}
    known = {OTHER_COPIES, *(f"{KEK}{each}" for each in keks), *named}
    for what, statement in said.items():
        if what not in known and not Path(what).is_absolute():
            raise UsageError(f"'{what}' is nothing to attest; it is one of: {', '.join(sorted(known))}")
        if not statement.strip():
            raise UsageError(f"say of '{what}' what became of it, and who says so")


def _marks(root: WrappedRoot, said: Mapping[str, str], places: Mapping[str, Copy], now: datetime) -> list[Attestation]:
    """Return what was ever attested of a root, and as attested what was looked at and is gone.

    A copy that was found to have the root is remembered too, so that a later run cannot forget it.
    """
    marks = {mark.what: mark for mark in root.attested or ()}
    for what, copy in places.items():
        found = f"{_LOOKED}{copy.state.value}: {copy.words}"[:_MOST_WORDS]
        marks[what] = Attestation(what=what, statement=found, at=instant(now))
    for what, statement in said.items():
        marks[what] = Attestation(what=what, statement=statement, at=instant(now))
    return list(marks.values())


def _copies(keyset_path: Path, root: WrappedRoot, places: Mapping[str, Copy]) -> list[Copy]:
    """Return every copy of a root that is known or thinkable, and what became of it."""
    marks = {mark.what: mark for mark in root.attested or ()}
    keks = [f"{KEK}{each}" for each in root.keks or ()]
    unusable = all(kek in marks for kek in keks)
    copies = [Copy(str(keyset_path), CopyState.GONE, "the root was taken out and the old file overwritten")]
    for what, mark in marks.items():
        if what != OTHER_COPIES and not what.startswith(KEK):
            copies.append(_judged(places.get(what) or _remembered(mark), unusable=unusable))
    if OTHER_COPIES in marks:
        copies.append(Copy(OTHER_COPIES, CopyState.ATTESTED, marks[OTHER_COPIES].statement))
    else:
        words = "backups, snapshots, volumes and images with the keyset that nobody has named"
        copies.append(_judged(Copy(OTHER_COPIES, CopyState.REMAINS, words), unusable=unusable))
    # With every copy of the root gone, it does not matter who still has a KEK.
    open_ = any(copy.state is CopyState.REMAINS for copy in copies)
    for kek in keks:
        if kek in marks:
            copies.append(Copy(kek, CopyState.ATTESTED, marks[kek].statement))
        elif open_:
            copies.append(Copy(kek, CopyState.REMAINS, "this key-encryption key opens any copy"))
    return copies


def _judged(copy: Copy, *, unusable: bool) -> Copy:
    if copy.state is CopyState.REMAINS and unusable:
        return Copy(copy.what, CopyState.UNUSABLE, "every key-encryption key that opens it is attested gone")
    return copy


def _remembered(mark: Attestation) -> Copy:
    """Return what an earlier run found, or what a person said."""
    if not mark.statement.startswith(_LOOKED):
        return Copy(mark.what, CopyState.ATTESTED, mark.statement)
    state, _, words = mark.statement.removeprefix(_LOOKED).partition(": ")
    return Copy(mark.what, CopyState(state), words)


def _is_other(content: KeysetFile, present: KeysetFile, root: WrappedRoot) -> bool:
    """Whether a file is not a copy of the keyset: another one, as of another installation, may have the same epochs.

    A copy was made with the same state, has the root from the same time, and is wrapped by a KEK that the keyset has or
    had.
    """
    same_place = (each for each in content.roots if (each.domain, each.epoch) == (root.domain, root.epoch))
    return (
        content.state.created_at != present.state.created_at
        or any(each.created_at != root.created_at for each in same_place)
        or content.kek.id not in _keks_of(present)
    )


def _scrub(path: Path, present: KeysetFile, known: WrappedRoot) -> Copy:
    """Take a root out of a copy of the keyset; another keyset is not touched."""
    what = str(path)
    domain, epoch = known.domain, known.epoch
    found: list[bool] = []

    def change(content: KeysetFile) -> KeysetFile:
        if _is_other(content, present, known):
            raise KeysError("another keyset: it was made, or is wrapped, as no copy of this one was; it is not touched")
        found[:] = [root.wrapped is not None for root in content.roots if (root.domain, root.epoch) == (domain, epoch)]
        roots = [
            root.model_copy(update={"status": "destroying", "wrapped": None})
            if (root.domain, root.epoch) == (domain, epoch) and root.wrapped is not None
            else root
            for root in content.roots
        ]
        return content.model_copy(update={"roots": roots})

    try:
        if not path.is_file():
            return Copy(what, CopyState.REMAINS, "it is not a file that can be looked at")
        change_keyset(path, change, replace_and_overwrite)
    except KeysError as error:
        return Copy(what, CopyState.REMAINS, str(error))
    words = "the root was taken out and the old file overwritten" if any(found) else "the root is not in it"
    return Copy(what, CopyState.GONE, words)


def replace_and_overwrite(path: Path, data: bytes) -> None:
    """Replace a file, and then overwrite its earlier content where it stood, as far as the file system does that.

    Raises:
        KeysError: the file has another name, under which its old content would stay. Nothing is changed.
        OSError: it cannot be written.
    """
    if path.is_symlink():
        raise KeysError(f"{path} is a symbolic link: name the file itself")
    descriptor = os.open(path, os.O_RDWR)
    try:
        status = os.fstat(descriptor)
        if status.st_nlink > 1:
            raise KeysError(f"{path} has another name (a hard link) that would keep its content: remove that first")
        replace_file(path, data)
        for position in range(0, status.st_size, _PIECE_BYTES):
            length = min(_PIECE_BYTES, status.st_size - position)
            os.pwrite(descriptor, secrets.token_bytes(length), position)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def overwrite_leftovers(keyset_path: Path) -> None:
    """Remove the temporary files that a process left which was killed while it wrote the keyset."""
    pattern = re.compile(re.escape(f".{keyset_path.name}.") + "[0-9a-f]{16}")
    for path in keyset_path.parent.iterdir():
        if pattern.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.write_bytes(secrets.token_bytes(path.stat().st_size))
            path.unlink()
