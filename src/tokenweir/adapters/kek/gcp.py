"""A KEK in Google Cloud KMS: ``encrypt`` and ``decrypt`` of a symmetric key, with the context as associated data.

Credentials are the application default ones. The REST transport is used: a process that asks a few times in its life
needs no gRPC threads.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Final

from tokenweir.adapters.kek.base import KekContext, Provider
from tokenweir.adapters.kek.remote import ANSWER_SECONDS, Refusal, RemoteKek, not_installed
from tokenweir.config.models import GcpKek as Section

try:
    from google.api_core.client_options import ClientOptions
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import DefaultCredentialsError, RefreshError
    from google.cloud.kms_v1 import DecryptRequest, EncryptRequest, KeyManagementServiceClient
except ImportError:
    raise not_installed("Google Cloud KMS", "gcp") from None

#: By the canonical codes of Google's APIs; all others may pass.
_REFUSALS: Final = {
    "PERMISSION_DENIED": Refusal.DENIED,
    "UNAUTHENTICATED": Refusal.DENIED,
    "NOT_FOUND": Refusal.GONE,
    "FAILED_PRECONDITION": Refusal.GONE,
    "INVALID_ARGUMENT": Refusal.WRONG,
    "RESOURCE_EXHAUSTED": Refusal.THROTTLED,
}
#: Where an answer, from a proxy for one, names no such code.
_CODES: Final = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


class GcpKek(RemoteKek):
    """A symmetric key of Google Cloud KMS; a ciphertext names the version that made it."""

    provider: ClassVar[Provider] = "gcp"
    service: ClassVar[str] = "Google Cloud KMS"

    def __init__(self, section: Section) -> None:
        super().__init__(section.key)
        self._endpoint = section.endpoint

    def knows(self, reference: str) -> bool:
        """Whether it is the key of that name: these have no aliases."""
        return reference == self.id

    @cached_property
    def _client(self) -> KeyManagementServiceClient:
        options = ClientOptions(api_endpoint=self._endpoint)
        return KeyManagementServiceClient(transport="rest", client_options=options)

    def _wrap(self, root: bytes, context: KekContext) -> bytes:
        request = EncryptRequest(name=self._key, plaintext=root, additional_authenticated_data=context.data())
        return bytes(self._client.encrypt(request, retry=None, timeout=ANSWER_SECONDS).ciphertext)

    def _unwrap(self, wrapped: bytes, context: KekContext) -> bytes:
        request = DecryptRequest(name=self._key, ciphertext=wrapped, additional_authenticated_data=context.data())
        return bytes(self._client.decrypt(request, retry=None, timeout=ANSWER_SECONDS).plaintext)

    def _refusal(self, error: Exception) -> Refusal:
        if isinstance(error, DefaultCredentialsError | RefreshError):
            return Refusal.UNIDENTIFIED
        if not isinstance(error, GoogleAPICallError):
            return Refusal.UNREACHABLE
        return _REFUSALS.get(_code(error), Refusal.UNREACHABLE)


def _code(error: GoogleAPICallError) -> str:
    """Return the canonical code of an error; the class of the exception has only the status of HTTP."""
    try:
        found = error.response.json()["error"]["status"]
    except (AttributeError, ValueError, LookupError, TypeError):
        found = None
    return found if isinstance(found, str) else _CODES.get(error.code or 0, "")
