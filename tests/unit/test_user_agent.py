"""Families of browsers: real headers, with another library's parser as the oracle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from fake_useragent.utils import load
from hypothesis import given
from hypothesis import strategies as st
from ua_parser import parse_user_agent

from tokenweir.core.generalize.build import build
from tokenweir.core.generalize.specs import UserAgentSpec
from tokenweir.core.generalize.user_agent import FAMILIES, OTHER, RULES, family_of
from tokenweir.core.schema import Kind, Node
from tokenweir.errors import InvalidValueError, SchemaError

EVENTS: Final = Path(__file__).parents[1] / "data" / "json" / "rudder_events.jsonl"

#: What the oracle's names are here. It tells apps and rare browsers by their names, which here are ``Other``.
ORACLE: Final = {
    "Chrome": "Chrome", "Chrome Mobile": "Chrome", "Chrome Mobile iOS": "Chrome", "Chromium": "Chrome",
    "Safari": "Safari", "Mobile Safari": "Safari", "Firefox": "Firefox", "Firefox Mobile": "Firefox",
    "Firefox iOS": "Firefox", "Edge": "Edge", "Edge Mobile": "Edge", "Opera": "Opera", "Opera Mobile": "Opera",
    "Opera Touch": "Opera", "Opera Mini": "Opera", "Samsung Internet": "Samsung Internet", "IE": "Internet Explorer",
    "IE Mobile": "Internet Explorer", "Yandex Browser": "Yandex Browser", "UC Browser": "UC Browser",
    "Googlebot": "Bot", "bingbot": "Bot", "HeadlessChrome": "Bot", "curl": "Bot", "Python Requests": "Bot",
}  # fmt: skip
#: Brands that name themselves after a header that is Chrome's or Firefox's otherwise.
UNKNOWN_BRANDS: Final = {
    ("Chrome", "LikeWise"),
    ("Chrome", "AOL Desktop Gold Browser"),
    ("Firefox", "Mobile Safari UI/WKWebView"),
}


def _agents(value: object) -> Iterator[str]:
    """Yield the texts under keys that speak of a user agent."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str) and "agent" in key.lower():
                yield item
            yield from _agents(item)
    elif isinstance(value, list):
        for item in value:
            yield from _agents(item)


def oracle(header: str) -> str:
    """Return the name that ua-parser (Apache-2.0, the rules of the uap-core project) has for a browser."""
    found = parse_user_agent(header)
    return OTHER if found is None else found.family


def real_headers() -> list[str]:
    """Return the headers that visitors sent, as the package fake-useragent (Apache-2.0) has collected them."""
    data: list[Any] = load()
    return sorted({entry["useragent"] for entry in data})


def test_real_headers_have_the_family_that_another_parser_finds() -> None:
    """Of hundreds of real headers each has the family of the oracle, but for three brands that are listed."""
    headers = real_headers()
    differing = {
        (family_of(header), oracle(header))
        for header in headers
        if family_of(header) != ORACLE.get(oracle(header), OTHER)
    }
    assert len(headers) > 500
    assert differing <= UNKNOWN_BRANDS
    assert {"Chrome", "Safari", "Firefox", "Edge", "Opera", "Samsung Internet"} <= set(map(family_of, headers))


def test_headers_of_published_events() -> None:
    """Events of a customer data platform: browsers, a robot, and what their authors made up."""
    events = [json.loads(line) for line in EVENTS.read_text(encoding="utf-8").splitlines()]
    found = Counter(family_of(header) for event in events for header in set(_agents(event)))
    assert set(found) == {"Chrome", "Firefox", "Bot", OTHER}
    assert found["Chrome"] > 200


@pytest.mark.parametrize(
    ("header", "family"),
    [
        ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; en) Opera 8.50", "Opera"),
        ("Mozilla/5.0 (Windows NT 6.3; Trident/7.0; rv:11.0) like Gecko", "Internet Explorer"),
        ("Mozilla/5.0 (Linux; U; Android 4.0) AppleWebKit/534 Version/4.0 Mobile Safari/534", "Android Browser"),
        ("Mozilla/5.0 (Linux; Android 13; wv) AppleWebKit/537.36 Version/4.0 Chrome/120.0 Mobile Safari/537.36", OTHER),
        ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "Bot"),
        ("Mozilla/5.0 (Linux; Android 9; CUBOT_X18) AppleWebKit/537.36 Chrome/90.0 Mobile Safari/537.36", "Chrome"),
        ("python-requests/2.31.0", "Bot"),
        ("okhttp/4.9.0", OTHER),
        ("0000000007", OTHER),
        ("\u212arome/1", OTHER),
    ],
)  # fmt: skip
def test_single_headers(header: str, family: str) -> None:
    """Headers that are easily taken for another one's, and texts that are none."""
    assert family_of(header) == family == family_of(header.upper())


@given(st.text())
def test_every_text_becomes_one_of_the_list(header: str) -> None:
    """Nothing of the text itself ever stays, whatever it is."""
    assert family_of(header) in FAMILIES


def test_every_rule_can_decide_and_gives_a_family_of_the_list() -> None:
    """Marks are in lower case, and no rule is hidden by one before it."""
    for family, marks in RULES:
        assert family in FAMILIES
        assert all(mark == mark.lower() for mark in marks)
        assert family_of("".join(marks)) == family, marks
    assert {family for family, _ in RULES} == set(FAMILIES)


def test_it_works_on_texts_only() -> None:
    """Other types, and texts with a format that a family would not have, do not compile."""
    spec = UserAgentSpec(user_agent="family")
    assert build(spec, Node(Kind.STRING)).apply("") == ""
    with pytest.raises(InvalidValueError):
        build(spec, Node(Kind.STRING)).apply(5)
    for node in (Node(Kind.STRING, logical="uuid"), Node(Kind.ENUM), Node(Kind.LONG)):
        with pytest.raises(SchemaError):
            build(spec, node)
