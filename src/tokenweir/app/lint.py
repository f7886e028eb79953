"""Everything that is wrong with a policy, its configuration and its schemas, found in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenweir.app.workspace import NOTHING_NAMED, Workspace, open_config, schema_file, shown
from tokenweir.config import Config
from tokenweir.config.loader import given_by_environment
from tokenweir.core.policy.check import check
from tokenweir.core.policy.check_text import load
from tokenweir.errors import Finding, FindingsError, UsageError
from tokenweir.runtime.sources import read_text
from tokenweir.runtime.topics import topic_clashes


@dataclass(slots=True)
class Linted:
    """What a lint found, and what it looked at.

    Attributes:
        findings: Everything that was found, by place.
        checked: What was checked, in words.
        unchecked: What was not, and why.
    """

    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)


def lint(
    *,
    config_path: Path | None,
    policy_path: Path | None,
    schemas: Sequence[str],
    environ: Mapping[str, str],
) -> Linted:
    """Check a configuration, its policy and all schemas of its streams.

    Args:
        config_path: The configuration; without one and without a policy the environment's, if it gives any.
        policy_path: The policy, or None for the configuration's.
        schemas: ``STREAM=FILE`` or ``FILE``, each in place of what the registry has for the stream.
        environ: The environment variables.

    Raises:
        UsageError: neither configuration nor policy is given, or a schema is for no known stream.
        FileFormatError: a file cannot be read.
    """
    linted = Linted()
    config = None
    if config_path is not None or (policy_path is None and given_by_environment(environ)):
        config = _lint_config(config_path, environ, linted)
        if config is None and policy_path is None:
            linted.unchecked.append("the policy: the configuration has errors")
            return linted
    path = policy_path or (None if config is None else config.policy.file)
    if path is None:
        raise UsageError(NOTHING_NAMED)
    workspace = _lint_policy(path, config, linted)
    if workspace is not None:
        _lint_schemas(workspace, by_stream(workspace, schemas), linted)
    linted.findings = sorted(dict.fromkeys(linted.findings))
    return linted


def _lint_config(path: Path | None, environ: Mapping[str, str], linted: Linted) -> Config | None:
    linted.checked.append("the environment" if path is None else str(path))
    try:
        return open_config(path, environ)
    except FindingsError as error:
        linted.findings += error.findings
        return None


def _lint_policy(path: Path, config: Config | None, linted: Linted) -> Workspace | None:
    """Check a policy by itself; return None where it cannot be planned."""
    path = shown(path)
    linted.checked.append(str(path))
    text = read_text(path)
    try:
        loaded = load(text, str(path))
    except FindingsError as error:
        linted.findings += error.findings
        linted.unchecked.append("schemas: the policy cannot be read")
        return None
    findings = check(loaded)
    linted.findings += findings
    if config is not None:
        linted.findings += topic_clashes(config, loaded.policy)
    if any(finding.severity == "error" for finding in findings):
        linted.unchecked.append("schemas: the policy has errors of its own")
        return None
    return Workspace(loaded, path.parent, config)


def by_stream(workspace: Workspace, schemas: Sequence[str]) -> dict[str, list[Path]]:
    """Sort schema files by the streams that they are for."""
    found: dict[str, list[Path]] = {}
    for text in schemas:
        name, equals, file = text.partition("=")
        stream = workspace.stream(name if equals else None)
        found.setdefault(stream, []).append(Path(file if equals else text))
    return found


def _lint_schemas(workspace: Workspace, files: Mapping[str, list[Path]], linted: Linted) -> None:
    for name, stream in workspace.policy.policy.streams.items():
        given = files.get(name)
        if given is None and workspace.config is None and stream.source.format != "json":
            linted.unchecked.append(
                f"stream '{name}', for lack of its schema: name a configuration, or --schema {name}=FILE"
            )
            continue
        planned = workspace.plan(name, None if given is None else [schema_file(path) for path in given])
        versions = len(planned.versions)
        linted.checked.append(f"stream '{name}' with {versions} schema{'' if versions == 1 else 's'}")
    linted.findings += workspace.findings
