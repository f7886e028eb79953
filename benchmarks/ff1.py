"""B3: FF1 alone, both engines against the packages of PyPI, and the native one against the `fpe` crate without Python.

The packages are installed once into `.cache/benchmarks`, not into the environment of the project; without a network
the rows are those of the engines. Every package that says FF1 must give the same tokens before it is timed. Rounds
alternate between all contenders, and a ratio is taken within its round.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import packages
from benchmarks.stats import spread, times
from tokenweir.core import ff1text

_ROUNDS: Final = 9
_KEY: Final = bytes(range(32))
_TWEAK: Final = bytes.fromhex("0011223344556677")
_BATCH: Final = 1_000

#: Alphabet and length of the values.
_CASES: Final[dict[str, tuple[str, int]]] = {
    "16 digits": (string.digits, 16),
    "10 digits": (string.digits, 10),
    "30 digits": (string.digits, 30),
    "12 of 36 characters": (string.digits + string.ascii_lowercase, 12),
    "12 of 62 characters": (string.digits + string.ascii_letters, 12),
    "80 digits": (string.digits, 80),
}


@dataclass(frozen=True)
class Contender:
    """Something that makes tokens of texts; ``count`` texts take it some milliseconds."""

    name: str
    count: int
    run: Callable[[Sequence[str]], Sequence[str]]
    is_ff1: bool = True


def _one_by_one(encrypt: Callable[[str], str]) -> Callable[[Sequence[str]], Sequence[str]]:
    return lambda texts: [encrypt(text) for text in texts]


def _engines(alphabet: str) -> Iterator[Contender]:
    """Yield the engines of this project: a list at a time, and a call per value."""
    classes: dict[str, Any] = {"reference": ff1text.FF1}
    try:
        classes = {"native": importlib.import_module("tokenweir._native").FF1} | classes
    except ModuleNotFoundError:
        print("no native module: only the reference engine is measured", file=sys.stderr)
    for name, engine in classes.items():
        ff1 = engine.over(_KEY, alphabet)
        count = 20 * _BATCH if name == "native" else _BATCH
        yield Contender(f"{name}, lists of {_BATCH:,}", count, _in_lists(ff1.encrypt_many))
        yield Contender(f"{name}, single calls", count, _in_calls(ff1.encrypt_text))


def _in_calls(single: Callable[[str, bytes], str]) -> Callable[[Sequence[str]], Sequence[str]]:
    return lambda texts: [single(text, _TWEAK) for text in texts]


def _in_lists(many: Callable[[Sequence[str], bytes], list[str]]) -> Callable[[Sequence[str]], Sequence[str]]:
    def run(texts: Sequence[str]) -> Sequence[str]:
        tokens: list[str] = []
        for start in range(0, len(texts), _BATCH):
            tokens = many(texts[start : start + _BATCH], _TWEAK)
        return tokens  # Of the last list; nobody keeps those of a batch for longer than it takes to send them.

    return run


def _packages(alphabet: str, length: int) -> Iterator[Contender]:
    """Yield the packages of PyPI that can be had and take such values."""
    if not packages.install():
        return
    fastfpe, ffx, cyphera, dealcode = map(importlib.import_module, ("fastfpe.ff1", "ffx", "cyphera", "dealcode._ff1"))
    key, tweak = _KEY.hex(), _TWEAK.hex()
    yield Contender("fastfpe", 500, _one_by_one(lambda text: fastfpe.encrypt(key, tweak, alphabet, text)))
    libffx = ffx.FF1(_KEY, alphabet=alphabet)
    yield Contender("libffx", 100, _one_by_one(lambda text: libffx.encrypt(text, tweak=_TWEAK)))
    by_digits = dealcode.FF1(_KEY, len(alphabet))
    yield Contender("dealcode", 60, _one_by_one(lambda text: _on_digits(by_digits, alphabet, text)))
    bound = cyphera.FF1(_KEY, _TWEAK, alphabet)
    yield Contender("cyphera", 20, _one_by_one(bound.encrypt))
    if (alphabet, length) == (string.digits, 16):
        ff3, pyffx = map(importlib.import_module, ("ff3", "pyffx"))
        other = ff3.FF3Cipher(key, "00112233445566", 10)
        yield Contender("ff3 (FF3-1, another algorithm)", 60, _one_by_one(other.encrypt), is_ff1=False)
        hashed = pyffx.String(_KEY, alphabet=alphabet, length=length)
        yield Contender("pyffx (FFX, another algorithm)", 60, _one_by_one(hashed.encrypt), is_ff1=False)


def _on_digits(ff1: Any, alphabet: str, text: str) -> str:  # noqa: ANN401 - a package without types
    permuted = ff1.encrypt(_TWEAK, [alphabet.index(character) for character in text])
    return "".join([alphabet[numeral] for numeral in permuted])


def _texts(alphabet: str, length: int, count: int) -> list[str]:
    radix = len(alphabet)
    numbers = (pow(7919, number + 2, radix**length) for number in range(count))
    return ["".join([alphabet[number // radix**place % radix] for place in range(length)]) for number in numbers]


def _case(alphabet: str, length: int) -> dict[str, object]:
    """Return nanoseconds of CPU per value of every contender, and how many times the first one's they are."""
    contenders = [*_engines(alphabet), *_packages(alphabet, length)]
    texts = _texts(alphabet, length, _BATCH)
    texts *= max(contender.count for contender in contenders) // len(texts)
    expected = list(ff1text.FF1.over(_KEY, alphabet).encrypt_many(texts[:8], _TWEAK))
    for contender in contenders:
        if contender.is_ff1 and list(contender.run(texts[:8])) != expected:
            raise AssertionError(f"{contender.name} makes other tokens")
    measured: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(_ROUNDS):
        for contender in contenders:
            values = texts[: contender.count]
            started = time.process_time()
            contender.run(values)
            measured[contender.name].append((time.process_time() - started) / len(values) * 1e9)
    return _told(measured, contenders[0].name)


def _told(measured: Mapping[str, Sequence[float]], first: str) -> dict[str, object]:
    ratios = times(measured, first, digits=1)
    return {
        name: {"ns_per_value": spread(values, digits=1), "times_the_first": ratios[name]}
        for name, values in measured.items()
    }


def _crates() -> dict[str, object]:
    """Return what the native cipher and the `fpe` crate take without Python, or why nothing was measured."""
    cargo = shutil.which("cargo")
    if cargo is None:
        return {"not measured": "no Rust toolchain"}
    manifest = Path(__file__).parent / "ff1_crates" / "Cargo.toml"
    command = [cargo, "run", "--quiet", "--release", "--locked", "--manifest-path", str(manifest)]
    target = {"CARGO_TARGET_DIR": str(packages.CACHE / "target")}
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | target)
    if ran.returncode != 0:
        return {"not measured": "the crates cannot be built"}
    measured: dict[str, list[float]] = json.loads(ran.stdout)
    return _told(measured, "tokenweir, batches")


def run() -> dict[str, object]:
    """Return every case."""
    cases: dict[str, object] = {name: _case(alphabet, length) for name, (alphabet, length) in _CASES.items()}
    return cases | {"16 digits, in Rust": _crates()}
