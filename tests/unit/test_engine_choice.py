"""Which engine runs, and that both give the same files."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from tests.support.engines import fixed_keyset
from tests.support.native import native_module
from typer.testing import CliRunner

from tokenweir.adapters import engines
from tokenweir.adapters.engines import Choice, EngineName, engine_name, make_engine
from tokenweir.adapters.keysource import init_keyset
from tokenweir.app import demodata
from tokenweir.cli import app
from tokenweir.core.policy.loader import load_policy
from tokenweir.errors import RefusedError


@pytest.mark.parametrize(
    ("choice", "installed", "name"),
    [
        ("auto", True, "native"),
        ("auto", False, "reference"),
        ("reference", True, "reference"),
        ("reference", False, "reference"),
        ("native", True, "native"),
    ],
)
def test_the_native_engine_runs_where_it_is_installed(
    choice: Choice, *, installed: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the other one is asked for."""
    _install(monkeypatch, installed=installed)
    assert engine_name(choice) == name


def test_a_native_engine_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to do."""
    _install(monkeypatch, installed=False)
    with pytest.raises(
        RefusedError, match=r"no native engine: install again where cargo is found, or choose 'reference'"
    ):
        engine_name("native")


def test_a_native_module_that_cannot_be_loaded_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that is broken is no installation without it."""
    loaded = load_policy(demodata.text(demodata.POLICY), demodata.POLICY)
    monkeypatch.setitem(sys.modules, engines.NATIVE_MODULE, None)
    monkeypatch.delitem(sys.modules, "tokenweir.adapters.nativeengine", raising=False)
    with pytest.raises(RefusedError, match=r"cannot be loaded \(ModuleNotFoundError\): install again"):
        make_engine(EngineName.NATIVE, loaded.policy, fixed_keyset([]))


def test_a_native_module_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes and gives may have changed, and records would be blamed for that."""
    native_module()
    loaded = load_policy(demodata.text(demodata.POLICY), demodata.POLICY)
    monkeypatch.setattr(engines, "__version__", "9.9.9")
    with pytest.raises(RefusedError, match=r"is of version .*, and this is 9\.9\.9: install again"):
        make_engine(EngineName.NATIVE, loaded.policy, fixed_keyset([]))


def test_both_engines_sanitize_to_the_same_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one keyset, from the command line; and with one clock."""
    native_module()
    runner = CliRunner()
    assert runner.invoke(app, ["demo", "--write", str(tmp_path / "demo")]).exit_code == 0
    monkeypatch.chdir(tmp_path / "demo")
    init_keyset(Path("keys/keyset.json"), Path("keys/kek.key"), ["crm", "ads"], datetime.now(UTC))
    # Containers differ in nothing but the random bytes between their blocks.
    monkeypatch.setattr("os.urandom", bytes)
    sanitize = ["sanitize", "events.avro", "-p", "policy.yaml", "-s", "interactions", "--consent", "consent.jsonl"]
    outputs = {}
    for engine in ("native", "reference"):
        done = runner.invoke(app, [*sanitize, "--keys", "keys", "--engine", engine, "-o", f"{engine}/"])
        assert done.exit_code == 0, done.output
        outputs[engine] = {path.name: path.read_bytes() for path in Path(engine).iterdir()}
    assert outputs["native"] == outputs["reference"]
    assert all(outputs["native"].values())


def _install(monkeypatch: pytest.MonkeyPatch, *, installed: bool) -> None:
    spec = ModuleSpec(engines.NATIVE_MODULE, None) if installed else None
    monkeypatch.setattr(engines, "find_spec", lambda _name: spec)
