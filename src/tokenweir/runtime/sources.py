"""Where the schemas of a stream are found: the registry, a directory, or the file that the policy names."""

from __future__ import annotations

import time
from pathlib import Path

from tokenweir.adapters.registry import DirectoryRegistry, HttpRegistry, Registry
from tokenweir.adapters.schemacache import PinningRegistry
from tokenweir.adapters.schemafiles import SchemaFiles
from tokenweir.config import Config
from tokenweir.core.compiler import StreamContext, domain_of
from tokenweir.core.keys import FIRST_EPOCH, Keyset
from tokenweir.core.planning import PlannedStream, SourceSchema, plan_stream
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.policy.models import Stream
from tokenweir.errors import FileFormatError, SchemaError
from tokenweir.runtime.plans import source_schema
from tokenweir.runtime.registryhealth import RegistryHealth
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log


def open_registry(config: Config) -> Registry:
    """Return the registry that the configuration names."""
    section = config.registry
    if section.directory is not None:
        return DirectoryRegistry(section.directory)
    return HttpRegistry(
        section.url or "",
        username=section.username,
        password=None if section.password is None else section.password.get_secret_value(),
        ca_file=section.ca_file,
    )


def pinned_registry(config: Config, stream: str = "", topic: str | None = None) -> PinningRegistry:
    """Return the registry as a running gateway uses it: remembered below the state directory, every id pinned.

    Args:
        config: The configuration.
        stream: The stream that it is for, empty for all.
        topic: The source topic of that stream.
    """
    health = RegistryHealth(stream, time.monotonic)
    return PinningRegistry(
        open_registry(config),
        SchemaFiles(
            config.state.directory,
            config.registry.url or str(config.registry.directory),
            on_write_error=lambda error: log(Event.EXCEPTION_RAISED, error=error, phase="schema_files"),
        ),
        time.monotonic,
        subject=None if topic is None else f"{topic}-value",
        on_failure=health.failed,
        on_answer=health.answered,
    )


def known_schemas(stream: Stream, registry: Registry, policy_directory: Path) -> list[SourceSchema]:
    """Return every known version of a stream's schema, oldest first.

    Raises:
        RegistryError: if the registry cannot be used.
        FileFormatError: if the file of a ``json`` stream cannot be read.
        SchemaError: if there is no version at all.
    """
    if stream.source.format == "json":
        path = policy_directory / (stream.source.schema_ or "")
        return [SourceSchema(read_text(path), str(stream.source.schema_))]
    subject = f"{stream.source.topic}-value"
    found: dict[int, SourceSchema] = {}
    for version in registry.versions(subject):
        registered = registry.version(subject, version)
        # An id that comes back as a later version is as new as that version.
        found.pop(registered.id, None)
        found[registered.id] = source_schema(registered, subject)
    if not found:
        raise SchemaError(f"the registry has no schema for '{subject}'")
    return list(found.values())


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        FileFormatError: if it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise FileFormatError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileFormatError(f"{path}: not UTF-8") from None


def key_domains(loaded: LoadedPolicy) -> list[str]:
    """Return the key domains of all audiences, once each."""
    return sorted({domain_of(loaded.policy, audience) for audience in loaded.policy.audiences})


def stream_context(
    loaded: LoadedPolicy, stream: str, keyset: Keyset | None, *, retiring: bool = False
) -> StreamContext:
    """Return what planning a stream needs; without a keyset every key domain is in its first epoch.

    With ``retiring`` every output is also planned in the epochs that are fed beside the active one, as a gateway does.
    """
    domains = key_domains(loaded)
    epochs = {domain: FIRST_EPOCH if keyset is None else keyset.epoch(domain) for domain in domains}
    beside = {} if keyset is None or not retiring else {domain: keyset.retiring(domain) for domain in domains}
    return StreamContext(ClassTable(loaded.policy), loaded.policy, loaded.digest, stream, epochs, beside)


def plan_known(
    loaded: LoadedPolicy, stream: str, keyset: Keyset | None, registry: Registry, policy_directory: Path
) -> PlannedStream:
    """Plan every known version of a stream's schema, for all epochs that are fed."""
    context = stream_context(loaded, stream, keyset, retiring=True)
    return plan_stream(loaded, context, known_schemas(context.stream, registry, policy_directory))
