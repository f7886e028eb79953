"""JSON as RFC 8259 defines it and nothing more: what parsers disagree about is an error here.

The scanner is that of the standard library, which is fast but lenient: by itself it takes NaN, lets the last of two
equal keys win, makes lone surrogates, turns ``1.10`` into a float and recurses as deep as the sender likes. All of that
is closed here, before or while it runs. Records, schemas and consent values are all read through this module.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, Literal

from tokenweir.core.outcome import Reason
from tokenweir.core.schema import DEFAULT_LIMITS, JsonNumber, Limits
from tokenweir.errors import DecodeError

#: White space between tokens (RFC 8259, section 2).
_WHITE_SPACE: Final = " \t\n\r"

#: A string, or what there is of one that does not end. Possessive throughout, so that it is linear in any input.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)

#: Text in which each UTF-16 surrogate that is written as an escape stands in a pair (RFC 8259, section 7).
_PAIRED: Final = re.compile(
    rb"(?:[^\\]++|\\(?:[^u]|u(?![dD][89a-fA-F])|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))*+", re.DOTALL
)

_BRACKETS: Final = b"[]{}"
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_LEVELS: Final = {byte: 1 if byte in b"[{" else -1 for byte in _BRACKETS}

#: The largest double has 309 digits before the point, so that a shorter integer is always finite.
_FINITE_DIGITS: Final = 308

Numbers = Literal["text", "python"]
Parser = Callable[[bytes], Any]


def parse(data: bytes, *, limits: Limits = DEFAULT_LIMITS, numbers: Numbers = "text") -> Any:  # noqa: ANN401 - JSON
    """Return the one JSON value that ``data`` holds, as ``dict``, ``list``, ``str``, ``bool``, ``None`` and a number.

    Numbers are :class:`JsonNumber`, the text as it stands there, or with ``numbers="python"`` ``int`` and ``float``.

    Raises:
        DecodeError: if it is not UTF-8 without a byte-order mark, not JSON, followed by something, has a key twice, a
            lone surrogate, a number that is not finite as a double, or passes a limit. The position is the offset in
            bytes, or -1 where it is not known.
    """
    return parser(limits, numbers)(data)


@lru_cache(maxsize=64)
def parser(limits: Limits = DEFAULT_LIMITS, numbers: Numbers = "text") -> Parser:
    """Return :func:`parse` made for these limits, for those who parse often."""
    longest = limits.number_characters
    harmless = min(longest, _FINITE_DIGITS)
    as_text = numbers == "text"

    def integer(text: str) -> JsonNumber | int:
        if len(text) > harmless:
            _check_number(text, longest)
        return JsonNumber(text) if as_text else int(text)

    def real(text: str) -> JsonNumber | float:
        _check_number(text, longest)
        return JsonNumber(text) if as_text else float(text)

    decode = json.JSONDecoder(
        object_pairs_hook=_object, parse_float=real, parse_int=integer, parse_constant=_constant
    ).raw_decode

    def parse_bytes(data: bytes) -> Any:  # noqa: ANN401 - JSON
        _check_size(data, limits)
        text = _text(data)
        start = len(text) - len(text.lstrip(_WHITE_SPACE))
        # The exceptions of the decoder hold the whole document, also as the context of an exception raised from them;
        # so they are let go before ours is raised.
        position = -1
        reason = ""
        try:
            value, end = decode(text, start)
        except json.JSONDecodeError as error:
            reason, position = Reason.MALFORMED, _offset(text, error.pos)
        except RecursionError:
            reason = Reason.TOO_DEEP
        if reason:
            raise DecodeError(reason, "", position)
        if end != len(text) and text[end:].strip(_WHITE_SPACE):
            raise DecodeError(Reason.TRAILING_BYTES, "", _offset(text, end))
        if b"\\u" in data:
            _check_surrogates(data)
        return value

    return parse_bytes


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        position = error.start
    raise DecodeError(Reason.INVALID_UTF8, "", position)


def _offset(text: str, position: int) -> int:
    """Return the byte offset of a character."""
    return len(text[:position].encode("utf-8"))


def _check_size(data: bytes, limits: Limits) -> None:
    """Refuse what is too large, too deep or has too many elements, at a cost that is linear in the bytes.

    An element is an array element or an object's entry; an empty array or object counts as one more.
    """
    if len(data) > limits.bytes:
        raise DecodeError(Reason.TOO_LARGE)
    opened = data.count(b"[") + data.count(b"{")
    # Brackets and commas inside strings only make these sums larger, so small sums need no closer look.
    if opened <= limits.depth and opened + data.count(b",") <= limits.elements:
        return
    bare = _STRING.sub(b"", data)
    brackets = bare.translate(None, _NO_BRACKETS)
    opened = brackets.count(b"[") + brackets.count(b"{")
    if opened + bare.count(b",") > limits.elements:
        raise DecodeError(Reason.TOO_MANY_ELEMENTS)
    if len(brackets) > 2 * opened:
        raise DecodeError(Reason.MALFORMED)
    if max(accumulate(map(_LEVELS.__getitem__, brackets)), default=0) > limits.depth:
        raise DecodeError(Reason.TOO_DEEP)


def _check_surrogates(data: bytes) -> None:
    paired = _PAIRED.match(data)
    end = paired.end() if paired else 0
    if end != len(data):
        raise DecodeError(Reason.INVALID_UTF8, "", end)


def _check_number(text: str, longest: int) -> None:
    if len(text) > longest:
        raise DecodeError(Reason.TOO_LARGE)
    if math.isinf(float(text)):
        raise DecodeError(Reason.NON_FINITE)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise DecodeError(Reason.DUPLICATE_KEY)
    return entries


def _constant(_token: str) -> None:
    """Refuse ``NaN``, ``Infinity`` and ``-Infinity``, which are no JSON."""
    raise DecodeError(Reason.NON_FINITE)
