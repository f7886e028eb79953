# ruff: noqa: INP001 - a script that stands alone.
"""Registers one Avro schema under a subject, as the producer of the raw topic would: ``SUBJECT FILE``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tokenweir.adapters.registry import HttpRegistry


def main() -> None:
    """Register the schema and print its id."""
    subject, file = sys.argv[1:]
    registry = HttpRegistry(os.environ["TOKENWEIR__REGISTRY__URL"])
    schema_id = registry.register(subject, Path(file).read_text(encoding="utf-8"), "AVRO")
    sys.stderr.write(f"{subject}: schema id {schema_id}\n")


if __name__ == "__main__":
    main()
