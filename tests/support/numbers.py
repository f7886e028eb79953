"""Numbers that follow the schemes of token formats: made from a random source, and as strategies of Hypothesis."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from tokenweir.core.tokens.ibandata import IBANS
from tokenweir.core.tokens.nationaldata import NATIONAL, SSN
from tokenweir.core.tokens.scheme import SEPARATORS, Scheme
from tokenweir.core.tokens.structured import iban_digits

SCHEMES = {scheme.name: scheme for scheme in (SSN, *NATIONAL.values(), *IBANS.values())}


def number_of(scheme: Scheme, random: Random) -> str:
    """Return a random number of a scheme, an IBAN with country and check digits, without separators."""
    numerals = scheme.numerals(scheme.keeps())
    size = scheme.size(numerals)
    body = None
    while body is None:
        body = scheme.composed(random.randrange(size), numerals, "0" * scheme.length)
    return f"{scheme.name}{iban_digits(scheme.name, body)}{body}" if scheme.iban else body


def spaced(number: str, random: Random) -> str:
    """Return a number with separators here and there, sometimes in lower case."""
    separators = ["", "", "", *SEPARATORS]
    text = number[0] + "".join(random.choice(separators) + character for character in number[1:])
    return text.lower() if random.random() < 0.2 else text


@st.composite
def numbers(draw: st.DrawFn, *names: str) -> str:
    """Numbers of some schemes, now and then with a wrong character."""
    random = draw(st.randoms(use_true_random=False))
    number = number_of(SCHEMES[draw(st.sampled_from(names))], random)
    if draw(st.integers(0, 3)) == 0:
        place = random.randrange(len(number))
        number = number[:place] + random.choice("0123456789AXYZ") + number[place + 1 :]
    return spaced(number, random) if draw(st.booleans()) else number
