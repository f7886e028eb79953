"""A KEK in the transit engine of HashiCorp Vault or OpenBao: ``encrypt`` and ``decrypt`` of an AEAD key.

Two requests with a token need no client of their own. The context is associated data; as servers from before Vault
1.12 silently ignore that, its digest is sealed together with the root too.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import ssl
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

import httpx2

from tokenweir.adapters.kek.base import KekContext, Provider
from tokenweir.adapters.kek.remote import ANSWER_SECONDS, CONNECT_SECONDS, Refusal, RemoteKek, bound, unbound
from tokenweir.config.models import VaultKek as Section
from tokenweir.errors import KeysError, WrappedRootError

_MAX_ANSWER_BYTES: Final = 65_536
_MAX_TOKEN_BYTES: Final = 16_384

_REFUSALS: Final = {401: Refusal.DENIED, 403: Refusal.DENIED, 404: Refusal.GONE, 429: Refusal.THROTTLED}
#: What the transit engine says in an answer of status 400, which is all that it has for these.
_SAYINGS: Final = (
    (re.compile(r"message authentication failed|invalid ciphertext"), Refusal.WRONG),
    (re.compile(r"key not found|too old|disallowed by policy|key has been (?:soft )?deleted"), Refusal.GONE),
)


class _AnswerError(Exception):
    """An answer that is none of success."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


class VaultKek(RemoteKek):
    """A key of the transit engine; a ciphertext names the version that made it."""

    provider: ClassVar[Provider] = "vault"
    service: ClassVar[str] = "Vault transit"

    def __init__(self, section: Section) -> None:
        super().__init__("/".join(filter(None, (section.namespace, section.mount, section.key))))
        self._root = f"{section.address.rstrip('/')}/v1/{quote(section.mount)}"
        self._name = quote(section.key)
        self._namespace = section.namespace
        self._token_file = section.token_file
        ca_file = section.ca_file or os.environ.get("VAULT_CACERT")
        try:
            self._tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        except (OSError, ssl.SSLError):
            raise KeysError(f"the certificates in {ca_file} cannot be read") from None

    def knows(self, reference: str) -> bool:
        """Whether it is the key of that name: these have no aliases."""
        return reference == self.id

    def _wrap(self, root: bytes, context: KekContext) -> bytes:
        fields = {"plaintext": _encoded(bound(root, context)), "associated_data": _encoded(context.data())}
        return self._post("encrypt", fields, "ciphertext").encode("ascii")

    def _unwrap(self, wrapped: bytes, context: KekContext) -> bytes:
        try:
            fields = {"ciphertext": wrapped.decode("ascii"), "associated_data": _encoded(context.data())}
        except UnicodeDecodeError:
            raise WrappedRootError from None
        plain = self._post("decrypt", fields, "plaintext")
        return unbound(base64.b64decode(plain, validate=True), context)

    def _refusal(self, error: Exception) -> Refusal:
        return error.refusal if isinstance(error, _AnswerError) else Refusal.UNREACHABLE

    def _post(self, verb: str, fields: dict[str, str], wanted: str) -> str:
        """Return a text of the answer's data."""
        status, answer = asyncio.run(self._exchange(f"{self._root}/{verb}/{self._name}", fields))
        if status != httpx2.codes.OK:
            raise _AnswerError(_refusal_of(status, answer))
        return str(json.loads(answer)["data"][wanted])

    async def _exchange(self, url: str, fields: dict[str, str]) -> tuple[int, bytes]:
        headers = {"X-Vault-Token": self._token(), "X-Vault-Request": "true", "Accept-Encoding": "identity"}
        if self._namespace is not None:
            headers["X-Vault-Namespace"] = self._namespace
        limits = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            httpx2.AsyncClient(
                headers=headers, verify=self._tls, timeout=limits, follow_redirects=False, trust_env=False
            ) as client,
            client.stream("POST", url, json=fields) as response,
        ):
            answer = bytearray()
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise ValueError("the answer is too long")
            return response.status_code, bytes(answer)

    def _token(self) -> str:
        """Return the token as it is now: an agent renews the file."""
        if self._token_file is None:
            token = os.environ.get("VAULT_TOKEN", "")
        else:
            try:
                with Path(self._token_file).open("rb") as file:
                    token = file.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
            except (OSError, UnicodeDecodeError):
                token = ""
        if not token.isprintable() or not token:
            raise _AnswerError(Refusal.UNIDENTIFIED)
        return token


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _refusal_of(status: int, answer: bytes) -> Refusal:
    """Return what an answer means; 412, 472, 473 and 503 are of a server that is not (yet) the active one."""
    if status != httpx2.codes.BAD_REQUEST:
        return _REFUSALS.get(status, Refusal.UNREACHABLE)
    try:
        said = " ".join(str(each) for each in json.loads(answer)["errors"])
    except (ValueError, LookupError, TypeError, RecursionError):
        said = ""
    return next((refusal for pattern, refusal in _SAYINGS if pattern.search(said)), Refusal.UNFIT)
