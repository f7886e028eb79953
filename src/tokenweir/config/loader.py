"""A configuration file and the environment to one checked configuration, or to everything that is wrong with them.

The order: what a variable ``TOKENWEIR__SECTION__KEY`` gives replaces what the file gives; ``${VARIABLE}`` in the rest
is filled in; secrets are read from the files that ``*_file`` keys name; then the model checks all of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr

from tokenweir import validation, yamlsource
from tokenweir.config.models import Config
from tokenweir.errors import FileFormatError, Finding, FindingsError
from tokenweir.validation import annotation_at, keys_of, suggest, validate
from tokenweir.yamlsource import Document, read_yaml, resolve_scalar, texts
from tokenweir.yamlsource import Path as KeyPath

#: Every rule with the sentence that explains it; the reference documentation is generated from it.
RULES: Final[dict[str, str]] = (
    yamlsource.RULES
    | validation.RULES
    | {
        "undefined-variable": "`${VARIABLE}` without a default, and the variable is not set.",
        "variable-syntax": "`${` that does not begin `${VARIABLE}`, `${VARIABLE:default}` or `${{text}}`.",
        "unknown-override": "A variable `TOKENWEIR__…` that names no key of the configuration.",
        "secret-in-file": "A secret stands in the configuration file itself.",
        "secret-twice": "A secret is given directly and by a file.",
        "unreadable-file": "A file that holds a secret cannot be read.",
    }
)

PREFIX: Final = "TOKENWEIR__"

#: Keys at the top of a policy, and of no configuration.
_POLICY_KEYS: Final = frozenset({"purposes", "classes", "audiences", "streams", "subjects", "tokens"})

_VARIABLE: Final = re.compile(
    r"\$\{\{(?P<literal>.*?)\}\}|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<default>[^}]*))?\}", re.DOTALL
)
#: Properties of librdkafka that hold a password or a private key.
_SECRET: Final = re.compile(r"(?:password|passphrase|secret|key\.pem)\Z")
_PROPERTIES: Final = ("kafka", "properties")
_PASSWORD: Final = ("registry", "password")
_FILE_SUFFIX: Final = "_file"
#: What a variable gives as JSON: the word for it, and an example.
_CONTAINERS: Final[dict[Any, tuple[str, str]]] = {
    dict: ("mapping", '{"client.id": "gateway"}'),
    list: ("list", '["ES256"]'),
}
_MAXIMUM_SECRET_BYTES: Final = 64 * 1024


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration in a file, with the environment over it.

    Raises:
        FileFormatError: The file cannot be read.
        FindingsError: The configuration is not right; every reason is in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileFormatError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileFormatError(f"{path}: the file is not UTF-8 text") from None
    return load_config_text(text, str(path), environ)


def load_config_text(text: str, file: str, environ: Mapping[str, str]) -> Config:
    """Return the configuration in ``text``; relative paths in it are relative to the directory of ``file``.

    Raises:
        FindingsError: The configuration is not right; every reason is in it.
    """
    document = read_yaml(text, file)
    names = set(document.data) if isinstance(document.data, dict) else set()
    if names & _POLICY_KEYS and not names - {"version"} & set(keys_of(Config)):
        message = "this is a policy and no configuration"
        raise FindingsError([Finding(file, 1, 1, "other-file", message, "give it with --policy")])
    return _finish(document, Path(file).parent.absolute(), environ)


def config_from_environment(environ: Mapping[str, str]) -> Config:
    """Return the configuration that the environment alone gives; relative paths are relative to the working directory.

    Raises:
        FindingsError: The configuration is not right; every reason is in it.
    """
    return _finish(Document("environment", {"version": 1}), Path.cwd(), environ)


def given_by_environment(environ: Mapping[str, str]) -> bool:
    """Whether the environment gives a configuration, or a part of one."""
    return any(name.startswith(PREFIX) for name in environ)


def override_names() -> dict[str, KeyPath]:
    """Return the environment variable of every key of the configuration, with the path of the key."""
    return {PREFIX + "__".join(path).upper(): path for path in _leaves(Config, ())}


def _leaves(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        # A section that may be absent is looked into too.
        choices = (field.annotation, *get_args(field.annotation))
        inner = next((each for each in choices if isinstance(each, type) and issubclass(each, BaseModel)), None)
        if inner is not None:
            yield from _leaves(inner, (*path, field.alias or name))
        else:
            yield (*path, field.alias or name)


def _finish(document: Document, directory: Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration of a document that was read, or raise everything that was found."""
    config = None
    if document.complete:
        if document.data is None and not document.unusable:
            document.data = {}
        _find_inline_secrets(document)
        _override(document, environ)
        _expand(document, environ)
        _read_secrets(document, directory)
        config, findings = validate(Config, document, context={"directory": directory})
        document.findings += findings
    if config is None or document.findings:
        raise FindingsError(sorted(document.findings))
    config.came_from(document)
    return config


def _find_inline_secrets(document: Document) -> None:
    """Find secrets in the file itself: any text of a secret beside ``${VARIABLE}``, and any default of one."""
    for path in _secret_paths(document.data):
        value = _get(document.data, path)
        literal = _VARIABLE.sub(lambda match: match["literal"] or match["default"] or "", str(value))
        if value is not None and literal.strip():
            remedy = f"use '{path[-1]}{_FILE_SUFFIX}', or a variable: ${{NAME}}"
            message = f"the secret '{path[-1]}' stands in the file"
            document.findings.append(document.finding(path, "secret-in-file", message, remedy))
            document.unusable.add(path)


def _secret_paths(data: object) -> list[KeyPath]:
    """Return the paths of the secrets that are given directly."""
    properties = _get(data, _PROPERTIES)
    names = properties if isinstance(properties, dict) else {}
    found: list[KeyPath] = [(*_PROPERTIES, name) for name in names if _SECRET.search(name)]
    if _get(data, _PASSWORD) is not None:
        found.append(_PASSWORD)
    return found


def _override(document: Document, environ: Mapping[str, str]) -> None:
    names = override_names()
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        path = names.get(variable)
        if path is None:
            remedy = suggest(variable, names) or "see the configuration reference"
            document.findings.append(Finding(variable, 0, 0, "unknown-override", "names no key", remedy))
            continue
        document.origins[path] = variable
        _forget_file_value(document, path)
        _set(document.data, path, _override_value(document, path, text))


def _forget_file_value(document: Document, path: KeyPath) -> None:
    """A value that the environment replaces need not be usable in the file."""
    document.unusable = {each for each in document.unusable if each[: len(path)] != path}


def _override_value(document: Document, path: KeyPath, text: str) -> object:
    annotation = annotation_at(Config, path)
    container = get_origin(annotation)
    if container in _CONTAINERS:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, container):
            what, example = _CONTAINERS[container]
            message = f"'{path[-1]}' must be a {what}, written as JSON"
            document.findings.append(document.finding(path, "wrong-value", message, f"such as {example}"))
            document.unusable.add(path)
        return value
    if annotation is Path and text:
        return str(Path.cwd() / text)
    return _typed(annotation, text)


def _typed(annotation: Any, text: str) -> object:  # noqa: ANN401 - An annotation may be anything.
    """Return a text from outside of the file as the type that its key takes."""
    is_word = get_origin(annotation) is Literal and all(isinstance(choice, str) for choice in get_args(annotation))
    numeric = annotation in {int, float, bool} or (get_origin(annotation) is Literal and not is_word)
    return resolve_scalar(text) if numeric else text


def _expand(document: Document, environ: Mapping[str, str]) -> None:
    for path, text in list(texts(document.data)):
        overridden = any(path[:length] in document.origins for length in range(len(path) + 1))
        if "${" not in text or overridden or path in document.unusable:
            continue
        expanded = _expand_text(document, path, text, environ)
        if expanded is None:
            document.unusable.add(path)
        else:
            _set(document.data, path, _typed(annotation_at(Config, path), expanded))


def _expand_text(document: Document, path: KeyPath, text: str, environ: Mapping[str, str]) -> str | None:
    """Return a text with its variables filled in, or None after adding what is wrong."""
    faults = len(document.findings)

    def replacement(match: re.Match[str]) -> str:
        if match["literal"] is not None:
            return f"${{{match['literal']}}}"
        value = environ.get(match["name"], match["default"])
        if value is None:
            message = f"the variable {match['name']} is not set"
            remedy = f"set it, or give a default: ${{{match['name']}:default}}"
            document.findings.append(document.finding(path, "undefined-variable", message, remedy))
        return value or ""

    if "${" in _VARIABLE.sub("", text):
        message = f"'${{' does not begin a variable in '{path[-1]}'"
        remedy = "write ${NAME} or ${NAME:default}; ${{text}} stands for ${text}"
        document.findings.append(document.finding(path, "variable-syntax", message, remedy))
    expanded = _VARIABLE.sub(replacement, text)
    return expanded if len(document.findings) == faults else None


def _read_secrets(document: Document, directory: Path) -> None:
    """Put the contents of the files that ``*_file`` keys name where the secrets belong."""
    properties = _get(document.data, _PROPERTIES)
    if isinstance(properties, dict):
        for name in [name for name in properties if name.endswith(_FILE_SUFFIX)]:
            _read_secret(document, directory, (*_PROPERTIES, name), keep=False)
        for name, value in properties.items():
            if _SECRET.search(name) and isinstance(value, str | int | float):
                properties[name] = SecretStr(str(value))
    if _get(document.data, (*_PASSWORD[:-1], _PASSWORD[-1] + _FILE_SUFFIX)) is not None:
        _read_secret(document, directory, (*_PASSWORD[:-1], _PASSWORD[-1] + _FILE_SUFFIX), keep=True)


def _read_secret(document: Document, directory: Path, path: KeyPath, *, keep: bool) -> None:
    """Read one secret; ``keep`` says whether the model has the ``*_file`` key too."""
    name = str(path[-1])
    target: KeyPath = (*path[:-1], name.removesuffix(_FILE_SUFFIX))
    value = _get(document.data, path)
    if not keep:
        del _get(document.data, path[:-1])[name]
    if path in document.unusable:
        _set(document.data, target, SecretStr(""))  # Something is found already; its absence is no second finding.
        return
    if not isinstance(value, str) or not value:
        if not keep:
            document.findings.append(document.finding(path, "wrong-type", f"'{name}' must be a path"))
        return
    if _get(document.data, target) is not None:
        message = f"'{target[-1]}' and '{name}' are both given"
        document.findings.append(document.finding(path, "secret-twice", message, "keep one", at_key=True))
        return
    given_by_environment = any(path[:length] in document.origins for length in range(len(path) + 1))
    secret = _contents((Path.cwd() if given_by_environment else directory) / value)
    if isinstance(secret, SecretStr):
        _set(document.data, target, secret)
    else:
        document.findings.append(document.finding(path, "unreadable-file", f"the file of '{name}' {secret}"))
        _set(document.data, target, SecretStr(""))


def _contents(path: Path) -> SecretStr | str:
    """Return the text of a file without the newline at its end, or in a plain text why it cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAXIMUM_SECRET_BYTES + 1)
        text = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    if not text or len(raw) > _MAXIMUM_SECRET_BYTES:
        return "is empty" if not text else f"is longer than {_MAXIMUM_SECRET_BYTES:,} bytes"
    return SecretStr(text)


def _get(data: object, path: KeyPath) -> Any:  # noqa: ANN401 - Plain data of any kind.
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _set(data: Any, path: KeyPath, value: object) -> None:  # noqa: ANN401 - Plain data of any kind.
    """Set a value, making the mappings on the way; where no mapping can be, nothing is set: the model will say so."""
    for key in path[:-1]:
        if isinstance(data, dict) and data.get(key) is None:
            data[key] = {}
        data = _child(data, key)
    settable = isinstance(data, dict) or (isinstance(data, list) and isinstance(path[-1], int))
    if settable:
        data[path[-1]] = value


def _child(data: Any, key: str | int) -> Any:  # noqa: ANN401 - Plain data of any kind.
    if isinstance(data, dict):
        return data.get(key)
    return data[key] if isinstance(data, list) and isinstance(key, int) else None
