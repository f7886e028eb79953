"""Who calls: by an access token, by a client certificate, or by both together."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from tokenweir.adapters.accesstokens import AccessTokenError, Bearer
from tokenweir.core.detokenize.decide import Identity

_SCHEME = "bearer "


class Verifier(Protocol):
    """Says whom an access token speaks for."""

    def verify(self, text: str) -> Bearer:
        """See :meth:`tokenweir.adapters.accesstokens.TokenVerifier.verify`."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller shows: the Authorization headers, and the certificate of the connection (DER)."""

    authorization: tuple[str, ...]
    certificate: bytes | None


class Callers:
    """Recognises callers.

    With a verifier a token is needed, and its subject is who calls. Without one the certificate is: its subject.
    """

    def __init__(self, verifier: Verifier | None) -> None:
        self._verifier = verifier

    def identify(self, shown: Credentials) -> Identity:
        """Return who calls. May wait for the issuer's keys.

        Raises:
            AccessTokenError: nobody that counts, or it cannot be known.
        """
        if self._verifier is None:
            return self._by_certificate(shown)
        if len(shown.authorization) != 1 or shown.authorization[0][: len(_SCHEME)].lower() != _SCHEME:
            raise AccessTokenError("invalid")
        bearer = self._verifier.verify(shown.authorization[0][len(_SCHEME) :].strip())
        if bearer.certificate is not None and not _is_bound(bearer.certificate, shown.certificate):
            raise AccessTokenError("invalid")
        return Identity("oidc", bearer.subject)

    @staticmethod
    def _by_certificate(shown: Credentials) -> Identity:
        if shown.certificate is None:
            raise AccessTokenError("invalid")
        try:
            subject = x509.load_der_x509_certificate(shown.certificate).subject.rfc4514_string()
        except ValueError:
            raise AccessTokenError("invalid") from None
        return Identity("certificate", subject)


def _is_bound(thumbprint: str, certificate: bytes | None) -> bool:
    """Say whether a token is bound to the certificate of the connection (RFC 8705)."""
    if certificate is None:
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=")
    return hmac.compare_digest(digest, thumbprint.encode())
