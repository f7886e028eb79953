"""The native module for tests that compare it with the reference engine."""

from __future__ import annotations

import importlib
import os
import shutil
from typing import Any

import pytest

from tokenweir.core import ff1text


def native_module() -> Any:  # noqa: ANN401 - a module
    """Return ``tokenweir._native``, or skip the test module that asks; CI with a Rust toolchain must have it."""
    try:
        return importlib.import_module("tokenweir._native")
    except ModuleNotFoundError:
        if os.environ.get("CI") and shutil.which("cargo"):
            raise
        return pytest.skip("this installation has no native module", allow_module_level=True)


def ff1_class(engine: str) -> Any:  # noqa: ANN401 - either class
    """Return the class FF1 of an engine."""
    return ff1text.FF1 if engine == "reference" else native_module().FF1


def outcome(call: Any, *arguments: Any) -> object:  # noqa: ANN401 - any call
    """Return what a call returns, or the class and the text of what it raises."""
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever the reference raises, the native module must raise too
        return type(error), str(error)
