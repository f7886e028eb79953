"""URLs without whatever the policy does not name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

from tokenweir.core.generalize.base import Generalizer
from tokenweir.core.generalize.specs import UrlSpec
from tokenweir.core.schema import Kind, Node
from tokenweir.errors import InvalidValueError, SchemaError

# RFC 3986, section 3, narrower where parsers disagree: a host has only letters, digits, ".", "-" and "_" or is an IPv6
# address, there is at most one "@" before it, and no white space or "\" anywhere. An international name must be in its
# ASCII form, because look-alikes of "@" and "/" could otherwise hide a user name in it. A scheme is a short word, so
# that nothing can hide in it either.
_URL: Final = re.compile(
    r"([A-Za-z]{1,16})://"
    r"(?:[^/?#@]*@)?"
    r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::[0-9]{0,5})?"
    r"(/[^?#]*)?"
    r"(?:\?([^#]*))?"
    r"(?:#.*)?"
)
#: What ends a path for one who decodes it first: "/", "\\", ";", "?" and "#" in their encoded form.
_END_OF_PATH: Final = re.compile(r"%(?:2F|5C|3B|3F|23)", re.IGNORECASE)
#: What in a value may begin another parameter for one who decodes it: "&", ";", "=" and "?", encoded or, where they can
#: stand in a value, as they are.
_PARAMETER_INSIDE: Final = re.compile(r"[=?]|%(?:26|3B|3D|3F)", re.IGNORECASE)
_FORMATS: Final = ("", "uri", "uri-reference", "iri", "iri-reference")


@dataclass(frozen=True, slots=True)
class _Url:
    """Keeps scheme and host, the first segments of the path and the named query parameters."""

    segments: int
    names: frozenset[str]

    def apply(self, value: object) -> str:
        if value == "":
            return ""
        match = _URL.fullmatch(value) if isinstance(value, str) and _plain(value) else None
        if match is None:
            raise InvalidValueError("expected an absolute URL with a host")
        scheme, host, path, query = match.groups()
        kept_path = self._path(path or "")
        kept_query = self._query(query or "")
        return f"{scheme.lower()}://{host.lower()}/{kept_path}" + (f"?{kept_query}" if kept_query else "")

    def _path(self, path: str) -> str:
        """Return the first segments, each without its parameters (``;jsessionid=``, RFC 3986, section 3.3).

        What follows an encoded separator is another segment, or no path at all, for servers that decode it first.
        """
        path = _END_OF_PATH.split(path, maxsplit=1)[0]
        return "/".join(segment.partition(";")[0] for segment in path[1:].split("/")[: self.segments])

    def _query(self, query: str) -> str:
        """Return the named parameters as they are written, in their order.

        A ";" separates parameters as well, as some servers have it, and a value with a parameter inside does not stay:
        otherwise one could hide behind a named one.
        """
        return "&".join(one for one in re.split("[&;]", query) if one and self._stays(one))

    def _stays(self, parameter: str) -> bool:
        name, _, value = parameter.partition("=")
        return unquote_plus(name) in self.names and _PARAMETER_INSIDE.search(value) is None


def build_url(spec: UrlSpec, node: Node) -> Generalizer:
    """Compile ``{url: {path: n, query: [names]}}``.

    Scheme and host come out in lower case. User, password, port and fragment never stay.

    Raises:
        SchemaError: if the place holds no text, or a text of a format that is no URL.
    """
    if node.kind is not Kind.STRING or node.logical not in _FORMATS:
        raise SchemaError("url needs a string without another format", path=node.path)
    return _Url(spec.url.path, frozenset(spec.url.query))


def _plain(text: str) -> bool:
    """Tell whether a text has no white space, control character or backslash."""
    return text.isprintable() and " " not in text and "\\" not in text
