"""Who sits at the command line, as far as the operating system knows."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Final

_UNSET: Final = 4_294_967_295
"""No user: the session was not begun by a login (Linux, (uid_t)-1)."""


def os_user(login_uid: Path = Path("/proc/self/loginuid")) -> str:
    """Return the user who logged in, where the kernel remembers that, else the user who runs the process.

    The login survives ``sudo``, so that a service's files need not be readable by everybody who may detokenize. A user
    without a name is its number.
    """
    try:
        number = int(login_uid.read_text("ascii"))
    except (OSError, ValueError):
        number = _UNSET
    if number == _UNSET:
        number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
