"""Commands that are proposed name the configuration that was named, so that they can be copied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tokenweir.cli import app
from tokenweir.words import copyable, named_config, remember_config


@pytest.fixture
def named() -> Iterator[None]:
    """A configuration with a blank in its name."""
    remember_config("my files/t.yaml")
    yield
    remember_config("")


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("make one with 'tokenweir keys init'", "make one with 'tokenweir keys init --config {}'"),
        ("with `tokenweir keys init`; or not", "with `tokenweir keys init --config {}`; or not"),
        ("(tokenweir consent import)", "(tokenweir consent import --config {})"),
        ("  tokenweir consent acknowledge 3 17", "  tokenweir consent acknowledge 3 17 --config {}"),
        (
            "(tokenweir offsets set S --all --to committed, which moves none)",
            "(tokenweir offsets set S --all --to committed --config {}, which moves none)",
        ),
        ("'tokenweir offsets set s --all --to a|b' or 'tokenweir doctor'", None),
        ("'tokenweir doctor --config other.yaml'", "'tokenweir doctor --config other.yaml'"),
        ("'tokenweir keys list --keys keys'", "'tokenweir keys list --keys keys'"),
        ("'tokenweir version'", "'tokenweir version'"),
        ("a fault in tokenweir: run it again", "a fault in tokenweir: run it again"),
    ],
)
def test_a_command_in_a_text_names_the_configuration(text: str, more: str | None) -> None:
    """In quotes, in brackets or on a line of its own; one that names another, and a verb that takes none, stay."""
    quoted = "'my files/t.yaml'"
    if more is None:
        more = "'tokenweir offsets set s --all --to a|b --config {}' or 'tokenweir doctor --config {}'"
    assert copyable(text) == more.format(quoted, quoted)


def test_without_a_name_nothing_changes() -> None:
    """The default is found again."""
    assert copyable("'tokenweir keys init'") == "'tokenweir keys init'"


def test_only_what_stands_on_the_command_line_is_repeated(tmp_path: Path) -> None:
    """A file that the environment names is named there the next time too, and one call knows nothing of the last."""
    config = tmp_path / "other.yaml"
    config.write_text("version: 1\nkafka: {bootstrap_servers: 'b.invalid:1'}\n")
    policy = Path(__file__).parents[2] / "deploy" / "config" / "minimal-policy.yaml"
    (tmp_path / "policy.yaml").write_text(policy.read_text())
    said = CliRunner().invoke(app, ["run", "--config", str(config)])
    unsaid = CliRunner().invoke(app, ["run"], env={"TOKENWEIR_CONFIG": str(config)})
    assert f"'tokenweir keys init --config {config}'" in said.stderr
    assert "'tokenweir keys init'" in unsaid.stderr
    assert named_config() == ""
