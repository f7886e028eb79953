"""uvicorn's HTTP/1.1 connection, which also tells the application which client certificate it came with."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from tokenweir.api.gate import CERTIFICATE


class CertificateProtocol(H11Protocol):
    """Puts the peer's certificate (DER), which TLS has verified, into the scope of every request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        """Note the certificate of a new connection."""
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        certificate = None
        if isinstance(connection, ssl.SSLObject | ssl.SSLSocket):
            certificate = connection.getpeercert(binary_form=True)
        self.app = _with_certificate(self.app, certificate)


def _with_certificate(app: ASGIApp, certificate: bytes | None) -> ASGIApp:
    async def called(scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: ANN401 - ASGI gives nothing back.
        scope[CERTIFICATE] = certificate
        await app(scope, receive, send)

    return called
