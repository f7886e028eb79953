"""The checks of schemes: which places count how much, and what the rest writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tokenweir.core.tokens.scheme import Check, ValueTable


def weighted(
    at: int, places: Iterable[int], weights: Iterable[int], modulus: int, answer: Callable[[int], str]
) -> Check:
    """Return the check that weighs each place; ``answer`` gives what the rest writes."""
    terms: list[tuple[int, int, ValueTable]] = [
        (place, weight, "plain") for place, weight in zip(places, weights, strict=True)
    ]
    return Check(at, tuple(terms), modulus, tuple(answer(rest) for rest in range(modulus)))


def number(at: int, places: Sequence[int], modulus: int, answer: Callable[[int], str], times: int = 1) -> Check:
    """Return the check that divides the number which the places write, times a factor."""
    return positional(at, [(place, "plain") for place in places], modulus, answer, times)


def positional(
    at: int, places: Sequence[tuple[int, ValueTable]], modulus: int, answer: Callable[[int], str], times: int = 1
) -> Check:
    """Return the check that divides the number which the places write, each counted in its own way."""
    last = len(places) - 1
    terms = tuple(
        (place, times * pow(10, last - index, modulus) % modulus, values)
        for index, (place, values) in enumerate(places)
    )
    return Check(at, terms, modulus, tuple(answer(rest) for rest in range(modulus)))


def luhn(at: int, places: Sequence[int]) -> Check:
    """Return the check of ISO/IEC 7812-1, annex B, over the places before its digit."""
    terms = tuple((place, 1, "doubled" if index % 2 == 0 else "plain") for index, place in enumerate(reversed(places)))
    return Check(at, terms, 10, tuple(complement(10)(rest) for rest in range(10)))  # type: ignore[arg-type]


def complement(modulus: int) -> Callable[[int], str]:
    """Return what adds up to the modulus: one digit, or none where it would be 10."""
    return lambda rest: digit(-rest % modulus)


def digit(value: int) -> str:
    """Return a digit, "" for a value that is none."""
    return str(value) if value < 10 else ""


def two_digits(value: int) -> str:
    """Return a value below 100 with two digits."""
    return f"{value:02d}"
