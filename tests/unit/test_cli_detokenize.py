"""``tokenweir detokenize``, ``grants`` and ``audit``: recorded before it is shown, refused where it must be."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.canaries import Canary, leaked
from tests.support.reversing import GRANTS, REASON, TICKET, Reversing
from typer.testing import CliRunner

from tokenweir.adapters.auditlog import AuditLog
from tokenweir.adapters.keychanges import rotate
from tokenweir.cli import app
from tokenweir.cli.osuser import os_user
from tokenweir.core.tokens.tokenizer import Tokenizer

ADA = "0000000101"
BEN = "0000000102"


@pytest.fixture
def scene(tmp_path: Path) -> Reversing:
    """Return a directory in which the user of the test may detokenize."""
    made = Reversing.make(tmp_path)
    made.accept()
    return made


def values(output: str) -> list[str | None]:
    """Return the values of a JSON answer."""
    return [each["value"] for each in json.loads(output)["values"]]


def test_values_come_back_in_order(scene: Reversing) -> None:
    """As text one a line, as JSON with their tokens, from arguments and from standard input."""
    tokens = [scene.token(ADA), scene.token(BEN)]
    where = ("--entry", "customer", "--domain", "crm", "--reason", REASON, "--ticket", TICKET)
    assert scene.run("detokenize", *tokens, *where).stdout == f"{ADA}\n{BEN}\n"
    assert scene.run("detokenize", "-", *where, text="\n".join(tokens)).stdout == f"{ADA}\n{BEN}\n"
    document = json.loads(scene.ask(*tokens).stdout)
    assert document | {"id": ""} == {
        "format_version": 1,
        "id": "",
        "entry": "customer",
        "domain": "crm",
        "epoch": 1,
        "values": [{"token": tokens[0], "value": ADA}, {"token": tokens[1], "value": BEN}],
    }
    assert scene.records()[-1]["id"] == document["id"]


def test_a_field_names_its_entry_and_key_domain(scene: Reversing) -> None:
    """The stream, the field and whose topic it was; without the audience it is not known whose token it is."""
    words = ("detokenize", scene.token(ADA), "--reason", REASON, "--ticket", TICKET, "--stream", "interactions")
    assert scene.run(*words, "--field", "customer_id", "--audience", "crm").stdout == f"{ADA}\n"
    several = scene.run(*words, "--field", "customer_id")
    assert several.exit_code == 2
    assert "--entry customer --domain ads" in several.stderr
    for field, audience in (("customer_ids", "crm"), ("event_type", "crm"), ("customer_id", "cmr")):
        assert scene.run(*words, "--field", field, "--audience", audience).exit_code == 2


def test_where_there_are_several_epochs_one_must_be_named(scene: Reversing) -> None:
    """A token of the old epoch would come back as somebody else's number under the key of the new one."""
    old = scene.token(ADA)
    rotate(scene.directory / "keys/keyset.json", scene.directory / "keys/kek.key", "crm", datetime.now(UTC))
    new = scene.token(ADA)
    silent = scene.ask(old)
    assert (silent.exit_code, silent.stdout) == (2, "")
    assert "has the epochs 1, 2" in silent.stderr
    where = ("--entry", "customer", "--domain", "crm", "--reason", REASON, "--ticket", TICKET)
    for token, epoch in ((old, "1"), (new, "2")):
        assert scene.run("detokenize", token, *where, "--epoch", epoch).stdout == f"{ADA}\n"


def test_the_record_tells_who_when_which_why_and_no_value(scene: Reversing) -> None:
    """Everything that an investigation needs, and a mark in the place of the token."""
    token = scene.token(ADA)
    assert values(scene.ask(token).stdout) == [ADA]
    record = scene.records()[-1]
    assert (record["kind"], record["principal"], record["by"]) == ("answer", "alice", {"user": os_user()})
    assert (record["entry"], record["domain"], record["epoch"]) == ("customer", "crm", 1)
    assert (record["classes"], record["reason"], record["ticket"]) == (["id.customer"], REASON, TICKET)
    assert len(record["tokens"]) == 1
    assert len(record["tokens"][0]) == 32
    found = scene.run("audit", "find", token, "--entry", "customer", "--domain", "crm", "--format", "json")
    assert [each["seq"] for each in json.loads(found.stdout)["found"]] == [record["seq"]]
    other = scene.run("audit", "find", scene.token(BEN), "--entry", "customer", "--domain", "crm", "--format", "json")
    assert json.loads(other.stdout)["found"] == []


def test_no_plaintext_is_kept_or_told(scene: Reversing) -> None:
    """Neither value nor token in any file but the answer itself, in no error, whatever became of the request."""
    canaries = [Canary.of_text("value", ADA), Canary.of_text("token", scene.token(ADA))]
    answers = [
        scene.ask(scene.token(ADA)),
        scene.ask(scene.token(ADA), domain="ads"),
        scene.ask(scene.token(ADA), ticket="WRONG"),
        scene.ask(*[scene.token(ADA)] * 101),
        scene.ask(scene.token(ADA)[:9]),
    ]
    assert [answer.exit_code for answer in answers] == [0, 3, 3, 3, 1]
    assert leaked(canaries, answers[0].stdout.encode()) == ["value", "token"]
    said = b"".join(answer.stderr.encode() for answer in answers)
    said += b"".join(answer.stdout.encode() for answer in answers[1:4])
    kept = b"".join(path.read_bytes() for path in (scene.directory / "audit").iterdir())
    state = scene.directory / "state"
    kept += b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert leaked(canaries, said + kept) == []


def test_a_token_that_is_no_text_is_refused_and_recorded(scene: Reversing) -> None:
    """The bytes of an argument that are no UTF-8 come as surrogates; so may a place that nobody has."""
    before = len(scene.records())
    assert scene.ask(scene.token(ADA), "\udcff").exit_code == 3
    assert (scene.records()[-1]["cause"], scene.records()[-1]["tokens"]) == ("tokens", [])
    assert scene.ask(scene.token(ADA), domain="\udcff").exit_code == 3
    assert scene.records()[-1]["cause"] == "not_granted"
    assert len(scene.records()) == before + 2
    found = scene.run("audit", "find", "\udcff", "--entry", "customer", "--domain", "crm", "--format", "json")
    assert json.loads(found.stdout)["found"] == []


def test_what_cannot_be_a_token_has_no_value(scene: Reversing) -> None:
    """The others have one; the exit code is 1, and it counted."""
    result = scene.ask(scene.token(ADA), "12345", "no-digits!")
    assert values(result.stdout) == [ADA, None, None]
    assert result.exit_code == 1
    assert "2 of 3" in result.stderr
    assert len(scene.records()[-1]["tokens"]) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--entry", "email", "--domain", "crm"), "cannot be reversed"),
        (("--entry", "customer", "--domain", "ads"), "no grant in force"),
        (("--entry", "device", "--domain", "crm"), "no grant in force"),
        (("--entry", "nothing", "--domain", "crm"), "no grant in force"),
        (("--entry", "customer", "--domain", "crm", "--epoch", "7"), "no usable root"),
    ],
)
def test_refusals_end_with_3_and_are_recorded(scene: Reversing, words: tuple[str, ...], said: str) -> None:
    """Whoever runs this has the keys anyway, so the reason is told."""
    before = len(scene.records())
    result = scene.run("detokenize", "7445866440", *words, "--reason", REASON, "--ticket", TICKET)
    assert (result.exit_code, result.stdout) == (3, "")
    assert said in result.stderr
    assert [record["kind"] for record in scene.records()[before:]] == ["refuse"]


def test_wrong_usage_ends_with_2(scene: Reversing) -> None:
    """Half a place, two places, no token, no reason, no ticket, no grants file."""
    token, why = scene.token(ADA), ("--reason", REASON, "--ticket", TICKET)
    entry = ("--entry", "customer", "--domain", "crm")
    before = len(scene.records())
    for words in (
        (token, *why),
        (token, *why, "--entry", "customer"),
        (token, *why, *entry, "--stream", "interactions"),
        (token, *entry, "--reason", REASON),
        (token, *entry, "--ticket", TICKET),
        (token, *entry, *why, "--epoch", "0"),
        (*why, *entry),
    ):
        assert scene.run("detokenize", *words, text="").exit_code == 2, words
    assert len(scene.records()) == before
    scene.config.write_text(scene.config.read_text().replace("detokenize:", "#"))
    result = scene.run("detokenize", token, *entry, *why)
    assert result.exit_code == 2
    assert "nobody may detokenize" in result.stderr


def test_the_budget_is_told_and_kept_over_processes(scene: Reversing) -> None:
    """Each call is a process of its own in real life: the budget is in the log."""
    tokens = [scene.token(f"{number:010}") for number in range(9)]
    assert scene.ask(*tokens[:8]).exit_code == 0
    result = scene.ask(tokens[8])
    assert result.exit_code == 3
    assert "budget" in result.stderr
    assert scene.ask(tokens[0]).exit_code == 0


def test_four_eyes_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frank asks, Lea sees the case without its tokens and approves, Frank asks again."""
    scene = Reversing.make(tmp_path)
    token = scene.token(ADA, "customer", "ads")

    def be(name: str) -> None:
        for module in ("tokenweir.cli.detokenize",):
            monkeypatch.setattr(f"{module}.os_user", lambda: name)

    be("frank")
    scene.accept()
    waiting = scene.ask(token, domain="ads")
    assert waiting.exit_code == 3
    assert "second person" in waiting.stderr
    assert json.loads(scene.run("grants", "cases", "--format", "json").stdout)["cases"] == []
    be("lea")
    shown = scene.run("grants", "cases")
    assert "frank" in shown.stdout
    assert token not in shown.stdout
    case = json.loads(scene.run("grants", "cases", "--format", "json").stdout)["cases"][0]["case"]
    assert case in waiting.stderr
    be("frank")
    assert scene.run("grants", "approve", case).exit_code == 3
    be("lea")
    assert scene.run("grants", "approve", case).exit_code == 0
    assert scene.run("grants", "reject", case).exit_code == 3
    be("frank")
    assert values(scene.ask(token, domain="ads").stdout) == [ADA]
    assert [record["kind"] for record in scene.records()][-3:] == ["request", "approve", "answer"]


def test_a_statement_is_read_and_accepted_by_name(tmp_path: Path) -> None:
    """Without a terminal only with --yes; the text is shown, and its digest is in the log."""
    scene = Reversing.make(tmp_path)
    assert scene.run("grants", "accept", "confidentiality").exit_code == 2
    assert scene.run("grants", "accept", "other", "--yes").exit_code == 3
    result = scene.run("grants", "accept", "confidentiality", "--yes")
    assert "tell nobody" in result.stdout
    assert scene.records()[-1]["kind"] == "accept"
    assert scene.records()[-1]["digest"][:12] in result.stderr


def test_the_grants_file_is_checked_and_shown(scene: Reversing) -> None:
    """Who may reverse what, or everything that is wrong, with places."""
    shown = json.loads(scene.run("grants", "check", "--format", "json").stdout)
    assert shown["grants"][0] == {
        "principal": "alice",
        "role": "support",
        "classes": "id.customer",
        "domains": "crm",
        "budgets": "5 requests, 8 values per day",
        "approval": "not needed",
    }
    assert "by lead" in scene.run("grants", "check").stdout
    scene.write_grants(GRANTS.replace("[support]", "[suport]"))
    result = scene.run("grants", "check")
    assert result.exit_code == 1
    assert "grants.yaml:21:19: unknown-role" in result.stderr
    assert scene.ask(scene.token(ADA)).exit_code == 1


def test_a_grant_that_is_taken_away_ends_at_once(scene: Reversing) -> None:
    """With the edit of the file."""
    assert scene.ask(scene.token(ADA)).exit_code == 0
    scene.write_grants(GRANTS.replace("user: USER, ", ""))
    result = scene.ask(scene.token(ADA))
    assert result.exit_code == 3
    assert f"you are the user {os_user()}" in result.stderr


def test_a_grants_file_that_everybody_can_write_grants_nothing(scene: Reversing) -> None:
    """Whoever can write it could grant themselves everything."""
    (scene.directory / "grants.yaml").chmod(0o666)
    result = scene.ask(scene.token(ADA))
    assert result.exit_code == 1
    assert "chmod o-w" in result.stderr


def _remove(scene: Reversing) -> None:
    (scene.audit / "audit-000001.jsonl").unlink()


def _cut(scene: Reversing) -> None:
    path = scene.audit / "audit-000001.jsonl"
    path.write_bytes(path.read_bytes()[:-200])


def _lose_key(scene: Reversing) -> None:
    (scene.directory / "keys" / "audit.key").unlink()


@pytest.mark.parametrize("damage", [_remove, _cut, _lose_key])
def test_without_its_audit_log_nothing_is_answered(scene: Reversing, damage: Callable[[Reversing], None]) -> None:
    """P7: no plaintext without a durable record."""
    token = scene.token(ADA)
    damage(scene)
    result = scene.ask(token)
    assert (result.exit_code, result.stdout) == (3, "")
    assert ADA not in result.output


def test_nothing_is_shown_before_the_record_is_durable(scene: Reversing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full: exit code 3 and no value; and at every sync no value has been printed or even made."""
    token = scene.token(ADA)
    made: list[str] = []
    restore = Tokenizer.detokenize

    def watched(self: Tokenizer, text: str) -> str:
        made.append(text)
        return restore(self, text)

    monkeypatch.setattr(Tokenizer, "detokenize", watched)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tokenweir.app.audit.AuditLog", functools.partial(AuditLog, sync=full))
    result = scene.ask(token)
    assert (result.exit_code, result.stdout, made) == (3, "", [])
    assert "full" in result.stderr


def verify(scene: Reversing, *words: str) -> tuple[int, list[Any]]:
    """Run ``audit verify``; return the exit code and the faults."""
    result = scene.run("audit", "verify", "--format", "json", *words)
    return result.exit_code, json.loads(result.stdout)["faults"]


def test_verify_says_what_is_wrong(scene: Reversing) -> None:
    """0 where all is well; 1 with segment and line where it is not."""
    kept = scene.directory / "kept.json"
    scene.ask(scene.token(ADA))
    kept.write_text(scene.run("audit", "checkpoint").stdout)
    assert verify(scene) == (0, [])
    assert verify(scene, "--checkpoint", str(kept)) == (0, [])
    assert "roll-back" in scene.run("audit", "verify").stderr
    path = scene.audit / "audit-000001.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"alice"', b'"bob01"'))
    code, faults = verify(scene)
    assert (code, faults[0]["segment"], faults[0]["line"]) == (1, "audit-000001.jsonl", 2)
    assert "audit-000001.jsonl:2: the hash" in scene.run("audit", "verify").stdout
    path.write_bytes(whole.rpartition(b'{"v"')[0])
    code, faults = verify(scene)
    assert (code, faults[0]["segment"]) == (1, "checkpoint.json")
    assert len(verify(scene, "--checkpoint", str(kept))[1]) == 2
    path.write_bytes(whole)
    (scene.audit / "checkpoint.json").unlink()
    assert "missing" in verify(scene)[1][0]["message"]


def test_verify_works_on_a_copy_with_the_public_key_alone(scene: Reversing, tmp_path: Path) -> None:
    """An auditor needs the log, its checkpoint and the public key, and no configuration."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in scene.audit.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    words = ["audit", "verify", "--directory", str(copy), "--public-key", str(scene.directory / "keys/audit.pub")]
    before = Path.cwd()
    os.chdir(copy)
    try:
        assert CliRunner().invoke(app, words).exit_code == 0
        other = Reversing.make(tmp_path / "other")
        words[-1] = str(other.directory / "keys/audit.pub")
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 1
        assert "signature" in result.stdout
    finally:
        os.chdir(before)


def test_init_begins_one_log_and_no_other(scene: Reversing) -> None:
    """Never in the place of one that exists, and never with a key over another."""
    assert scene.run("audit", "init").exit_code == 3
    key = scene.directory / "keys" / "audit.key"
    before = key.read_bytes()
    for path in scene.audit.iterdir():
        path.unlink()
    assert scene.run("audit", "init").exit_code == 0
    assert key.read_bytes() == before
    assert verify(scene) == (0, [])


def test_the_user_is_the_one_who_logged_in(tmp_path: Path) -> None:
    """The login survives sudo; where there was none, it is the user of the process."""
    login = tmp_path / "loginuid"
    login.write_text("0")
    assert os_user(login) == "root"
    login.write_text("4294967294")
    assert os_user(login) == "4294967294"
    login.write_text("4294967295")
    assert os_user(login) == os_user(tmp_path / "none")
