"""``tokenweir version``: what runs here, in enough detail for a bug report."""

from __future__ import annotations

import platform
from importlib import metadata

import typer

from tokenweir import __version__
from tokenweir.cli import verbs
from tokenweir.cli.console import aligned, out, out_json
from tokenweir.cli.options import Format, FormatOption


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(app, version, "tokenweir version", "tokenweir version --format json")


def version(format_: FormatOption = Format.TEXT) -> None:
    """Show the version, the engine and the libraries."""
    parts = _parts()
    if format_ is Format.JSON:
        out_json(parts)
        return
    for line in aligned([[name, value] for name, value in parts.items()]):
        out(line)


def _parts() -> dict[str, str]:
    """Return the name and version of every part."""
    import confluent_kafka  # noqa: PLC0415 - slow to import, and needed here only.
    from cryptography.hazmat.backends.openssl import backend  # noqa: PLC0415 - as above.

    from tokenweir.adapters.engines import engine_name  # noqa: PLC0415 - as above.

    return {
        "tokenweir": __version__,
        "engine": engine_name(),
        "native module": _native_version(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {platform.machine()}",
        "confluent-kafka": metadata.version("confluent-kafka"),
        "librdkafka": confluent_kafka.libversion()[0],
        "cryptography": metadata.version("cryptography"),
        "openssl": backend.openssl_version_text(),
        "fastavro": metadata.version("fastavro"),
    }


def _native_version() -> str:
    """Return the version of the native module, which is there if a Rust toolchain was found on install."""
    try:
        from tokenweir._native import __version__ as native_version  # noqa: PLC0415 - it may be absent
    except ModuleNotFoundError:
        return "absent"
    return native_version
