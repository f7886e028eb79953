"""What is told of the benchmarks: the table of the README, a page with all of it, and a plot; from the kept results."""
# ruff: noqa: INP001 - a part of scripts, in no package.

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tables import NOTE, table

RESULTS: Final = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
#: Between these the README is made.
BEGIN: Final = "<!-- speed: made by tools/generate.py from benchmarks/results -->\n"
END: Final = "<!-- end of speed -->\n"

PROGRAMS: Final = {
    "copy": "a mirror that only copies",
    "native": "the gateway, native engine",
    "reference": "the gateway, reference engine",
    "plain": "plain Python (fastavro, fastfpe)",
}
COLOURS: Final = {"copy": "#8a8f98", "native": "#0b6e4f", "reference": "#3d9a78", "plain": "#c07a1e"}

#: Of the plot, in pixels.
WIDTH, LABELS, ROW, TOP, BAR = 780, 300, 30, 44, 18
STYLE: Final = 'font-family="sans-serif" font-size="13" fill="#1c1f24"'


def kept(name: str) -> dict[str, Any]:
    """Return what a benchmark found when it was last kept."""
    return dict(json.loads((RESULTS / f"{name}.json").read_text("utf-8")))


def is_kept(name: str) -> bool:
    """Return whether a benchmark has been kept."""
    return (RESULTS / f"{name}.json").is_file()


def number(value: float) -> str:
    """Return a number with three digits or more, with thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(found: dict[str, float], digits: int | None = None) -> str:
    """Return median and range."""
    shown = [number(found[key]) if digits is None else f"{found[key]:.{digits}f}" for key in ("median", "min", "max")]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def program(leg: str) -> tuple[str, str]:
    """Return how a leg is called, and how many workers it has."""
    kind, _, workers = leg.partition(", ")
    return PROGRAMS[kind], workers.split()[0]


def setting(found: dict[str, Any]) -> str:
    """Return on which machine, when, and beside what else something was measured."""
    machine, before = found["machine"], found["before"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"`{found['command']}` on {found['date']}; {machine['cpus']} CPUs ({machine['cpu']}), "
        f"{machine['memory_gib']} GiB; {versions}. Other programs kept {before['cpus_busy']} CPUs busy before it began."
    )


def end_to_end(result: dict[str, Any]) -> str:
    """Return the table of rates."""
    return table(
        ["what", "workers", "events per second", "share of the mirror", "µs of CPU per event"],
        (
            [
                *program(leg),
                spread(row["events_per_second"]),
                spread(row["share_of_copy"], 2),
                spread(row["worker_cpu_us_per_event"], 1),
            ]
            for leg, row in result["legs"].items()
        ),
    )


def latency(result: dict[str, Any]) -> str:
    """Return the table of latencies."""

    def rows() -> Iterator[list[str]]:
        for leg, found in result["legs"].items():
            for level, row in found["levels"].items():
                yield [
                    program(leg)[0],
                    level,
                    number(row["offered_per_second"]["median"]),
                    *(spread(row[f"p{percent}_ms"], 0) for percent in (50, 95, 99)),
                ]

    return table(["what", "at", "events per second", "p50, ms", "p95, ms", "p99, ms"], rows())


def transform(result: dict[str, Any]) -> str:
    """Return the table of the transform alone."""
    names = {"native": PROGRAMS["native"], "reference": PROGRAMS["reference"]}
    bases = {"times_fastavro": "times fastavro", "times_plain_python": "times plain Python"}
    rows = (
        [
            names.get(name, name),
            spread(row["us_per_event"], 1),
            *(spread(row[base], 2) if base in row else "" for base in bases),
        ]
        for name, row in result["contenders"].items()
    )
    return table(["what", "µs of CPU per event", *bases.values()], rows)


def consent(result: dict[str, Any]) -> str:
    """Return the table of the consent store."""
    columns = [
        "store",
        "bytes",
        "bytes per subject",
        "restored per second",
        "look-up, µs",
        "look-up of nobody, µs",
        "reader's own memory, MiB",
    ]
    return table(
        columns,
        (
            [
                f"{size}, {engine}",
                number(row["store_bytes"]),
                number(row["store_bytes_per_subject"]),
                number(row["restored_subjects_per_second"]),
                spread(row["lookup_us_known"], 1),
                spread(row["lookup_us_unknown"], 1),
                number(row["reader_mebibytes"]["RssAnon"]),
            ]
            for size, engines in result.items()
            for engine, row in engines.items()
        ),
    )


def ff1(result: dict[str, Any]) -> str:
    """Return the table of FF1 on 16 digits."""
    rows = (
        [name, spread(row["ns_per_value"]), spread(row["times_the_first"], 1)]
        for name, row in result["16 digits"].items()
    )
    return table(["what", "ns of CPU per value", "times the first"], rows)


def page() -> str:
    """Return the page with all that is kept."""
    parts = {
        "end_to_end": ("End to end, exactly once", end_to_end),
        "latency": ("Latency, from the producer's timestamp to a `read_committed` reader", latency),
        "transform": ("The transform alone", transform),
        "consent": ("The store of consent", consent),
        "ff1": ("FF1 on 16 digits", ff1),
    }
    text = (
        f"# Speed\n\n{NOTE}\nMedian and range of rounds in which everything takes turns; ratios are taken within a "
        "round, and are what to compare. The docstrings in `benchmarks` say what is measured and how.\n"
    )
    for name, (title, rows) in parts.items():
        if not is_kept(name):
            continue  # Nobody has measured it since it changed.
        found = kept(name)
        text += f"\n## {title}\n\n{rows(found['result'])}\n{setting(found)}\n"
    return text


def readme(text: str) -> str:
    """Return the README with its figures as they are kept."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    found = kept("end_to_end")
    result = found["result"]
    told = (
        f"Measured on {found['date']} on {found['machine']['cpus']} CPUs that broker, registry and workers share,\n"
        f"while other programs kept {result['cpus_busy_between_legs']['median']:.1f} of them busy; median and range of "
        f"{result['rounds']} rounds:\n"
    )
    return f"{head}{BEGIN}{told}\n{end_to_end(result)}{END}{tail}"


def plot() -> str:
    """Return the rates as bars, in SVG."""
    legs = kept("end_to_end")["result"]["legs"]
    most = max(row["events_per_second"]["max"] for row in legs.values())
    height = TOP + ROW * len(legs) + 14
    title = "Events per second, exactly once, end to end"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {STYLE} role="img">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="14" y="26" font-size="15">{title} (median; the line is the range)</text>',
    ]
    for index, (leg, row) in enumerate(legs.items()):
        lines += bar(leg, row["events_per_second"], TOP + ROW * index, (WIDTH - LABELS - 80) / most)
    return "\n".join([*lines, "</svg>"]) + "\n"


def bar(leg: str, rate: dict[str, float], top: int, scale: float) -> Iterator[str]:
    """Yield the parts of one bar."""
    name, _ = program(leg)
    middle = top + ROW / 2
    least, median, most = (LABELS + rate[key] * scale for key in ("min", "median", "max"))
    yield f'<text x="{LABELS - 10}" y="{middle + 4:.1f}" text-anchor="end">{name}, {leg.partition(", ")[2]}</text>'
    yield (
        f'<rect x="{LABELS}" y="{middle - BAR / 2:.1f}" width="{median - LABELS:.1f}" height="{BAR}" '
        f'fill="{COLOURS[leg.partition(",")[0]]}"/>'
    )
    yield f'<path d="M{least:.1f} {middle:.1f}H{most:.1f}" stroke="#1c1f24" stroke-width="1.5"/>'
    yield f'<text x="{most + 8:.1f}" y="{middle + 4:.1f}">{number(rate["median"])}</text>'
