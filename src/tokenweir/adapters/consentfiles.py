"""What lies in the consent store's directory: sealed entries, the description of the store, and its marks."""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tokenweir.adapters.consentbinding import StoreCorruptError, store_directories
from tokenweir.core.consent import HashedSubject, SubjectConsent, decode
from tokenweir.core.subjects import Subject
from tokenweir.errors import DecodeError, RefusedError

#: Where Linux names the run of the kernel; after a crash of the machine it is another one.
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_ID_BYTES: Final = 16
_KEY_ID_BYTES: Final = 8
#: It has no colon, so that no subject's canonical form is equal to it.
_KEY_ID_LABEL: Final = b"tokenweir-consent-key-id1"
_MAC_BYTES: Final = 8
_KEY_BYTES: Final = 32

DATA: Final = "data.mdb"
LOCKS: Final = "lock.mdb"
MARK: Final = "mark"
OWNER: Final = "owner.lock"
CORRUPT: Final = "corrupt"
ACKNOWLEDGED: Final = "acknowledged.json"
BLOCKED: Final = "blocked.json"

#: Sparse and fixed: growing it later would fail the readers.
MAP_BYTES: Final = 64 * 2**30

#: The entry that describes the store; no subject has a key of this length.
META: Final = b"meta"


class Seal:
    """Hides the subjects' ids in the store and proves that its entries are unchanged.

    Ids are HMAC-SHA-256 (FIPS 198-1) truncated to 128 bits: among 10**9 subjects any two share one with probability
    below 2**-69. Entries carry a MAC of 64 bits over their key and content; it is for damage and misplaced pages, and
    an attacker who can write the file meets it once per try, with one rebuild of the store for each failure.
    """

    def __init__(self, id_key: bytes, mac_key: bytes) -> None:
        if min(len(id_key), len(mac_key)) < _KEY_BYTES:
            raise ValueError(f"the keys of the consent store have at least {_KEY_BYTES} bytes")
        self._id_key = id_key
        self._mac_key = mac_key

    def __reduce__(self) -> str:
        raise TypeError("keys are not pickled")

    def id_of(self, subject: Subject) -> bytes:
        """Return the key of a subject's entry."""
        return hmac.digest(self._id_key, subject.canonical.encode(), "sha256")[:_ID_BYTES]

    @property
    def key_id(self) -> str:
        """The fingerprint of the key that hides ids: a MAC of a constant, which tells nothing about the key."""
        return hmac.digest(self._id_key, _KEY_ID_LABEL, "sha256")[:_KEY_ID_BYTES].hex()

    def hashed(self, subject: Subject) -> HashedSubject:
        """Return a subject with the name of its entry in place of its id, as an erasure has it on the topic."""
        return HashedSubject(subject.type, self.key_id, self.id_of(subject))

    def name_of(self, raw_key: bytes) -> str:
        """Return a name for a record key that is not to be stored as it is."""
        return hmac.digest(self._id_key, raw_key, "sha256")[:_ID_BYTES].hex()

    def seal(self, key: bytes, content: bytes) -> bytes:
        """Return the content with its MAC at the end."""
        return content + self._mac(key, content)

    def open(self, key: bytes, entry: bytes) -> bytes:
        """Return the content of an entry.

        Raises:
            StoreCorruptError: It is not what was stored under this key.
        """
        content, mac = entry[:-_MAC_BYTES], entry[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(key, content)):
            raise StoreCorruptError("an entry of the consent store does not have the MAC that belongs to it")
        return content

    def _mac(self, key: bytes, content: bytes) -> bytes:
        # The key's length goes first, so that no other split of the same bytes has the same MAC.
        return hmac.digest(self._mac_key, len(key).to_bytes(2, "big") + key + content, "sha256")[:_MAC_BYTES]


@dataclass(frozen=True, slots=True)
class StoreMeta:
    """What a store says about itself; one entry of it, replaced in every transaction.

    Attributes:
        topic_id: The consent topic.
        generation: Another number after every rebuild.
        position: The next offset to apply, by partition.
        complete: It has been restored: it is the whole topic up to its position.
        current_at_ms: The last time, in milliseconds since 1970, at which nothing was missing from it; until it is
            complete, the time at which it was begun.
        created_at_ms: When it was begun.
        entries: How many subjects it has.
        blocked: By partition the offset of the last record whose key could not be read and nobody acknowledged.
    """

    topic_id: str
    generation: int
    position: tuple[int, ...]
    complete: bool
    current_at_ms: int
    created_at_ms: int
    entries: int = 0
    blocked: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def new(cls, topic_id: str, partitions: int, now_ms: int) -> StoreMeta:
        """Return the description of an empty store."""
        return cls(topic_id, secrets.randbits(62) + 1, (0,) * partitions, False, now_ms, now_ms)

    def is_behind(self, other: StoreMeta) -> bool:
        """Whether this is an earlier state of the same store: LMDB falls back to it if its newest root is damaged."""
        return self.generation == other.generation and any(
            mine < theirs for mine, theirs in zip(self.position, other.position, strict=True)
        )

    def to_bytes(self) -> bytes:
        """Return it as it is stored."""
        return json.dumps({"format": 1} | asdict(self), separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> StoreMeta:
        """Return what :meth:`to_bytes` wrote.

        Raises:
            StoreCorruptError: Another version of this program wrote it.
        """
        try:
            members = json.loads(data)
            if members.pop("format") != 1:
                raise StoreCorruptError("the consent store has the format of another version")
            members["position"] = tuple(members["position"])
            members["blocked"] = {int(partition): offset for partition, offset in members["blocked"].items()}
            return cls(**members)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreCorruptError("the consent store has the format of another version") from None


@dataclass(frozen=True, slots=True)
class Mark:
    """Who has the store open, in a file that can be read without opening it.

    Attributes:
        boot_id: The run of the kernel in which it was opened.
        clean: It was closed, and everything is on the disk.
        opens: How often it was opened since it was last closed or found sound.
    """

    boot_id: str
    clean: bool
    opens: int

    def write(self, directory: Path, seal: Seal) -> None:
        """Make this the mark; when it returns, the mark is on the disk."""
        content = json.dumps(asdict(self)).encode()
        write_durably(directory / MARK, seal.seal(MARK.encode(), content))

    @classmethod
    def read(cls, directory: Path, seal: Seal) -> Mark | None:
        """Return the mark, None if there is none.

        Raises:
            StoreCorruptError: It is damaged, or was written with other keys.
        """
        try:
            entry = (directory / MARK).read_bytes()
        except FileNotFoundError:
            return None
        return cls(**json.loads(seal.open(MARK.encode(), entry)))

    @staticmethod
    def remove(directory: Path) -> None:
        """Leave a store that the next writer begins anew; a disk that takes nothing more takes that."""
        (directory / MARK).unlink(missing_ok=True)


def boot_id() -> str:
    """Return the name of this run of the kernel; where there is none, one that matches no other."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return secrets.token_hex(16)


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file as a whole, or not at all, and wait until the disk has it."""
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def own(directory: Path) -> int:
    """Make the directory this process's, as long as the returned descriptor is open; readers are not concerned.

    Raises:
        RefusedError: Another process has it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / OWNER, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RefusedError("another gateway uses this state directory: give each its own") from None
    return descriptor


def inode(directory: Path) -> int:
    """Return the identity of the data file, 0 if there is none."""
    try:
        return (directory / DATA).stat().st_ino
    except FileNotFoundError:
        return 0


def remove_data(directory: Path) -> None:
    """Remove the content; a reader that has it open keeps its view until it looks again."""
    for name in (DATA, LOCKS, CORRUPT):
        (directory / name).unlink(missing_ok=True)


def report_corrupt(directory: Path, data_inode: int) -> None:
    """Tell the writer that a reader found damage in the file of this identity."""
    (directory / CORRUPT).write_text(str(data_inode))


def corruption_reported(directory: Path) -> bool:
    """Whether a reader found damage in the data file that is there now."""
    try:
        return (directory / CORRUPT).read_text() == str(inode(directory))
    except FileNotFoundError:
        return False


def acknowledge(state_directory: Path, topic_id: str, partition: int, offset: int) -> None:
    """Accept the unreadable keys of a consent partition up to and including an offset, whatever they meant.

    The applier takes this over within a second, and it outlives rebuilds of the store and a change of the engine.
    """
    state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    accepted = acknowledged(state_directory, topic_id)
    accepted[partition] = max(offset, accepted.get(partition, -1))
    _write_offsets(state_directory / ACKNOWLEDGED, topic_id, accepted)


def acknowledged(state_directory: Path, topic_id: str) -> dict[int, int]:
    """Return by partition the last offset that was acknowledged; anything unreadable acknowledges nothing.

    It is the topic that is acknowledged and no store, so that the file lies above the stores of both engines. What an
    older version wrote beside one of them counts too.
    """
    accepted: dict[int, int] = {}
    for directory in (state_directory, *store_directories(state_directory)):
        for partition, offset in (_read_offsets(directory / ACKNOWLEDGED, topic_id) or {}).items():
            accepted[partition] = max(offset, accepted.get(partition, -1))
    return accepted


def tell_blocked(directory: Path, topic_id: str, offsets: Mapping[int, int]) -> None:
    """Write down for tools what is blocked, as :attr:`StoreMeta.blocked` has it: only one process opens the store."""
    _write_offsets(directory / BLOCKED, topic_id, offsets)


def told_blocked(directory: Path, topic_id: str) -> dict[int, int] | None:
    """Return what the writer last said is blocked, None if it never spoke of this topic."""
    return _read_offsets(directory / BLOCKED, topic_id)


def _write_offsets(path: Path, topic_id: str, offsets: Mapping[int, int]) -> None:
    write_durably(path, json.dumps({"topic_id": topic_id, "offsets": dict(offsets)}).encode())


def _read_offsets(path: Path, topic_id: str) -> dict[int, int] | None:
    """Return offsets by partition, None where the file is missing, damaged, or about another topic."""
    try:
        document = json.loads(path.read_bytes())
        if document["topic_id"] != topic_id:
            return None
        return {int(partition): int(offset) for partition, offset in document["offsets"].items()}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def consent_of(seal: Seal, key: bytes, entry: bytes) -> SubjectConsent:
    """Return what is known of a subject from its entry.

    Raises:
        StoreCorruptError: The entry is damaged.
    """
    try:
        return decode(seal.open(key, entry))
    except DecodeError:
        raise StoreCorruptError("an entry of the consent store has the format of another version") from None
