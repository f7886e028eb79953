"""Searches the memory of a process, as a debugger or a core file would show it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_PIECE_BYTES: Final = 16 * 1024 * 1024
_OVERLAP_BYTES: Final = 256
_MAPPING: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (r[w-][x-][ps]) \S+ \S+ \S+ *(.*)")
#: Neither can be read, and neither holds anything of the process's own.
_UNREADABLE: Final = frozenset({"[vvar]", "[vvar_vclock]", "[vsyscall]"})


def forms(secret: bytes) -> dict[str, bytes]:
    """Return in which forms a key may stand in memory: raw, in either half, as hexadecimal and as Base64."""
    half = len(secret) // 2
    return {
        "raw": secret,
        "first half": secret[:half],
        "second half": secret[half:],
        "hexadecimal": secret.hex().encode(),
        "base64": base64.b64encode(secret).rstrip(b"=")[:-1],
        "base64url": base64.urlsafe_b64encode(secret).rstrip(b"=")[:-1],
    }


def search(pid: int, secrets: Mapping[str, bytes], only: str = "") -> tuple[dict[str, int], int]:
    """Search the readable memory of a process, or of its mappings of one name.

    Returns:
        How often each secret was found, and how many bytes were searched.

    Raises:
        PermissionError: The memory of the process may not be read.
    """
    needles = {f"{name}: {form}": needle for name, secret in secrets.items() for form, needle in forms(secret).items()}
    found = dict.fromkeys(needles, 0)
    searched = 0
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            match = _MAPPING.match(line)
            if match is None or match[4] in _UNREADABLE or (only and match[4] != only):
                continue
            start, end = int(match[1], 16), int(match[2], 16)
            for position in range(start, end, _PIECE_BYTES):
                piece = _read(memory, position, min(_PIECE_BYTES + _OVERLAP_BYTES, end - position))
                searched += len(piece)
                for name, needle in needles.items():
                    found[name] += piece.count(needle)
    return found, searched


def _read(memory: object, position: int, length: int) -> bytes:
    """Return what is at a place; pages that were given back since are nothing."""
    try:
        memory.seek(position)  # type: ignore[attr-defined]
        return bytes(memory.read(length) or b"")  # type: ignore[attr-defined]
    except OSError:
        return b""


def hits(found: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """Return the forms in which some secrets were found."""
    return {form: count for form, count in found.items() if count and form.partition(":")[0] in set(names)}
