"""Packages of PyPI that this project is measured against, installed beside it and never into its environment."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).parents[1] / ".cache" / "benchmarks"
_PLACE: Final = CACHE / "packages"
PACKAGES: Final = (
    "fastfpe==0.2.1",
    "libffx==2.0.1",
    "dealcode==1.0.1",
    "cyphera==0.0.1a10",
    "ff3==1.0.3",
    "pycryptodome==4.4.0",
    "pyffx==0.3.0",
    "six==1.17.0",
)


def install() -> bool:
    """Install the packages, once, and make them importable; say whether they are there."""
    done = _PLACE / "installed.json"
    if not done.exists() or json.loads(done.read_text("utf-8")) != list(PACKAGES):
        shutil.rmtree(_PLACE, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(_PLACE), *PACKAGES]
        if subprocess.run(command, check=False).returncode != 0:
            print("the packages of PyPI cannot be installed: not measured", file=sys.stderr)
            return False
        done.write_text(json.dumps(PACKAGES), "utf-8")
    if str(_PLACE) not in sys.path:
        sys.path.append(str(_PLACE))  # At the end: what the project has already stays what it is.
    return True
