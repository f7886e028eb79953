"""The ``tokenweir`` command, except that its child processes are those of :mod:`tests.support.faultychild`."""

from __future__ import annotations

from typing import Final

from tokenweir.__main__ import main
from tokenweir.runtime import supervisor
from tokenweir.runtime.children import ChildSpec

_CHILD: Final = "tokenweir.runtime.children"
_FAULTY_CHILD: Final = "tests.support.faultychild"
_command = supervisor.command


def faulty_command(spec: ChildSpec) -> list[str]:
    """Return what starts a child: the product's own command with another module."""
    command = _command(spec)
    if _CHILD not in command:
        raise LookupError(f"{command} does not start {_CHILD}")
    return [_FAULTY_CHILD if word == _CHILD else word for word in command]


if __name__ == "__main__":
    supervisor.command = faulty_command
    main()
