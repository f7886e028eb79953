"""``tokenweir keys``: the keyset from which tokens are made."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tokenweir.cli import keyepochs, keymap, verbs
from tokenweir.cli.console import out_json, table, talk
from tokenweir.cli.keyepochs import KeysOption, key_files
from tokenweir.cli.options import ConfigOption, Format, FormatOption, PolicyOption, config_path
from tokenweir.errors import KeysError

if TYPE_CHECKING:
    from tokenweir.core.policy.loader import LoadedPolicy


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = verbs.group()
    verbs.add(
        group, init, "tokenweir keys init -c tokenweir.yaml", "tokenweir keys init --keys keys --policy policy.yaml"
    )
    verbs.add(group, list_keys, "tokenweir keys list", "tokenweir keys list --keys keys --format json", name="list")
    keymap.register(group)
    keyepochs.register(group)
    app.add_typer(group, name="keys", help="Make, show, rotate and destroy the keys from which tokens are made.")


def init(
    config: ConfigOption = None,
    keys: KeysOption = None,
    policy: PolicyOption = None,
) -> None:
    """Make the keyset, or what is missing of it.

    That is the key that encrypts the keyset, if it is a file, the keyset, and a root for every key domain of the
    policy. No key that exists is ever replaced, so this may be run again after the policy got a new audience. Keep a
    copy of both files in different places: without them no token can be made again.
    """
    from tokenweir.adapters.keysource import describe_keyset, init_keyset  # noqa: PLC0415 - slow to import.
    from tokenweir.runtime.sources import key_domains  # noqa: PLC0415 - as above.

    files = key_files(config, keys)
    policy = policy or (Path("policy.yaml") if keys is not None and Path("policy.yaml").is_file() else None)
    domains = key_domains(_policy(config, policy))
    before = {row.domain for row in describe_keyset(files.keyset)} if files.keyset.exists() else set()
    made_kek = init_keyset(files.keyset, files.kek, domains, datetime.now(UTC))
    made = [row.domain for row in describe_keyset(files.keyset) if row.domain not in before]
    if made_kek:
        talk(f"made {files.kek.name}: the key that encrypts the keyset, readable by you only; keep a copy elsewhere")
    talk(f"{files.keyset}: {_made(made)}", style="green")


def _made(domains: list[str]) -> str:
    return f"made the root of {', '.join(domains)}" if domains else "nothing was missing"


def list_keys(config: ConfigOption = None, keys: KeysOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Show the roots of the keyset and which KEK wraps them, and no secret."""
    from tokenweir.adapters.keysource import (  # noqa: PLC0415 - slow to import.
        describe_keyset,
        kek_reference,
        load_keyset,
    )

    files = key_files(config, keys)
    rows, kek = describe_keyset(files.keyset), kek_reference(files.keyset)
    if format_ is Format.JSON:
        keks = {"provider": kek.provider, "id": kek.id}
        out_json({"format_version": 1, "kek": keks, "keys": [asdict(row) for row in rows]})
    else:
        talk(f"wrapped by the KEK {kek.id} of provider {kek.provider}")
        table(
            ["key domain", "epoch", "status", "made", "since"],
            [
                [row.domain, str(row.epoch), row.status, row.created_at, row.changed_at or row.created_at]
                for row in rows
            ],
        )
    try:
        load_keyset(files.keyset, files.kek)
    except KeysError as error:
        talk(f"warning: these keys cannot be used: {error}", style="yellow")


def _policy(config: Path | None, policy: Path | None) -> LoadedPolicy:
    """Return the policy whose key domains are wanted."""
    from tokenweir.app.workspace import open_workspace  # noqa: PLC0415 - slow to import; --help does not need it.

    return open_workspace(config_path=config_path(config, policy), policy_path=policy, environ=os.environ).policy
