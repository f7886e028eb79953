"""Changes of a keyset: a new epoch, the end of an old one, another KEK. A running gateway goes on with what it has.

Every change is one replacement of ``keyset.json`` under the directory's lock, so that after a crash the file is the old
one or the new one, whole.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tokenweir.adapters.kek import STATE, Kek, KekContext
from tokenweir.adapters.keysource import (
    DESTROYED,
    FormerKek,
    KekReference,
    KeysetFile,
    WrappedRoot,
    WrappedState,
    as_kek,
    encoded,
    exclusive,
    instant,
    new_root,
    open_content,
    read_keyset,
    unwrap_root,
    wrap_root,
)
from tokenweir.adapters.secretfiles import replace_file
from tokenweir.errors import KeysError, RefusedError, UsageError
from tokenweir.validation import suggest


def change_keyset(
    path: Path,
    change: Callable[[KeysetFile], KeysetFile],
    replace: Callable[[Path, bytes], None] = replace_file,
) -> KeysetFile:
    """Replace the content of a keyset by what ``change`` makes of it, and return that.

    Raises:
        KeysError: the keyset is missing or malformed, cannot be written, or another process is changing it.
    """
    with exclusive(path.parent):
        before = read_keyset(path)
        after = change(before)
        if after != before:
            replace(path, encoded(after))
        return after


def rotate(keyset_path: Path, kek: Kek | Path, domain: str, now: datetime) -> WrappedRoot:
    """Begin a new epoch of a key domain; the one that was active is fed beside it until it is retired.

    Args:
        keyset_path: The ``keyset.json``.
        kek: The KEK, which must open it, or the path of one in a file.
        domain: The key domain.
        now: When the epoch begins, with a time zone.

    Returns:
        The root of the new epoch, wrapped.

    Raises:
        KeysError: the keyset cannot be opened or written.
        RefusedError: an epoch before is not retired yet.
        UsageError: the keyset has no such key domain.
    """
    made: list[WrappedRoot] = []

    def change(content: KeysetFile) -> KeysetFile:
        known = roots_of(content, domain)
        beside = [root.epoch for root in known if root.status == "retiring"]
        if beside:
            raise RefusedError(
                f"epoch {beside[0]} of key domain {domain} is still fed beside the active one; "
                f"run 'tokenweir keys retire {domain}' first"
            )
        opened = as_kek(kek)
        open_content(content, opened, keyset_path)  # Never add to a keyset that does not open.
        made.append(new_root(opened, domain, instant(now), max(root.epoch for root in known) + 1))
        return _with_status(content, domain, "active", "retiring", now, added=made)

    change_keyset(keyset_path, change)
    return made[0]


def retire(keyset_path: Path, domain: str, now: datetime) -> list[int]:
    """End the epochs of a key domain that are fed beside the active one, and return them.

    Raises:
        KeysError: the keyset is missing or malformed, or cannot be written.
        RefusedError: there is none.
        UsageError: the keyset has no such key domain.
    """
    ended: list[int] = []

    def change(content: KeysetFile) -> KeysetFile:
        ended.extend(retiring_of(content, domain))
        if not ended:
            raise RefusedError(
                f"no epoch of key domain {domain} is fed beside the active one: there is nothing to retire; "
                f"'tokenweir keys rotate {domain}' begins a new epoch"
            )
        return _with_status(content, domain, "retiring", "retired", now)

    change_keyset(keyset_path, change)
    return ended


def rewrap(keyset_path: Path, kek: Kek | Path, new_kek: Kek | Path, now: datetime) -> tuple[str, str]:
    """Wrap every root with another KEK, or with the newest version of one at a provider; no token changes.

    Args:
        keyset_path: The ``keyset.json``.
        kek: The KEK that opens it now, or the path of one in a file. It stays as it is.
        new_kek: The KEK that opens it afterwards, or the path of one in a file; that is made if it is missing.
        now: The time of the change, with a time zone.

    Returns:
        What the keyset says of the KEK before, and of the new one.

    Raises:
        KekUnreachableError: the provider of a KEK did not answer usefully in time; nothing is changed.
        KeysError: a KEK or the keyset cannot be used or written.
        RefusedError: both KEKs are the same file.
    """
    ids: list[str] = []

    def change(content: KeysetFile) -> KeysetFile:
        old, new = as_kek(kek), as_kek(new_kek)
        open_content(content, old, keyset_path)
        new.make(None)
        reference = KekReference(provider=new.provider, id=new.id)
        same = reference == content.kek
        if same and new.provider == "file":  # A key at a provider may have got a new version.
            raise RefusedError(f"{new.name} is the KEK that wraps {keyset_path} already")
        ids[:] = [content.kek.id, reference.id]
        former = FormerKek(provider=content.kek.provider, id=content.kek.id, replaced_at=instant(now))
        state = wrap_root(new, STATE, unwrap_root(old, STATE, content.state.wrapped).reveal())
        after = content.model_copy(
            update={
                "kek": reference,
                "former_keks": content.former_keks if same else [*(content.former_keks or []), former],
                "roots": [_rewrapped(root, old, new) for root in content.roots],
                "state": WrappedState(created_at=content.state.created_at, wrapped=state),
            }
        )
        open_content(after, new, keyset_path)  # A KEK that wraps and does not open loses the roots.
        return after

    change_keyset(keyset_path, change)
    return ids[0], ids[1]


def roots_of(content: KeysetFile, domain: str) -> list[WrappedRoot]:
    """Return the roots of a key domain, the oldest epoch first.

    Raises:
        UsageError: the keyset has no such key domain.
    """
    found = sorted((root for root in content.roots if root.domain == domain), key=lambda root: root.epoch)
    if not found:
        names = sorted({root.domain for root in content.roots})
        hint = suggest(domain, names) or f"it has {', '.join(names) or 'none'}"
        raise UsageError(f"the keyset has no key domain '{domain}'; {hint}")
    return found


def retiring_of(content: KeysetFile, domain: str) -> list[int]:
    """Return the epochs of a key domain that are fed beside the active one.

    Raises:
        UsageError: the keyset has no such key domain.
    """
    return [root.epoch for root in roots_of(content, domain) if root.status == "retiring"]


def _with_status(  # noqa: PLR0913, PLR0917 - one change of one status.
    content: KeysetFile, domain: str, before: str, after: str, now: datetime, added: list[WrappedRoot] | None = None
) -> KeysetFile:
    """Give the roots of a key domain that have one status another one."""
    roots = [
        root.model_copy(update={"status": after, "changed_at": instant(now)})
        if root.domain == domain and root.status == before
        else root
        for root in content.roots
    ]
    return content.model_copy(update={"roots": [*roots, *(added or ())]})


def _rewrapped(root: WrappedRoot, old: Kek, new: Kek) -> WrappedRoot:
    """Return a root wrapped with another KEK; of a destroyed one there is nothing to wrap."""
    if root.wrapped is None:
        if root.status not in DESTROYED:
            raise KeysError(f"epoch {root.epoch} of key domain {root.domain} has no root")
        return root
    context = KekContext(root.domain, root.epoch)
    return root.model_copy(
        update={"wrapped": wrap_root(new, context, unwrap_root(old, context, root.wrapped).reveal())}
    )
