"""Tokens of e-mail addresses: irreversible, still addresses to every validator."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable

from tokenweir.core.tokens.base import UNBOUNDED_DOMAIN, DigestFormat, PreparedText, invalid
from tokenweir.core.tokens.domains import ascii_domain
from tokenweir.core.tokens.specs import EmailSpec

_TOKEN_CHARACTERS = 26
"""Base-32 characters of a token: 130 bits."""
_MAXIMUM_LOCAL_OCTETS = 64
_MAXIMUM_ADDRESS = 254
_EXPECTED = "an e-mail address"

# Quoted local parts, comments and white space are not accepted: one mailbox must have one spelling.
_LOCAL = re.compile(r"[^\x00-\x20\x7f\"(),:;<>@\[\\\]]+")


class EmailFormat(DigestFormat):
    """An address ``local@domain``; the local part becomes 26 characters of ``a-z2-7``.

    Before hashing the address is brought to one form: lower case throughout, NFC, and the domain in ASCII (an
    internationalized domain as A-labels, see :func:`~tokenweir.core.tokens.domains.ascii_domain`). So two spellings of
    one mailbox have one token, at the price that the rare server with case-sensitive mailboxes is not told apart.
    """

    smallest_domain = UNBOUNDED_DOMAIN

    def __init__(self, spec: EmailSpec) -> None:
        super().__init__(spec.null_values)
        self._domain = spec.domain
        self._replacement = spec.replacement or ""
        self.token_length = {
            "keep": (_TOKEN_CHARACTERS + 4, _TOKEN_CHARACTERS + 1 + _MAXIMUM_ADDRESS),
            "replace": (_TOKEN_CHARACTERS + 1 + len(self._replacement),) * 2,
            "tokenize": (2 * _TOKEN_CHARACTERS + len("@.example"),) * 2,
        }[spec.domain]

    def prepare(self, text: str) -> PreparedText:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        local, at, domain = text.rpartition("@")
        if not at or len(text) > _MAXIMUM_ADDRESS or _LOCAL.fullmatch(local) is None:
            raise invalid(_EXPECTED)
        normalized = unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).lower())
        host = ascii_domain(domain)
        if host is None or not normalized.isprintable():  # Surrogates and control characters are not printable.
            raise invalid(_EXPECTED)
        if len(normalized.encode()) > _MAXIMUM_LOCAL_OCTETS:
            raise invalid(_EXPECTED)
        return PreparedText(f"{normalized}@{host}", host)

    def render(self, prepared: PreparedText, mac: Callable[[str, str], bytes]) -> str:
        """Write the token."""
        local = _base32(mac("address", prepared.text))
        if self._domain == "keep":
            return f"{local}@{prepared.part}"
        if self._domain == "replace":
            return f"{local}@{self._replacement}"
        # .example is reserved (RFC 2606) and, unlike .invalid, passes the validators that receivers use.
        return f"{local}@{_base32(mac('domain', prepared.part))}.example"


def _base32(digest: bytes) -> str:
    """Return the first 130 bits in lower-case base 32 (RFC 4648)."""
    return base64.b32encode(digest[:20]).decode("ascii").lower()[:_TOKEN_CHARACTERS]
