"""Which engine runs: the native one where its module is installed, or the reference engine."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from importlib.util import find_spec
from typing import Final, Literal

from tokenweir import __version__
from tokenweir.core.engine import ReferenceEngine
from tokenweir.core.engineapi import Engine
from tokenweir.core.keys import Keyset
from tokenweir.core.policy.models import Policy
from tokenweir.core.schema import DEFAULT_LIMITS, Limits
from tokenweir.errors import RefusedError

#: ``gateway.engine`` of a configuration.
Choice = Literal["auto", "native", "reference"]

NATIVE_MODULE: Final = "tokenweir._native"


class EngineName(StrEnum):
    """The engines that there are."""

    NATIVE = "native"
    REFERENCE = "reference"


def engine_name(choice: Choice = "auto") -> EngineName:
    """Return which engine runs where this is chosen.

    A native module that is there and cannot be loaded is never replaced in silence: making its engine says so.

    Raises:
        RefusedError: the native engine is chosen and not installed.
    """
    installed = find_spec(NATIVE_MODULE) is not None
    if choice == "native" and not installed:
        raise RefusedError(
            "this installation has no native engine: install again where cargo is found, or choose 'reference'"
        )
    return EngineName.REFERENCE if choice == "reference" or not installed else EngineName.NATIVE


def make_engine(  # noqa: PLR0913 - what engines are made of
    name: EngineName,
    policy: Policy,
    keyset: Keyset,
    *,
    limits: Limits = DEFAULT_LIMITS,
    max_output_bytes: int = 1_000_000,
    on_fault: Callable[[Exception], None] | None = None,
) -> Engine:
    """Return an engine, with the parameters of :class:`tokenweir.core.engine.ReferenceEngine`.

    Raises:
        RefusedError: the native module cannot be loaded.
    """
    if name == EngineName.REFERENCE:
        return ReferenceEngine(policy, keyset, limits=limits, max_output_bytes=max_output_bytes, on_fault=on_fault)
    try:
        from tokenweir._native import __version__ as built  # noqa: PLC0415 - the module may be absent.
        from tokenweir.adapters.nativeengine import NativeEngine  # noqa: PLC0415 - as above.
    except ImportError as error:
        raise RefusedError(
            f"the native module cannot be loaded ({type(error).__name__}): install again, or choose the "
            "engine 'reference'"
        ) from None
    if built != __version__:
        raise RefusedError(f"the native module is of version {built}, and this is {__version__}: install again")
    return NativeEngine(policy, keyset, limits=limits, max_output_bytes=max_output_bytes, on_fault=on_fault)
