"""Key derivation and the keyset file: known answers, separation, and what must not open."""

from __future__ import annotations

import base64
import copy
import hmac
import itertools
import json
import os
import pickle
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tokenweir.adapters import keysource
from tokenweir.adapters.keysource import KeyRow, describe_keyset, init_keyset, load_keyset
from tokenweir.core.keys import Keyset, TokenKey, derive, entry_info, length_prefixed
from tokenweir.core.tokens import TokenSpec
from tokenweir.errors import KeysError

ADAPTER: TypeAdapter[TokenSpec] = TypeAdapter(TokenSpec)
CUSTOMER = ADAPTER.validate_python({"format": "digits", "length": 10})
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone(timedelta(hours=1)))
VALUES = [f"{number:010d}" for number in range(4000)]


def fixed_keyset(seed: int = 0) -> Keyset:
    """Return a keyset of two key domains with predictable roots."""
    count = itertools.count(seed)
    return Keyset.ephemeral(["crm", "ads"], lambda size: hmac.digest(b"seed", b"%d" % next(count), "sha256")[:size])


def unrelated(first: list[str], second: list[str]) -> bool:
    """Say whether two token lists share no token at one place and agree on digits as often as chance (10 %) does."""
    agreeing = sum(a == b for left, right in zip(first, second, strict=True) for a, b in zip(left, right, strict=True))
    expected = len(first)  # 10 digits each, a tenth of them
    deviation = (10 * len(first) * 0.1 * 0.9) ** 0.5
    return abs(agreeing - expected) < 4 * deviation and not any(map(str.__eq__, first, second))


def test_length_prefix_is_unambiguous() -> None:
    """Parts are told apart by their lengths, in UTF-8 bytes."""
    assert length_prefixed("ab", b"\x00", "é") == bytes.fromhex("00000002 6162 00000001 00 00000002 c3a9")
    assert length_prefixed("ab", "c") != length_prefixed("a", "bc")
    assert length_prefixed("a") != length_prefixed("a", "")


def test_derivation_is_hkdf_expand() -> None:
    """Keys are HKDF-Expand of RFC 5869, written out here with HMAC, over exactly the seven parts of the info."""
    root = TokenKey(bytes(range(32)))
    info = entry_info("crm", "customer", CUSTOMER, "ff1-aes256", 3)
    assert info[:4] == ("tokenweir1", "crm", "customer", "digits")
    assert info[5:] == ("ff1-aes256", "3")

    derived = derive(root, info, 64).reveal()

    first = hmac.digest(root.reveal(), length_prefixed(*info) + b"\x01", "sha256")
    assert derived == first + hmac.digest(root.reveal(), first + length_prefixed(*info) + b"\x02", "sha256")


def test_derivation_is_pinned() -> None:
    """The key of a fixed entry never changes: a change would give every consumer new tokens."""
    keys = fixed_keyset().entry_keys("crm", "customer", CUSTOMER)

    assert keys.key.reveal().hex() == "642602ae02f34b7a6c93f8b8f15e9b0b9b3e00e1ab2092e60f1699d867fd7fca"
    assert keys.tweak_key.reveal().hex() == "66dfaf78513a6be9681f2ef02e099a86466a2b188a8f1adc1d8c62f509d244c4"


def test_everything_in_the_info_separates() -> None:
    """Key domain, entry, parameters and root each give unrelated tokens."""
    keyset = fixed_keyset()
    base = keyset.tokenizer("crm", "customer", CUSTOMER).tokenize_many(VALUES)
    ranged = ADAPTER.validate_python({"format": "digits", "length": "10..12"})
    others = [
        keyset.tokenizer("ads", "customer", CUSTOMER),
        keyset.tokenizer("crm", "account", CUSTOMER),
        keyset.tokenizer("crm", "customer", ranged),
        fixed_keyset(seed=10).tokenizer("crm", "customer", CUSTOMER),
    ]

    assert all(unrelated(base, other.tokenize_many(VALUES)) for other in others)


def test_epochs_separate() -> None:
    """Another epoch gives unrelated tokens even if its root were the same."""
    root = TokenKey(bytes(range(32)))
    keyset = Keyset({("crm", 1): root, ("crm", 2): root}, {"crm": 2}, root)

    tokens = [keyset.tokenizer("crm", "customer", CUSTOMER, epoch=epoch).tokenize_many(VALUES) for epoch in (1, 2)]

    assert unrelated(*tokens)
    assert keyset.epoch("crm") == 2
    assert keyset.tokenizer("crm", "customer", CUSTOMER).tokenize_many(VALUES) == tokens[1]


def test_wrong_key_reverses_to_something_else() -> None:
    """FF1 has no integrity: under another key a token reverses to a plausible value that is not the one."""
    keyset = fixed_keyset()
    token = keyset.tokenizer("crm", "customer", CUSTOMER).tokenize("0000012345")

    other = keyset.tokenizer("ads", "customer", CUSTOMER).detokenize(token)

    assert other != "0000012345"
    assert len(other) == 10


def test_key_and_tweak_key_differ() -> None:
    """The key of the cipher, the key of the tweak and the keys of the consent store are all different."""
    keyset = fixed_keyset()
    keys = keyset.entry_keys("crm", "customer", CUSTOMER)

    secrets = [keys.key, keys.tweak_key, *keyset.consent_store_keys()]

    assert len({secret.reveal() for secret in secrets}) == 4
    assert all(len(secret) == 32 for secret in secrets)


def test_unknown_domains_and_epochs_are_refused() -> None:
    """There is no key for what the keyset does not name, and the error says what to do."""
    keyset = fixed_keyset()

    assert keyset.domains == ("ads", "crm")
    with pytest.raises(KeysError, match="keys init"):
        keyset.epoch("partners")
    with pytest.raises(KeysError):
        keyset.tokenizer("partners", "customer", CUSTOMER)
    with pytest.raises(KeysError):
        keyset.tokenizer("crm", "customer", CUSTOMER, epoch=2)


def test_refuses_roots_that_are_no_roots() -> None:
    """Short roots and active epochs without a root are refused."""
    root = TokenKey(bytes(32))

    with pytest.raises(KeysError):
        Keyset({("crm", 1): TokenKey(bytes(16))}, {"crm": 1}, root)
    with pytest.raises(KeysError):
        Keyset({("crm", 1): root}, {"crm": 2}, root)
    with pytest.raises(KeysError):
        Keyset.ephemeral(["crm"], lambda size: bytes(size - 1))


def test_keys_do_not_show_or_travel() -> None:
    """Neither repr, str, format, pickle nor copy of a key or a keyset gives its bytes away."""
    key = TokenKey(b"0123456789abcdef0123456789abcdef")
    keyset = fixed_keyset()

    assert {repr(key), str(key), f"{key}"} == {"<TokenKey>"}
    assert repr(keyset) == "<Keyset of 2 key domains>"
    for holder in (key, keyset):
        for leak in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                leak(holder)
        assert not hasattr(holder, "__dict__")


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    """Where a keyset and its KEK will be; the directory does not exist yet."""
    return tmp_path / "keys" / "keyset.json", tmp_path / "keys" / "kek.key"


def test_init_makes_and_load_opens(paths: tuple[Path, Path]) -> None:
    """A new keyset has the domains, private files, a UTC time, and the same keys at every opening."""
    init_keyset(*paths, ["crm", "ads"], NOW)

    first, second = load_keyset(*paths), load_keyset(*paths)

    assert first.domains == ("ads", "crm")
    tokens = [keyset.tokenizer("crm", "customer", CUSTOMER).tokenize("0000012345") for keyset in (first, second)]
    assert tokens[0] == tokens[1]
    assert describe_keyset(paths[0]) == [
        KeyRow("ads", 1, "active", "2026-11-24T11:00:00Z"),
        KeyRow("crm", 1, "active", "2026-11-24T11:00:00Z"),
    ]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600, 0o600]
    assert stat.S_IMODE(paths[0].parent.stat().st_mode) == 0o700
    assert paths[1].stat().st_size == 32
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["kek.key", "keyset.json"]


def test_the_file_does_not_hold_keys(paths: tuple[Path, Path]) -> None:
    """No root and no KEK stands in the keyset file, neither raw nor in hexadecimal or base64."""
    init_keyset(*paths, ["crm"], NOW)
    keyset = load_keyset(*paths)
    content = paths[0].read_bytes()

    for secret in (paths[1].read_bytes(), keyset._roots["crm", 1].reveal(), keyset._state.reveal()):
        assert secret not in content
        assert secret.hex().encode() not in content
        assert base64.b64encode(secret).rstrip(b"=")[:40] not in content


def test_init_adds_and_never_replaces(paths: tuple[Path, Path]) -> None:
    """A second init adds missing domains; KEK, roots and the state root stay what they are."""
    init_keyset(*paths, ["crm"], NOW)
    before = load_keyset(*paths)
    kek = paths[1].read_bytes()

    init_keyset(*paths, ["crm", "ads"], NOW + timedelta(days=1))

    after = load_keyset(*paths)
    assert after.domains == ("ads", "crm")
    assert after._roots["crm", 1].reveal() == before._roots["crm", 1].reveal()
    assert after._roots["ads", 1].reveal() != before._roots["crm", 1].reveal()
    assert [key.reveal() for key in after.consent_store_keys()] == [key.reveal() for key in before.consent_store_keys()]
    assert paths[1].read_bytes() == kek
    assert [row.created_at for row in describe_keyset(paths[0])] == ["2026-11-25T11:00:00Z", "2026-11-24T11:00:00Z"]


def test_init_without_change_does_not_write(paths: tuple[Path, Path]) -> None:
    """When nothing is missing the file is not touched."""
    init_keyset(*paths, ["crm"], NOW)
    inode = paths[0].stat().st_ino

    init_keyset(*paths, ["crm"], NOW)

    assert paths[0].stat().st_ino == inode


def test_init_takes_a_kek_that_is_there(paths: tuple[Path, Path]) -> None:
    """A KEK made elsewhere, in another directory, is used and not replaced."""
    kek = paths[0].parent.parent / "kek"
    kek.write_bytes(bytes(range(32)))
    kek.chmod(0o400)

    init_keyset(paths[0], kek, ["crm"], NOW)

    assert load_keyset(paths[0], kek).domains == ("crm",)
    assert kek.read_bytes() == bytes(range(32))


def test_a_lost_kek_is_not_replaced(paths: tuple[Path, Path]) -> None:
    """With a keyset but without its KEK, init refuses: a new KEK would open nothing."""
    init_keyset(*paths, ["crm"], NOW)
    paths[1].unlink()

    with pytest.raises(KeysError, match="backup"):
        init_keyset(*paths, ["crm", "ads"], NOW)
    with pytest.raises(KeysError, match="restore it from its backup") as caught:
        load_keyset(*paths)
    assert "keys init" not in str(caught.value)
    assert not paths[1].exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601])
def test_a_kek_that_others_can_use_is_refused(paths: tuple[Path, Path], mode: int) -> None:
    """The KEK is for its owner alone; the error says how to make it so."""
    init_keyset(*paths, ["crm"], NOW)
    paths[1].chmod(mode)

    with pytest.raises(KeysError, match="chmod 600"):
        load_keyset(*paths)
    with pytest.raises(KeysError, match="chmod 600"):
        init_keyset(*paths, ["crm", "ads"], NOW)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_kek_of_another_size_is_refused(paths: tuple[Path, Path], size: int) -> None:
    """A truncated or overlong KEK file is refused by its size and not shown."""
    init_keyset(*paths, ["crm"], NOW)
    paths[1].write_bytes(bytes(size))

    with pytest.raises(KeysError, match="32 bytes"):
        load_keyset(*paths)


def test_another_kek_is_told_apart(paths: tuple[Path, Path]) -> None:
    """The wrong KEK is named as such, not as a damaged keyset, and adds nothing."""
    init_keyset(*paths, ["crm"], NOW)
    content = paths[0].read_bytes()
    paths[1].write_bytes(bytes(32))

    with pytest.raises(KeysError, match="not the KEK"):
        load_keyset(*paths)
    with pytest.raises(KeysError, match="not the KEK"):
        init_keyset(*paths, ["ads"], NOW)
    assert paths[0].read_bytes() == content


def test_roots_cannot_be_swapped_or_renamed(paths: tuple[Path, Path]) -> None:
    """A root opens only for the key domain and epoch it was made for, and the state root only as such."""
    init_keyset(*paths, ["crm", "ads"], NOW)
    original = paths[0].read_text()

    def refused(change: dict[str, object], index: int = 0) -> bool:
        content = json.loads(original)
        content["roots"][index].update(change)
        paths[0].write_text(json.dumps(content))
        with pytest.raises(KeysError, match="does not open"):
            load_keyset(*paths)
        return True

    roots = json.loads(original)["roots"]
    wrapped = roots[1]["wrapped"]
    assert refused({"wrapped": wrapped})
    assert refused({"domain": "partners"})
    assert refused({"epoch": 2})
    assert refused({"wrapped": json.loads(original)["state"]["wrapped"]})
    assert refused({"wrapped": ("A" if wrapped[0] != "A" else "B") + wrapped[1:]}, 1)
    assert refused({"wrapped": "!" * 80})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"version": 2}',
        '{"version": 1, "version": 1}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_what_is_no_keyset_is_refused(paths: tuple[Path, Path], content: str) -> None:
    """Malformed content is a KeysError that names the file."""
    init_keyset(*paths, ["crm"], NOW)
    paths[0].write_bytes(content.encode(errors="surrogateescape"))

    with pytest.raises(KeysError, match=r"keyset\.json is not a keyset"):
        load_keyset(*paths)
    with pytest.raises(KeysError, match=r"keyset\.json is not a keyset"):
        describe_keyset(paths[0])


def test_unknown_keys_and_two_active_roots_are_refused(paths: tuple[Path, Path]) -> None:
    """The file's model is strict, and a key domain has one active root."""
    init_keyset(*paths, ["crm"], NOW)
    original = json.loads(paths[0].read_text())
    twice = {**original, "roots": original["roots"] * 2}
    second = {**original, "roots": [*original["roots"], {**original["roots"][0], "epoch": 2}]}

    for content in ({**original, "extra": 1}, twice, second, {**original, "version": "1"}):
        paths[0].write_text(json.dumps(content))
        with pytest.raises(KeysError, match="not a keyset"):
            load_keyset(*paths)


def test_errors_do_not_tell_file_content(paths: tuple[Path, Path]) -> None:
    """A message about a malformed field has its place and not its content."""
    init_keyset(*paths, ["crm"], NOW)
    content = json.loads(paths[0].read_text())
    content["roots"][0]["wrapped"] = "CANARY"
    paths[0].write_text(json.dumps(content))

    with pytest.raises(KeysError) as caught:
        load_keyset(*paths)

    assert "roots.0.wrapped" in str(caught.value)
    assert "CANARY" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_missing_files_have_a_remedy(paths: tuple[Path, Path]) -> None:
    """Without a keyset the error names the verb that makes one."""
    for read in (lambda: load_keyset(*paths), lambda: describe_keyset(paths[0])):
        with pytest.raises(KeysError, match="keys init"):
            read()


def test_a_lost_keyset_is_better_restored(paths: tuple[Path, Path]) -> None:
    """A new one would make other tokens, so the backup comes first even where ``keys init`` works."""
    init_keyset(*paths, ["crm"], NOW)
    paths[0].unlink()
    with pytest.raises(KeysError, match=r"restore it from its backup, or if there never was one.*keys init"):
        load_keyset(*paths)


def test_a_crash_while_writing_leaves_the_old_file(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fails before the rename, the keyset is unchanged and no temporary file is left."""
    init_keyset(*paths, ["crm"], NOW)
    content = paths[0].read_bytes()

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tokenweir.adapters.keysource.os.fsync", fail)
    with pytest.raises(KeysError, match="No space left"):
        init_keyset(*paths, ["ads"], NOW)

    assert paths[0].read_bytes() == content
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["kek.key", "keyset.json"]


def test_two_processes_do_not_both_write(paths: tuple[Path, Path]) -> None:
    """While one process holds the directory another is refused, and works when it is free again."""
    with keysource.exclusive(paths[0].parent), pytest.raises(KeysError, match="another process"):
        init_keyset(*paths, ["crm"], NOW)

    init_keyset(*paths, ["crm"], NOW)
    assert load_keyset(*paths).domains == ("crm",)


def test_new_roots_come_from_the_operating_system() -> None:
    """An ephemeral keyset takes any secure source, and two of them have nothing in common."""
    first, second = (Keyset.ephemeral(["crm"], os.urandom) for _ in range(2))

    assert unrelated(
        first.tokenizer("crm", "customer", CUSTOMER).tokenize_many(VALUES),
        second.tokenizer("crm", "customer", CUSTOMER).tokenize_many(VALUES),
    )
