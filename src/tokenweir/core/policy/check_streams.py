"""What is wrong with the streams of a policy and with how their outputs go together."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from tokenweir.core.epochs import reserved_by
from tokenweir.core.paths import PathError, Pattern, SourcePath, parse_path
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.models import AnyOf, Audience, Output, Overlay, Policy, Stream, Tokenize
from tokenweir.core.policy.report import Report
from tokenweir.yamlsource import Path

#: ``org.apache.kafka.common.internals.Topic``: legal characters and the longest name; "." and ".." are not allowed.
_TOPIC: Final = re.compile(r"(?!\.\.?\Z)[a-zA-Z0-9._-]{1,249}")


def topic_of(stream: Stream, output: Output) -> str:
    """Return the topic of an output: as written, or ``{source}.{audience}``."""
    return output.topic or f"{stream.source.topic}.{output.audience}"


def check_streams(report: Report, table: ClassTable) -> None:
    """Add everything about the streams that cannot be meant."""
    policy = report.loaded.policy
    for name, stream in policy.streams.items():
        path: Path = ("streams", name)
        _check_source(report, path, stream)
        _check_subjects(report, policy, path, stream)
        _check_paths(report, path, stream)
        _check_class_names(report, policy, path, stream)
        for index, output in enumerate(stream.outputs):
            _check_output(report, table, (*path, "outputs", index), stream, output)
    _check_topics(report, policy)


def _check_source(report: Report, path: Path, stream: Stream) -> None:
    source = stream.source
    if _TOPIC.fullmatch(source.topic) is None:
        report.error((*path, "source", "topic"), "topic-name", f"'{source.topic}' is not a topic name")
    if (source.schema_ is not None) == (source.format == "json"):
        return
    if source.format == "json":
        report.error((*path, "source", "format"), "schema-file", "format json has no registry", "add `schema: FILE`")
    else:
        message = f"format {source.format} takes its schemas from the registry"
        report.error_at_key((*path, "source", "schema"), "schema-file", message, "remove `schema`")


def _check_subjects(report: Report, policy: Policy, path: Path, stream: Stream) -> None:
    for index, subject in enumerate(stream.subjects):
        here = (*path, "subjects", index)
        report.known((*here, "type"), "subject", subject.type, policy.subjects)
        with _PathFindings(report, (*here, "path")):
            SourcePath.parse(subject.path)


class _PathFindings:
    """Turns the :class:`PathError` of its block into a finding."""

    def __init__(self, report: Report, path: Path, *, at_key: bool = False) -> None:
        self._add = report.error_at_key if at_key else report.error
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> bool:
        if not isinstance(error, PathError):
            return False
        at = f", character {error.column}" if error.column else ""
        self._add(self._path, "invalid-path", f"'{error.path}'{at}: {error.reason}", error.remedy)
        return True


def _check_paths(report: Report, path: Path, stream: Stream) -> None:
    if stream.event_time is not None:
        with _PathFindings(report, (*path, "event_time")):
            parse_path(stream.event_time)
    for index, (latitude, longitude) in enumerate(stream.pairs):
        here = (*path, "pairs", index)
        with _PathFindings(report, here):
            first, second = parse_path(latitude), parse_path(longitude)
            if first[:-1] != second[:-1] or first == second:
                message = f"'{latitude}' and '{longitude}' are not two fields of one record"
                report.error(here, "pair-apart", message, "name latitude and longitude of one record")
    for pattern in stream.fields:
        with _PathFindings(report, (*path, "fields", pattern), at_key=True):
            Pattern.parse(pattern)


def _check_class_names(report: Report, policy: Policy, path: Path, stream: Stream) -> None:
    for here, name in _class_names(path, stream):
        report.known(here, "class", name, policy.classes)


def _class_names(path: Path, stream: Stream) -> Iterator[tuple[Path, str]]:
    """Yield every class that a stream names, with its place."""
    for tag, name in stream.tags.items():
        if name != "ignore":
            yield (*path, "tags", tag), name
    for field, given in stream.fields.items():
        here = (*path, "fields", field)
        if isinstance(given, Overlay):
            yield (*here, "class"), given.class_
            yield (*here, "overrides"), given.overrides
        else:
            yield here, given
    for header, name in stream.headers.items():
        yield (*path, "headers", header), name


def _check_output(report: Report, table: ClassTable, path: Path, stream: Stream, output: Output) -> None:
    policy = report.loaded.policy
    if not report.known((*path, "audience"), "audience", output.audience, policy.audiences):
        return
    audience = policy.audiences[output.audience]
    required, here = _required(output, (*path, "requires"))
    for index, purpose in enumerate(required):
        if not report.known((*here, index), "purpose", purpose, policy.purposes):
            continue
        if purpose not in audience.purposes:
            message = f"'{output.audience}' does not serve '{purpose}', so nothing could ever leave for it"
            report.error((*here, index), "unserved-purpose", message, "add it to the audience's purposes or remove it")
    if output.key == "subject" and not _key_is_tokenized(table, policy, stream, output.audience):
        message = f"no class of the subjects is tokenized for '{output.audience}'"
        report.error((*path, "key"), "key-not-tokenized", message, "tokenize the class, or write `key: none`")
    _check_requires(report, path, output, audience)


def _required(output: Output, path: Path) -> tuple[list[str], Path]:
    """Return the purposes that ``requires`` names, and the path of their list."""
    if isinstance(output.requires, AnyOf):
        return output.requires.any, (*path, "any")
    return ([], path) if output.requires == "any" else (list(output.requires), path)


def _key_is_tokenized(table: ClassTable, policy: Policy, stream: Stream, audience: str) -> bool:
    """Say whether the key could be a token; where a name is unknown, another finding says so."""
    types = [subject.type for subject in stream.subjects]
    if any(kind not in policy.subjects or not table.declared(policy.subjects[kind].class_) for kind in types):
        return True
    rules = (rule for kind in types for rule in table.rules(policy.subjects[kind].class_, audience))
    return any(isinstance(rule.do, Tokenize) for rule in rules)


def _check_requires(report: Report, path: Path, output: Output, audience: Audience) -> None:
    """Warn where one purpose that asks nobody is enough for a record to leave to an external recipient."""
    external = [recipient.id for recipient in audience.recipients if recipient.role != "internal"]
    if not external or isinstance(output.requires, list):
        return
    enough = output.requires.any if isinstance(output.requires, AnyOf) else audience.purposes
    weak = []
    for name in enough:
        purpose = report.loaded.policy.purposes.get(name)
        if purpose is not None and {purpose.basis, *purpose.basis_by.values()} != {"consent"}:
            weak.append(name)
    if weak:
        message = f"records leave to {', '.join(external)} without a consent, for {', '.join(weak)}"
        here = (*path, "requires") if "requires" in output.model_fields_set else path
        report.warning(
            here, "weak-requires", message, "name purposes with basis consent in `requires` if that is not meant"
        )


def _check_reserved(report: Report, path: Path, topic: str, written: Collection[str]) -> None:
    """Refuse the name of a topic that a later key epoch of an output will need."""
    if output := reserved_by(topic, written):
        message = f"'{topic}' is kept for a later key epoch of the output '{output}'"
        report.error(path, "topic-reserved", message, "name it in another way")


def _check_topics(report: Report, policy: Policy) -> None:
    sources = {stream.source.topic: name for name, stream in policy.streams.items()}
    written = {topic_of(stream, output) for stream in policy.streams.values() for output in stream.outputs}
    writers: dict[str, str] = {}
    for name, stream in policy.streams.items():
        _check_reserved(report, ("streams", name, "source", "topic"), stream.source.topic, written)
        audiences: set[str] = set()
        for index, output in enumerate(stream.outputs):
            path: Path = ("streams", name, "outputs", index)
            if output.audience in audiences:
                message = f"the stream '{name}' has an output for '{output.audience}' already"
                report.error((*path, "audience"), "audience-twice", message, "remove one")
            audiences.add(output.audience)
            topic = topic_of(stream, output)
            here = path if output.topic is None else (*path, "topic")
            if _TOPIC.fullmatch(topic) is None:
                report.error(here, "topic-name", f"'{topic}' is not a topic name", "at most 249 letters, digits, . _ -")
            _check_reserved(report, here, topic, written)
            if topic in sources:
                message = f"'{topic}' is the source of the stream '{sources[topic]}'"
                report.error(here, "output-is-source", message, "write to another topic")
            elif topic in writers:
                message = f"'{topic}' is written by an output of the stream '{writers[topic]}' already"
                report.error(here, "topic-twice", message, "give each output its own topic")
            writers.setdefault(topic, name)
