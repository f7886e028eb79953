"""What every request passes before the application sees it, and every answer before it leaves.

A known caller, a rate, a bounded body in bounded time; then the application; then the answer waits for the next
multiple of a fixed time since the request began. So a refusal takes as long whatever it was for, up to that resolution.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenweir.adapters.accesstokens import AccessTokenError
from tokenweir.api.callers import Callers, Credentials
from tokenweir.api.limits import Buckets
from tokenweir.api.problems import ProblemError, problem
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

IDENTITY: Final = "tokenweir.identity"
CERTIFICATE: Final = "tokenweir.certificate"
BODY_SECONDS: Final = 10.0

Count = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class GateLimits:
    """The numbers of the gate."""

    body_bytes: int
    concurrent: int
    floor_seconds: float
    known: Buckets
    unknown: Buckets


class Gate:
    """Stands before the application; see the module.

    Args:
        app: The application.
        callers: Recognises who calls.
        limits: The numbers.
        count: Counts what never reaches the application, by outcome.
        monotonic: Seconds of a clock that never steps.
    """

    def __init__(
        self, app: ASGIApp, callers: Callers, limits: GateLimits, count: Count, monotonic: Callable[[], float]
    ) -> None:
        self._app = app
        self._callers = callers
        self._limits = limits
        self._count = count
        self._monotonic = monotonic
        self._working = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served")
        began = self._monotonic()
        if self._working >= self._limits.concurrent:
            self._count("throttled")
            await self._leave(problem("unavailable", {"Retry-After": "1"}), scope, receive, send, began)
            return
        self._working += 1
        try:
            answer = await self._answer(scope, receive)
        finally:
            self._working -= 1
        await self._leave(answer, scope, receive, send, began)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        """Return the whole answer, whatever happens."""
        try:
            await self._admit(scope)  # First, so that nobody unknown holds a place with a body that drips.
            return await self._ask(scope, await self._body(scope, receive))
        except ProblemError as error:
            retry = error.details.pop("retry", None)
            return problem(error.code, {"Retry-After": retry} if retry else {}, **error.details)
        except Exception as error:  # noqa: BLE001 - the text of an unexpected error may hold what it worked on.
            log(Event.EXCEPTION_RAISED, error=error, phase="request")
            self._count("failed")
            return problem("fault")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Read the body, within its length and time."""
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise ProblemError("timeout")
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self._limits.body_bytes:
                        self._count("invalid")
                        raise ProblemError("too-large")
        except TimeoutError:
            raise ProblemError("timeout") from None
        kind = _header(scope, b"content-type")[:1]
        if body and (not kind or kind[0].partition(";")[0].strip().lower() != "application/json"):
            raise ProblemError("unsupported-media-type")
        return bytes(body)

    async def _admit(self, scope: Scope) -> None:
        """Recognise the caller and take from its rate; who is not recognised is limited by address."""
        address = str((scope.get("client") or ("",))[0])
        shown = Credentials(tuple(_header(scope, b"authorization")), scope.get(CERTIFICATE))
        try:
            identity = await asyncio.to_thread(self._callers.identify, shown)
        except AccessTokenError as error:
            self._take(self._limits.unknown, address)
            self._count("unauthenticated" if error.kind == "invalid" else "failed")
            raise ProblemError("unauthorized" if error.kind == "invalid" else "unavailable") from None
        self._take(self._limits.known, f"{identity.kind}:{identity.name}")
        scope[IDENTITY] = identity

    def _take(self, buckets: Buckets, caller: str) -> None:
        wait = buckets.take(caller)
        if wait:
            self._count("throttled")
            raise ProblemError("too-many-requests", retry=str(math.ceil(wait)))

    async def _ask(self, scope: Scope, body: bytes) -> Response:
        """Give the request to the application, and take its answer whole."""
        status, sent = 500, False
        headers: list[tuple[bytes, bytes]] = []
        parts: list[bytes] = []

        async def receive() -> Message:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def take(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.extend(message.get("headers", []))
            else:
                parts.append(message.get("body", b""))

        await self._app(scope, receive, take)
        answer = Response(b"".join(parts), status)
        answer.raw_headers = headers
        return answer

    async def _leave(self, answer: Response, scope: Scope, receive: Receive, send: Send, began: float) -> None:
        """Wait for the next multiple of the floor, and answer."""
        answer.headers["Cache-Control"] = "no-store"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        floor = self._limits.floor_seconds
        if floor:
            passed = self._monotonic() - began
            await asyncio.sleep(max(1, math.ceil(passed / floor)) * floor - passed)
        await answer(scope, receive, send)


def _header(scope: Scope, name: bytes) -> list[str]:
    """Return every value of a request header."""
    return [value.decode("latin-1") for found, value in scope["headers"] if found.lower() == name]
