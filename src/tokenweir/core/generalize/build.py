"""Compiling a ``generalize:`` of the policy for one place of a schema."""

from __future__ import annotations

from tokenweir.core.generalize.base import Generalizer
from tokenweir.core.generalize.instant import build_time
from tokenweir.core.generalize.numeric import build_buckets, build_round
from tokenweir.core.generalize.specs import (
    BucketsSpec,
    CellSpec,
    GeneralizeSpec,
    MapSpec,
    PrefixSpec,
    RoundSpec,
    TimeSpec,
)
from tokenweir.core.generalize.text import build_map, build_prefix
from tokenweir.core.generalize.url import build_url
from tokenweir.core.schema import Node
from tokenweir.errors import SchemaError


def build(spec: GeneralizeSpec, node: Node) -> Generalizer:
    """Compile ``spec`` for the values at ``node``, which is the branch and not the union around it.

    The result of a generalizer has the kind and logical type of its source, so the derived schema keeps the place as
    it is; JSON Schema constraints on the value, such as ``minimum`` or ``pattern``, do not hold for the result.

    Raises:
        SchemaError: if the place does not hold what ``spec`` works on, or cannot hold its results. ``cell`` works on a
            pair of places, see :func:`tokenweir.core.generalize.cell.build_cell`.
    """
    match spec:
        case TimeSpec():
            return build_time(spec, node)
        case RoundSpec():
            return build_round(spec, node)
        case BucketsSpec():
            return build_buckets(spec, node)
        case PrefixSpec():
            return build_prefix(spec, node)
        case MapSpec():
            return build_map(spec, node)
        case CellSpec():
            raise SchemaError("cell works on a pair of coordinates; declare them under pairs", path=node.path)
        case _:
            return build_url(spec, node)
