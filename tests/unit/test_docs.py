"""The documentation is true where a test can tell: links, commands, YAML, metrics, reasons and make targets."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import typer
from ruamel.yaml import YAML
from typer.testing import CliRunner

from tokenweir.app import demodata
from tokenweir.cli import app
from tokenweir.config import Config, load_config
from tokenweir.core.detokenize.grants import load_grants
from tokenweir.core.detokenize.models import Grants
from tokenweir.core.policy.check import check
from tokenweir.core.policy.loader import load_policy
from tokenweir.core.policy.models import Policy
from tokenweir.telemetry.metrics import METRICS

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = sorted(ROOT.glob("schemas/examples/*/README.md"))
PAGES: Final = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md")), *EXAMPLES]
#: Verbs that need no broker, no registry and no keyboard.
OFFLINE: Final = {"demo", "lint", "plan", "explain", "sanitize", "schema derive", "config schema", "version"}

_BLOCK: Final = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE: Final = re.compile(r"`([^`\n]+)`")
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    language: str
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the fenced blocks of a page in some languages."""
    found = [Block(match["language"], match["text"]) for match in _BLOCK.finditer(page.read_text("utf-8"))]
    return [block for block in found if block.language in languages]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def command_lines(page: Path) -> list[list[str]]:
    """Return every line of shell blocks, continuation lines joined, as words."""
    lines = [line for block in blocks(page, "sh") for line in block.text.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def tokenweir_commands(page: Path) -> list[list[str]]:
    """Return the arguments of every whole ``tokenweir`` command of a page, in blocks and in the text."""
    inline = [shlex.split(text) for text in _INLINE.findall(prose(page)) if re.match(r"tokenweir [a-z]", text)]
    # Words in capitals stand for something else, as in `tokenweir VERB --help`.
    return [words[1:] for words in [*command_lines(page), *inline] if words[:1] == ["tokenweir"]]


def parse(arguments: list[str]) -> str:
    """Parse arguments as the command line does; return the verb. An unknown verb or option raises."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("tokenweir", list(arguments))
    verb = []
    while hasattr(command, "resolve_command") and (rest := [*context._protected_args, *context.args]):
        name, command, rest = command.resolve_command(context, rest)
        verb.append(name)
        if not rest and hasattr(command, "resolve_command"):
            break  # A group that the text speaks of as a whole.
        context = command.make_context(name, rest, parent=context, **_lenient(command, rest))
    return " ".join(verb)


def _lenient(command: Any, rest: list[str]) -> dict[str, bool]:  # noqa: ANN401 - Typer's copy of click is private.
    """A verb that the text names without arguments is not called, so what it requires may be missing."""
    required = any(parameter.required for parameter in command.params)
    return {"resilient_parsing": True} if required and not rest else {}


@each_page
def test_relative_links_resolve(page: Path) -> None:
    """What a link names is there."""
    targets = [target.partition("#")[0] for target in _LINK.findall(prose(page)) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@each_page
def test_commands_parse(page: Path) -> None:
    """Every verb exists and has the options that are shown."""
    for arguments in tokenweir_commands(page):
        assert parse(arguments), arguments


def test_a_wrong_command_would_be_found() -> None:
    """The parser of the test refuses verbs and options that do not exist."""
    for line in ("runn --config x", "sanitize --polcy p.yaml f", "plan --stream"):
        with pytest.raises(Exception, match=r"No such command|No such option|requires an argument"):
            parse(shlex.split(line))


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "docs" / "policy.md", *EXAMPLES], ids=lambda page: str(page.parent.name)
)
def test_offline_commands_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs no broker is done as it is written, in this order, and ends with 0."""
    for name in ("schemas", "deploy"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    ran = 0
    for words in command_lines(page):
        if words[0] == "cd":
            monkeypatch.chdir(words[1])
        if words[0] != "tokenweir" or parse(words[1:]) not in OFFLINE:
            continue
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, (words, result.output)
        ran += 1
    assert ran > 0


def test_the_demo_prints_what_the_readme_shows() -> None:
    """Each line of the README's first output is one of the demo's, whatever the clock and the tokens are."""
    shown = next(block.text for block in blocks(ROOT / "README.md", "text") if "crm" in block.text)
    printed = {_without_digits(line) for line in CliRunner().invoke(app, ["demo"]).stdout.splitlines()}
    assert [line for line in shown.splitlines() if line and _without_digits(line) not in printed] == []


def test_explain_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """Each line of the README's explanation is one of those that `explain` prints for the demo's policy."""
    shown = next(block.text for block in blocks(ROOT / "README.md", "text") if "contact.email" in block.text)
    assert CliRunner().invoke(app, ["demo", "--write", str(tmp_path / "demo")]).exit_code == 0
    config = str(tmp_path / "demo" / "tokenweir.yaml")
    printed = CliRunner().invoke(app, ["explain", "interactions", "email", "--config", config]).stdout.splitlines()
    assert [line for line in shown.splitlines() if line not in printed] == []


def _without_digits(line: str) -> str:
    return re.sub(r"\d", "0", line.rstrip())


@each_page
def test_yaml_loads(page: Path, tmp_path: Path) -> None:
    """Every YAML block is a configuration, a grants file, or a part of a policy that fits into the clickstream's."""
    for block in blocks(page, "yaml"):
        document: Mapping[str, Any] = YAML(typ="safe", pure=True).load(block.text)
        if document.keys() <= Config.model_fields.keys():
            _load_config(block.text, tmp_path)
        elif document.keys() <= Grants.model_fields.keys():
            policy = load_policy(demodata.text("policy.yaml"), "policy.yaml")
            assert load_grants(block.text, "grants.yaml", policy).warnings == ()
        else:
            assert document.keys() <= Policy.model_fields.keys()
            findings = check(load_policy(_completed(document), "policy.yaml"))
            assert [finding for finding in findings if finding.severity == "error"] == []


def _completed(document: Mapping[str, Any]) -> str:
    base = YAML(typ="safe", pure=True).load(ROOT / "schemas" / "examples" / "clickstream" / "policy.yaml")
    for name, part in document.items():
        base[name] = {**base.get(name, {}), **part} if isinstance(part, dict) else part
    return json.dumps(base)


def _load_config(text: str, directory: Path) -> None:
    for secret in set(re.findall(r"/run/secrets/([\w.]+)", text)):
        (directory / secret).write_text("secret")
    path = directory / "tokenweir.yaml"
    path.write_text(text.replace("/run/secrets/", f"{directory}/"))
    load_config(path, {})


@each_page
def test_json_loads(page: Path) -> None:
    """Every JSON block is JSON."""
    for block in blocks(page, "json"):
        json.loads(block.text)


@each_page
def test_metrics_exist(page: Path) -> None:
    """Every metric that is named is declared."""
    named = set(re.findall(r"`(tokenweir_[a-z_]+)(?:\{[^`]*\})?`", page.read_text("utf-8")))
    assert named - METRICS.keys() == set()


def _targets(text: str) -> Iterator[str]:
    for line in re.findall(r"^make ([a-z ]+)$", text, re.MULTILINE):
        yield from line.split()


def test_the_two_commands_of_the_readme_are_those_of_ci() -> None:
    """`make demo` and `make test` stand in the README, and CI runs them; beside them it runs only `make check`."""
    shown = {target for block in blocks(ROOT / "README.md", "sh") for target in _targets(block.text)}
    assert shown == {"demo", "test"}
    assert set(_targets((ROOT / ".ci" / "run").read_text("utf-8"))) == shown | {"check"}


@each_page
def test_make_targets_exist(page: Path) -> None:
    """Every target that is named is one of the Makefile."""
    existing = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)`", page.read_text("utf-8")))
    assert named - existing == set()


def test_the_changelog_lists_the_verbs_that_exist() -> None:
    """The verbs in the list are those of the command line, and no others."""
    text = " ".join((ROOT / "CHANGELOG.md").read_text("utf-8").split())
    listed = set(re.findall(r"`([a-z ]+)`", text.partition("Command line: ")[2].partition(". ")[0]))
    command: Any = typer.main.get_command(app)
    verbs = set()
    for name, found in command.commands.items():
        verbs |= {f"{name} {below}" for below in getattr(found, "commands", {})} or {name}
    assert listed == verbs
