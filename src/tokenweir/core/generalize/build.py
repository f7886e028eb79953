"""Compiling a ``generalize:`` of the policy for one place of a schema."""

from __future__ import annotations

from typing import NoReturn

from tokenweir.core.generalize.base import Generalizer
from tokenweir.core.generalize.instant import build_time
from tokenweir.core.generalize.numeric import build_buckets, build_round
from tokenweir.core.generalize.shift import Days, build_shift
from tokenweir.core.generalize.specs import (
    BucketsSpec,
    CellSpec,
    GeneralizeSpec,
    MapSpec,
    NoiseSpec,
    PrefixSpec,
    RoundSpec,
    ShiftSpec,
    TimeSpec,
    UserAgentSpec,
)
from tokenweir.core.generalize.text import build_map, build_prefix
from tokenweir.core.generalize.url import build_url
from tokenweir.core.generalize.user_agent import build_user_agent
from tokenweir.core.schema import Node
from tokenweir.errors import InvalidValueError, SchemaError


def _nobody() -> NoReturn:
    raise InvalidValueError("expected a record about a person")


def build(spec: GeneralizeSpec, node: Node, days: Days = _nobody) -> Generalizer:  # noqa: PLR0911 - one line for each way
    """Compile ``spec`` for the values at ``node``, which is the branch and not the union around it.

    ``days`` gives what ``shift_days`` moves the values of the record at hand by; without it all of them are invalid.

    The result of a generalizer has the kind and logical type of its source, so the derived schema keeps the place as
    it is; JSON Schema constraints on the value, such as ``minimum`` or ``pattern``, do not hold for the result.

    Raises:
        SchemaError: if the place does not hold what ``spec`` works on, or cannot hold its results. ``cell`` and
            ``noise`` work on a pair of places, see :mod:`tokenweir.core.cells`.
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
        case ShiftSpec():
            return build_shift(node, days)
        case UserAgentSpec():
            return build_user_agent(node)
        case CellSpec() | NoiseSpec():
            name = "cell" if isinstance(spec, CellSpec) else "noise"
            raise SchemaError(f"{name} works on a pair of coordinates; declare them under pairs", path=node.path)
        case _:
            return build_url(spec, node)
