"""One loader for every verb: configuration, policy, schemas and plans, with all findings together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tokenweir.adapters.keysource import active_epochs, describe_keyset, retiring_epochs
from tokenweir.adapters.registry import Registry
from tokenweir.config import Config, config_from_environment, load_config
from tokenweir.config.loader import given_by_environment
from tokenweir.core.compiler import StreamContext
from tokenweir.core.keys import FIRST_EPOCH
from tokenweir.core.librdkafka import check_properties
from tokenweir.core.planning import PlannedStream, SourceSchema, plan_stream
from tokenweir.core.policy.check import load_and_check
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.errors import FileFormatError, Finding, FindingsError, RegistryError, SchemaError, UsageError
from tokenweir.runtime.gateway import keyset_path
from tokenweir.runtime.sources import key_domains, known_schemas, open_registry, read_text
from tokenweir.runtime.topics import dead_letter_topic
from tokenweir.validation import suggest

NOTHING_NAMED: Final = "name a configuration (--config) or a policy (--policy), or set TOKENWEIR__… variables"


@dataclass(slots=True)
class Workspace:
    """A policy that is sound by itself, and what it can be planned against.

    Attributes:
        policy: The policy.
        policy_directory: Where relative paths of the policy begin.
        config: The configuration, if the verb was given one.
        findings: Everything found so far; errors stay in it, so that one call shows them all.
    """

    policy: LoadedPolicy
    policy_directory: Path
    config: Config | None = None
    findings: list[Finding] = field(default_factory=list)

    def stream(self, name: str | None) -> str:
        """Return the stream to work on; with only one in the policy it need not be named.

        Raises:
            UsageError: if it is not named or not known.
        """
        known = list(self.policy.policy.streams)
        if name is None and len(known) == 1:
            return known[0]
        if name not in known:
            if name is None:
                raise UsageError(f"name one: the policy has {', '.join(known)}")
            raise unknown_stream(name, known)
        return name

    def registry(self) -> Registry:
        """Return the registry of the configuration.

        Raises:
            UsageError: if there is no configuration.
        """
        if self.config is None:
            raise UsageError("this needs a configuration: --config tokenweir.yaml")
        return open_registry(self.config)

    def dead_letter_topic(self, stream: str) -> str:
        """Return where rejected records of a stream are reported.

        Raises:
            UsageError: if there is no configuration.
        """
        if self.config is None:
            raise UsageError("this needs a configuration: --config tokenweir.yaml")
        return dead_letter_topic(self.config, self.policy.policy.streams[stream].source.topic)

    def context(self, stream: str) -> StreamContext:
        """Return what planning a stream needs; epochs come from the keyset's public part, so that no KEK is needed.

        Raises:
            KeysError: if there is a keyset that cannot be read.
        """
        epochs = dict.fromkeys(key_domains(self.policy), FIRST_EPOCH)
        retiring: dict[str, tuple[int, ...]] = {}
        if self.config is not None and keyset_path(self.config).exists():
            rows = describe_keyset(keyset_path(self.config))
            epochs |= active_epochs(row for row in rows if row.domain in epochs)
            retiring = retiring_epochs(rows)
        loaded = self.policy
        return StreamContext(ClassTable(loaded.policy), loaded.policy, loaded.digest, stream, epochs, retiring)

    def plan(self, stream: str, schemas: Sequence[SourceSchema] | None = None) -> PlannedStream:
        """Plan a stream against the given schemas, or against all that its source has; collect what is found.

        A registry that cannot be asked is a finding too, so that one fault does not hide the others.
        """
        context = self.context(stream)
        try:
            if schemas is None:
                schemas = self._known(stream)
            planned = plan_stream(self.policy, context, schemas)
        except (RegistryError, SchemaError, FileFormatError) as error:
            line, column = self.policy.positions.key(("streams", stream, "source"))
            finding = Finding(self.policy.file, line, column, "schemas", str(error), self._remedy(error))
            planned = PlannedStream(context, findings=[finding])
        self.findings.extend(planned.findings)
        return planned

    def _known(self, stream: str) -> list[SourceSchema]:
        found = self.policy.policy.streams[stream]
        if found.source.format == "json":
            return [schema_file(self.policy_directory / (found.source.schema_ or ""))]
        return known_schemas(found, self.registry(), self.policy_directory)

    def _remedy(self, error: Exception) -> str:
        """Return what to do where the schemas of a stream cannot be had."""
        in_directory = self.config is not None and self.config.registry.directory is not None
        kind = error.kind if isinstance(error, RegistryError) else ""
        if kind in {"unavailable", "timeout"}:
            return "correct registry.directory" if in_directory else "start it, or correct registry.url"
        if kind == "denied" and not in_directory:
            return "check the registry's user, password and certificates"
        if self.config is None or in_directory:
            return "register or name the schema"
        return "register the schema, or correct registry.url"

    def require_clean(self) -> None:
        """Stop on errors.

        Raises:
            FindingsError: with every finding, if one of them is an error.
        """
        if any(finding.severity == "error" for finding in self.findings):
            raise FindingsError(self.findings)


def open_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Load a configuration with all its checks; without a path from the environment alone.

    Raises:
        FindingsError: with every finding.
        FileFormatError: if it cannot be read.
    """
    config = config_from_environment(environ) if path is None else load_config(path, environ)
    findings = [
        config.finding(
            ("kafka", "properties", problem.key), "kafka-property", f"'{problem.key}' {problem.problem}", problem.remedy
        )
        for problem in check_properties(config.kafka.plain_properties())
    ]
    if findings:
        raise FindingsError(findings)
    return config


def open_workspace(*, config_path: Path | None, policy_path: Path | None, environ: Mapping[str, str]) -> Workspace:
    """Open what a verb works on: a configuration with its policy, or a policy file alone.

    Without either, the configuration that the environment alone gives.

    Raises:
        FindingsError: with every finding of the policy, if one is an error.
        UsageError: if neither is given.
        FileFormatError: if a file cannot be read.
    """
    config = None
    if config_path is not None or (policy_path is None and given_by_environment(environ)):
        config = open_config(config_path, environ)
    path = policy_path or (None if config is None else config.policy.file)
    if path is None:
        raise UsageError(NOTHING_NAMED)
    if config_path is None and policy_path is None and not path.exists():
        raise UsageError(
            f"{shown(path)}: no such file. No configuration is named and there is no tokenweir.yaml here, so only the "
            "TOKENWEIR__… variables count: name one with --config, or the policy with TOKENWEIR__POLICY__FILE"
        )
    path = shown(path)
    loaded, warnings = load_and_check(read_text(path), str(path))
    return Workspace(loaded, path.parent, config, list(warnings))


def unknown_stream(name: str, known: Collection[str]) -> UsageError:
    """Return the error that a stream does not exist, with the one that may be meant and all that there are."""
    meant = suggest(name, known)
    return UsageError(f"there is no stream '{name}'{meant and f' ({meant})'}: the policy has {', '.join(known)}")


def shown(path: Path) -> Path:
    """Return a path as people and CI systems want to see it: relative, where it is below the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def schema_file(path: Path) -> SourceSchema:
    """Return the schema in a file."""
    return SourceSchema(read_text(path), str(path))
