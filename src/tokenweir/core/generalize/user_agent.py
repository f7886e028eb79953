"""User-Agent headers (RFC 9110, section 10.1.5) as the family of the browser.

A browser claims to be most of those that came before it, so the order of the rules is what tells them apart. A rule is
nothing but texts that must all occur: expressions would not mean the same to two engines. Rare browsers are ``Other``,
because a rare name helps to single somebody out; so are apps that show pages inside of themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tokenweir.core.generalize.base import Generalizer
from tokenweir.core.schema import Kind, Node
from tokenweir.errors import InvalidValueError, SchemaError

OTHER: Final = "Other"
"""The family of every text that no rule knows."""

FAMILIES: Final = (
    "Chrome", "Safari", "Firefox", "Edge", "Samsung Internet", "Opera", "Internet Explorer", "Android Browser",
    "Yandex Browser", "UC Browser", "Bot", OTHER,
)  # fmt: skip
"""All that a header can become."""

#: A family, and for each way to recognize it the texts that must all occur, in lower case. The first rule decides.
_TABLE: Final[tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]] = (
    # Robots that say so, and programs that fetch pages for nobody who looks at them.
    ("Bot", (
        ("+http",), ("bot/",), ("bot;",), ("googlebot",), ("bingbot",), ("adsbot",), ("crawler",), ("spider",),
        ("slurp",), ("facebookexternalhit",), ("headlesschrome",), ("phantomjs",), ("python-requests",),
        ("python-urllib",), ("curl/",), ("wget/",), ("go-http-client",), ("apache-httpclient",), ("postmanruntime",),
        ("axios/",), ("node-fetch",), ("libwww-perl",), ("scrapy",),
    )),
    # Apps: their own pages, or Android's and Apple's web views.
    (OTHER, (
        ("; wv)",), ("version/4.0 chrome/",), ("[fb",), ("fban/",), ("fbav/",), ("instagram",), ("gsa/",),
        ("snapchat",), ("pinterest",), ("micromessenger",), (" line/",), ("electron/",),
    )),
    ("Edge", (("edg/",), ("edga/",), ("edgios/",), ("edge/",))),
    ("Opera", ((" opr/",), ("opera",), (" opt/",), ("opios/",), (" opx/",))),
    ("Samsung Internet", (("samsungbrowser/",),)),
    ("Yandex Browser", (("yabrowser/",),)),
    ("UC Browser", (("ucbrowser/",), ("ubrowser/",), ("ucweb/",))),
    # Rare ones that would pass for the browser which they are made of.
    (OTHER, (
        ("vivaldi",), ("brave",), ("duckduckgo/",), ("ddg/",), ("silk/",), ("whale/",), ("miuibrowser/",),
        ("huaweibrowser/",), ("heytapbrowser/",), ("vivobrowser/",), ("qqbrowser/",), ("avast/",), ("avg/",),
        ("iron/",), ("maxthon",), ("sleipnir",), ("puffin/",), ("coc_coc_browser/",), ("konqueror",), ("epiphany/",),
        ("seamonkey/",), ("palemoon/",), ("waterfox/",), ("iceweasel/",), ("blackberry",), ("bb10",), ("playstation",),
        ("nintendo",), ("smarttv",), ("smart-tv",), ("web0s",), ("webos",), ("tizen",), ("ecosia",), ("klar/",),
        ("focus/",),
    )),
    ("Firefox", (("firefox/",), ("fxios/",))),
    ("Chrome", (("chrome/",), ("crios/",), ("chromium/",))),
    ("Internet Explorer", (("msie ",), ("trident/",))),
    ("Android Browser", (("android", "safari/"),)),
    ("Safari", (("version/", "safari/"),)),
)  # fmt: skip

RULES: Final = tuple((family, marks) for family, ways in _TABLE for marks in ways)
"""The rules in their order: a family, and what must occur. Both engines run this list."""


def family_of(header: str) -> str:
    """Return the family of a header; upper and lower case of ASCII letters are the same."""
    # Of bytes, unlike of texts, only ASCII letters are put into lower case, in every version of Unicode.
    lowered = header.encode("utf-8", "surrogatepass").lower()
    for family, mark, others in _RULES_IN_BYTES:
        if mark in lowered and all(other in lowered for other in others):
            return family
    return OTHER


#: Of each rule the first text apart from the others, because most rules fail at it.
_RULES_IN_BYTES: Final = tuple(
    (family, marks[0].encode(), tuple(mark.encode() for mark in marks[1:])) for family, marks in RULES
)


@dataclass(frozen=True, slots=True)
class _Family:
    """Names the family; an empty text passes."""

    def apply(self, value: object) -> str:
        if not isinstance(value, str):
            raise InvalidValueError("expected text")
        return family_of(value) if value else value


def build_user_agent(node: Node) -> Generalizer:
    """Compile ``{user_agent: family}``.

    Raises:
        SchemaError: if the place holds no text, or a text of a format that the result would not have.
    """
    if node.kind is not Kind.STRING or node.logical:
        raise SchemaError("user_agent needs a string without another format", path=node.path)
    return _Family()
