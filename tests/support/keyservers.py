"""Servers of key-encryption keys on this machine: the documented protocols with real AES and RSA, and faults on demand.

For AWS it is moto's own KMS behind a fault-injecting door. For Google Cloud KMS, Azure Key Vault and Vault no package
registry has a server; what is here follows their published REST interfaces, as far as ``tokenweir`` uses them. Every
error that a server gives repeats the request, so that a leak of an error's text is found.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import http.client
import http.server
import ipaddress
import json
import os
import re
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID

AZURE_HOST = "kek.vault.test"
TOKEN = "hvs.CANARYTOKENCANARYTOKEN"  # noqa: S105 - of a server that lives for one test
"""The credential that every server asks for, where the protocol has one of that form."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the body."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def answer(status: int, document: object, **headers: str) -> Answer:
    """Return an answer in JSON."""
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json", **headers})


class KeyService(ABC):
    """One provider. What it does may be a fault instead.

    Attributes:
        fault: What goes wrong: one of :meth:`refusal`, or ``slow``, ``drip``, ``cut``, ``garbage``; None for nothing.
        passing: How many answers the fault lasts.
        requests: Uses of a key that were asked for.
        gone: Names of keys that were destroyed.
    """

    provider: ClassVar[str]

    def __init__(self) -> None:
        self.fault: str | None = None
        self.passing = 1 << 30
        self.requests = 0
        self.gone: set[str] = set()

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Answer as the provider does."""

    @abstractmethod
    def refusal(self, fault: str, said: str) -> Answer:
        """Return how the provider says ``denied``, ``gone``, ``throttled`` or ``unavailable``."""

    def is_use(self, request: Request) -> bool:
        """Whether a request uses a key, and so is one that may be refused."""
        return request.method == "POST"


class KeyServer:
    """A service behind TLS on a free port of this machine."""

    def __init__(self, service: KeyService, directory: Path, hosts: tuple[str, ...]) -> None:
        self.service = service
        self.ca_file = directory / f"{service.provider}-ca.pem"
        key_file = directory / f"{service.provider}-server.pem"
        _certificate(self.ca_file, key_file, hosts)
        self._server = _Server(service)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, key_file)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and let go whom a fault holds."""
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, service: KeyService) -> None:
        self.service = service
        self.stopping = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def do_POST(self) -> None:
        """Answer, or do what the fault says."""
        service = self.server.service
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        request = Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        fault = None
        if service.is_use(request):
            service.requests += 1
            if service.passing > 0:
                service.passing -= 1
                fault = service.fault
        if fault == "slow":
            self.server.stopping.wait(60)
        if fault in {"slow", "cut"}:
            self.close_connection = True
        else:
            self._give(self._answer(request, fault), drips=fault == "drip")

    def do_GET(self) -> None:
        """Answer as to any request."""
        self.do_POST()

    def _answer(self, request: Request, fault: str | None) -> Answer:
        if fault == "garbage":
            return Answer(200, b'{"CANARY": ' + request.body)
        if fault is None or fault == "drip":
            return self.server.service.answer(request)
        return self.server.service.refusal(fault, f"CANARY {request.body.decode('utf-8', 'replace')}")

    def _give(self, found: Answer, *, drips: bool) -> None:
        self.send_response(found.status)
        for name, value in found.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        if not drips:
            self.wfile.write(found.body)
            return
        for byte in found.body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.stopping.wait(0.5):
                return

    def handle(self) -> None:
        """Serve the connection; a client that hangs up is no error."""
        try:
            super().handle()
        except (OSError, ssl.SSLError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class AwsService(KeyService):
    """moto's KMS, which runs as a server of its own."""

    provider = "aws"

    def __init__(self, moto_port: int) -> None:
        super().__init__()
        self._port = moto_port

    def answer(self, request: Request) -> Answer:
        """Pass the request on; where moto does not do what the API's reference says, do that."""
        if self.is_use(request) and request.json()["KeyId"] in self.gone:
            return self.refusal("gone", "moto uses disabled keys")
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers))
            response = connection.getresponse()
            headers = {name: value for name, value in response.getheaders() if name.lower() == "content-type"}
            body = response.read()
            if self.is_use(request):  # moto has no rules of access; it says this of a ciphertext of another key.
                body = body.replace(b"AccessDeniedException", b"IncorrectKeyException")
            return Answer(response.status, body, headers)
        finally:
            connection.close()

    def refusal(self, fault: str, said: str) -> Answer:
        """Return an error of KMS."""
        status, code = {
            "denied": (400, "AccessDeniedException"),
            "gone": (400, "DisabledException"),
            "throttled": (400, "ThrottlingException"),
            "unavailable": (500, "KMSInternalException"),
        }[fault]
        return answer(status, {"__type": code, "message": said})

    def is_use(self, request: Request) -> bool:
        """Whether it is Encrypt or Decrypt."""
        return request.headers.get("x-amz-target", "").endswith((".Encrypt", ".Decrypt"))


class GcpService(KeyService):
    """``projects.locations.keyRings.cryptoKeys.encrypt`` and ``.decrypt`` of Cloud KMS, v1."""

    provider = "gcp"

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, list[bytes]] = {}

    def add(self, name: str) -> str:
        """Make a key, or another version of one that becomes the primary."""
        self.keys.setdefault(name, []).append(os.urandom(32))
        return name

    def answer(self, request: Request) -> Answer:
        """Encrypt or decrypt."""
        name, _, verb = request.path.partition("?")[0].removeprefix("/v1/").partition(":")
        if not request.headers.get("authorization", "").startswith("Bearer ey"):
            return self._error(401, "UNAUTHENTICATED", "no credentials")
        if name not in self.keys:
            return self._error(404, "NOT_FOUND", f"CryptoKey {name} not found.")
        if name in self.gone:
            return self._error(400, "FAILED_PRECONDITION", f"{name} is not enabled, current state is: DESTROYED.")
        versions, fields = self.keys[name], request.json()
        associated = base64.b64decode(fields.get("additionalAuthenticatedData", ""))
        if verb == "encrypt":
            nonce = os.urandom(12)
            sealed = AESGCM(versions[-1]).encrypt(nonce, base64.b64decode(fields["plaintext"]), associated)
            ciphertext = bytes([len(versions)]) + nonce + sealed
            version = f"{name}/cryptoKeyVersions/{len(versions)}"
            return answer(200, {"name": version, "ciphertext": base64.b64encode(ciphertext).decode()})
        ciphertext = base64.b64decode(fields["ciphertext"])
        try:
            plain = AESGCM(dict(enumerate(versions, 1))[ciphertext[0]]).decrypt(
                ciphertext[1:13], ciphertext[13:], associated
            )
        except (InvalidTag, IndexError, KeyError, ValueError):
            return self._error(400, "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.")
        return answer(200, {"plaintext": base64.b64encode(plain).decode()})

    def refusal(self, fault: str, said: str) -> Answer:
        """Return an error of Google's APIs."""
        status, code = {
            "denied": (403, "PERMISSION_DENIED"),
            "gone": (400, "FAILED_PRECONDITION"),
            "throttled": (429, "RESOURCE_EXHAUSTED"),
            "unavailable": (503, "UNAVAILABLE"),
        }[fault]
        return self._error(status, code, said)

    @staticmethod
    def _error(status: int, code: str, said: str) -> Answer:
        return answer(status, {"error": {"code": status, "message": said, "status": code}})


class AzureService(KeyService):
    """``wrapkey``, ``unwrapkey`` and the public key of Key Vault, with its challenge, and a managed identity."""

    provider = "azure"

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, dict[str, rsa.RSAPrivateKey]] = {}
        self.port = 0

    def add(self, name: str) -> str:
        """Make a key, or another version of one that becomes the current."""
        version = os.urandom(16).hex()
        self.keys.setdefault(name, {})[version] = rsa.generate_private_key(65537, 2048)
        return name

    def answer(self, request: Request) -> Answer:
        """Wrap, unwrap, or show the public key."""
        path = request.path.partition("?")[0]
        if path == "/token":
            return answer(200, {"access_token": TOKEN, "expires_on": int(time.time()) + 7200, "token_type": "Bearer"})
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            challenge = (
                'Bearer authorization="https://login.test/tenant", '
                f'resource="https://{AZURE_HOST.partition(".")[2]}:{self.port}"'
            )
            return answer(401, {"error": {"code": "Unauthorized"}}, **{"WWW-Authenticate": challenge})
        parts = [*path.strip("/").split("/"), "", ""][1:4]
        name, version, verb = parts
        versions = self.keys.get(name, {})
        version = version or next(reversed(versions), "")
        if version not in versions or name in self.gone:
            said = f"A key with (name/id) {name}/{version} was not found in this key vault."
            return answer(404, {"error": {"code": "KeyNotFound", "message": said}})
        kid = f"https://{AZURE_HOST}:{self.port}/keys/{name}/{version}"
        key = versions[version]
        if not verb:
            numbers = key.public_key().public_numbers()
            jwk = {"kid": kid, "kty": "RSA", "key_ops": ["wrapKey", "unwrapKey"]}
            jwk |= {"n": _b64url(numbers.n.to_bytes(256, "big")), "e": _b64url(numbers.e.to_bytes(3, "big"))}
            return answer(200, {"key": jwk, "attributes": {"enabled": True, "created": 1, "updated": 1}})
        value = base64.urlsafe_b64decode(request.json()["value"] + "==")
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        try:
            result = key.public_key().encrypt(value, oaep) if verb == "wrapkey" else key.decrypt(value, oaep)
        except ValueError:
            return answer(400, {"error": {"code": "BadParameter", "message": "The parameter is incorrect."}})
        return answer(200, {"kid": kid, "value": _b64url(result)})

    def is_use(self, request: Request) -> bool:
        """Whether it is any question about a key that is asked with a token."""
        return request.path.startswith("/keys/") and "authorization" in request.headers

    def refusal(self, fault: str, said: str) -> Answer:
        """Return an error of Key Vault."""
        status, code = {
            "denied": (403, "Forbidden"),
            "gone": (404, "KeyNotFound"),
            "throttled": (429, "Throttled"),
            "unavailable": (503, "ServiceUnavailable"),
        }[fault]
        return answer(status, {"error": {"code": code, "message": said}})


class VaultService(KeyService):
    """``encrypt`` and ``decrypt`` of the transit engine. ``old`` ignores associated data, as before Vault 1.12."""

    provider = "vault"

    def __init__(self, *, old: bool = False) -> None:
        super().__init__()
        self.keys: dict[str, list[bytes]] = {}
        self._old = old

    def add(self, name: str) -> str:
        """Make a key, or another version of one."""
        self.keys.setdefault(name, []).append(os.urandom(32))
        return name

    def answer(self, request: Request) -> Answer:
        """Encrypt or decrypt."""
        if request.headers.get("x-vault-token") != TOKEN:
            return answer(403, {"errors": ["permission denied"]})
        _, _, mount, verb, name = request.path.split("/")
        if mount != "transit":
            return answer(404, {"errors": [f'no handler for route "{mount}/{verb}"']})
        if name not in self.keys or name in self.gone:
            return answer(400, {"errors": ["encryption key not found"]})
        return self._use(verb, request.json(), self.keys[name])

    def _use(self, verb: str, fields: dict[str, str], versions: list[bytes]) -> Answer:
        associated = b"" if self._old else base64.b64decode(fields.get("associated_data", ""))
        if verb == "encrypt":
            nonce = os.urandom(12)
            sealed = nonce + AESGCM(versions[-1]).encrypt(nonce, base64.b64decode(fields["plaintext"]), associated)
            text = f"vault:v{len(versions)}:{base64.b64encode(sealed).decode()}"
            return answer(200, {"data": {"ciphertext": text, "key_version": len(versions)}})
        try:
            _, version, text = re.fullmatch(r"(vault):v([0-9]+):(.*)", fields["ciphertext"]).groups()  # type: ignore[union-attr] # See below.
            sealed = base64.b64decode(text, validate=True)
            plain = AESGCM(versions[int(version) - 1]).decrypt(sealed[:12], sealed[12:], associated)
        except InvalidTag:
            return answer(400, {"errors": ["cipher: message authentication failed"]})
        except (ValueError, IndexError, AttributeError):
            return answer(400, {"errors": ["invalid ciphertext: no prefix"]})
        return answer(200, {"data": {"plaintext": base64.b64encode(plain).decode()}})

    def refusal(self, fault: str, said: str) -> Answer:
        """Return an error of Vault."""
        status = {"denied": 403, "gone": 404, "throttled": 429, "unavailable": 503}[fault]
        return answer(status, {"errors": [said]})


def service_account(path: Path, token_uri: str) -> None:
    """Write credentials of Google's form, with a key of their own."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    fields = {
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": hashlib.sha256(pem).hexdigest()[:40],
        "private_key": pem.decode(),
        "client_email": "tokenweir@demo.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(fields), "utf-8")


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _certificate(certificate_file: Path, key_file: Path, hosts: tuple[str, ...]) -> None:
    """Write a certificate that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keys of a test")])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
