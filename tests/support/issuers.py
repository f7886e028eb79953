"""An OpenID Connect issuer and certificate authorities, made for a test: keys, tokens, certificates."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

AUDIENCE = "tokenweir-detokenize"

Key = RSAKey | ECKey | OKPKey | OctKey


def rsa_key(kid: str = "rsa", bits: int = 2048) -> RSAKey:
    """Make an RSA key."""
    return RSAKey.generate_key(bits, {"kid": kid, "use": "sig"})


def ec_key(kid: str = "ec") -> ECKey:
    """Make a key on P-256."""
    return ECKey.generate_key("P-256", {"kid": kid, "use": "sig"})


@dataclass
class Issuer:
    """Publishes keys over HTTP and makes tokens with them."""

    key: Key = field(default_factory=ec_key)
    requests: int = 0
    down: bool = False

    def __post_init__(self) -> None:
        self.document: Any = {"keys": [self.key.as_dict(private=False)]}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests += 1
                body = json.dumps(issuer.document).encode()
                self.send_response(503 if issuer.down else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The issuer's name."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def jwks_url(self) -> str:
        """Where its keys are."""
        return f"{self.url}/keys"

    def claims(self, subject: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - claims of any type.
        """Return the claims of a sound token; a change to None takes a claim away."""
        now = int(time.time())
        base = {"iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 600}
        return {name: value for name, value in (base | changes).items() if value is not None}

    def token(self, subject: str, header: dict[str, Any] | None = None, key: Key | None = None, **changes: Any) -> str:  # noqa: ANN401  # fmt: skip
        """Return a token."""
        signer = key or self.key
        algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA", "oct": "HS256"}[signer.key_type]
        full = {"alg": algorithm, "typ": "at+jwt", "kid": self.key.kid} | (header or {})
        full = {name: value for name, value in full.items() if value is not None}
        return jwt.encode(full, self.claims(subject, **changes), signer, algorithms=[full["alg"]])


def unsigned(issuer: Issuer, subject: str) -> str:
    """Return a token with the algorithm `none`."""

    def part(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'kid': issuer.key.kid})}.{part(issuer.claims(subject))}."


@dataclass
class Certificate:
    """A certificate with its key, in files."""

    certificate: Path
    key: Path
    der: bytes

    @property
    def thumbprint(self) -> str:
        """What a token that is bound to it names (RFC 8705)."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.der).digest()).rstrip(b"=").decode()


class Authority:
    """A certificate authority."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(self._name, self._key.public_key(), authority=True)
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, common_name: str, organization: str = "Example") -> Certificate:
        """Issue a certificate for this machine or a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )
        certificate = self._sign(subject, key.public_key(), authority=False)
        paths = self._directory / f"{common_name}.pem", self._directory / f"{common_name}.key"
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Certificate(*paths, certificate.public_bytes(Encoding.DER))

    def client(self, shown: Certificate | None = None) -> ssl.SSLContext:
        """Return the TLS of a client that trusts this authority, and shows a certificate."""
        context = ssl.create_default_context(cafile=str(self.file))
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        own = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=authority,
            crl_sign=authority,
            encipher_only=False,
            decipher_only=False,
        )
        return builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
