"""What of keys is in the memory of a process: nothing of a root that is retired or destroyed, and no core file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from tests.support.memory import hits, search

from tokenweir.adapters.kek import FileKek, KekContext
from tokenweir.adapters.keychanges import retire, rotate
from tokenweir.adapters.keydestruction import destroy
from tokenweir.adapters.keysource import init_keyset, unwrap_root

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read through /proc")

NOW: Final = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
#: What a worker does with keys: opens those in use, makes tokens with both engines, and goes on.
_PROCESS: Final = """
import json, os, sys
from pathlib import Path
from pydantic import TypeAdapter
from tokenweir.adapters.keysource import open_keyset
from tokenweir.core.tokens import TokenSpec
from tokenweir.runtime.hardening import protect_memory

protect_memory()
keyset_path, kek_path, in_use = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "in_use"
keyset = open_keyset(keyset_path.read_text(), keyset_path, kek_path, in_use=in_use)
spec = TypeAdapter(TokenSpec).validate_python({"format": "digits", "length": 10})
tokens = [keyset.tokenizer("crm", "customer", spec).tokenize("0000012345")]
try:
    from tokenweir._native import Tokenizer
except ModuleNotFoundError:
    pass
else:
    keys = keyset.entry_keys("crm", "customer", spec)
    native = Tokenizer(spec.model_dump_json(), keys.key.reveal(), keys.tweak_key.reveal())
    tokens += native.encrypt_many(["0000012345"])
print(json.dumps(tokens), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    """A keyset whose key domain crm is in its second epoch, and the first one is retired."""
    found = (tmp_path / "keyset.json", tmp_path / "kek.key")
    init_keyset(*found, ["crm"], NOW)
    rotate(*found, "crm", NOW)
    retire(found[0], "crm", NOW)
    return found


def roots(paths: tuple[Path, Path]) -> dict[str, bytes]:
    """Return the roots of both epochs."""
    kek = FileKek(paths[1])
    rows = json.loads(paths[0].read_text())["roots"]
    return {
        f"epoch {row['epoch']}": unwrap_root(kek, KekContext("crm", row["epoch"]), row["wrapped"]).reveal()
        for row in rows
    }


@contextmanager
def process(paths: tuple[Path, Path], what: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has made tokens and waits."""
    command = [sys.executable, "-c", _PROCESS, *map(str, paths), what]
    running = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=paths[0].parent, env=os.environ
    )
    try:
        assert running.stdout is not None
        assert len(set(json.loads(running.stdout.readline()))) == 1
        yield running
    finally:
        running.kill()
        running.communicate()


def _search(pid: int, secrets: dict[str, bytes]) -> dict[str, int]:
    try:
        found, searched = search(pid, secrets)
    except PermissionError:
        pytest.skip("the memory of a hardened process can be read by root alone, which this user is not")
    assert searched > 10_000_000
    return found


def test_the_memory_of_a_process_in_use_has_the_active_root_and_no_other(paths: tuple[Path, Path]) -> None:
    """The search finds the root that tokens are made with, so that it would find the retired one."""
    secrets = roots(paths)

    with process(paths, "in_use") as running:
        found = _search(running.pid, secrets)

    assert hits(found, ["epoch 2"]).get("epoch 2: raw")
    assert not hits(found, ["epoch 1"])


def test_a_process_that_opens_all_has_the_retired_root_until_it_is_destroyed(paths: tuple[Path, Path]) -> None:
    """What reverses tokens opens retired roots; after ``destroy`` no new process has the root in any form."""
    secrets = roots(paths)
    with process(paths, "all") as running:
        before = _search(running.pid, secrets)

    destroy(paths[0], "crm", 1, NOW)

    with process(paths, "all") as running:
        after = _search(running.pid, secrets)
    assert hits(before, ["epoch 1"]).get("epoch 1: raw")
    assert hits(after, ["epoch 2"])
    assert not hits(after, ["epoch 1"])


def test_the_verb_itself_never_opens_the_root(paths: tuple[Path, Path]) -> None:
    """``destroy`` works without the KEK, so that there is nothing of the root in its own memory."""
    paths[1].unlink()

    assert not destroy(paths[0], "crm", 1, NOW).complete


def test_a_crash_leaves_no_core_file(paths: tuple[Path, Path]) -> None:
    """However much the shell allows, a process with keys that is killed by SIGABRT or SIGSEGV is not dumped."""
    secrets = roots(paths)
    for number in (signal.SIGABRT, signal.SIGSEGV):
        with process(paths, "in_use") as running:
            limits = Path(f"/proc/{running.pid}/limits").read_text()
            core = next(line.split() for line in limits.splitlines() if line.startswith("Max core file size"))
            os.kill(running.pid, number)
            assert running.wait(30) == -number
        assert core[4:6] == ["0", "0"]
    for path in paths[0].parent.rglob("*"):
        assert path.is_dir() or secrets["epoch 2"] not in path.read_bytes(), path
        assert not path.name.startswith("core")
