"""Options that several verbs have, so that each is spelled and explained once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tokenweir.words import remember_config

#: The configuration that a verb takes when none is named.
DEFAULT_CONFIG: Final = Path("tokenweir.yaml")

_FORMAT: Final = "tokenweir.format"


class EngineChoice(StrEnum):
    """Which engine treats records."""

    AUTO = "auto"
    NATIVE = "native"
    REFERENCE = "reference"


class Format(StrEnum):
    """How a verb's data is printed."""

    TEXT = "text"
    JSON = "json"


class FindingsFormat(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"


def _remember_config(context: typer.Context, config: Path | None) -> Path | None:
    """Note the file where it was named on this command line; what stands in the environment is there next time too."""
    source = context.get_parameter_source("config")
    given = config is not None and source is not None and source.name == "COMMANDLINE"
    remember_config(str(config) if given else "")
    return config


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        callback=_remember_config,
        metavar="FILE",
        envvar="TOKENWEIR_CONFIG",
        help="The configuration. Default: tokenweir.yaml, where that file exists.",
    ),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", "-p", metavar="FILE", help="The policy. Default: what the configuration names."),
]


def _remember_format(context: typer.Context, format_: Format) -> Format:
    """Note the format where all verbs of this call find it, so that findings can be printed in it too."""
    context.meta[_FORMAT] = format_
    return format_


def wants_json(context: Any) -> bool:  # noqa: ANN401 - Typer brings its own copy of click, whose types are private.
    """Whether the verb that was called prints its data as JSON."""
    return bool(context.meta.get(_FORMAT) is Format.JSON)


FormatOption = Annotated[
    Format, typer.Option("--format", callback=_remember_format, help="text for people, json for programs.")
]
FindingsFormatOption = Annotated[
    FindingsFormat, typer.Option("--format", help="text, json, github (annotations) or sarif (code scanning).")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it without asking for the name to be typed.")]


def config_path(config: Path | None, policy: Path | None = None) -> Path | None:
    """Return the configuration to use: the one that is named, or the default one where no policy is named either."""
    if config is not None or policy is not None:
        return config
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None
