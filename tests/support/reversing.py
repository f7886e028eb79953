"""A directory in which people may detokenize: the demo's policy, keys, grants and an audit log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from tokenweir.adapters.keysource import load_keyset
from tokenweir.app import demodata
from tokenweir.cli import app
from tokenweir.cli.osuser import os_user
from tokenweir.core.keys import Keyset
from tokenweir.core.policy.loader import LoadedPolicy, load_policy

STATEMENT = "I look at values only for the case that I name, and tell nobody who need not know."
REASON = "Chargeback of an order"
TICKET = "CASE-7"

GRANTS = f"""\
version: 1
statements:
  confidentiality: {{text: "{STATEMENT}"}}
tickets: {{pattern: "CASE-[0-9]+"}}
roles:
  support:
    grants:
      - classes: [id.customer]
        domains: [crm]
        budgets: [{{per: day, requests: 5, values: 8}}]
        statement: confidentiality
  fraud:
    grants:
      - classes: [id.*]
        domains: [crm, ads]
        budgets: [{{per: day, requests: 100, values: 1000}}]
        statement: confidentiality
        approval: {{by: [lead], valid_hours: 8}}
  lead: {{}}
principals:
  alice: {{roles: [support], user: USER, oidc: alice-sub, certificate: "CN=alice,O=Example"}}
  frank: {{roles: [fraud], user: frank, oidc: frank-sub}}
  lea: {{roles: [lead], user: lea, oidc: lea-sub}}
"""


@dataclass(frozen=True)
class Reversing:
    """The directory."""

    directory: Path

    @classmethod
    def make(cls, directory: Path, grants: str = GRANTS, user: str | None = None) -> Reversing:
        """Write the files, make keys and begin the log."""
        demodata.write(directory, 1_700_000_000_000, bytes(16))
        scene = cls(directory)
        scene.write_grants(grants, user)
        config = directory / "tokenweir.yaml"
        config.write_text(config.read_text() + "detokenize: {grants: grants.yaml}\n", "utf-8")
        for words in (["keys", "init"], ["audit", "init"]):
            result = scene.run(*words)
            assert result.exit_code == 0, result.output
        return scene

    def write_grants(self, text: str, user: str | None = None) -> None:
        """Replace the grants file."""
        (self.directory / "grants.yaml").write_text(text.replace("USER", user or os_user()), "utf-8")

    def edit_grants(self, change: dict[str, Any]) -> None:
        """Replace top-level keys of the grants file."""
        path = self.directory / "grants.yaml"
        document = YAML(typ="safe", pure=True).load(path.read_text())
        path.write_text(json.dumps(document | change), "utf-8")

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.directory / "tokenweir.yaml"

    @property
    def audit(self) -> Path:
        """The log."""
        return self.directory / "audit"

    def run(self, *words: str, text: str | None = None) -> Result:
        """Run a verb with the configuration."""
        return CliRunner().invoke(app, [*words, "--config", str(self.config)], input=text)

    def ask(self, *tokens: str, reason: str = REASON, ticket: str = TICKET, domain: str = "crm") -> Result:
        """Run ``detokenize`` for customer numbers."""
        where = ("--entry", "customer", "--domain", domain, "--format", "json")
        return self.run("detokenize", *tokens, *where, "--reason", reason, "--ticket", ticket)

    def accept(self) -> None:
        """Accept the statement as the user of the test."""
        result = self.run("grants", "accept", "confidentiality", "--yes")
        assert result.exit_code == 0, result.output

    def policy(self) -> LoadedPolicy:
        """Return the policy."""
        return load_policy((self.directory / "policy.yaml").read_text(), "policy.yaml")

    def keyset(self) -> Keyset:
        """Open the keyset."""
        return load_keyset(self.directory / "keys/keyset.json", self.directory / "keys/kek.key")

    def token(self, value: str, entry: str = "customer", domain: str = "crm") -> str:
        """Return the token of a value."""
        return self.keyset().tokenizer(domain, entry, self.policy().policy.tokens[entry]).tokenize(value)

    def records(self) -> list[dict[str, Any]]:
        """Return every record of the log."""
        lines = [line for path in sorted(self.audit.glob("*.jsonl")) for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines]
