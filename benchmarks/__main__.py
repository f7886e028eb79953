"""Run the benchmarks and print one JSON object.

``python -m benchmarks [transform] [ff1] [cost] [memory] [consent] [end_to_end]``
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable

from benchmarks import consent, cost, ff1, memory, transform


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    known: dict[str, Callable[[], dict[str, object]]] = {
        "transform": transform.run,
        "ff1": ff1.run,
        "cost": cost.run,
        "memory": memory.run,
        "consent": consent.run,
        "end_to_end": _end_to_end,
    }
    chosen = names or list(known)
    results: dict[str, object] = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    }
    for name in chosen:
        results[name] = known[name]()
    print(json.dumps(results, indent=2))


def _end_to_end() -> dict[str, object]:
    from benchmarks import end_to_end  # noqa: PLC0415 - it needs Java; the other benchmarks do not

    return end_to_end.run()


if __name__ == "__main__":
    main(sys.argv[1:])
