"""A JSON Schema that declares everything that stands in some samples, for tests that need one for real events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def infer(samples: Sequence[Any]) -> dict[str, Any]:
    """Return a schema that every sample follows, with each of their properties declared and none required."""
    branches: list[dict[str, Any]] = []
    objects = [sample for sample in samples if isinstance(sample, dict)]
    arrays = [sample for sample in samples if isinstance(sample, list)]
    if objects:
        names = dict.fromkeys(name for sample in objects for name in sample)
        properties = {name: infer([sample[name] for sample in objects if name in sample]) for name in names}
        branches.append({"type": "object", "properties": properties, "additionalProperties": False})
    if arrays:
        elements = [element for sample in arrays for element in sample]
        branches.append({"type": "array", "items": infer(elements)} if elements else {"type": "array"})
    scalars = dict.fromkeys(_scalar_type(sample) for sample in samples if not isinstance(sample, dict | list))
    branches.extend({"type": name} for name in scalars)
    return branches[0] if len(branches) == 1 else {"anyOf": branches}


def _scalar_type(sample: object) -> str:
    if sample is None:
        return "null"
    if isinstance(sample, bool):
        return "boolean"
    if isinstance(sample, int):
        return "integer"
    return "number" if isinstance(sample, float) else "string"
