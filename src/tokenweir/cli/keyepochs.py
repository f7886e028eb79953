"""``tokenweir keys rotate``, ``retire``, ``rewrap`` and ``destroy``: the life of the epochs of a key domain."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from tokenweir.cli import verbs
from tokenweir.cli.asking import have_typed
from tokenweir.cli.console import out, out_json, table, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption, YesOption, config_path
from tokenweir.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokenweir.adapters.kek import Kek
    from tokenweir.adapters.keydestruction import Destruction
    from tokenweir.app.keyrollout import Rollout

KeysOption = Annotated[
    Path | None,
    typer.Option(
        "--keys", metavar="DIR", help="DIR/keyset.json and DIR/kek.key. Default: what the configuration names."
    ),
]
DomainArgument = Annotated[
    str, typer.Argument(metavar="DOMAIN", help="The key domain: an audience, or the `key_domain` that it names.")
]
UncheckedOption = Annotated[
    bool,
    typer.Option("--unchecked", help="Do not ask the cluster which epochs the running gateways feed."),
]

_RESTART = "restart every gateway and replay, one after the other: a running one goes on with the keyset it began with"
_HOLDERS = (
    "processes that began before this and hold the root until they are restarted: tokenweir serve, keys map, and "
    "command-line tools that reverse tokens"
)
_SHOWN = 8


class KeyFiles(NamedTuple):
    """The keyset, and the key that encrypts it."""

    keyset: Path
    kek: Kek


def register(group: typer.Typer) -> None:
    """Add the verbs to the group ``keys``."""
    verbs.add(group, rotate, "tokenweir keys rotate crm", "tokenweir keys rotate crm --keys keys")
    verbs.add(group, retire, "tokenweir keys retire crm", "tokenweir keys retire crm --keys keys --unchecked --yes")
    verbs.add(
        group,
        rewrap,
        "tokenweir keys rewrap --to keys/kek-2027.key",
        "tokenweir keys rewrap --to-config tokenweir-2027.yaml",
    )
    verbs.add(
        group,
        destroy,
        "tokenweir keys destroy crm 1 --backup /backup/keyset.json",
        "tokenweir keys destroy crm 1 --attest other-copies='all backups before May deleted, OPS-12, J. Doe' --yes",
    )


def rotate(
    domain: DomainArgument,
    *,
    config: ConfigOption = None,
    keys: KeysOption = None,
    unchecked: UncheckedOption = False,
) -> None:
    """Begin a new epoch of a key domain: new tokens, in topics of their own beside the old ones.

    An output topic carries one epoch for life. After a restart each output of the key domain is also written to
    {topic}.eN; the old topic goes on as it is until `keys retire`. Nothing can join the tokens of both epochs, unless
    `keys map` writes which is which. Refused where gateways or topics show that the new epoch was there before, so
    that the keyset is an older copy; with --keys nobody is asked.
    """
    from tokenweir.adapters.keychanges import rotate as begin_epoch  # noqa: PLC0415 - slow to import.

    files = key_files(config, keys)
    rollout = None if keys is not None else _rollout(config, domain)
    if rollout is not None and (too_long := rollout.too_long()):
        raise RefusedError(f"{too_long} leaves no room for the names of its later topics; Kafka takes 249 characters")
    if rollout is not None and not unchecked:
        _require_new(rollout)
    made = begin_epoch(files.keyset, files.kek, domain, datetime.now(UTC))
    talk(
        f"{files.keyset}: epoch {made.epoch} of key domain {domain} is active; epoch {made.epoch - 1} is fed beside it"
    )
    talk("keep copies of the new keyset where you keep those of the old one, then:")
    topics = [] if rollout is None else [each.topic for each in rollout.outputs() if each.epoch == made.epoch]
    if topics:
        talk(f"1. create {', '.join(topics)}: 'tokenweir doctor --fix' does, with the partitions of the source")
    else:
        talk(f"1. create the topics {{topic}}.e{made.epoch} of its outputs: 'tokenweir doctor --fix' does")
    talk(f"2. {_RESTART}")
    talk(f"3. let consumers move over ('tokenweir keys map {domain}'), then run 'tokenweir keys retire {domain}'")


def retire(
    domain: DomainArgument,
    *,
    config: ConfigOption = None,
    keys: KeysOption = None,
    unchecked: UncheckedOption = False,
    yes: YesOption = False,
) -> None:
    """End the old epoch of a key domain: after a restart nothing is written to its topics any more.

    Refused while a running gateway does not feed the new epoch yet: consumers that have moved over would miss what it
    writes to the old topic alone. The root is kept, to reverse tokens with; `keys destroy` ends it.
    """
    from tokenweir.adapters.keychanges import retire as end_epochs  # noqa: PLC0415 - slow to import.
    from tokenweir.adapters.keychanges import retiring_of  # noqa: PLC0415 - as above.
    from tokenweir.adapters.keysource import active_epochs, describe_keyset, read_keyset  # noqa: PLC0415 - as above.

    files = key_files(config, keys)
    ending = retiring_of(read_keyset(files.keyset), domain)
    rollout = None if keys is not None else _rollout(config, domain)
    topics = [] if rollout is None else [each.topic for each in rollout.outputs() if each.epoch in ending]
    if ending:
        newest = active_epochs(describe_keyset(files.keyset))[domain]
        _require(rollout, lambda each: each.without(newest), f"feed epoch {newest}", unchecked=unchecked)
        if not yes:
            have_typed(
                "key domain",
                domain,
                warning=f"nothing will be written any more to {', '.join(topics) or 'the topics of the old epoch'}, "
                "and dead letters for them cannot be replayed",
            )
    ended = end_epochs(files.keyset, domain, datetime.now(UTC))
    talk(f"{files.keyset}: epoch {', '.join(map(str, ended))} of key domain {domain} is retired")
    talk(_RESTART)
    talk(f"then delete its mapping topic; when no token of it is needed: 'tokenweir keys destroy {domain} {ended[0]}'")


def rewrap(
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="The new key-encryption key; made with mode 0600 if it is missing."),
    ] = None,
    to_config: Annotated[
        Path | None,
        typer.Option("--to-config", metavar="FILE", help="A configuration that names the new key in keys.kek."),
    ] = None,
    config: ConfigOption = None,
    keys: KeysOption = None,
) -> None:
    """Encrypt the keyset with another key. No token changes, and no gateway has to stop.

    Running gateways still need the old key when one of their processes starts again: name the new one in `keys.kek`,
    restart them, and remove the old key then. Old copies of the keyset open with it for as long as it exists.
    """
    from tokenweir.adapters.kek import FileKek  # noqa: PLC0415 - slow to import.
    from tokenweir.adapters.keychanges import rewrap as wrap_anew  # noqa: PLC0415 - as above.

    if (to is None) == (to_config is None):
        raise UsageError("name the new key-encryption key: --to FILE, or --to-config FILE with another keys.kek")
    files = key_files(config, keys)
    old = files.kek
    new = FileKek(to) if to is not None else key_files(to_config, None).kek
    existed = to is None or to.exists()
    before, after = wrap_anew(files.keyset, old, new, datetime.now(UTC))
    if not existed:
        talk(f"made {new.name}: readable by you only; keep a copy elsewhere")
    talk(f"{files.keyset}: wrapped by {new.name} ({after}); before by {old.name} ({before})")
    if (old.provider, before) == (new.provider, after):
        talk(f"{_RESTART}; then its older versions may go. Copies of the keyset from before open with those")
        return
    talk(f"name {new.name} in the configuration (keys.kek) and restart every gateway")
    talk(f"then remove {old.name}; copies of the keyset from before open with it: keep it only where they are kept")


def destroy(
    domain: DomainArgument,
    epoch: Annotated[int, typer.Argument(metavar="EPOCH", min=1, help="The epoch, which must be retired.")],
    *,
    config: ConfigOption = None,
    keys: KeysOption = None,
    backup: Annotated[
        list[Path] | None,
        typer.Option("--backup", metavar="FILE", help="A copy of the keyset: the root is taken out of it too."),
    ] = None,
    attest: Annotated[
        list[str] | None,
        typer.Option(
            "--attest",
            metavar="WHAT=WORDS",
            help="What became of copies that no program can see: other-copies, kek:FINGERPRINT or a path.",
        ),
    ] = None,
    unchecked: UncheckedOption = False,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Destroy the root of a retired epoch: its tokens can never be made or reversed again.

    Reported as destroyed only when every copy is unusable or attested gone; otherwise the destruction is pending, with
    the list of what remains, and exit code 1. Run it again with what was found out since.
    """
    from tokenweir.adapters.keydestruction import destroy as end_root  # noqa: PLC0415 - slow to import.

    files = key_files(config, keys)
    attested = _attested(attest or [])
    rollout = None if keys is not None else _rollout(config, domain)
    _require(rollout, lambda each: each.still(epoch), f"have stopped to feed epoch {epoch}", unchecked=unchecked)
    if rollout is not None and not unchecked:
        _require_no_mappings(rollout, epoch)
    if not yes:
        have_typed("key domain", domain, warning=f"no token of epoch {epoch} can ever be made or reversed again")
    done = end_root(files.keyset, domain, epoch, datetime.now(UTC), backups=backup or [], attested=attested)
    _report(done, format_, checked=rollout is not None and not unchecked)
    if not done.complete:
        raise typer.Exit(1)


def _require_new(rollout: Rollout) -> None:
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import.

    with cluster_faults(rollout.config):
        ahead = rollout.ahead()
    if ahead:
        raise RefusedError(
            f"the new epoch is not known to be new: {_few(ahead)}. Where keyset.json is an older copy, restore the "
            "newer one; another root would make other tokens in the same topic. If it is the newest, say --unchecked"
        )


def _require_no_mappings(rollout: Rollout, epoch: int) -> None:
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import.

    with cluster_faults(rollout.config):
        mappings = rollout.mappings(epoch)
    if mappings:
        raise RefusedError(
            f"{', '.join(mappings)}: leads from the tokens of epoch {epoch} to those of the next, which can be "
            "reversed; delete it first"
        )


def _report(done: Destruction, format_: Format, *, checked: bool) -> None:
    from tokenweir.adapters.keydestruction import OVERWRITING  # noqa: PLC0415 - slow to import.

    state = "destroyed" if done.complete else "destruction pending"
    not_looked_at = [_HOLDERS] if checked else [_HOLDERS, "running gateways", "mapping topics"]
    if format_ is Format.JSON:
        copies = [{"what": copy.what, "state": copy.state.value, "words": copy.words} for copy in done.copies]
        out_json(
            {
                "format_version": 1,
                "domain": done.domain,
                "epoch": done.epoch,
                "state": state,
                "copies": copies,
                "not_looked_at": not_looked_at,
                "overwriting": OVERWRITING,
            }
        )
        return
    out(f"key domain {done.domain}, epoch {done.epoch}: {state}")
    table(["copy", "state", "what is known"], [[copy.what, copy.state.value, copy.words] for copy in done.copies])
    talk(OVERWRITING)
    for what in not_looked_at:
        talk(f"not looked at: {what}", style="yellow")
    for copy in done.remaining:
        talk(f"remains: {copy.what}: {copy.words}", style="yellow")
    if done.remaining:
        talk(
            "when one of these is gone, run this again with --backup FILE, or with --attest WHAT=WORDS where only a "
            "person can know"
        )


def _require(rollout: Rollout | None, found: Callable[[Rollout], list[str]], what: str, *, unchecked: bool) -> None:
    """Refuse to go on unless every running gateway has come so far.

    Raises:
        RefusedError: one has not, or the cluster cannot be asked.
        UsageError: there is nobody to ask.
    """
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import.

    if unchecked:
        return
    if rollout is None:
        raise UsageError("with --keys nobody can be asked what running gateways do: give --config, or say --unchecked")
    with cluster_faults(rollout.config):
        lacking = found(rollout)
    if lacking:
        raise RefusedError(
            f"not every gateway is known to {what}: {_few(lacking)}. "
            "Restart them, or if none runs any more, say --unchecked"
        )


def _few(said: Sequence[str]) -> str:
    return "; ".join(said[:_SHOWN]) + (f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else "")


def _attested(given: Sequence[str]) -> dict[str, str]:
    """Return what was attested, by what it is about."""
    found = {}
    for each in given:
        what, sign, words = each.partition("=")
        if not sign or not what.strip():
            raise UsageError(f"--attest is WHAT=WORDS, and not '{each}'")
        found[what.strip()] = words.strip()
    return found


def key_files(config: Path | None, keys: Path | None) -> KeyFiles:
    """Return the keyset and the KEK that the options name.

    Raises:
        UsageError: neither a configuration nor a directory is named.
        KeysError: the client of the KEK's provider is not installed.
    """
    from tokenweir.adapters.kek import open_kek  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.keychoice import kek_of_directory  # noqa: PLC0415 - as above.
    from tokenweir.app.workspace import open_config, shown  # noqa: PLC0415 - as above.
    from tokenweir.runtime.gateway import keyset_path  # noqa: PLC0415 - as above.

    if keys is not None:
        return KeyFiles(keys / "keyset.json", kek_of_directory(keys, os.environ))
    path = config_path(config)
    if path is None:
        raise UsageError("name a configuration (--config) or a directory (--keys)")
    opened = open_config(path, os.environ)
    section = opened.keys.kek
    if section.file is not None:
        section = section.model_copy(update={"file": shown(section.file)})
    return KeyFiles(shown(keyset_path(opened)), open_kek(section))


def _rollout(config: Path | None, domain: str) -> Rollout:
    from tokenweir.app.cluster import open_cluster  # noqa: PLC0415 - slow to import.
    from tokenweir.app.keyrollout import Rollout  # noqa: PLC0415 - as above.

    opened, workspace = open_cluster(config_path(config), os.environ)
    return Rollout(opened, workspace.policy, domain)
