"""Keysets with roots that everybody can compute, so that tokens in committed files can be compared. For tests only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tokenweir.core.keys import FIRST_EPOCH, Keyset
from tokenweir.core.tokens.secret import TokenKey


def published_keyset(domains: Iterable[str]) -> Keyset:
    """Return a keyset whose root of each key domain is a hash of the domain's name: it protects nothing."""
    names = sorted(set(domains))
    return Keyset(
        {(name, FIRST_EPOCH): _root(f"root {name}") for name in names},
        dict.fromkeys(names, FIRST_EPOCH),
        _root("state"),
    )


def _root(name: str) -> TokenKey:
    return TokenKey(hashlib.sha256(f"tokenweir example, no secret: {name}".encode()).digest())
