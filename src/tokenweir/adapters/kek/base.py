"""The interface of every key-encryption key (KEK), and what a wrapped root is bound to."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from tokenweir.core.tokens.secret import TokenKey, length_prefixed

Provider = Literal["file", "aws", "gcp", "azure", "vault"]
"""Where a KEK lives; the name in the configuration and in ``keyset.json``."""

_ROOT_LABEL: Final = "tokenweir-keyset1"
_STATE_LABEL: Final = "tokenweir-keyset1-state"


@dataclass(frozen=True, slots=True)
class KekContext:
    """What a wrapped root is for: the root of one key domain and epoch, or that of the local state.

    It is authenticated with the root and not stored in it, so that roots cannot be swapped in the file.

    Attributes:
        domain: Key domain; None for the state.
        epoch: Epoch of the key domain; None for the state.
    """

    domain: str | None = None
    epoch: int | None = None

    def data(self) -> bytes:
        """Return the context as associated data of authenticated encryption."""
        if self.domain is None:
            return length_prefixed(_STATE_LABEL)
        return length_prefixed(_ROOT_LABEL, self.domain, str(self.epoch))

    def digest(self) -> bytes:
        """Return the SHA-256 of the context (32 bytes)."""
        return hashlib.sha256(self.data()).digest()

    def pairs(self) -> dict[str, str]:
        """Return the context as names and values, for providers that show it in their audit log."""
        if self.domain is None:
            return {"tokenweir": _STATE_LABEL}
        return {"tokenweir": _ROOT_LABEL, "domain": self.domain, "epoch": str(self.epoch)}


STATE: Final = KekContext()
"""The context of the root for local state."""


class Kek(ABC):
    """A key that wraps roots and opens them again; the key itself may never leave its provider."""

    provider: ClassVar[Provider]

    @property
    @abstractmethod
    def id(self) -> str:
        """What ``keyset.json`` says about it: no secret, and the same for all versions of the key.

        Raises:
            KeysError: it cannot be told, as the KEK is missing or malformed.
        """

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it: the place where its owner finds it."""

    @abstractmethod
    def wrap(self, root: bytes, context: KekContext) -> bytes:
        """Return the root sealed for this context, by the newest version of the KEK.

        Raises:
            KekUnreachableError: the provider did not answer usefully in time.
            KeysError: the KEK is missing, disabled or destroyed, or may not be used.
        """

    @abstractmethod
    def unwrap(self, wrapped: bytes, context: KekContext) -> TokenKey:
        """Return the root that was sealed for this context.

        Raises:
            KekUnreachableError: the provider did not answer usefully in time.
            WrappedRootError: it does not open: it was changed, or sealed for another context or by another KEK.
            KeysError: the KEK is missing, disabled or destroyed, or may not be used.
        """

    def make(self, keyset: Path | None) -> bool:
        """Make the KEK where it is missing and tokenweir may make one; return whether it did.

        Args:
            keyset: the keyset that there is already, which no new KEK would open.

        Raises:
            KeysError: it is missing and must not be made, or cannot be.
        """
        del keyset  # Keys of providers are made by their owners, with the permissions that these choose.
        return False

    def knows(self, reference: str) -> bool:
        """Whether it may be the KEK of a keyset that names this id; a provider itself knows better than a name."""
        del reference
        return True
