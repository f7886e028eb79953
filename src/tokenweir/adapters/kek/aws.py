"""A KEK in AWS KMS: ``Encrypt`` and ``Decrypt`` of a symmetric key, with the context as encryption context.

Credentials, region and endpoint are found as everywhere with AWS: environment, web identity, profile, metadata.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Final

from tokenweir.adapters.kek.base import KekContext, Provider
from tokenweir.adapters.kek.remote import ANSWER_SECONDS, CONNECT_SECONDS, Refusal, RemoteKek, not_installed
from tokenweir.config.models import AwsKek as Section

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError
except ImportError:
    raise not_installed("AWS KMS", "aws") from None

#: Error codes of KMS and of what checks signatures; all others, such as KMSInternalException, may pass.
_REFUSALS: Final = {
    "AccessDeniedException": Refusal.DENIED,
    "UnrecognizedClientException": Refusal.DENIED,
    "InvalidClientTokenId": Refusal.DENIED,
    "InvalidSignatureException": Refusal.DENIED,
    "SignatureDoesNotMatch": Refusal.DENIED,
    "IncompleteSignature": Refusal.DENIED,
    "ExpiredTokenException": Refusal.UNIDENTIFIED,
    "ExpiredToken": Refusal.UNIDENTIFIED,
    "DisabledException": Refusal.GONE,
    "KMSInvalidStateException": Refusal.GONE,
    "NotFoundException": Refusal.GONE,
    "InvalidCiphertextException": Refusal.WRONG,
    "IncorrectKeyException": Refusal.WRONG,
    "InvalidKeyUsageException": Refusal.UNFIT,
    "InvalidArnException": Refusal.UNFIT,
    "ValidationException": Refusal.UNFIT,
    "ThrottlingException": Refusal.THROTTLED,
    "LimitExceededException": Refusal.THROTTLED,
    "RequestLimitExceeded": Refusal.THROTTLED,
}


class AwsKek(RemoteKek):
    """A symmetric key of AWS KMS."""

    provider: ClassVar[Provider] = "aws"
    service: ClassVar[str] = "AWS KMS"

    def __init__(self, section: Section) -> None:
        super().__init__(section.key)
        self._region = section.region

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 makes its clients at run time and has no types for them.
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"total_max_attempts": 1},  # They are ours, the same for every provider.
        )
        # An ARN says in its fourth part where the key is.
        region = self._region or (self._key.split(":")[3] if self._key.startswith("arn:") else None)
        return boto3.session.Session().client("kms", region_name=region, config=config)

    def _wrap(self, root: bytes, context: KekContext) -> bytes:
        answer = self._client.encrypt(KeyId=self._key, Plaintext=root, EncryptionContext=context.pairs())
        return bytes(answer["CiphertextBlob"])

    def _unwrap(self, wrapped: bytes, context: KekContext) -> bytes:
        # With the key named, KMS refuses what another key of the account has sealed.
        answer = self._client.decrypt(KeyId=self._key, CiphertextBlob=wrapped, EncryptionContext=context.pairs())
        return bytes(answer["Plaintext"])

    def _refusal(self, error: Exception) -> Refusal:
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return Refusal.UNIDENTIFIED
        if isinstance(error, ClientError):
            return _REFUSALS.get(str(error.response.get("Error", {}).get("Code")), Refusal.UNREACHABLE)
        return Refusal.UNREACHABLE
