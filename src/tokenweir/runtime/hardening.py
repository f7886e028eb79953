"""Keeps what a process holds in memory out of core files and away from debuggers of the same user."""

from __future__ import annotations

import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def protect_memory() -> None:
    """Leave no core file, and on Linux be closed to debuggers (prctl(2), PR_SET_DUMPABLE).

    It must be called before keys are opened or records read. Processes that are started later begin anew without it,
    except that they leave no core file either.
    """
    if sys.platform == "win32":
        return
    import ctypes  # noqa: PLC0415 - these two are not on every platform.
    import resource  # noqa: PLC0415 - as above.

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def limit_memory(limit_bytes: int) -> None:
    """Let the process have so much memory of its own and no more (setrlimit(2), RLIMIT_DATA).

    Mapped files do not count, and so the consent store does not. Beyond the limit Python raises MemoryError, and
    librdkafka, for example with a batch that unpacks to a hundred times its size, ends the process instead of the node.
    """
    if sys.platform != "linux":
        return
    import resource  # noqa: PLC0415 - it is not on every platform.

    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
