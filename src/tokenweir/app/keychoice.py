"""Which KEK belongs to a keyset in a directory that was named without a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tokenweir.adapters.kek import FileKek, Kek, open_kek
from tokenweir.config import config_from_environment

_VARIABLES: Final = "TOKENWEIR__KEYS__KEK__"


def kek_of_directory(directory: Path, environ: Mapping[str, str]) -> Kek:
    """Return the KEK that ``TOKENWEIR__KEYS__KEK__…`` variables name at a provider, else the file ``kek.key``.

    What ``keyset.json`` says does not choose: whoever could write it would choose whom tokenweir talks to.

    Raises:
        FindingsError: the variables are not right.
        KeysError: the provider's client is not installed.
    """
    named = {name: value for name, value in environ.items() if name.startswith(_VARIABLES)}
    section = config_from_environment(named).keys.kek
    remote = any((section.aws, section.gcp, section.azure, section.vault))
    return open_kek(section) if remote else FileKek(directory / "kek.key")
