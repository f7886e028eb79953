"""``tokenweir serve``: the API on its port, probes and metrics on another, until a signal ends it."""

from __future__ import annotations

import ipaddress
import signal
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn

from tokenweir import __version__
from tokenweir.adapters.accesstokens import Expected, IssuerKeys, TokenVerifier, fetch_keys
from tokenweir.adapters.auditfiles import AuditError
from tokenweir.adapters.auditthread import AuditThread
from tokenweir.api.application import Fields, application
from tokenweir.api.callers import Callers
from tokenweir.api.connection import CertificateProtocol
from tokenweir.api.gate import Gate, GateLimits
from tokenweir.api.limits import Buckets
from tokenweir.app.audit import open_audit
from tokenweir.app.detokenize import Detokenizer, Place
from tokenweir.app.grantsfile import GrantsFile
from tokenweir.app.tokenplace import field_places
from tokenweir.app.workspace import Workspace
from tokenweir.config import Config
from tokenweir.errors import FileFormatError, FindingsError, RefusedError, RegistryError, UsageError
from tokenweir.runtime.gateway import keyset_of
from tokenweir.runtime.keyrows import destroyed_roots
from tokenweir.runtime.statelock import open_lock, try_lock
from tokenweir.telemetry import metrics
from tokenweir.telemetry.collector import metrics_registry
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log
from tokenweir.telemetry.server import AdminServer, Probes
from tokenweir.telemetry.slots import SlotWriter, clear_slots, slot_path

HEADER_BYTES: Final = 16 * 1024
STOP_SECONDS: Final = 10
_HELD: Final = "serve.tls.certificate and serve.tls.key"


@dataclass(frozen=True, slots=True)
class Service:
    """What serves: the gate with everything behind it, and what the probes ask."""

    gate: Gate
    detokenizer: Detokenizer
    audit: AuditThread
    slots: Path


def check_exposure(config: Config) -> None:
    """Refuse to listen where anybody could read along, or where nobody could be recognised.

    Raises:
        RefusedError: neither access tokens nor client certificates are configured, or an address that is not this
            machine's own is to be listened on without TLS.
    """
    section = config.serve
    if section.oidc.issuer is None and section.tls.client_ca is None:
        raise RefusedError("nobody could be recognised: configure serve.oidc or serve.tls.client_ca")
    if section.tls.certificate is None and not _is_own(section.host):
        raise RefusedError(
            f"{section.host} can be reached from elsewhere, and values would go there in the clear: {_HELD}"
        )


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_service(workspace: Workspace, stack: ExitStack) -> Service:
    """Open everything; the stack closes it.

    Raises:
        UsageError: the configuration names no grants file.
        TokenweirError: keys, grants, audit log or certificates are not fit to begin with.
    """
    config = workspace.config
    if config is None or config.detokenize.grants is None:
        raise UsageError("the configuration names no grants file (detokenize.grants), so nobody may detokenize")
    check_exposure(config)
    grants = GrantsFile(config.detokenize.grants, workspace.policy)
    grants.current()
    audit_log = open_audit(config)
    audit_log.checkpoint()  # The first look reads a month of records, for which the limit of a request is too short.
    audit = AuditThread(audit_log, config.detokenize.audit.timeout_seconds)
    keyset = keyset_of(config)
    service = Detokenizer(
        workspace.policy,
        grants,
        keyset,
        audit,
        destroyed=lambda: destroyed_roots(config),
        most_tokens=config.detokenize.tokens,
    )
    slots = config.state.directory / "serve"
    lock = stack.enter_context(open_lock(slots))
    if not try_lock(lock, passing=False):
        raise RefusedError(f"{slots}: another tokenweir serve counts there; give each a state.directory of its own")
    clear_slots(slots)
    loaded = workspace.policy
    series = metrics.serve_series(
        policy_digest=loaded.digest, policy_revision=loaded.policy.revision, version=__version__, engine="reference"
    )
    writer = stack.enter_context(SlotWriter(slot_path(slots, "serve", 0), series))
    for metric in (metrics.POLICY_INFO, metrics.BUILD_INFO):
        index = next(place for place, each in enumerate(series) if each.metric == metric)
        writer.set(writer.index(series[index].metric, *series[index].labels), 1)
    count = _counter(writer)
    app = application(service, known_fields(workspace), count)
    limits = config.serve.limits
    gate_limits = GateLimits(
        body_bytes=limits.body_bytes,
        concurrent=limits.concurrent,
        floor_seconds=limits.floor_ms / 1000,
        known=Buckets(limits.requests_per_minute, time.monotonic),
        unknown=Buckets(limits.unknown_per_minute, time.monotonic),
    )
    return Service(Gate(app, Callers(_verifier(config)), gate_limits, count, time.monotonic), service, audit, slots)


def _counter(writer: SlotWriter) -> Callable[..., None]:
    """Return the function that counts."""

    def count(outcome: str, *, answered: int = 0, invalid: int = 0, audit: str = "") -> None:
        writer.add(writer.index(metrics.DETOKENIZE_REQUESTS, outcome))
        writer.add(writer.index(metrics.DETOKENIZE_TOKENS, "answered"), answered)
        writer.add(writer.index(metrics.DETOKENIZE_TOKENS, "invalid"), invalid)
        if audit:
            writer.add(writer.index(metrics.AUDIT_FAULTS, audit))

    return count


def _verifier(config: Config) -> TokenVerifier | None:
    """Return what checks access tokens, None where client certificates alone say who calls."""
    section = config.serve.oidc
    if section.issuer is None or section.audience is None or section.jwks_url is None:
        return None
    try:
        fetch = fetch_keys(section.jwks_url, section.ca_file)
    except RegistryError:
        raise RefusedError("serve.oidc.jwks_url or serve.oidc.ca_file cannot be used") from None
    expected = Expected(
        section.issuer,
        section.audience,
        tuple(section.algorithms),
        section.clock_skew_seconds,
        section.longest_token_seconds,
    )
    return TokenVerifier(expected, IssuerKeys(fetch, time.monotonic), lambda: time.time_ns() // 1_000_000_000)


def known_fields(workspace: Workspace) -> Fields:
    """Return the token entries of all fields; of a stream whose schemas cannot be had, none."""
    found: dict[tuple[str, str, str], set[Place]] = {}
    for stream in workspace.policy.policy.streams:
        planned = workspace.plan(stream)
        if not planned.versions:
            log(Event.SERVE_WITHOUT_FIELDS, stream=stream)
        for (path, audience), places in field_places(planned).items():
            found[stream, path, audience] = places
    return found


def tls_context(config: Config) -> ssl.SSLContext | None:
    """Return the TLS of the port: 1.2 and later, with client certificates where authorities for them are named.

    Raises:
        RefusedError: a certificate or key cannot be used.
    """
    section = config.serve.tls
    if section.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(section.certificate, section.key, password=lambda: b"")
        if section.client_ca is not None:
            context.load_verify_locations(section.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError, ValueError):
        raise RefusedError("the certificates or the key of serve.tls cannot be used") from None
    return context


def server(config: Config, gate: Gate, context: ssl.SSLContext | None) -> uvicorn.Server:
    """Return the server; it logs no request, and believes no header about who the client is."""
    section = config.serve
    options: dict[str, Any] = {
        "host": section.host,
        "port": section.port,
        "http": CertificateProtocol,
        "ws": "none",
        "lifespan": "off",
        "loop": "asyncio",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_keep_alive": 5,
        "timeout_graceful_shutdown": STOP_SECONDS,
        "h11_max_incomplete_event_size": HEADER_BYTES,
    }
    if context is not None:
        options["ssl_context_factory"] = lambda _config, _default: context
    return uvicorn.Server(uvicorn.Config(gate, **options))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: the address cannot be listened on.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family, backlog=128)


def probes(service: Service) -> Probes:
    """Return what the admin port asks: the grants file is sound, and the audit log can be locked and read."""

    def grants() -> bool:
        try:
            service.detokenizer.grants()
        except (FindingsError, FileFormatError):
            return False
        return True

    def audit() -> bool:
        try:
            service.audit.transact(lambda _ledger, _now_ms: ((), None))
        except AuditError:
            return False
        return True

    ready = {"grants": grants, "audit": audit}
    return Probes(live={"process": lambda: True}, ready=ready, started=ready)


def serve(workspace: Workspace) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        TokenweirError: it is not fit to begin; see :func:`open_service`.
        OSError: a port cannot be listened on.
    """
    with ExitStack() as stack:
        service = open_service(workspace, stack)
        config = workspace.config
        if config is None:
            raise UsageError("this needs a configuration")
        context = tls_context(config)
        section = config.serve
        registry = metrics_registry(service.slots)
        try:
            admin = AdminServer(section.admin.host, section.admin.port, probes(service), registry)
            sock = listen(section.host, section.port)
        except OSError as error:
            raise RefusedError(f"a port of serve or serve.admin cannot be listened on ({error.strerror})") from None
        stack.callback(sock.close)
        stack.enter_context(admin)
        log(Event.ADMIN_LISTENING, host=section.admin.host, port=admin.port)
        running = server(config, service.gate, context)
        loaded = workspace.policy
        log(
            Event.SERVE_STARTED,
            host=section.host,
            port=sock.getsockname()[1],
            version=__version__,
            policy_digest=loaded.digest,
            revision=loaded.policy.revision,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            # uvicorn stops at a signal and raises it once more when it has; then there is only this to come.
            signal.signal(number, lambda *_arguments: None)
        running.run(sockets=[sock])
        log(Event.SERVE_STOPPED)
