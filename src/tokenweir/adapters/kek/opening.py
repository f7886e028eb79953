"""From what a configuration says of its KEK to the provider that holds it."""

from __future__ import annotations

from tokenweir.adapters.kek.base import Kek
from tokenweir.adapters.kek.file import FileKek
from tokenweir.config.models import KekSection


def open_kek(section: KekSection) -> Kek:
    """Return the KEK that a configuration names; no provider is asked yet.

    A provider's client is imported only where it is used: it is an extra, and slow to import.

    Raises:
        KeysError: the provider's client is not installed, or a file that it needs cannot be read.
    """
    if section.aws is not None:
        from tokenweir.adapters.kek.aws import AwsKek  # noqa: PLC0415 - see above.

        return AwsKek(section.aws)
    if section.gcp is not None:
        from tokenweir.adapters.kek.gcp import GcpKek  # noqa: PLC0415 - as above.

        return GcpKek(section.gcp)
    if section.azure is not None:
        from tokenweir.adapters.kek.azure import AzureKek  # noqa: PLC0415 - as above.

        return AzureKek(section.azure)
    if section.vault is not None:
        from tokenweir.adapters.kek.vault import VaultKek  # noqa: PLC0415 - as above.

        return VaultKek(section.vault)
    if section.file is None:
        raise AssertionError("the model has checked that one provider is named")
    return FileKek(section.file)
