"""From what a configuration says of its KEK to the provider that holds it."""

from __future__ import annotations

from tokenweir.adapters.kek.base import Kek
from tokenweir.adapters.kek.file import FileKek
from tokenweir.config.models import KekSection


def open_kek(section: KekSection) -> Kek:
    """Return the KEK that a configuration names; no provider is asked yet.

    Raises:
        KeysError: the provider's client is not installed.
    """
    return FileKek(section.file)
