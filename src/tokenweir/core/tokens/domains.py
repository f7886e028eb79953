"""Internet domain names: the strict reading that e-mail tokens and their parameters share."""

from __future__ import annotations

import re
import unicodedata

_MAXIMUM_DOMAIN = 253
_ASCII_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def is_ascii_domain(domain: str) -> bool:
    """Say whether this is a host name of at least two labels in lower case (RFC 1035 section 2.3.1, RFC 1123)."""
    labels = domain.split(".")
    return (
        len(domain) <= _MAXIMUM_DOMAIN
        and len(labels) > 1
        and all(_ASCII_LABEL.fullmatch(label) is not None for label in labels)
    )


def ascii_domain(domain: str) -> str | None:
    """Return the lower-case ASCII form of a domain, or None if it is not one.

    Labels with other characters become their A-label: NFC, lower case, then Punycode (RFC 3492), which is what
    IDNA 2008 (RFC 5891) does with a label that is valid. Whether a label may be registered is not asked: two
    spellings of one name must give one token, and names that do not exist harm nobody here.
    """
    labels = [_ascii_label(label) for label in domain.split(".")]
    if any(label is None for label in labels):
        return None
    joined = ".".join(label for label in labels if label is not None)
    return joined if is_ascii_domain(joined) else None


def _ascii_label(label: str) -> str | None:
    """Return the A-label of a label, or None where it has characters that no domain name has."""
    if label.isascii():
        return label.lower()
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", label).lower())
    if folded.isascii():  # Lower case turns a few letters, such as the Kelvin sign, into ASCII.
        return folded
    if not all(character == "-" or unicodedata.category(character)[0] in "LMN" for character in folded):
        return None
    return "xn--" + folded.encode("punycode").decode("ascii")
