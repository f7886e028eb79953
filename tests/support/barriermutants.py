"""Takes the rules of the revoke barrier away, one at a time in a copy of the source, and says which tests notice.

``python -m tests.support.barriermutants [NAME...] [-- PYTEST ARGUMENTS]``; without arguments for pytest the unit tests
of the barrier run. Exits with 1 if a mutant survives.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_TESTS: Final = (
    "tests/unit/test_barrier.py",
    "tests/unit/test_assignment.py",
    "tests/unit/test_assignment_races.py",
    "tests/unit/test_kafka_clients.py",
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule of which a part is taken away by one replacement, which must be possible exactly once."""

    name: str
    what: str
    file: str
    old: str
    new: str


MUTANTS: Final = (
    Mutant(
        "B1-no-position",
        "offsets are committed without the position",
        "runtime/worker.py",
        "metadata = position.encode()",
        'metadata = ""',
    ),
    Mutant(
        "B1-topic-id-takeover",
        "a takeover does not compare the consent topic",
        "runtime/assignment.py",
        "if required.topic_id != position.topic_id:",
        "if False:",
    ),
    Mutant(
        "B1-topic-id-barrier",
        "the barrier does not compare the topic of a position",
        "runtime/barrier.py",
        "if position.topic_id != withdrawal.topic_id:",
        "if False:",
    ),
    Mutant(
        "B1-topic-id-withdrawal",
        "the barrier does not compare the topic of the withdrawal",
        "runtime/barrier.py",
        "if topic_id != self.withdrawal.topic_id:",
        "if False:",
    ),
    Mutant(
        "B2-no-wait",
        "a takeover does not wait for the position",
        "runtime/assignment.py",
        "if not position.covers(required.offsets):",
        "if False:",
    ),
    Mutant(
        "B2-one-component",
        "a takeover waits for some component only",
        "runtime/position.py",
        "return all(self.offsets",
        "return any(self.offsets",
    ),
    Mutant(
        "B2-missing-metadata",
        "without metadata a takeover waits for nothing",
        "runtime/assignment.py",
        "ends = self._admin.high_watermarks(self._settings.consent_topic, range(description.partitions))",
        "ends = {}",
    ),
    Mutant(
        "B2-unstable-is-none",
        "a pending transaction is taken for no offset",
        "runtime/assignment.py",
        "committed = self.consumer.committed(partitions, timeout_seconds=_COMMITTED_SECONDS)",
        "try:\n            committed = self.consumer.committed(partitions, timeout_seconds=_COMMITTED_SECONDS)\n"
        '        except KafkaFault:\n            committed = dict.fromkeys(partitions, (0, ""))',
    ),
    Mutant(
        "B2-unstable-read",
        "a takeover reads offsets that are not stable",
        "adapters/consumer.py",
        '"isolation.level": "read_committed"',
        '"isolation.level": "read_uncommitted"',
    ),
    Mutant(
        "B3-later-position",
        "the position is one of a later snapshot than the decisions",
        "runtime/worker.py",
        "return assignment.position(snapshot), outcomes",
        "return assignment.position(self._store.snapshot()), outcomes",
    ),
    Mutant(
        "B3-rebuilt",
        "a rebuilt store is gone on with",
        "runtime/assignment.py",
        "self._generation_of_store = generation\n            self.take_over_again()\n            return False",
        "self._generation_of_store = generation",
    ),
    Mutant(
        "B3-other-store",
        "a snapshot may be of another store than the takeover",
        "runtime/worker.py",
        "if not assignment.same_store(snapshot):",
        "if False:",
    ),
    Mutant(
        "B4-late-metadata",
        "the group metadata are taken after the batch was read",
        "runtime/worker.py",
        "messages = self._reading.read()",
        "messages = self._reading.read()\n        group_metadata = self._consumer.group_metadata() or group_metadata",
    ),
    Mutant(
        "B4-no-generation",
        "group metadata without a generation are used",
        "adapters/consumer.py",
        "return metadata if generation(metadata) >= 0 else None",
        "return metadata",
    ),
    Mutant(
        "B4-callbacks-keep",
        "revoke and lost keep what was read and what is owned",
        "runtime/assignment.py",
        '''        """Forget every partition and every record."""
''',
        '''        """Forget every partition and every record."""
        return
''',
    ),
    Mutant(
        "B4-callbacks-keep-queue",
        "a rebalance keeps the queue",
        "runtime/assignment.py",
        "        self.paused.clear()\n        self.queue.clear()\n\n    # Reading and not reading.",
        "        self.paused.clear()\n\n    # Reading and not reading.",
    ),
    Mutant(
        "B4-read-keeps",
        "a read returns what it fetched before a rebalance",
        "adapters/consumer.py",
        "if self._rebalanced:\n            return Batch([], {}, found)",
        "if False:\n            return Batch([], {}, found)",
    ),
    Mutant(
        "B5-only-data",
        "only the partitions of the batch are committed",
        "runtime/worker.py",
        "offsets = batch.next_offsets(assignment.next_offsets)",
        "offsets = batch.next_offsets({})",
    ),
    Mutant(
        "B5-no-keepalive",
        "without data nothing is committed",
        "runtime/worker.py",
        "if not (moved and due) and self._last_commit:",
        "if self._last_commit:",
    ),
    Mutant(
        "B6.1-unstable",
        "the barrier reads offsets that are not stable",
        "adapters/admin.py",
        "ConsumerGroupTopicPartitions(group, wanted), require_stable=True):",
        "ConsumerGroupTopicPartitions(group, wanted), require_stable=False):",
    ),
    Mutant(
        "B6.1-unstable-passes",
        "the barrier takes undecided offsets for through",
        "runtime/barrier.py",
        "            return _judge_fault(committed)",
        "            return None",
    ),
    Mutant(
        "B6.1-off-by-one",
        "a position at the withdrawal, and not beyond it, is enough",
        "runtime/barrier.py",
        "if applied <= withdrawal.offset:",
        "if applied < withdrawal.offset:",
    ),
    Mutant(
        "B6.1-one-partition",
        "the first partition of each topic is enough",
        "runtime/survey.py",
        "    numbers = range(questions.describe_topic(topic).partitions)",
        "    numbers = range(questions.describe_topic(topic).partitions)[:1]",
    ),
    Mutant(
        "B6.1-empty-group",
        "an empty group is through",
        "runtime/barrier.py",
        "elif not group.members:\n            yield Holdup(Cause.GROUP_EMPTY",
        "elif False:\n            yield Holdup(Cause.GROUP_EMPTY",
    ),
    Mutant(
        "B6.2-early-h",
        "H is read before the groups",
        "runtime/barrier.py",
        "        if self._outputs is None:\n            held = False",
        "        if self._outputs is None:\n"
        "            early = tuple(self._high_watermarks())\n            held = False",
    ),
    Mutant(
        "B6.3-no-wait",
        "the last stable offset is not waited for",
        "runtime/barrier.py",
        "return self.last_stable_offset >= self.high_watermark",
        "return True",
    ),
)
_FURTHER: Final = {"B6.2-early-h": ("self._outputs = tuple(self._high_watermarks())  # 2", "self._outputs = early")}


def survivors(mutants: Sequence[Mutant], arguments: Sequence[str]) -> Iterator[Mutant]:
    """Run the tests against each mutant, print what notices it, and yield those that nothing notices."""
    for mutant in mutants:
        with tempfile.TemporaryDirectory(prefix="tokenweir-mutant-") as directory:
            source = Path(directory, "src")
            shutil.copytree(_ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
            _mutate(source / "tokenweir" / mutant.file, mutant)
            failed = _failures(source, arguments)
        print(f"{mutant.name:25} {mutant.what}", *(failed or ["SURVIVES"]), sep="\n    ", flush=True)  # noqa: T201
        if not failed:
            yield mutant


def _mutate(path: Path, mutant: Mutant) -> None:
    text = path.read_text()
    for old, new in ((mutant.old, mutant.new), *filter(None, [_FURTHER.get(mutant.name)])):
        if text.count(old) != 1:
            raise LookupError(f"{mutant.name}: {path.name} has {text.count(old)} of {old!r}")
        text = text.replace(old, new)
    path.write_text(text)


def _failures(source: Path, arguments: Sequence[str]) -> list[str]:
    """Return the tests that fail with this source; that it is the one that runs is seen first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(_ROOT)])}
    found = _run(["-c", "import tokenweir; print(tokenweir.__file__)"], environment)
    if not found.stdout.startswith(str(source)):
        raise RuntimeError(f"not the copy is imported, but {found.stdout.strip()}")
    done = _run(["-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", *arguments], environment)
    failed = re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE)
    if done.returncode and not failed:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return list(dict.fromkeys(failed))


def _run(arguments: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=_ROOT, env=environment, capture_output=True, text=True, check=False
    )


def main(arguments: Sequence[str]) -> int:
    """Run the mutants whose names begin as one of the arguments does, all without one."""
    names, _, rest = " ".join(arguments).partition("--")
    wanted = tuple(names.split())
    chosen = [mutant for mutant in MUTANTS if not wanted or mutant.name.startswith(wanted)]
    return 1 if list(survivors(chosen, rest.split() or _TESTS)) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
