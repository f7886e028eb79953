"""IP addresses as the first address of their network."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from tokenweir.errors import InvalidValueError

#: Networks of IPv6 addresses that hold an IPv4 address, and the number of bits from which on it would stay whole: 6to4
#: (RFC 3056, section 2), and NAT64 with a local prefix of 48 bits, the shortest there is (RFC 8215; RFC 6052, section
#: 2.2). Addresses with the IPv4 address at their end, such as ``::ffff:0:0/96`` and ``64:ff9b::/96``, always lose some.
_EMBEDDED: Final = (
    (ipaddress.IPv6Network("2002::/16"), 48),
    (ipaddress.IPv6Network("64:ff9b:1::/48"), 88),
)


@dataclass(frozen=True, slots=True)
class NetworkGeneralizer:
    """Keeps the first bits of an IPv4 or IPv6 address; the others become zero."""

    bits: int

    def apply(self, value: object) -> str:
        """Return the address of the network, IPv6 in the form of RFC 5952; an empty text passes.

        Raises:
            InvalidValueError: if the text is no address, has a zone (RFC 4007), or would stay as it is because it, or
                the IPv4 address in it, has no more than ``bits`` bits.
        """
        if value == "":
            return ""
        try:
            # Not through a str of anything: only text may be read as an address, an integer would be one too.
            address = ipaddress.ip_address(value) if isinstance(value, str) else None
        except ValueError:
            address = None
        if address is None or getattr(address, "scope_id", None) is not None:
            raise InvalidValueError("expected an IPv4 or IPv6 address")
        hidden = address.max_prefixlen - self.bits
        if hidden <= 0:
            raise InvalidValueError(f"expected an address with more than {self.bits} bits")
        if any(self.bits >= whole and address in embedding for embedding, whole in _EMBEDDED):
            raise InvalidValueError(f"expected an address of which {self.bits} bits hold no whole IPv4 address")
        network = type(address)(int(address) >> hidden << hidden)
        mapped = getattr(network, "ipv4_mapped", None)
        # Written out here (RFC 5952, section 5), because versions of Python print these addresses differently.
        return str(network) if mapped is None else f"::ffff:{mapped}"
