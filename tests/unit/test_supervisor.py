"""How the supervisor starts the processes below it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import cast

from tokenweir.runtime.children import ChildSpec
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.supervisor import command


def test_a_child_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    """Who may write there must not run code beside the keys."""
    (tmp_path / "confluent_kafka.py").write_text("print('imported')", "utf-8")
    spec = ChildSpec(cast("Gateway", None), "worker", "clicks", 1)

    # Without a description on standard input the child ends as soon as it has imported everything.
    result = subprocess.run(
        command(spec), cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )

    assert result.stdout == ""
    assert "EOFError" in result.stderr
    assert command(spec)[2:] == ["-m", "tokenweir.runtime.children", "worker", "clicks", "1"]
