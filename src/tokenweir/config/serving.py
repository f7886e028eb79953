"""The sections of the configuration about turning tokens back: who may, the audit log, the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from tokenweir.config.sections import FilePath, Section


class AuditSection(Section):
    """The audit log of everything that is detokenized. It cannot be rebuilt: give it a disk and a backup."""

    directory: FilePath = Field(default=Path("audit"), description="Directory of the log's segments.")
    checkpoint: FilePath | None = Field(
        default=None,
        description="File of the newest checkpoint, better on another disk. Default: `checkpoint.json` beside the "
        "segments.",
    )
    signing_key: FilePath = Field(
        default=Path("keys/audit.key"),
        description="Ed25519 key that signs every record; its public key is the `.pub` file beside it.",
    )
    timeout_seconds: float = Field(
        default=5, gt=0, le=60, description="Nothing is answered that is not durable within this."
    )
    segment_bytes: int = Field(
        default=16 * 1024 * 1024, ge=4096, le=1024 * 1024 * 1024, description="A longer segment gets a successor."
    )


class DetokenizeSection(Section):
    """Who may turn tokens back into values. Without `grants` nobody may."""

    grants: FilePath | None = Field(default=None, description="The grants file. Default: none, so nothing is granted.")
    tokens: int = Field(default=100, ge=1, le=1000, description="Tokens that one request may have.")
    audit: AuditSection = Field(default_factory=AuditSection, description="The audit log.")


class TlsSection(Section):
    """Certificates of the HTTP API. Without them it listens on this machine only."""

    certificate: FilePath | None = Field(default=None, description="Certificate chain of the server (PEM).")
    key: FilePath | None = Field(default=None, description="Private key of the certificate (PEM), without passphrase.")
    client_ca: FilePath | None = Field(
        default=None,
        description="Mutual TLS: every client must show a certificate of these authorities (PEM). Without `oidc` its "
        "subject is who asks.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` go together")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("`client_ca` needs `certificate` and `key`")
        return self


Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"]


class OidcSection(Section):
    """Access tokens of OpenID Connect. With an `issuer`, every request needs one; its `sub` is who asks."""

    issuer: str | None = Field(
        default=None, pattern=r"^https?://[^\s?#]+$", description="The issuer, exactly as tokens name it."
    )
    audience: str | None = Field(default=None, min_length=1, description="What must stand in the token's `aud`.")
    jwks_url: str | None = Field(
        default=None,
        pattern=r"^(?:https://[^\s?#]+|http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?(?:/[^\s?#]*)?)$",
        description="Where the issuer publishes its keys; without TLS only on this machine.",
    )
    ca_file: FilePath | None = Field(
        default=None, description="Certificates (PEM) to trust for `jwks_url`. Default: the system's."
    )
    algorithms: list[Algorithm] = Field(
        default=["RS256", "ES256"], min_length=1, description="Signature algorithms that count, and no others."
    )
    clock_skew_seconds: int = Field(default=30, ge=0, le=300, description="How far clocks may differ.")
    longest_token_seconds: int = Field(
        default=3600, ge=60, le=86_400, description="A token that lives longer from `iat` to `exp` is refused."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len({part is None for part in (self.issuer, self.audience, self.jwks_url)}) > 1:
            raise ValueError("`issuer`, `audience` and `jwks_url` go together")
        return self


class ServeLimitsSection(Section):
    """What one caller may cost."""

    body_bytes: int = Field(default=65_536, ge=1024, le=1_048_576, description="Longest body of a request.")
    requests_per_minute: int = Field(default=60, ge=1, le=100_000, description="Requests of one principal.")
    unknown_per_minute: int = Field(
        default=300, ge=1, le=100_000, description="Requests that nobody is recognised by, from one address."
    )
    concurrent: int = Field(default=32, ge=1, le=1000, description="Requests that are worked on at once.")
    floor_ms: int = Field(
        default=50, ge=0, le=5000, description="Answers leave at multiples of so many milliseconds after the request."
    )


class ServeAdminSection(Section):
    """The port of the HTTP API's probes and metrics."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=9465, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")


class ServeSection(Section):
    """The HTTP API of `tokenweir serve`."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8443, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    tls: TlsSection = Field(default_factory=TlsSection, description="Certificates.")
    oidc: OidcSection = Field(default_factory=OidcSection, description="Access tokens.")
    limits: ServeLimitsSection = Field(default_factory=ServeLimitsSection, description="What one caller may cost.")
    admin: ServeAdminSection = Field(default_factory=ServeAdminSection, description="Probes and metrics.")
