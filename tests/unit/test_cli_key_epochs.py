"""``tokenweir keys rotate``, ``retire``, ``rewrap`` and ``destroy``: what they say, ask, refuse and report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.keysource import describe_keyset, load_keyset
from tokenweir.app import demodata, keyrollout
from tokenweir.app.keyrollout import Rollout
from tokenweir.cli import app
from tokenweir.runtime.position import ConsentPosition
from tokenweir.runtime.survey import GroupReading, PartitionReading

RUNNER = CliRunner()
TOPIC = "customer.interactions"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the demo's files, with keys, in the working directory."""
    demodata.write(tmp_path, 1_700_000_000_000, bytes(16))
    monkeypatch.chdir(tmp_path)
    assert keys("init").exit_code == 0
    return tmp_path


def keys(*arguments: str, given: str = "") -> Result:
    """Run a verb of the group."""
    return RUNNER.invoke(app, ["keys", *arguments], input=given)


def statuses(domain: str = "crm") -> dict[int, str]:
    """Return the status of each epoch of a key domain."""
    return {row.epoch: row.status for row in describe_keyset(Path("keys/keyset.json")) if row.domain == domain}


class Answers:
    """A cluster in which each source partition was committed with these epochs; None says that it cannot be asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, topics: Mapping[str, int] | None = None) -> None:
        self.epochs: list[str] | None = []
        self.digest = ""
        self.known = dict(topics or {})
        self.written: set[str] = set()
        monkeypatch.setattr(keyrollout, "read_groups", self._groups)
        monkeypatch.setattr(keyrollout, "Admin", lambda *_: self)

    def topics(self) -> dict[str, int]:
        """The topics that there are."""
        return self.known

    def high_watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Nothing was ever written, but to topics that say so."""
        return {number: int(topic in self.written and number == 0) for number in partitions}

    def _groups(self, _admin: object, flows: Any, _prefix: str, _clock: object) -> list[GroupReading]:  # noqa: ANN401
        if self.epochs is None:
            raise KafkaFault("list groups", "_TRANSPORT", retriable=True)
        flow = flows[0]
        readings = tuple(
            PartitionReading(
                flow.source, number, "w", _committed(), ConsentPosition("id", self.digest, {}, epochs=epochs), 0
            )
            for number, epochs in enumerate(self.epochs)
        )
        return [GroupReading(flow.group, flow.stream, exists=True, replay=False, members=1, partitions=readings)]


def _committed() -> Any:  # noqa: ANN401
    from tokenweir.adapters.consumer import Committed  # noqa: PLC0415 - only here.

    return Committed(1, "")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Answers:
    """A cluster whose gateways run with the demo's policy."""
    from tokenweir.core.policy.loader import load_policy  # noqa: PLC0415 - only here.

    answers = Answers(monkeypatch)
    answers.digest = load_policy((directory / "policy.yaml").read_text(), "policy.yaml").digest
    return answers


def test_rotate_says_what_to_do_next(cluster: Answers) -> None:
    """The new topic by name, the restart, the mapping and the end; nothing of it is data, and nothing is secret."""
    result = keys("rotate", "crm")

    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert f"create {TOPIC}.crm.e2" in result.stderr
    assert "restart" in result.stderr
    assert "keys retire crm" in result.stderr
    assert statuses() == {1: "retiring", 2: "active"}
    assert cluster.epochs == []


def test_rotate_leaves_room_for_names(directory: Path, cluster: Answers) -> None:
    """An output whose later topics would be too long for Kafka is refused before anything is changed."""
    del cluster
    path = directory / "policy.yaml"
    path.write_text(path.read_text().replace(f"topic: {TOPIC}", f"topic: {'t' * 235}"), "utf-8")

    result = keys("rotate", "crm")

    assert result.exit_code == 3
    assert "249" in result.stderr
    assert statuses() == {1: "active"}


@pytest.mark.parametrize("epochs", ["2,1", "2+1,1", "3+2,1"])
def test_rotate_refuses_an_epoch_that_gateways_have_fed(cluster: Answers, epochs: str) -> None:
    """The keyset is an older copy then, and another root would make other tokens in the same topic."""
    cluster.epochs = ["1,1", epochs]

    result = keys("rotate", "crm")

    assert result.exit_code == 3
    assert "epoch 2 or a later one of customer.interactions.crm was fed" in result.stderr
    assert "older copy" in result.stderr
    assert statuses() == {1: "active"}
    assert keys("rotate", "crm", "--unchecked").exit_code == 0
    assert statuses() == {1: "retiring", 2: "active"}


def test_rotate_refuses_an_epoch_whose_topic_was_written(cluster: Answers) -> None:
    """A topic that was only created is no reason; nor are gateways of another policy, or epochs of another domain."""
    cluster.known = {f"{TOPIC}.crm.e2": 3}
    cluster.written = {f"{TOPIC}.crm.e2"}
    cluster.epochs = ["1,1"]

    refused = keys("rotate", "crm")
    cluster.written = {f"{TOPIC}.crm"}
    cluster.epochs = ["1,2", "1,2+1"]
    fresh = keys("rotate", "crm")

    assert refused.exit_code == 3
    assert f"{TOPIC}.crm.e2 has been written before" in refused.stderr
    assert fresh.exit_code == 0, fresh.output


def test_rotate_does_not_guess_where_the_cluster_does_not_answer(cluster: Answers) -> None:
    """Only ``--unchecked`` goes on without it."""
    cluster.epochs = None

    assert keys("rotate", "crm").exit_code == 3
    assert statuses() == {1: "active"}
    assert keys("rotate", "crm", "--unchecked").exit_code == 0


def test_rotate_does_not_guess_at_a_partition_that_cannot_be_read(
    cluster: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gateway may have fed the epoch already; the place is named."""
    denied = KafkaFault("read", "GROUP_AUTHORIZATION_FAILED")

    def groups(_admin: object, flows: Any, _prefix: str, _clock: object) -> list[GroupReading]:  # noqa: ANN401
        reading = PartitionReading(flows[0].source, 4, "w", denied, None, 0)
        return [GroupReading(flows[0].group, flows[0].stream, partitions=(reading,))]

    monkeypatch.setattr(keyrollout, "read_groups", groups)
    assert cluster.epochs == []

    result = keys("rotate", "crm")

    assert result.exit_code == 3
    assert f"{TOPIC}-4: " in result.stderr
    assert statuses() == {1: "active"}


def test_an_unknown_key_domain_is_a_usage_error(cluster: Answers) -> None:
    """With a suggestion."""
    del cluster
    result = keys("rotate", "cmr")

    assert result.exit_code == 2
    assert "crm" in result.stderr


@pytest.mark.parametrize(
    ("epochs", "said"),
    [
        (["2+1,1", ""], "epoch 2 of customer.interactions.crm was not fed"),
        (["1,1"], "was not fed"),
        (["2+1"], "another policy"),
    ],
)
def test_retire_waits_for_every_gateway(cluster: Answers, epochs: list[str], said: str) -> None:
    """One partition that was committed by a gateway with the old keyset is enough to refuse; all are named."""
    keys("rotate", "crm")
    cluster.epochs = epochs

    result = keys("retire", "crm", "--yes")

    assert result.exit_code == 3
    assert said in result.stderr
    assert statuses() == {1: "retiring", 2: "active"}


def test_retire_ends_the_old_epoch_once_all_feed_the_new_one(cluster: Answers) -> None:
    """The name is asked for; without a terminal ``--yes`` is needed; a gateway with another policy cannot be judged."""
    keys("rotate", "crm")
    cluster.epochs = ["2+1,1", "2,1"]

    assert keys("retire", "crm").exit_code == 2
    cluster.digest = "another"
    assert keys("retire", "crm", "--yes").exit_code == 3
    cluster.epochs = None
    assert keys("retire", "crm", "--yes").exit_code == 3
    assert statuses() == {1: "retiring", 2: "active"}

    assert keys("retire", "crm", "--yes", "--unchecked").exit_code == 0
    assert statuses() == {1: "retired", 2: "active"}
    assert keys("retire", "crm", "--yes", "--unchecked").exit_code == 3


def test_with_a_directory_nobody_can_be_asked(directory: Path) -> None:
    """``--keys`` needs ``--unchecked`` where a gateway may be at work, and works without a configuration."""
    (directory / "tokenweir.yaml").unlink()
    assert keys("rotate", "crm", "--keys", "keys").exit_code == 0

    assert keys("retire", "crm", "--keys", "keys", "--yes").exit_code == 2
    assert keys("retire", "crm", "--keys", "keys", "--yes", "--unchecked").exit_code == 0
    assert keys("destroy", "crm", "1", "--keys", "keys", "--yes").exit_code == 2
    result = keys("destroy", "crm", "1", "--keys", "keys", "--yes", "--unchecked", "--format", "json")
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["not_looked_at"]) == 3


def _retired(cluster: Answers) -> None:
    keys("rotate", "crm")
    keys("retire", "crm", "--yes", "--unchecked")
    cluster.epochs = ["2,1"]


def test_destroy_tells_the_truth(cluster: Answers) -> None:
    """Pending ends with 1 and says what remains and what overwriting cannot promise; attested it ends with 0."""
    _retired(cluster)

    pending = keys("destroy", "crm", "1", "--yes")
    done = keys("destroy", "crm", "1", "--yes", "--format", "json", "--attest", "other-copies=none, J. Doe")

    assert pending.exit_code == 1
    assert "destruction pending" in pending.stdout
    assert "remains: other-copies" in pending.stderr
    assert "snapshots" in pending.stderr
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["state"] == "destroyed"
    (holders,) = document["not_looked_at"]
    assert "tokenweir serve" in holders
    assert "restarted" in holders
    assert {copy["what"]: copy["state"] for copy in document["copies"]}["other-copies"] == "attested"
    assert statuses() == {1: "destroyed", 2: "active"}
    assert "destroyed" in keys("list").stdout


def test_destroy_refuses_while_a_gateway_feeds_the_epoch_or_a_mapping_leads_on(cluster: Answers) -> None:
    """Both would make tokens that were promised to be the last ones reversible."""
    _retired(cluster)

    cluster.epochs = ["2,1", "2+1,1"]
    fed = keys("destroy", "crm", "1", "--yes")
    cluster.epochs = ["2,1"]
    cluster.known = {f"{TOPIC}.crm.e2.mapping": 3}
    mapped = keys("destroy", "crm", "1", "--yes")

    assert (fed.exit_code, mapped.exit_code) == (3, 3)
    assert "epoch 1 of customer.interactions.crm was fed" in fed.stderr
    assert f"{TOPIC}.crm.e2.mapping" in mapped.stderr
    assert statuses()[1] == "retired"


@pytest.mark.parametrize(
    "attest",
    [
        "other-copies",
        "=gone",
        "othercopies=gone",
        "other-copies=",
        "other-copies=Tokenweir found: gone: no copy",
        f"other-copies={'w' * 1025}",
        "other-copies=gone\x1b[2J",
        f"/{'p' * 4096}=gone",
    ],
)
def test_an_attestation_has_a_subject_and_words(cluster: Answers, attest: str) -> None:
    """Anything else is a usage error, and nothing is destroyed."""
    _retired(cluster)

    assert keys("destroy", "crm", "1", "--yes", "--attest", attest).exit_code == 2
    assert statuses()[1] == "retired"


def test_rewrap_names_the_new_key(directory: Path) -> None:
    """The new KEK opens the keyset, the old one does not; one of two ways to name it is needed."""
    assert keys("rewrap").exit_code == 2
    result = keys("rewrap", "--to", "keys/second.key")

    assert result.exit_code == 0, result.output
    assert "keys/second.key" in result.stderr
    assert load_keyset(directory / "keys/keyset.json", directory / "keys/second.key").domains == ("ads", "crm")
    assert "cannot be used" in keys("list").stderr
    assert keys("rewrap", "--to", "keys/third.key").exit_code == 3, "the configuration still names the old one"
    text = (directory / "tokenweir.yaml").read_text()
    assert "kek.key" in text
    for name, kek in (("tokenweir.yaml", "second.key"), ("other.yaml", "third.key")):
        (directory / name).write_text(text.replace("kek.key", kek))
    assert keys("rewrap", "--to-config", "other.yaml").exit_code == 0
    assert load_keyset(directory / "keys/keyset.json", directory / "keys/third.key").domains == ("ads", "crm")


def test_a_rollout_of_nothing_lacks_nothing(cluster: Answers, directory: Path) -> None:
    """Without any group there is no gateway to wait for."""
    from tokenweir.app.cluster import open_cluster  # noqa: PLC0415 - only here.

    config, workspace = open_cluster(directory / "tokenweir.yaml", {})
    rollout = Rollout(config, workspace.policy, "crm")

    assert rollout.without(2) == []
    assert rollout.mappings(1) == []
    assert cluster.epochs == []
