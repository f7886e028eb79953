"""pip installs from the sources with a Rust toolchain and without one, and the installation says which it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.chaos

ROOT: Final = Path(__file__).parents[2]
#: What a source distribution is made of; nothing that an earlier build left behind.
SOURCES: Final = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "src")
#: FF1 through the public interface, and where its class is from.
PROBE: Final = """
from tokenweir.ff1 import FF1
token = FF1.over(bytes(range(32)), "0123456789").encrypt_text("4111111111111111", bytes.fromhex("0011223344556677"))
try:
    from tokenweir._native import FF1 as native
except ModuleNotFoundError:
    native = None
print(token, FF1 is native)
"""


def environment(*, cargo: bool) -> dict[str, str]:
    """Return this process's environment, without the directories that have a Rust toolchain if it shall have none."""
    tools = ("cargo", "rustc")
    kept = [
        directory
        for directory in os.environ["PATH"].split(os.pathsep)
        if cargo or not any((Path(directory) / tool).exists() for tool in tools)
    ]
    named = {"CARGO", "RUSTC", "PYTHONPATH", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in named} | {"PATH": os.pathsep.join(kept)}


def installed(directory: Path, variables: dict[str, str], what: str | Path) -> Path:
    """Install into a new virtual environment; return its directory of programs."""
    new: list[str | Path] = [sys.executable, "-m", "venv", directory / "venv"]
    subprocess.run(new, check=True, env=variables)
    programs = directory / "venv" / "bin"
    command: list[str | Path] = [programs / "python", "-m", "pip", "install", "--quiet", what]
    subprocess.run(command, check=True, env=variables, cwd=directory)
    return programs


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the source tree without anything that was built."""
    tree = tmp_path / "tree"
    tree.mkdir()
    built = shutil.ignore_patterns("target", "*.so", "*.egg-info", "__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=built)
        else:
            shutil.copy(ROOT / name, tree / name)
    return tree


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cargo", [True, False], ids=["with cargo", "without cargo"])
def test_pip_installs(sources: Path, tmp_path: Path, *, cargo: bool) -> None:
    """The installation works either way, makes the same tokens, and says whether it has the native module."""
    if cargo and shutil.which("cargo") is None:
        pytest.skip("no Rust toolchain on this machine")
    variables = environment(cargo=cargo)

    programs = installed(tmp_path, variables, sources)

    asked: list[str | Path] = [programs / "tokenweir", "version", "--format", "json"]
    version = json.loads(subprocess.run(asked, check=True, env=variables, capture_output=True, cwd=tmp_path).stdout)
    assert version["native module"] == (version["tokenweir"] if cargo else "absent")
    probe = subprocess.run(
        [programs / "python", "-c", PROBE], check=True, env=variables, capture_output=True, text=True, cwd=tmp_path
    )
    assert probe.stdout.split() == ["7077618758372845", str(cargo)]


@pytest.mark.timeout(900)
def test_the_source_distribution_has_what_the_native_module_is_built_from(sources: Path, tmp_path: Path) -> None:
    """The archive that is published holds all Rust sources and the lock file, and no package of the name rust."""
    variables = environment(cargo=True)
    programs = installed(tmp_path, variables, "build")

    command: list[str | Path] = [programs / "python", "-m", "build", "--sdist", "--outdir", tmp_path, sources]
    subprocess.run(command, check=True, env=variables)

    [archive] = tmp_path.glob("tokenweir-*.tar.gz")
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    [unpacked] = (tmp_path / "unpacked").iterdir()
    rust = sources / "src" / "rust"
    expected = {path.relative_to(sources) for path in rust.rglob("*") if path.is_file()}
    assert expected <= {path.relative_to(unpacked) for path in unpacked.rglob("*")}
    assert "rust" not in next(unpacked.glob("src/*.egg-info/top_level.txt")).read_text("utf-8").split()
