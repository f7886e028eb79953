"""What every process of one gateway is given, and what it builds from it."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from tokenweir.adapters.consentbinding import store_directory
from tokenweir.adapters.consentfiles import Seal
from tokenweir.adapters.engines import EngineName, engine_name
from tokenweir.adapters.kek import open_kek
from tokenweir.adapters.keysource import KeyRow, key_rows, load_keyset, open_keyset
from tokenweir.config import Config
from tokenweir.core.keys import Keyset
from tokenweir.core.policy.check import load_and_check
from tokenweir.core.policy.loader import LoadedPolicy, load_policy
from tokenweir.errors import KeysError
from tokenweir.runtime.sources import read_text
from tokenweir.runtime.topics import dead_letter_topic, require_distinct_topics


@dataclass(frozen=True, slots=True)
class Gateway:
    """A configuration and the policy, keyset and engine that it began with; none changes while the processes live.

    The keyset is kept as its file was: wrapped. So a child that starts later has the epochs that the others have, also
    where ``keys rotate`` or ``keys retire`` has changed the file meanwhile, and never writes into other topics.
    """

    config: Config
    policy_text: str
    policy_file: str
    keyset_text: str
    engine: EngineName

    @classmethod
    def open(cls, config: Config) -> Gateway:
        """Read policy and keyset once, for all processes.

        Raises:
            FileFormatError: if the policy cannot be read.
            FindingsError: if the policy is not sound, or one topic would serve two uses.
            KeysError: if there is no keyset.
            RefusedError: if the configuration names an engine that is not installed.
        """
        engine = engine_name(config.gateway.engine)
        text, file = read_text(config.policy.file), str(config.policy.file)
        loaded, _ = load_and_check(text, file)  # This very text: the file may have changed since somebody looked.
        require_distinct_topics(config, loaded.policy)
        return cls(config, text, file, _keyset_text(config), engine)

    def policy(self) -> LoadedPolicy:
        """Return the policy as it was when the gateway was opened."""
        return load_policy(self.policy_text, self.policy_file)

    def keyset(self) -> Keyset:
        """Open the keyset that the gateway began with, as far as it is in use: no root of a retired epoch.

        Raises:
            KeysError: if it cannot be opened.
        """
        text = self.keyset_text or _keyset_text(self.config)
        return open_keyset(text, keyset_path(self.config), open_kek(self.config.keys.kek), in_use=True)

    def key_rows(self) -> list[KeyRow]:
        """Return what the keyset says of its roots without opening it.

        Raises:
            KeysError: if it is no keyset.
        """
        return key_rows(self.keyset_text or _keyset_text(self.config), keyset_path(self.config))

    @property
    def policy_directory(self) -> Path:
        """Where relative paths of the policy begin."""
        return self.config.policy.file.parent

    @property
    def slots_directory(self) -> Path:
        """Where processes count."""
        return self.config.state.directory / "slots"

    def group(self, stream: str) -> str:
        """Return the consumer group of a stream."""
        return group_of(self.config, stream)

    def transactional_id(self, stream: str, slot: int) -> str:
        """Return the transactional id of a worker slot."""
        return f"{self.config.gateway.group_prefix}.{stream}.{slot}"

    def dead_letter_topic(self, source_topic: str) -> str:
        """Return where rejected records of a source are reported."""
        return dead_letter_topic(self.config, source_topic)

    def first_slot(self) -> int:
        """Return the first worker slot of this instance: ordinal times workers."""
        return ordinal(self.config) * self.config.gateway.workers


def group_of(config: Config, stream: str) -> str:
    """Return the consumer group of a stream."""
    return f"{config.gateway.group_prefix}.{stream}"


def store_of(config: Config) -> Path:
    """Return the local consent store's directory, which follows from the engine.

    Raises:
        RefusedError: if the configuration names an engine that is not installed.
    """
    return store_directory(config.state.directory, engine_name(config.gateway.engine))


def keyset_path(config: Config) -> Path:
    """Return the keyset's file."""
    return config.keys.directory / "keyset.json"


def keyset_of(config: Config) -> Keyset:
    """Open the keyset of a configuration, with the roots of all epochs that are not destroyed.

    Raises:
        KeysError: if it cannot be opened.
    """
    return load_keyset(keyset_path(config), open_kek(config.keys.kek))


def seal_of(keyset: Keyset) -> Seal:
    """Return what hides the ids of people in the consent store, and on the topic once they are erased."""
    id_key, mac_key = keyset.consent_store_keys()
    return Seal(id_key.reveal(), mac_key.reveal())


def seal_if_open(config: Config) -> Seal | None:
    """Return the seal of the configuration's keyset, None where there are no keys on this machine."""
    try:
        return seal_of(keyset_of(config))
    except KeysError:
        return None


def ordinal(config: Config, host: str | None = None) -> int:
    """Return the number of this instance: as configured, else the number at the end of the host name, else 0."""
    if config.gateway.ordinal is not None:
        return config.gateway.ordinal
    found = re.search(r"-([0-9]{1,6})\Z", host or socket.gethostname())
    return int(found.group(1)) if found else 0


def _keyset_text(config: Config) -> str:
    path = keyset_path(config)
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise KeysError(f"{path}: there is no keyset; make one with 'tokenweir keys init'") from None
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeysError(f"{path} is not a keyset: it is not UTF-8; restore it from its backup") from None
