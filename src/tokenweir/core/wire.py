"""The frame of a registry's record value: a zero byte, the schema id, the datum.

This is the wire format that Confluent's serializers introduced and that every compatible registry client writes: magic
byte 0, then the id as four bytes, most significant first.
"""

from __future__ import annotations

import struct
from typing import Final

from tokenweir.core.outcome import Reason
from tokenweir.errors import DecodeError, InvalidValueError

_HEADER: Final = struct.Struct(">BI")
_MAGIC: Final = 0
FRAME_BYTES: Final = _HEADER.size
"""The bytes before the datum."""


def unframe(value: bytes) -> tuple[int, bytes]:
    """Return the schema id and the datum of a record value.

    Raises:
        DecodeError: The value is shorter than a frame or begins with another byte (``not_framed``).
    """
    if len(value) < _HEADER.size or value[0] != _MAGIC:
        raise DecodeError(Reason.NOT_FRAMED, position=0)
    _, schema_id = _HEADER.unpack_from(value)
    return schema_id, value[_HEADER.size :]


def frame(schema_id: int, datum: bytes) -> bytes:
    """Return a record value that holds a datum of the schema with this id.

    Raises:
        InvalidValueError: The id is not an unsigned integer of 32 bits.
    """
    try:
        return _HEADER.pack(_MAGIC, schema_id) + datum
    except struct.error:
        raise InvalidValueError("a schema id is an unsigned integer of 32 bits") from None
