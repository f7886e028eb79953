"""A KEK in Azure Key Vault or a Managed HSM: ``wrapKey`` and ``unwrapKey`` of an RSA key with RSA-OAEP-256.

RSA-OAEP authenticates no context, so its digest is sealed together with the root and compared when that is opened;
OAEP does not let anybody change one of the two (RFC 8017, section 7.1). Who has the public key can seal a root of
their own making: the keyset file must be as hard to write as any key.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Final

from tokenweir.adapters.kek.base import KekContext, Provider
from tokenweir.adapters.kek.remote import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    Refusal,
    RemoteKek,
    bound,
    not_installed,
    unbound,
)
from tokenweir.config.models import AzureKek as Section
from tokenweir.errors import WrappedRootError

try:
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
    from azure.identity import CredentialUnavailableError, DefaultAzureCredential
    from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm
except ImportError:
    raise not_installed("Azure Key Vault", "azure") from None

_REFUSALS: Final = {
    400: Refusal.WRONG,
    401: Refusal.DENIED,
    403: Refusal.DENIED,  # Also where the key is disabled or has expired.
    404: Refusal.GONE,
    409: Refusal.GONE,  # It is deleted, and can still be recovered.
    429: Refusal.THROTTLED,
}
_VERSION_CHARACTERS: Final = 32
"""A version of a key is an id of 128 bits in hexadecimal."""


class AzureKek(RemoteKek):
    """An RSA key of Azure Key Vault; a wrapped root begins with the version of the key that wrapped it."""

    provider: ClassVar[Provider] = "azure"
    service: ClassVar[str] = "Azure Key Vault"

    def __init__(self, section: Section) -> None:
        super().__init__(f"{section.vault_url.rstrip('/')}/keys/{section.key}")

    def knows(self, reference: str) -> bool:
        """Whether it is the key of that name: these have no aliases."""
        return reference == self.id

    @cached_property
    def _credential(self) -> DefaultAzureCredential:
        return DefaultAzureCredential(
            process_timeout=int(ANSWER_SECONDS), connection_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS
        )

    def _client(self, version: str | None = None) -> CryptographyClient:
        return CryptographyClient(
            self._key if version is None else f"{self._key}/{version}",
            self._credential,
            retry_total=0,  # They are ours, the same for every provider.
            connection_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
        )

    def _wrap(self, root: bytes, context: KekContext) -> bytes:
        with self._client() as client:
            result = client.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, bound(root, context))
        version = (result.key_id or "").rpartition("/")[2]
        if len(version) != _VERSION_CHARACTERS:
            raise ValueError("a wrapped root needs the version of its key")
        return version.encode("ascii") + result.encrypted_key

    def _unwrap(self, wrapped: bytes, context: KekContext) -> bytes:
        version = wrapped[:_VERSION_CHARACTERS]
        if not version.isalnum():  # It becomes a part of the address.
            raise WrappedRootError
        with self._client(version.decode("ascii")) as client:
            result = client.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped[_VERSION_CHARACTERS:])
        return unbound(result.key, context)

    def _refusal(self, error: Exception) -> Refusal:
        if isinstance(error, CredentialUnavailableError):
            return Refusal.UNIDENTIFIED
        if isinstance(error, ClientAuthenticationError):
            # Key Vault has said no, or nobody gave a token to ask it with.
            return Refusal.DENIED if error.status_code in {401, 403} else Refusal.UNIDENTIFIED
        if isinstance(error, HttpResponseError):
            return _REFUSALS.get(error.status_code or 0, Refusal.UNREACHABLE)
        return Refusal.UNREACHABLE
