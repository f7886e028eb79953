"""One bounded HTTP exchange of JSON with one host: limits on time and size, no redirects, no proxies, no surprises."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tokenweir.errors import RegistryError

CONNECT_SECONDS = 1.0
TOTAL_SECONDS = 3.0
"""Limits of one exchange, name look-up and a body that drips byte by byte included."""

MAX_BODY_BYTES = 1_048_576

_KINDS = {401: "denied", 403: "denied", 404: "not_found", 408: "timeout", 409: "incompatible", 429: "unavailable"}


class JsonClient:
    """Talks JSON to one host.

    Every call is its own connection and waits in the calling thread, so a client may be shared by threads. Nothing
    but the status and a numeric error code of an answer ever gets into an error.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        """Prepare the client; nothing is contacted yet.

        Args:
            url: The root that every path is appended to, http or https, without user, query or fragment.
            username: For basic authentication, with ``password``.
            password: For basic authentication.
            token: For bearer authentication, instead of user and password.
            ca_file: Certificates (PEM) to trust instead of the system's.

        Raises:
            RegistryError: ``malformed`` if the URL is not such a root; ``denied`` if the certificates cannot be read.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise RegistryError("malformed", "the registry's URL must be http(s)://host[:port]/path, without a user")
        if parts.query or parts.fragment:
            raise RegistryError("malformed", "the registry's URL must have neither a query nor a fragment")
        self.url = url.rstrip("/")
        self._auth = httpx2.BasicAuth(username, password or "") if username is not None else None
        self._headers = {
            "Accept": "application/vnd.schemaregistry.v1+json, application/json",
            # A compressed answer could be small on the wire and huge in memory.
            "Accept-Encoding": "identity",
            "User-Agent": "tokenweir",
        }
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        try:
            self._tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        except (OSError, ssl.SSLError):
            raise RegistryError("denied", f"the certificates in {ca_file} cannot be read") from None

    def __repr__(self) -> str:
        """Return the address alone; credentials are never shown."""
        return f"JsonClient({self.url!r})"

    def call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON.
        """Send a request and return the JSON of its answer.

        Args:
            method: The HTTP method.
            path: Appended to the root; its parts are percent-encoded by the caller.
            body: Sent as JSON if it is not None.

        Raises:
            RegistryError: ``timeout``, ``unavailable``, ``denied``, ``not_found``, ``incompatible``, or ``malformed``
                for whatever an answer must not be.
        """
        # A loop of its own gives the whole exchange one time limit; blocking sockets have one per read only.
        loop = asyncio.new_event_loop()
        try:
            status, answer = loop.run_until_complete(self._exchange(method, path, body))
        except (TimeoutError, httpx2.TimeoutException):
            what = f"the registry at {self.url} does not answer in time ({method} {path})"
            raise RegistryError("timeout", what) from None
        except httpx2.ConnectError:
            untrusted = ", or its certificate is not trusted" if self.url.startswith("https:") else ""
            raise RegistryError("unavailable", f"the registry at {self.url} does not answer{untrusted}") from None
        except httpx2.HTTPError:
            what = f"the exchange with the registry at {self.url} broke off ({method} {path})"
            raise RegistryError("unavailable", what) from None
        finally:
            loop.close()
        if 200 <= status < 300:
            return _parsed(answer, f"{method} {path}")
        raise _refusal(status, answer, f"{method} {path}")

    async def _exchange(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        content = None if body is None else json.dumps(body).encode()
        headers = {} if content is None else {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        async with (
            asyncio.timeout(TOTAL_SECONDS),
            httpx2.AsyncClient(
                auth=self._auth,
                headers=self._headers,
                verify=self._tls,
                timeout=httpx2.Timeout(TOTAL_SECONDS, connect=CONNECT_SECONDS),
                follow_redirects=False,
                # Neither proxies nor passwords are taken from the environment.
                trust_env=False,
            ) as client,
            client.stream(method, self.url + path, content=content, headers=headers) as response,
        ):
            return response.status_code, await _bounded(response, f"{method} {path}")


async def _bounded(response: httpx2.Response, what: str) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RegistryError("malformed", f"{what}: the answer is compressed though that was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RegistryError("malformed", f"{what}: the answer is longer than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _parsed(answer: bytes, what: str) -> Any:  # noqa: ANN401 - JSON.
    try:
        return json.loads(answer.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RegistryError("malformed", f"{what}: the answer is not JSON") from None


def _refusal(status: int, answer: bytes, what: str) -> RegistryError:
    """Return the error for a status; of the body only the numeric code is told."""
    kind = _KINDS.get(status, "unavailable" if status >= 500 else "malformed")
    try:
        code = _parsed(answer, what)["error_code"]
    except (RegistryError, LookupError, TypeError):
        code = None
    suffix = f", error code {code}" if type(code) is int else ""
    return RegistryError(kind, f"{what}: status {status}{suffix}")


def as_mapping(answer: object, what: str) -> Mapping[str, Any]:
    """Return an answer that must be a JSON object; ``malformed`` if it is not, as in the three that follow."""
    if not isinstance(answer, dict):
        raise unfit(what)
    return answer


def as_sequence(answer: object, what: str) -> list[Any]:
    """Return an answer that must be a JSON array."""
    if not isinstance(answer, list):
        raise unfit(what)
    return answer


def text_of(answer: Mapping[str, Any], key: str, what: str) -> str:
    """Return a member that must be a string."""
    value = answer.get(key)
    if not isinstance(value, str):
        raise unfit(what)
    return value


def number_of(answer: Mapping[str, Any], key: str, what: str) -> int:
    """Return a member that must be a whole number from 0 up, of 31 bits as ids and versions are in every registry.

    JSON's true is none, though Python's is.
    """
    value = answer.get(key)
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise unfit(what)
    return value


def unfit(what: str) -> RegistryError:
    """Return the error for an answer that is JSON and yet not what was asked for."""
    return RegistryError("malformed", f"{what}: the answer has not the form that the API defines")
