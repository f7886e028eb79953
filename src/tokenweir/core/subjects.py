"""Data subjects: the one canonical form of an id, the consent key made from it, and the partition of that key.

The same canonical id is used for the consent key, the token and the record key, so that the spellings of one id
(``7`` and ``0000000007``, upper and lower case, composed and decomposed characters) are one person everywhere.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple
from urllib.parse import quote

from tokenweir.core.policy.models import DigitsForm, Form
from tokenweir.core.schema import JsonNumber
from tokenweir.errors import InvalidValueError

#: The longest text id, in characters.
MAX_TEXT_CHARACTERS: Final = 256

_SAFE_PUNCTUATION: Final = "._~@+-"
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~@+-]+\Z")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")
_INTEGER: Final = re.compile(r"(?:0|[1-9][0-9]*)\Z")
# Controls, lone surrogates, line and paragraph separators: none of them can be seen, so none belongs in an id.
_UNSEEN: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


class Subject(NamedTuple):
    """A data subject: the name of its type in the policy, and its id in canonical form.

    The id is personal data, so ``repr`` does not show it.
    """

    type: str
    id: str

    @property
    def canonical(self) -> str:
        """``type:id``, everything outside of ``[A-Za-z0-9._~@+-]`` percent-encoded: the key of the consent topic."""
        return f"{_escape(self.type)}:{_escape(self.id)}"

    def __repr__(self) -> str:
        return f"Subject(type={self.type!r}, id=...)"


def canonical_id(form: Form, value: object) -> str:
    """Return the canonical id that ``value``, as a reader decoded it, stands for.

    ``digits``: text of exactly that many ASCII digits, or a non-negative integer that is padded with zeros.
    ``uuid``: the text form of RFC 9562 in any case, or its 16 bytes; the result is in lower case.
    ``text``: 1 to 256 visible characters, put into Unicode normalization form C (UAX #15).
    ``lowercase``: as ``text``, in lower case.

    Raises:
        InvalidValueError: The value does not fit the form. The error does not hold the value.
    """
    if isinstance(form, DigitsForm):
        return _digits(form.digits, value)
    if form == "uuid":
        return _uuid(value)
    if not isinstance(value, str) or isinstance(value, JsonNumber):
        raise InvalidValueError("the id is not text")
    text = unicodedata.normalize("NFC", value)
    if form == "lowercase":
        # Lower case may decompose (U+0130), so the normalization form has to be made again.
        text = unicodedata.normalize("NFC", text.lower())
    if not 1 <= len(text) <= MAX_TEXT_CHARACTERS:
        raise InvalidValueError(f"the id does not have 1 to {MAX_TEXT_CHARACTERS} characters")
    if not (text.isascii() and text.isprintable()) and any(unicodedata.category(char) in _UNSEEN for char in text):
        raise InvalidValueError("the id has a control character")
    return text


def murmur2(key: bytes) -> int:
    """Return the hash of a record key as an unsigned 32-bit integer.

    It is ``org.apache.kafka.common.utils.Utils.murmur2`` of Apache Kafka, which returns the same bits signed.
    """
    length = len(key)
    value = 0x9747B28C ^ length
    end = length & ~3
    for start in range(0, end, 4):
        block = int.from_bytes(key[start : start + 4], "little") * 0x5BD1E995 & 0xFFFFFFFF
        block = (block ^ block >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        value = (value * 0x5BD1E995 & 0xFFFFFFFF) ^ block
    if end != length:
        value = (value ^ int.from_bytes(key[end:], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return value ^ value >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition in which Kafka's Java client, or ``partitioner=murmur2_random``, puts this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def _escape(text: str) -> str:
    return text if _PLAIN.match(text) else quote(text, safe=_SAFE_PUNCTUATION)


def _digits(count: int, value: object) -> str:
    if isinstance(value, JsonNumber):
        text = str(value)
        if not _INTEGER.match(text):
            raise InvalidValueError("the id is not a non-negative integer")
        text = text.zfill(count)
    elif isinstance(value, int) and not isinstance(value, bool):
        # Compared before it is written: text of an integer without bound would take quadratic time.
        if not 0 <= value < 10**count:
            raise InvalidValueError(f"the id is not an integer of at most {count} digits")
        text = str(value).zfill(count)
    elif isinstance(value, str):
        text = value
    else:
        raise InvalidValueError("the id is neither text nor an integer")
    if len(text) != count or not (text.isascii() and text.isdigit()):
        raise InvalidValueError(f"the id does not have exactly {count} digits")
    return text


def _uuid(value: object) -> str:
    if isinstance(value, bytes) and len(value) == 16:
        digits = value.hex()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    if isinstance(value, str) and _UUID.match(value):
        return value.lower()
    raise InvalidValueError("the id is not a UUID")
