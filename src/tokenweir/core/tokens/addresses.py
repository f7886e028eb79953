"""Tokens of IP addresses: permutations of all addresses, some of which preserve prefixes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from tokenweir.core.tokens.base import Algorithm, Prepared, PreparedRank, RankFormat, TokenFormat, invalid
from tokenweir.core.tokens.specs import Ipv4Spec, Ipv6Spec

_IPV4 = "an IPv4 address of four decimal numbers"
_IPV6 = "an IPv6 address without zone that does not hold one of IPv4"
_SHORTEST_IPV4, _LONGEST_IPV4 = 7, 15
_SHORTEST_IPV6, _LONGEST_IPV6 = 2, 39
_LONGEST_TEXT = 45

_ALGORITHMS: dict[str, Algorithm] = {
    "deterministic": "ipcrypt-deterministic",
    "prefix": "ipcrypt-pfx",
    "cryptopan": "crypto-pan",
}


@dataclass(slots=True, repr=False, eq=False)
class PreparedAddress(Prepared):
    """An address of 4 or 16 bytes in network order."""

    packed: bytes


class Ipv4RankFormat(RankFormat):
    """IPv4 addresses as numbers below 2^32."""

    radix = 2
    smallest_domain = 2**32
    token_length = (_SHORTEST_IPV4, _LONGEST_IPV4)

    def __init__(self, spec: Ipv4Spec) -> None:
        super().__init__(spec.null_values)

    def prepare(self, text: str) -> PreparedRank:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        return PreparedRank(int.from_bytes(_packed_v4(text), "big"), 32)

    def render(self, prepared: PreparedRank, rank: int) -> str:  # noqa: ARG002 - the number is all there is
        """Write the token for the enciphered rank."""
        return str(ipaddress.IPv4Address(rank))


class AddressFormat(TokenFormat):
    """Addresses that a cipher of addresses turns into others."""

    reversible = True

    def __init__(self, spec: Ipv4Spec | Ipv6Spec) -> None:
        super().__init__(spec.null_values)
        self.algorithm = _ALGORITHMS[spec.mode]
        self._reads_v4 = isinstance(spec, Ipv4Spec)
        self._writes_v4 = self._reads_v4 and spec.mode != "deterministic"
        self.smallest_domain = 2**32 if self._reads_v4 else 2**128
        shortest = (_SHORTEST_IPV4, _LONGEST_IPV4)
        self.token_length = shortest if self._writes_v4 else (_SHORTEST_IPV6, _LONGEST_IPV6)

    def prepare(self, text: str) -> PreparedAddress:
        """Read a value; see :meth:`TokenFormat.prepare`."""
        return PreparedAddress(_packed_v4(text) if self._reads_v4 else _packed_v6(text))

    def prepare_token(self, token: str) -> PreparedAddress:
        """Read a token, to reverse it.

        Raises:
            InvalidValueError: this cannot be a token of the format.
        """
        return PreparedAddress(_packed_v4(token) if self._writes_v4 else _packed_v6(token))

    def render(self, packed: bytes) -> str:
        """Return the text of an encrypted address (RFC 5952)."""
        return str(ipaddress.ip_address(packed))

    def restore(self, packed: bytes) -> str:
        """Return the text of a decrypted address.

        Raises:
            InvalidValueError: no value is encrypted to the token.
        """
        if (len(packed) == 4) is not self._reads_v4:
            raise invalid("a token of this entry")
        return self.render(packed)


def _packed_v4(text: str) -> bytes:
    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError:
        raise invalid(_IPV4) from None


def _packed_v6(text: str) -> bytes:
    if "%" in text or len(text) > _LONGEST_TEXT:
        raise invalid(_IPV6)
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise invalid(_IPV6) from None
    if address.ipv4_mapped is not None:
        raise invalid(_IPV6)
    return address.packed
