"""Reads metrics in the text format of Prometheus and compares the counters with what was found in the topics."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Final

from tests.support.events import AUDIENCES, STREAMS
from tests.support.ledger import Ledger
from tests.support.oracle import Found, Violation

Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and sorted labels."""
Scrape = dict[Series, float]

CONSUMED: Final = "tokenweir_records_consumed_total"
RECORDS: Final = "tokenweir_records_total"
REJECTIONS: Final = "tokenweir_rejections_total"
RESTARTS: Final = "tokenweir_worker_restarts_total"
FATES: Final = ("sanitized", "withheld", "rejected")

_LINE: Final = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


def parse_metrics(text: str) -> Scrape:
    """Return the samples of an exposition; label values must be free of quotes, as they all are here."""
    scrape: Scrape = {}
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"no sample: {line!r}")
        scrape[match["name"], tuple(sorted(_LABEL.findall(match["labels"] or "")))] = float(match["value"])
    return scrape


def series(name: str, **labels: str) -> Series:
    """Return the key of a sample."""
    return name, tuple(sorted(labels.items()))


def restarts(scrape: Scrape) -> float:
    """Return how often workers were started again."""
    return sum(value for key, value in scrape.items() if key[0] == RESTARTS)


def expected_counters(ledger: Ledger, found: Found) -> Scrape:
    """Return what the counters must be if every record was counted exactly once."""
    expected: Scrape = {}
    for stream in STREAMS:
        numbers = {record.number for record in ledger.records if record.stream == stream}
        expected[series(CONSUMED, stream=stream)] = len(numbers)
        for audience in AUDIENCES:
            sanitized = len(numbers & found.sanitized[audience].keys())
            rejected = len(numbers & found.rejected[audience].keys())
            withheld = len(numbers) - sanitized - rejected
            for fate, count in zip(FATES, (sanitized, withheld, rejected), strict=True):
                expected[series(RECORDS, stream=stream, audience=audience, fate=fate)] = count
            for number in numbers & found.rejected[audience].keys():
                key = series(REJECTIONS, stream=stream, reason=found.rejected[audience][number])
                expected[key] = expected.get(key, 0) + 1
    return expected


def check_falls(scrapes: Sequence[Scrape]) -> list[Violation]:
    """Return where counters fall between the scrapes of one process tree, in the order in which they were taken."""
    return [
        Violation("counters", f"{key} fell from {value} to {after.get(key)}")
        for before, after in itertools.pairwise(scrapes)
        for key, value in before.items()
        if key[0].endswith("_total") and after.get(key, 0) < value
    ]


def check_never_twice(last_scrapes: Sequence[Scrape], expected: Mapping[Series, float]) -> list[Violation]:
    """Return which counters of records, summed over several process trees, are above what was expected.

    They may be below: what a killed process has counted after the last scrape is not seen.
    """
    return [
        Violation("counters", f"{key} is {counted} instead of at most {expected.get(key, 0)}")
        for key in {key for scrape in last_scrapes for key in scrape if key[0] in (CONSUMED, RECORDS, REJECTIONS)}
        if (counted := sum(scrape.get(key, 0) for scrape in last_scrapes)) > expected.get(key, 0)
    ]


def check_counters(scrapes: Sequence[Scrape], expected: Mapping[Series, float], uncounted: int = 0) -> list[Violation]:
    """Return where counters fall, or end at other numbers than expected.

    Args:
        scrapes: In the order in which they were taken, the last one when nothing was left to do.
        expected: See :func:`expected_counters`.
        uncounted: How many records may be missing in a counter: a worker counts after the commit, so one that is
            killed in between leaves the records of one transaction uncounted. A counter is never above.
    """
    violations = check_falls(scrapes)
    last = scrapes[-1]
    for key, value in expected.items():
        counted = last.get(key, 0)
        if not value - uncounted <= counted <= value:
            violations.append(Violation("counters", f"{key} is {counted} instead of {value}"))
    known = {key for key in last if key[0] in (CONSUMED, RECORDS, REJECTIONS) and last[key]}
    violations += [Violation("counters", f"{key} is not expected") for key in known - expected.keys()]
    return violations
