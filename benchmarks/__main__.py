"""Run benchmarks, and keep in ``benchmarks/results`` what they find; ``tools/generate.py`` makes the README of it.

``python -m benchmarks [--quick] [NAME…]``; no name means all. They take an hour, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"

#: Each with what makes it short, for a try. Those on a broker need Java; the others need nothing but Python.
BENCHMARKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "transform": {"rounds": 2, "events": 4_000},
    "ff1": {},
    "cost": {},
    "memory": {"events": 20_000},
    "consent": {"sizes": (10_000,)},
    "end_to_end": {"rounds": 1, "events": 1_000_000, "subjects": 100_000, "window_seconds": 3},
    "latency": {"rounds": 1, "events": 1_000_000, "subjects": 100_000, "seconds": 5},
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a short try, of which nothing is kept")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - BENCHMARKS.keys():
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    for name in arguments.names or BENCHMARKS:
        found = _run(name, BENCHMARKS[name] if arguments.quick else {})
        text = json.dumps(found, indent=2) + "\n"
        print(text, end="", flush=True)
        if not arguments.quick:
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{name}.json").write_text(text, "utf-8")


def _run(name: str, sizes: Mapping[str, Any]) -> dict[str, object]:
    """Return what a benchmark finds, with all that is needed to judge it."""
    # The machine is looked at before the benchmark makes it busy.
    machine = importlib.import_module("benchmarks.machine")
    found = {
        "benchmark": name,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": f"python -m benchmarks {name}",
        "machine": machine.describe(),
        "before": {
            "load_average": [round(load, 2) for load in os.getloadavg()],
            "cpus_busy": machine.busy_cpus(3.0),
        },
    }
    print(f"{name} …", file=sys.stderr, flush=True)
    return found | {"result": importlib.import_module(f"benchmarks.{name}").run(**sizes)}


if __name__ == "__main__":
    main()
