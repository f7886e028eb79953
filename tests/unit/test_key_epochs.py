"""The epochs of a key domain: what they are called, and how the keyset's file goes through their life."""

from __future__ import annotations

import base64
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tokenweir.adapters.kek import FileKek, KekContext
from tokenweir.adapters.keychanges import retire, rewrap, rotate
from tokenweir.adapters.keydestruction import OTHER_COPIES, CopyState, destroy
from tokenweir.adapters.keysource import (
    active_epochs,
    describe_keyset,
    exclusive,
    init_keyset,
    load_keyset,
    open_keyset,
    retiring_epochs,
    unwrap_root,
)
from tokenweir.core.epochs import epoch_topic, mapping_topic, read_epochs, reserved_by, shown_epochs
from tokenweir.core.tokens import TokenSpec
from tokenweir.errors import KeysError, RefusedError, UsageError

CUSTOMER: TokenSpec = TypeAdapter[TokenSpec](TokenSpec).validate_python({"format": "digits", "length": 10})
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=90)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    """A keyset of two key domains, each in its first epoch, and its KEK."""
    found = (tmp_path / "keys" / "keyset.json", tmp_path / "keys" / "kek.key")
    init_keyset(*found, ["crm", "ads"], NOW)
    return found


def content(path: Path) -> Any:  # noqa: ANN401 - JSON of any kind
    """Return the file as JSON."""
    return json.loads(path.read_text())


def statuses(path: Path, domain: str = "crm") -> dict[int, str]:
    """Return the status of each epoch of a key domain."""
    return {row.epoch: row.status for row in describe_keyset(path) if row.domain == domain}


def row_of(path: Path, domain: str, epoch: int) -> dict[str, Any]:
    """Return what the file says of a root."""
    rows: list[dict[str, Any]] = content(path)["roots"]
    return next(row for row in rows if (row["domain"], row["epoch"]) == (domain, epoch))


def wrapped(path: Path, domain: str, epoch: int) -> str:
    """Return a root as it stands in the file."""
    return str(row_of(path, domain, epoch)["wrapped"])


def token(paths: tuple[Path, Path], epoch: int | None = None, domain: str = "crm") -> str:
    """Return the token of one value."""
    return load_keyset(*paths).tokenizer(domain, "customer", CUSTOMER, epoch).tokenize("0000012345")


# Names.


def test_a_topic_follows_from_output_and_epoch() -> None:
    """The first epoch has the bare name, later ones their number, and the mapping stands beside the new one."""
    assert [epoch_topic("clicks.crm", epoch) for epoch in (1, 2, 10)] == [
        "clicks.crm",
        "clicks.crm.e2",
        "clicks.crm.e10",
    ]
    assert mapping_topic("clicks.crm", 2) == "clicks.crm.e2.mapping"


@pytest.mark.parametrize(
    ("topic", "output"),
    [
        ("a.crm.e2", "a.crm"),
        ("a.crm.e10.mapping", "a.crm"),
        ("a.crm", ""),
        ("a.crm.e1", ""),
        ("a.crm.e0", ""),
        ("a.crm.e02", ""),
        ("a.crm.e2.other", ""),
        ("b.e2", ""),
        ("a.crm.e2.e3", "a.crm.e2"),
    ],
)
def test_names_of_later_epochs_are_kept(topic: str, output: str) -> None:
    """Exactly the names that an output's later epochs and their mappings can have."""
    assert reserved_by(topic, {"a.crm", "a.crm.e2"}) == output


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True), min_size=1, max_size=8))
def test_epochs_in_the_metadata_are_read_as_they_were_written(epochs: list[list[int]]) -> None:
    """The text of any stream leads back to its epochs, and to nothing for a stream of another size."""
    text = shown_epochs(epochs)

    assert read_epochs(text, len(epochs)) == [tuple(each) for each in epochs]
    assert not text or read_epochs(text, len(epochs) + 1) is None


def test_first_epochs_alone_are_not_mentioned() -> None:
    """So nothing is added to the metadata before the first rotation; and rubbish is nothing."""
    assert shown_epochs([[1], [1]]) == ""
    assert shown_epochs([[2, 1], [1]]) == "2+1,1"
    assert read_epochs("2+x,1", 2) is None


# The keyset.


def test_a_rotation_begins_an_independent_epoch_beside_the_old_one(paths: tuple[Path, Path]) -> None:
    """The new epoch is active with a root of its own, the old one is fed beside it, other key domains are untouched."""
    before, other = token(paths), wrapped(paths[0], "ads", 1)

    made = rotate(*paths, "crm", LATER)

    keyset = load_keyset(*paths)
    assert (made.domain, made.epoch, made.status, made.created_at) == ("crm", 2, "active", "2027-02-22T12:00:00Z")
    assert statuses(paths[0]) == {1: "retiring", 2: "active"}
    assert (keyset.epoch("crm"), keyset.retiring("crm")) == (2, (1,))
    assert (keyset.epoch("ads"), keyset.retiring("ads")) == (1, ())
    assert token(paths, 1) == before != token(paths, 2) == token(paths)
    assert wrapped(paths[0], "ads", 1) == other
    kek = FileKek(paths[1])
    roots = {unwrap_root(kek, KekContext("crm", n), wrapped(paths[0], "crm", n)).reveal() for n in (1, 2)}
    assert len(roots) == 2
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o600


def test_one_epoch_is_retired_before_the_next_begins(paths: tuple[Path, Path]) -> None:
    """There are never more than two topics of one output to be fed."""
    rotate(*paths, "crm", LATER)

    with pytest.raises(RefusedError, match="keys retire crm"):
        rotate(*paths, "crm", LATER)

    retire(paths[0], "crm", LATER)
    assert rotate(*paths, "crm", LATER).epoch == 3
    assert statuses(paths[0]) == {1: "retired", 2: "retiring", 3: "active"}


def test_a_retired_epoch_is_kept_to_reverse_its_tokens_and_no_gateway_opens_it(paths: tuple[Path, Path]) -> None:
    """``retire`` needs no KEK; what is in use leaves out the retired root."""
    before = token(paths)
    rotate(*paths, "crm", LATER)
    kek = paths[1].read_bytes()
    paths[1].unlink()

    assert retire(paths[0], "crm", LATER) == [1]

    paths[1].write_bytes(kek)
    paths[1].chmod(0o600)
    assert statuses(paths[0]) == {1: "retired", 2: "active"}
    assert load_keyset(*paths).tokenizer("crm", "customer", CUSTOMER, 1).detokenize(before) == "0000012345"
    in_use = open_keyset(paths[0].read_text(), *paths, in_use=True)
    assert in_use.tokenizer("crm", "customer", CUSTOMER).tokenize("0000012345") == token(paths, 2)
    with pytest.raises(KeysError, match="no root for epoch 1"):
        in_use.tokenizer("crm", "customer", CUSTOMER, 1)


def test_what_cannot_be_changed_is_refused_and_changes_nothing(paths: tuple[Path, Path]) -> None:
    """Unknown key domains and epochs, nothing to retire, epochs in use, a wrong KEK, and another process at work."""
    before = paths[0].read_bytes()
    for call in (
        lambda: rotate(*paths, "cmr", LATER),
        lambda: retire(paths[0], "partners", LATER),
        lambda: destroy(paths[0], "crm", 7, LATER),
    ):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(RefusedError, match="nothing to retire"):
        retire(paths[0], "crm", LATER)
    with pytest.raises(RefusedError, match="the active one"):
        destroy(paths[0], "crm", 1, LATER)
    with exclusive(paths[0].parent), pytest.raises(KeysError, match="another process"):
        rotate(*paths, "crm", LATER)
    kek = paths[1].read_bytes()
    paths[1].write_bytes(bytes(32))
    with pytest.raises(KeysError, match="is not the KEK"):
        rotate(*paths, "crm", LATER)
    paths[1].write_bytes(kek)
    assert paths[0].read_bytes() == before

    rotate(*paths, "crm", LATER)
    with pytest.raises(RefusedError, match="still fed"):
        destroy(paths[0], "crm", 1, LATER)


def test_a_crash_in_a_rotation_leaves_the_old_keyset(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is the old one or the new one, whole."""
    before = paths[0].read_bytes()

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("tokenweir.adapters.keysource.os.fsync", fail)
    with pytest.raises(KeysError, match="Input/output error"):
        rotate(*paths, "crm", LATER)

    assert paths[0].read_bytes() == before
    assert statuses(paths[0]) == {1: "active"}


def test_init_after_a_rotation_adds_only_what_is_missing(paths: tuple[Path, Path]) -> None:
    """A key domain that was rotated is there; a new one begins with its first epoch."""
    rotate(*paths, "crm", LATER)

    init_keyset(*paths, ["crm", "ads", "partner"], LATER)

    rows = describe_keyset(paths[0])
    assert active_epochs(rows) == {"crm": 2, "ads": 1, "partner": 1}
    assert retiring_epochs(rows) == {"crm": (1,)}


def test_another_kek_changes_no_token(paths: tuple[Path, Path]) -> None:
    """Every root and that of the state open with the new KEK alone; the old one is remembered by its fingerprint."""
    rotate(*paths, "crm", NOW)
    tokens, old = [token(paths, 1), token(paths, 2), token(paths, 1, "ads")], paths[0].read_text()
    state = [key.reveal() for key in load_keyset(*paths).consent_store_keys()]
    new = paths[1].with_name("kek-2.key")

    before, after = rewrap(*paths, new, LATER)

    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    now = (paths[0], new)
    assert [token(now, 1), token(now, 2), token(now, 1, "ads")] == tokens
    assert [key.reveal() for key in load_keyset(*now).consent_store_keys()] == state
    assert content(paths[0])["kek"] == {"provider": "file", "id": after}
    assert content(paths[0])["former_keks"] == [
        {"provider": "file", "id": before, "replaced_at": "2027-02-22T12:00:00Z"}
    ]
    assert not {root["wrapped"] for root in json.loads(old)["roots"]} & {
        root["wrapped"] for root in content(paths[0])["roots"]
    }
    with pytest.raises(KeysError, match="is not the KEK"):
        load_keyset(*paths)
    with pytest.raises(RefusedError, match="already"):
        rewrap(*now, new, LATER)


def test_a_root_that_is_missing_or_should_be_is_no_keyset(paths: tuple[Path, Path]) -> None:
    """A file in which a root was deleted by hand is not taken for a destruction, nor one that has a destroyed root."""
    original = content(paths[0])
    for change in ({"wrapped": None}, {"status": "destroyed"}):
        damaged = {**original, "roots": [{**original["roots"][0], **change}, original["roots"][1]]}
        paths[0].write_text(json.dumps(damaged))
        with pytest.raises(KeysError, match="a root is missing"):
            load_keyset(*paths)


# Destruction.


@pytest.fixture
def retired(paths: tuple[Path, Path]) -> tuple[Path, Path]:
    """A keyset whose first epoch of crm is retired."""
    rotate(*paths, "crm", NOW)
    retire(paths[0], "crm", NOW)
    return paths


def test_without_attestation_a_destruction_is_pending_and_says_what_remains(retired: tuple[Path, Path]) -> None:
    """The root is out of the file at once; that nobody has another copy is something that only a person can say."""
    secret = wrapped(retired[0], "crm", 1)
    kek = f"kek:{content(retired[0])['kek']['id']}"

    done = destroy(retired[0], "crm", 1, LATER)

    assert not done.complete
    assert [copy.what for copy in done.remaining] == [OTHER_COPIES, kek]
    assert statuses(retired[0]) == {1: "destroying", 2: "active"}
    assert secret not in retired[0].read_text()
    with pytest.raises(KeysError, match="no root for epoch 1"):
        token(retired, 1)
    assert token(retired)


def test_attested_copies_complete_it_and_the_words_are_kept(retired: tuple[Path, Path]) -> None:
    """A later run completes what an earlier one began; the row stays, with when, without a root, and who said what."""
    destroy(retired[0], "crm", 1, NOW)

    done = destroy(retired[0], "crm", 1, LATER, attested={OTHER_COPIES: "no backup before May; J. Doe"})

    assert done.complete
    assert statuses(retired[0]) == {1: "destroyed", 2: "active"}
    row = row_of(retired[0], "crm", 1)
    assert "wrapped" not in row
    assert row["changed_at"] == "2027-02-22T12:00:00Z"
    assert row["attested"] == [
        {"what": OTHER_COPIES, "statement": "no backup before May; J. Doe", "at": "2027-02-22T12:00:00Z"}
    ]
    assert rotate(*retired, "crm", LATER).epoch == 3
    assert destroy(retired[0], "crm", 1, LATER).complete, "it stays so"


def test_a_root_is_unusable_once_every_kek_that_wrapped_it_is_gone(retired: tuple[Path, Path]) -> None:
    """Copies may be anywhere: with the KEKs gone nobody opens them; one KEK that is left keeps it pending."""
    first = content(retired[0])["kek"]["id"]
    second_file = retired[1].with_name("second.key")
    _, second = rewrap(*retired, second_file, NOW)
    destroy(retired[0], "crm", 1, LATER)
    rewrap(retired[0], second_file, retired[1].with_name("third.key"), LATER)

    pending = destroy(retired[0], "crm", 1, LATER, attested={f"kek:{first}": "shredded"})
    done = destroy(retired[0], "crm", 1, LATER, attested={f"kek:{second}": "shredded"})

    assert [copy.what for copy in pending.remaining] == [OTHER_COPIES, f"kek:{second}"]
    assert done.complete
    assert {copy.what: copy.state for copy in done.copies}[OTHER_COPIES] is CopyState.UNUSABLE


def test_the_kek_that_wraps_the_other_roots_is_not_gone(retired: tuple[Path, Path]) -> None:
    """Whoever attests it is mistaken: it is refused, and nothing is destroyed."""
    kek = content(retired[0])["kek"]["id"]

    with pytest.raises(RefusedError, match="rewrap"):
        destroy(retired[0], "crm", 1, LATER, attested={f"kek:{kek}": "shredded"})

    assert statuses(retired[0])[1] == "retired"


def test_copies_that_are_named_lose_the_root_and_nothing_else(retired: tuple[Path, Path], tmp_path: Path) -> None:
    """Also one that stands beside the keyset; its other roots still open."""
    beside, far = retired[0].with_name("keyset.json.bak"), tmp_path / "far" / "keyset.json"
    far.parent.mkdir()
    for copy in (beside, far):
        copy.write_bytes(retired[0].read_bytes())
        copy.chmod(0o600)
    old = wrapped(retired[0], "crm", 1)

    done = destroy(retired[0], "crm", 1, LATER, backups=[beside, far], attested={OTHER_COPIES: "none; J. Doe"})

    assert done.complete
    for copy in (beside, far):
        assert old not in copy.read_text()
        assert token((copy, retired[1])) == token(retired)


@pytest.mark.parametrize("apart", [timedelta(0), timedelta(days=1)])
def test_another_keyset_is_not_taken_for_a_copy(retired: tuple[Path, Path], tmp_path: Path, apart: timedelta) -> None:
    """That of another installation has the same key domain and epoch; its root is in use, and stays."""
    other = (tmp_path / "prod" / "keyset.json", tmp_path / "prod" / "kek.key")
    init_keyset(*other, ["crm", "ads"], NOW + apart)
    before = other[0].read_bytes()

    done = destroy(retired[0], "crm", 1, LATER, backups=[other[0]], attested={OTHER_COPIES: "none; J. Doe"})

    assert not done.complete
    assert {copy.what: copy.words for copy in done.remaining}[str(other[0])].startswith("another keyset")
    assert other[0].read_bytes() == before
    said = {str(other[0]): "of another installation; J. Doe"}
    assert destroy(retired[0], "crm", 1, LATER, attested=said).complete


@pytest.mark.parametrize("part", ["root", "state"])
def test_a_root_that_was_made_at_another_time_is_another_root(
    retired: tuple[Path, Path], tmp_path: Path, part: str
) -> None:
    """A copy of before a rotation may have been rotated on its own, under the same KEK: its epoch is not this one."""
    copy = tmp_path / "copy.json"
    document = content(retired[0])
    root = next(each for each in document["roots"] if (each["domain"], each["epoch"]) == ("crm", 1))
    (root if part == "root" else document["state"])["created_at"] = "2026-11-24T12:00:01Z"
    copy.write_text(json.dumps(document))

    done = destroy(retired[0], "crm", 1, LATER, backups=[copy], attested={OTHER_COPIES: "none; J. Doe"})

    assert next(each.what for each in done.remaining) == str(copy)
    assert wrapped(copy, "crm", 1)


def test_a_copy_under_a_former_kek_is_a_copy(retired: tuple[Path, Path], tmp_path: Path) -> None:
    """It was made before the keyset was wrapped anew, and loses its root."""
    copy = tmp_path / "copy.json"
    copy.write_bytes(retired[0].read_bytes())
    rewrap(*retired, retired[1].with_name("second.key"), NOW)

    assert destroy(retired[0], "crm", 1, LATER, backups=[copy], attested={OTHER_COPIES: "none; J. Doe"}).complete
    assert "wrapped" not in row_of(copy, "crm", 1)


def test_a_kek_counts_whatever_the_clock_said(retired: tuple[Path, Path]) -> None:
    """A clock that was set back before the keyset was wrapped anew hides no KEK that opens a copy."""
    first = content(retired[0])["kek"]["id"]
    second_file, third_file = (retired[1].with_name(name) for name in ("second.key", "third.key"))
    _, second = rewrap(*retired, second_file, NOW - timedelta(minutes=30))
    rewrap(retired[0], second_file, third_file, LATER)
    third = content(retired[0])["kek"]["id"]

    destroy(retired[0], "crm", 1, LATER)
    rewrap(retired[0], third_file, retired[1].with_name("fourth.key"), LATER)
    said = {f"kek:{second}": "shredded", f"kek:{third}": "shredded"}
    done = destroy(retired[0], "crm", 1, LATER, attested=said)

    assert f"kek:{first}" in [copy.what for copy in done.remaining]


@pytest.mark.parametrize(
    "attested",
    [
        {OTHER_COPIES: "w" * 1025},
        {OTHER_COPIES: "gone\n"},
        {OTHER_COPIES: " tokenweir found: gone: it is gone"},
        {"/there": "tokenweir found: bogus: it is gone"},
        {"/the\x1bre": "gone"},
        {"/" + "p" * 4096: "gone"},
    ],
)
def test_words_that_cannot_be_kept_are_refused_before_a_copy_is_touched(
    retired: tuple[Path, Path], tmp_path: Path, attested: dict[str, str]
) -> None:
    """What a person says is neither too long for the keyset nor to be mistaken for what the program found."""
    copy = tmp_path / "copy.json"
    copy.write_bytes(retired[0].read_bytes())

    with pytest.raises(UsageError):
        destroy(retired[0], "crm", 1, LATER, backups=[copy], attested=attested)

    assert wrapped(copy, "crm", 1)
    assert statuses(retired[0])[1] == "retired"


def test_a_copy_with_a_name_that_cannot_be_kept_is_refused(retired: tuple[Path, Path], tmp_path: Path) -> None:
    """Before anything is touched; and one with a very long name that can be kept is listed with as many words."""
    with pytest.raises(UsageError):
        destroy(retired[0], "crm", 1, LATER, backups=[tmp_path / "cop\udc80y.json"])
    assert statuses(retired[0])[1] == "retired"

    long = tmp_path.joinpath(*["d" * 200] * 6, "keyset.json")
    long.parent.mkdir(parents=True)
    long.write_text("{}")
    assert str(long) in [copy.what for copy in destroy(retired[0], "crm", 1, LATER, backups=[long]).remaining]


def test_a_copy_that_cannot_be_cleaned_remains_until_somebody_attests_it(
    retired: tuple[Path, Path], tmp_path: Path
) -> None:
    """Missing, damaged, or with a second name: it is listed, also by a later run that does not name it again."""
    kept = tmp_path / "kept.json"
    kept.write_bytes(retired[0].read_bytes())
    os.link(kept, tmp_path / "second-name.json")
    bad = [tmp_path / "missing.json", tmp_path / "damaged.json", kept]
    bad[1].write_text("{}")
    said = {OTHER_COPIES: "none; J. Doe"}

    done = destroy(retired[0], "crm", 1, LATER, backups=bad, attested=said)

    assert [copy.what for copy in done.remaining][:3] == [str(path) for path in bad]
    assert wrapped(kept, "crm", 1)
    again = destroy(retired[0], "crm", 1, LATER)
    assert [copy.what for copy in again.remaining] == [copy.what for copy in done.remaining]
    (tmp_path / "second-name.json").unlink()
    attested = {str(path): "deleted; J. Doe" for path in bad[:2]}
    assert destroy(retired[0], "crm", 1, LATER, backups=[kept], attested=attested).complete
    assert "wrapped" not in row_of(kept, "crm", 1)


@pytest.mark.parametrize("attested", [{"backups": "gone"}, {OTHER_COPIES: " "}, {"kek:0000000000000000": "gone"}])
def test_only_what_there_is_can_be_attested(retired: tuple[Path, Path], attested: dict[str, str]) -> None:
    """A misspelled word attests nothing, and nothing is destroyed by it."""
    with pytest.raises(UsageError):
        destroy(retired[0], "crm", 1, LATER, attested=attested)

    assert statuses(retired[0])[1] == "retired"


def test_the_old_content_is_overwritten_where_it_stood(retired: tuple[Path, Path]) -> None:
    """Whoever still has the old file open finds no root in it; temporary files of a killed process are gone too."""
    secret = wrapped(retired[0], "crm", 1)
    left = retired[0].with_name(f".keyset.json.{'0' * 16}")
    left.write_bytes(retired[0].read_bytes())
    with retired[0].open("rb") as old, left.open("rb") as leftover:
        destroy(retired[0], "crm", 1, LATER)
        for file in (old, leftover):
            data = file.read()
            assert len(data) > 500
            assert secret.encode() not in data
            assert base64.b64decode(secret) not in data
    assert not left.exists()


def test_a_keyset_with_a_second_name_is_not_destroyed_by_halves(retired: tuple[Path, Path]) -> None:
    """Its old content would stay under the other name, so that nothing is done before that is removed."""
    os.link(retired[0], retired[0].with_name("other.json"))

    with pytest.raises(KeysError, match="hard link"):
        destroy(retired[0], "crm", 1, LATER, attested={OTHER_COPIES: "none; J. Doe"})

    assert statuses(retired[0])[1] == "retired"
