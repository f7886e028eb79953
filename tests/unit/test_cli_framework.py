"""The frame of the command line: exit codes, where words go, and what an import costs."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from tokenweir import __version__
from tokenweir.app.rules import RULES
from tokenweir.cli import app
from tokenweir.cli.console import aligned, count_findings
from tokenweir.cli.group import VerbGroup
from tokenweir.errors import FileFormatError, Finding, FindingsError, KeysError, TokenweirError, UsageError

ROOT = Path(__file__).parents[2]
RUNNER = CliRunner()
CANARY = "canary0canary"


def _raising(error: BaseException) -> typer.Typer:
    """Return a command line whose one verb raises."""
    raising = typer.Typer(cls=VerbGroup, rich_markup_mode=None, pretty_exceptions_enable=False)

    @raising.command()
    def verb() -> None:
        raise error

    @raising.command()
    def other() -> None:
        """Exist, so that this is a group."""

    return raising


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileFormatError("the file"), 1),
        (UsageError("the usage"), 2),
        (KeysError("the keys"), 3),
        (FindingsError([Finding("p.yaml", 1, 2, "rule", "message")]), 1),
    ],
)
def test_errors_become_words_and_exit_codes(error: TokenweirError, code: int) -> None:
    """Every error of our own is one line on standard error, nothing on standard output, and its exit code."""
    result = RUNNER.invoke(_raising(error), ["verb"])

    assert result.exit_code == code
    assert str(error) in result.stderr
    assert result.stdout == ""


def test_an_unexpected_error_shows_type_and_place_only() -> None:
    """The text of a foreign exception may hold data, so nobody sees it."""
    result = RUNNER.invoke(_raising(ValueError(CANARY)), ["verb"])

    assert result.exit_code == 1
    assert CANARY not in result.output
    assert "ValueError at test_cli_framework.py:" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_interrupt_is_130() -> None:
    """Control-C ends with 128 + SIGINT and without a traceback."""
    result = RUNNER.invoke(_raising(KeyboardInterrupt()), ["verb"])

    assert result.exit_code == 130
    assert result.output == ""


def test_a_closed_pipe_is_quiet() -> None:
    """``tokenweir … | head`` does not complain."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tokenweir", "config", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as stderr:
        said = stderr.read()

    assert process.wait(timeout=60) == 141
    assert said == b""


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["lint", "--nonsense"], ["lint", "--format", "xml"], ["keys"]])
def test_usage_errors_are_2(arguments: list[str]) -> None:
    """No verb, an unknown verb, an unknown option and a wrong choice are usage errors."""
    assert RUNNER.invoke(app, arguments).exit_code == 2


def test_a_verb_that_is_almost_right_is_suggested() -> None:
    """A typing error is answered with the verb that was meant."""
    assert "'sanitize'" in RUNNER.invoke(app, ["sanitise"]).stderr


def test_version() -> None:
    """``--version`` is one line; ``version`` names every part that matters, as text and as JSON."""
    assert RUNNER.invoke(app, ["--version"]).stdout == f"tokenweir {__version__}\n"
    parts = json.loads(RUNNER.invoke(app, ["version", "--format", "json"]).stdout)
    assert parts["tokenweir"] == __version__
    assert parts["engine"] == ("native" if find_spec("tokenweir._native") else "reference")
    assert {"python", "librdkafka", "confluent-kafka", "cryptography", "openssl", "fastavro"} <= parts.keys()
    assert __version__ in RUNNER.invoke(app, ["version"]).stdout


def test_help_imports_nothing_heavy() -> None:
    """The command line is there at once: what works with data is imported by the verb that needs it."""
    heavy = ("pydantic", "fastavro", "confluent_kafka", "rich", "cryptography", "lmdb", "httpx2", "ruamel")
    script = f"import sys, tokenweir.cli; print([name for name in {heavy!r} if name in sys.modules])"

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_every_example_can_be_parsed() -> None:
    """What ``--help`` shows as an example is a command line that exists."""

    def check(command: object, name: list[str]) -> int:
        found = 0
        for line in (getattr(command, "epilog", None) or "").splitlines():
            if not line.startswith("  "):
                continue
            words = shlex.split(line)
            words = words[words.index("tokenweir") :]
            end = next((index for index, word in enumerate(words) if word in {"|", ">"}), len(words))
            arguments = words[1:end]
            assert arguments[: len(name)] == name, line
            # The parser looks at --help last, after everything else on the line has been understood.
            result = RUNNER.invoke(app, [*arguments, "--help"])
            assert result.exit_code == 0, line
            found += 1
        for inner_name, inner in getattr(command, "commands", {}).items():
            found += check(inner, [*name, inner_name])
        return found

    assert check(get_command(app), []) > 20


def test_generated_files_are_up_to_date() -> None:
    """JSON Schemas, the dead-letter schema and the reference tables are what the code makes of them."""
    script = str(ROOT / "tools" / "generate.py")

    result = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="core files and debuggers are closed out by Linux's own means")
def test_no_verb_leaves_a_core_file_or_lets_a_debugger_in() -> None:
    """Keys and records are in the memory of most verbs."""
    script = """
import ctypes, resource
import tokenweir.__main__, tokenweir.cli
tokenweir.cli.app = lambda **_: print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
tokenweir.__main__.main()
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "(0, 0) 0\n"


def test_every_rule_that_a_problem_names_is_in_the_table() -> None:
    """The table of rules is closed: what the planner can find has its sentence in it."""
    named = set()
    for path in (ROOT / "src" / "tokenweir" / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in {"Problem", "_problem"}:
                    named.add(str(node.args[0].value))

    assert len(named) > 15
    assert named <= RULES.keys()


def test_aligned_columns() -> None:
    """Columns begin at the same place, and no line ends in blanks."""
    assert aligned([["a", "bb", "c"], ["aaa", "b", ""]]) == ["a    bb  c", "aaa  b"]
    assert aligned([]) == []


def test_counts_of_findings() -> None:
    """Findings are counted in words."""
    error = Finding("f", 1, 1, "r", "m")
    warning = Finding("f", 1, 1, "r", "m", severity="warning")

    assert count_findings([]) == "no findings"
    assert count_findings([error, error, warning]) == "2 errors, 1 warning"


def _verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:  # noqa: ANN401 - a private type.
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from _verbs(below, (*path, name))


def test_no_help_has_words_of_the_framework() -> None:
    """Arguments are named, and have no Python type beside them."""
    verbs = list(_verbs(get_command(app)))
    texts = [RUNNER.invoke(app, [*verb, "--help"]).output for verb in verbs]
    assert len(texts) > 25
    assert not [text for text in texts if "list[" in text or "<str>" in text or "<int" in text or "range>" in text]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("preview", "--limit", "x"), "'--limit' / '-n': it must be a whole number"),
        (("preview", "--limit", "0"), "'--limit' / '-n': it must be at least 1"),
        (("preview", "--limit", "1001"), "'--limit' / '-n': it must be at most 1000"),
        (("consent", "status", "--wait", "x"), "'--wait': it must be a number"),
        (("keys", "list", "--format", "xml"), "'--format': 'xml' is not one of 'text', 'json'."),
    ],
)
def test_what_the_parser_refuses_it_refuses_in_plain_words(arguments: tuple[str, ...], said: str) -> None:
    """The library behind it has a language of its own."""
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == 2
    assert said in result.stderr
