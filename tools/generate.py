"""Write every file that is made: JSON Schemas, the dead-letter schema, the reference tables, what is told of speed.

``python tools/generate.py`` writes them; with ``--check`` it only says which are not what they should be, and fails.
"""
# ruff: noqa: INP001, T201 - a script, no package; it prints.

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import nativeschemes
import speed
from tables import NOTE, table

from tokenweir.app.fileschemas import FILE_SCHEMAS
from tokenweir.app.rules import RULES
from tokenweir.config.models import Config
from tokenweir.core import deadletter
from tokenweir.core.detokenize.models import Grants
from tokenweir.core.outcome import REASONS
from tokenweir.core.policy.models import Policy
from tokenweir.telemetry.metrics import METRICS
from tokenweir.validation import json_schema

ROOT = Path(__file__).resolve().parents[1]


def as_json(document: object) -> str:
    """Return a JSON file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def models(title: str, introduction: str, schema: dict[str, Any]) -> str:
    """Return a page with a table for every part of a file, from its JSON Schema."""
    parts = [f"# {title}\n\n{NOTE}\n{introduction}\n"]
    definitions = schema.get("definitions", {})
    for name, part in [("The file", schema), *definitions.items()]:
        if "properties" not in part:
            continue
        parts.append(f"\n## {name}\n\n{_sentence(part.get('description', ''))}\n\n")
        parts.append(table(["key", "takes", "default", "meaning"], _keys(part, definitions)))
    return "".join(parts)


def _sentence(text: str) -> str:
    """Return a docstring on one line."""
    return " ".join(text.split())


def _keys(part: dict[str, Any], definitions: dict[str, Any]) -> Iterator[list[str]]:
    required = part.get("required", [])
    for key, value in part["properties"].items():
        default = "required" if key in required else f"`{json.dumps(value['default'])}`" if "default" in value else ""
        # pydantic leaves out a description that the model itself has already.
        model = definitions.get(value.get("$ref", "").rpartition("/")[2], {})
        meaning = value.get("description") or model.get("description", "")
        yield [f"`{key}`", _takes(value), default, _sentence(meaning)]


def _takes(value: dict[str, Any]) -> str:
    """Say in words what a key takes."""
    if "allOf" in value:
        return _takes(value["allOf"][0])
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for alternatives in ("anyOf", "oneOf"):
        if alternatives in value:
            return " or ".join(dict.fromkeys(_takes(each) for each in value[alternatives] if each != {"type": "null"}))
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    return _takes_type(value)


def _takes_type(value: dict[str, Any]) -> str:
    """Say in words what a key of a plain type takes."""
    match value.get("type"):
        case "array":
            return f"list of {_takes(value.get('items', {}))}"
        case "object":
            patterns: dict[str, Any] = value.get("patternProperties", {})
            inner: object = value.get("additionalProperties") or next(iter(patterns.values()), {})
            return f"mapping to {_takes(inner)}" if isinstance(inner, dict) else "mapping"
        case "string":
            return f"text, `{value['pattern']}`" if "pattern" in value else "text"
        case "integer" | "number" as kind:
            return "whole number" if kind == "integer" else "number"
        case "boolean":
            return "`true`, `false`"
        case _:
            return "anything"


def policy() -> str:
    """Return the reference of the policy's keys."""
    return models("Keys of the policy", "Every key that a policy file takes.", json_schema(Policy, "policy"))


def config() -> str:
    """Return the reference of the configuration's keys."""
    introduction = (
        "Every key of the configuration. `${VARIABLE}` and `${VARIABLE:default}` are filled in from the environment; "
        "`TOKENWEIR__SECTION__KEY` replaces a key; relative paths are relative to the file."
    )
    return models("Keys of the configuration", introduction, json_schema(Config, "configuration"))


def grants() -> str:
    """Return the reference of the grants file's keys."""
    introduction = "Every key of the file that `detokenize.grants` names: who may turn tokens back into values."
    return models("Keys of the grants file", introduction, json_schema(Grants, "grants"))


def metrics() -> str:
    """Return the reference of the metrics."""
    rows = (
        [f"`{metric.name}`", metric.type, ", ".join(f"`{label}`" for label in metric.labels), _help(metric)]
        for metric in METRICS.values()
    )
    return f"# Metrics\n\n{NOTE}\n{table(['name', 'type', 'labels', 'meaning'], rows)}"


def _help(metric: Any) -> str:  # noqa: ANN401 - a Metric; only its documentation is read.
    closed = (
        f" `{label}` is one of {', '.join(f'`{value}`' for value in sorted(values))}."
        for label, values in metric.closed.items()
    )
    return f"{metric.help}{''.join(closed)}"


def reasons() -> str:
    """Return the reference of the reasons of rejections."""
    rows = ([f"`{reason}`", stage.value, sentence] for reason, (stage, sentence) in REASONS.items())
    introduction = (
        "Why a record is rejected: the same word in dead letters, metrics, logs and reports. A rejected record is "
        "one whose fate is `rejected` for an output; nothing of it leaves there."
    )
    return f"# Reasons of rejections\n\n{NOTE}\n{introduction}\n\n{table(['reason', 'stage', 'meaning'], rows)}"


def rules() -> str:
    """Return the reference of the rules of findings."""
    rows = ([f"`{rule}`", sentence] for rule, sentence in sorted(RULES.items()))
    return f"# Rules\n\n{NOTE}\nWhat a finding of `tokenweir lint` can name.\n\n{table(['rule', 'meaning'], rows)}"


def cli() -> str:
    """Return the reference of the command line."""
    from typer.main import get_command  # noqa: PLC0415 - only this page needs the command line.

    from tokenweir.cli import app  # noqa: PLC0415 - as above.

    return f"# Command line\n\n{NOTE}\n{''.join(_command(get_command(app), 'tokenweir'))}"


def _command(command: Any, name: str) -> Iterator[str]:  # noqa: ANN401 - Typer's copy of click has private types.
    """Yield the sections of a command and of those below it."""
    yield f"## `{name}`\n\n{_prose(command.help)}\n\n"
    parameters = [each for each in command.params if not getattr(each, "hidden", False)]
    if parameters:
        yield table(["argument or option", "default", "meaning"], map(_parameter, parameters)) + "\n"
    if command.epilog:
        examples = [line.strip() for line in command.epilog.splitlines() if line.startswith("  ")]
        yield "```sh\n" + "\n".join(examples) + "\n```\n\n"
    for inner_name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _command(inner, f"{name} {inner_name}")


def _prose(text: str | None) -> str:
    paragraphs = (text or "").replace("\b", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def _parameter(parameter: Any) -> list[str]:  # noqa: ANN401 - as above
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        name = ", ".join(f"`{option}`" for option in parameter.opts) + _value(parameter)
        name += "".join(f" / `{option}`" for option in parameter.secondary_opts)
    default = parameter.default
    plain = default is None or default is False or callable(default) or default == []
    shown = "required" if parameter.required else "" if plain else f"`{getattr(default, 'value', default)}`"
    return [name, shown, _sentence(parameter.help or "")]


def _value(option: Any) -> str:  # noqa: ANN401 - as above
    """Return what stands after an option."""
    if option.is_flag:
        return ""
    choices = [choice.value for choice in type(option.default)] if isinstance(option.default, Enum) else []
    return f" `{option.metavar or '|'.join(choices) or 'VALUE'}`"


def _json_file(name: str) -> Callable[[], str]:
    return lambda: as_json(FILE_SCHEMAS[name]())


FILES: dict[str, Callable[[], str]] = {
    **{f"schemas/{name}.schema.json": _json_file(name) for name in FILE_SCHEMAS},
    "schemas/deadletter.avsc": lambda: as_json(json.loads(deadletter.SCHEMA)),
    "docs/reference/policy.md": policy,
    "docs/reference/config.md": config,
    "docs/reference/grants.md": grants,
    "docs/reference/metrics.md": metrics,
    "docs/reference/reasons.md": reasons,
    "docs/reference/rules.md": rules,
    "docs/reference/cli.md": cli,
    "docs/reference/speed.md": speed.page,
    "docs/speed.svg": speed.plot,
    "src/rust/src/tokens/namelists.rs": nativeschemes.namelists,
    "src/rust/src/tokens/schemes.rs": nativeschemes.schemes,
    "README.md": lambda: speed.readme((ROOT / "README.md").read_text("utf-8")),
}


def main() -> int:
    """Write or check the files and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a file is not up to date")
    check = parser.parse_args().check
    stale = []
    for name, make in FILES.items():
        path = ROOT / name
        content = make()
        if path.is_file() and path.read_text("utf-8") == content:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, "utf-8")
    for name in stale:
        print(f"{name}: {'is not up to date; run python tools/generate.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
