"""Keys of token entries: one random root per key domain and epoch, and everything derived from it by HKDF-Expand.

A derived key depends on all that may set tokens apart: key domain, token entry, format, parameters, algorithm and
epoch (RFC 5869, section 2.3; a root is 32 uniformly random bytes, so HKDF-Extract has nothing to add). Tokens of two
key domains are therefore unlinkable without the roots, and a changed parameter never reuses a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tokenweir.core.epochs import FIRST_EPOCH
from tokenweir.core.generalize import keyed
from tokenweir.core.generalize.specs import KeyedSpec
from tokenweir.core.tokens.base import KEY_BYTES, Algorithm
from tokenweir.core.tokens.formats import build
from tokenweir.core.tokens.secret import TokenKey, length_prefixed
from tokenweir.core.tokens.specs import TokenSpec, spec_digest
from tokenweir.core.tokens.tokenizer import TWEAK_KEY_BYTES, Tokenizer
from tokenweir.errors import KeysError

__all__ = ["FIRST_EPOCH", "ROOT_BYTES", "EntryKeys", "Keyset", "TokenKey", "derive", "entry_info", "length_prefixed"]

ROOT_BYTES: Final = 32
"""Size of a root: 256 bits."""

_PRODUCT: Final = "tokenweir1"
_STATE: Final = "tokenweir1-state"


def derive(root: TokenKey, info: Iterable[str], length: int) -> TokenKey:
    """Return HKDF-Expand(root, LP(info), length) with SHA-256 (RFC 5869, section 2.3)."""
    expand = HKDFExpand(algorithm=SHA256(), length=length, info=length_prefixed(*info))
    return TokenKey(expand.derive(root.reveal()))


def entry_info(domain: str, entry: str, spec: TokenSpec, algorithm: Algorithm | str, epoch: int) -> tuple[str, ...]:
    """Return what a key of a token entry depends on; ``algorithm`` is ``tweak`` for the tweak key."""
    return (_PRODUCT, domain, entry, spec.format, spec_digest(spec), algorithm, str(epoch))


def generalize_info(domain: str, spec: KeyedSpec, epoch: int) -> tuple[str, ...]:
    """Return what the key of a treatment depends on: other parameters, key domains and epochs have other keys.

    It has one part less than :func:`entry_info`, so that no name of a token entry can make both the same.
    """
    return (_PRODUCT, domain, "generalize", *keyed.key_label(spec), str(epoch))


@dataclass(frozen=True, slots=True)
class EntryKeys:
    """The keys of one token entry in one key domain and epoch."""

    key: TokenKey
    tweak_key: TokenKey


class Keyset:
    """The open roots of all key domains, and what is derived from them.

    An epoch is a generation of tokens: all roots of one key domain are independent, and one of them is active.
    """

    __slots__ = ("_active", "_retiring", "_roots", "_state")

    def __init__(
        self,
        roots: Mapping[tuple[str, int], TokenKey],
        active: Mapping[str, int],
        state: TokenKey,
        retiring: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """Hold the roots by (key domain, epoch), the epochs in use by key domain, and the root of the state.

        Args:
            roots: The roots.
            active: The epoch that new tokens are made with, by key domain.
            state: The root of the keys that protect local state.
            retiring: The epochs whose topics are fed beside that of the active one, by key domain.

        Raises:
            KeysError: a root is not 32 bytes, or an epoch that is in use has no root.
        """
        if any(len(root) != ROOT_BYTES for root in (*roots.values(), state)):
            raise KeysError(f"a root of the keyset is not {ROOT_BYTES} bytes")
        self._retiring = {domain: tuple(epochs) for domain, epochs in (retiring or {}).items()}
        in_use = [*active.items(), *((domain, epoch) for domain, each in self._retiring.items() for epoch in each)]
        for domain, epoch in in_use:
            if (domain, epoch) not in roots:
                raise KeysError(f"the keyset has no root for epoch {epoch} of key domain {domain}")
        self._roots = dict(roots)
        self._active = dict(active)
        self._state = state

    @classmethod
    def ephemeral(cls, domains: Iterable[str], random_bytes: Callable[[int], bytes]) -> Keyset:
        """Return a keyset that lives in memory only: its tokens match those of no other run.

        Args:
            domains: the key domains, each with one root of epoch 1.
            random_bytes: a cryptographically secure source, such as :func:`os.urandom`.
        """
        names = sorted(set(domains))
        return cls(
            {(name, FIRST_EPOCH): TokenKey(random_bytes(ROOT_BYTES)) for name in names},
            dict.fromkeys(names, FIRST_EPOCH),
            TokenKey(random_bytes(ROOT_BYTES)),
        )

    def __repr__(self) -> str:
        return f"<Keyset of {len(self._active)} key domains>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a keyset is neither pickled nor copied")

    @property
    def domains(self) -> tuple[str, ...]:
        """The key domains that have an active epoch, sorted."""
        return tuple(sorted(self._active))

    def epoch(self, domain: str) -> int:
        """Return the active epoch of a key domain.

        Raises:
            KeysError: the keyset has none for it.
        """
        epoch = self._active.get(domain)
        if epoch is None:
            raise KeysError(
                f"the keyset has no active root for key domain {domain}; `tokenweir keys init` adds missing domains"
            )
        return epoch

    def retiring(self, domain: str) -> tuple[int, ...]:
        """Return the epochs of a key domain whose topics are fed beside that of the active one, the newest first."""
        return self._retiring.get(domain, ())

    def epochs(self, domain: str) -> tuple[int, ...]:
        """Return the epochs of a key domain whose root is open here, the newest first.

        In a keyset that was opened as a whole these are all that are not destroyed.

        Raises:
            KeysError: the keyset has no active epoch for the domain.
        """
        newest = self.epoch(domain)
        return tuple(sorted({newest, *(epoch for name, epoch in self._roots if name == domain)}, reverse=True))

    def entry_keys(self, domain: str, entry: str, spec: TokenSpec, epoch: int | None = None) -> EntryKeys:
        """Return the keys of a token entry; ``epoch`` None means the active one.

        Raises:
            KeysError: the keyset has no root for the domain and epoch.
        """
        chosen, root = self._root(domain, epoch)
        algorithm = build(spec).algorithm
        return EntryKeys(
            derive(root, entry_info(domain, entry, spec, algorithm, chosen), KEY_BYTES[algorithm]),
            derive(root, entry_info(domain, entry, spec, "tweak", chosen), TWEAK_KEY_BYTES),
        )

    def generalize_key(self, domain: str, spec: KeyedSpec, epoch: int | None = None) -> TokenKey:
        """Return the key of a treatment that differs from person to person; ``epoch`` None means the active one.

        Raises:
            KeysError: the keyset has no root for the domain and epoch.
        """
        chosen, root = self._root(domain, epoch)
        return derive(root, generalize_info(domain, spec, chosen), keyed.KEY_BYTES)

    def _root(self, domain: str, epoch: int | None) -> tuple[int, TokenKey]:
        """Return an epoch, the active one for None, and its root."""
        chosen = self.epoch(domain) if epoch is None else epoch
        root = self._roots.get((domain, chosen))
        if root is None:
            raise KeysError(f"the keyset has no root for epoch {chosen} of key domain {domain}")
        return chosen, root

    def tokenizer(self, domain: str, entry: str, spec: TokenSpec, epoch: int | None = None) -> Tokenizer:
        """Return the tokenizer of a token entry; ``epoch`` None means the active one.

        Raises:
            KeysError: the keyset has no root for the domain and epoch.
            ValueError: the entry's smallest domain is below 1,000,000 values.
        """
        keys = self.entry_keys(domain, entry, spec, epoch)
        return Tokenizer(build(spec), keys.key, keys.tweak_key)

    def consent_store_keys(self) -> tuple[TokenKey, TokenKey]:
        """Return the key that hides subject ids in the consent store and the key that authenticates its values."""
        return (
            derive(self._state, (_STATE, "consent-id"), ROOT_BYTES),
            derive(self._state, (_STATE, "consent-mac"), ROOT_BYTES),
        )

    def audit_mark_key(self) -> TokenKey:
        """Return the key of the marks that stand for tokens in the audit log."""
        return derive(self._state, (_STATE, "audit-mark"), ROOT_BYTES)
