"""What a figure depends on beside the code: the machine, the versions, and what else ran on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Final

import confluent_kafka
from tests.support.artifacts import pinned_version

from benchmarks import packages
from tokenweir.adapters.engines import engine_name

_TICKS: Final = os.sysconf("SC_CLK_TCK")
#: Fields of a process in /proc/PID/stat, counted from behind its name (proc(5)).
_USER, _SYSTEM = 11, 12


def describe() -> dict[str, object]:
    """Return machine and versions."""
    memory = next(line for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    return {
        "cpus": os.cpu_count(),
        "cpu": model,
        "memory_gib": round(int(memory.split()[1]) / 1024**2, 1),
        "system": platform.platform(),
        "versions": {
            "tokenweir": importlib.metadata.version("tokenweir"),
            "python": platform.python_version(),
            "kafka": pinned_version("kafka"),
            "librdkafka": confluent_kafka.libversion()[0],
            **{name: importlib.metadata.version(name) for name in ("confluent-kafka", "fastavro", "h3", "lmdb")},
            **dict(package.split("==") for package in packages.PACKAGES if package.startswith("fastfpe")),
        },
        "engine": engine_name().value,
    }


def busy_cpus(seconds: float = 1.0) -> float:
    """Return how many CPUs the whole machine keeps busy; of a benchmark that rests, that is what others do."""
    before = _busy_seconds()
    started = time.monotonic()
    time.sleep(seconds)
    return round((_busy_seconds() - before) / (time.monotonic() - started), 2)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS


def memory_mebibytes(*names: str) -> dict[str, float]:
    """Return entries of this process's memory, such as ``RssAnon`` (proc(5))."""
    sizes = {line.partition(":")[0]: line.split()[1] for line in _lines("/proc/self/status") if line.endswith("kB")}
    return {name: round(int(sizes[name]) / 1024, 1) for name in names}


def _lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines()


def _busy_seconds() -> float:
    user, nice, system, _idle, _wait, interrupts, soft = map(int, _lines("/proc/stat")[0].split()[1:8])
    return (user + nice + system + interrupts + soft) / _TICKS
