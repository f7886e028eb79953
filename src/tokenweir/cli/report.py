"""``tokenweir report``: what those are told who have to answer for the data."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import harmless, out, out_json, table, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption
from tokenweir.cli.subjects import open_policy, shown_time
from tokenweir.errors import InvalidValueError, UsageError

if TYPE_CHECKING:
    from tokenweir.app.breach import Breach, Exposure


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = verbs.group()
    verbs.add(
        group,
        breach,
        "tokenweir report breach --since 2026-11-01T00:00:00Z",
        "tokenweir report breach --since 2026-11-01T00:00:00Z --until 2026-11-08T00:00:00Z -a ads --format json",
    )
    app.add_typer(group, name="report", help="Reports for those who answer for the data.")


def breach(
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="When it began, as RFC 3339.")],
    *,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="When it ended. Default: now.")] = None,
    config: ConfigOption = None,
    stream: Annotated[str | None, typer.Option("--stream", "-s", metavar="NAME", help="Only this stream.")] = None,
    audience: Annotated[
        str | None, typer.Option("--audience", "-a", metavar="NAME", help="Only the outputs of this audience.")
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Also list the tokens of the people: personal data on your screen.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what a leak of output topics would have shown.

    How many people, in which fields, on which topics, from when to when. Fields come from the policies that decided in
    that time: the state directory keeps each with its start and end. People are counted by the keys of records, which
    are tokens. Nothing is written, and no id is shown: `detokenize` is for that. What is not known is said.
    """
    from tokenweir.app.breach import Question, report  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - as above.
    from tokenweir.runtime.sources import open_registry  # noqa: PLC0415 - as above.

    found, loaded = open_policy(config)
    until_ms = time.time_ns() // 1_000_000 if until is None else _time(until, "--until")
    question = Question(_time(since, "--since"), until_ms, stream, audience)
    if question.since_ms > question.until_ms:
        raise UsageError("--since lies after --until")
    if stream is not None and stream not in loaded.policy.streams:
        talk(f"the present policy has no stream '{harmless(stream)}'; an earlier one may have had it")
    if audience is not None and audience not in loaded.policy.audiences:
        talk(f"the present policy has no audience '{harmless(audience)}'; an earlier one may have had it")
    with cluster_faults(found):
        answer = report(found, loaded, open_registry(found), question)
    if not answer.exposures:
        known = ", ".join(sorted(loaded.policy.streams if stream is not None else loaded.policy.audiences))
        raise UsageError(
            f"no policy of that time has such an output, and nothing is reported; the present one has {known}"
        )
    if format_ is Format.JSON:
        out_json(_plain(answer, question.since_ms, until_ms, tokens=tokens))
    else:
        _show(answer, tokens=tokens)
    for words in answer.missing:
        talk(f"not known: {words}", style="yellow")


def _time(text: str, name: str) -> int:
    from tokenweir.core.timestamps import parse_date_time  # noqa: PLC0415 - slow to import.

    try:
        return parse_date_time(text)
    except InvalidValueError:
        raise UsageError(f"{name} is no RFC 3339 time, such as 2026-12-31T00:00:00Z") from None


def _show(answer: Breach, *, tokens: bool) -> None:
    table(
        ["policy", "revision", "from", "to"],
        [
            [each.digest[:12], str(each.revision), shown_time(each.started_ms), shown_time(each.ended_ms) or "(runs)"]
            for each in answer.periods
        ],
    )
    for each in answer.exposures:
        out()
        out(f"{each.topic}: stream {each.stream}, audience {each.audience}, read by {', '.join(each.recipients)}")
        erased = "" if each.erased is None else f", {each.erased:,} of them erased since"
        unknown = f"; {each.without_key:,} records have no key" if each.without_key else ""
        out(f"  {len(each.tokens):,} people in {each.records:,} records{erased}{unknown}")
        if each.records:
            rounded = "" if each.precision == "keep" else f", rounded down to the {each.precision}"
            out(f"  from {shown_time(each.first_ms)} to {shown_time(each.last_ms)}{rounded}")
        for number, (first, last) in sorted(each.spans.items()):
            out(f"  partition {number}: offsets {first} to {last}")
        if each.fields:
            table(
                ["field", "class", "treatment", "policies"],
                [
                    [row.path, row.class_name, row.treatment, ", ".join(digest[:12] for digest in row.policies)]
                    for row in each.fields
                ],
            )
        for token in sorted(each.tokens) if tokens else ():
            out(f"  {harmless(token.decode('utf-8', 'backslashreplace'))}")
        for words in each.missing:
            talk(f"not known of {each.topic}: {words}", style="yellow")


def _plain(answer: Breach, since_ms: int, until_ms: int, *, tokens: bool) -> dict[str, object]:
    return {
        "format_version": 1,
        "since": shown_time(since_ms),
        "until": shown_time(until_ms),
        "policies": [
            {
                "digest": each.digest,
                "revision": each.revision,
                "started_at": shown_time(each.started_ms),
                "ended_at": shown_time(each.ended_ms) or None,
            }
            for each in answer.periods
        ],
        "outputs": [_plain_exposure(each, tokens=tokens) for each in answer.exposures],
        "not_known": answer.missing,
    }


def _plain_exposure(each: Exposure, *, tokens: bool) -> dict[str, object]:
    listed = {"tokens": sorted(token.decode("utf-8", "backslashreplace") for token in each.tokens)} if tokens else {}
    return {
        "stream": each.stream,
        "audience": each.audience,
        "recipients": each.recipients,
        "topic": each.topic,
        "timestamps": each.precision,
        "records": each.records,
        "subjects": len(each.tokens),
        "records_without_key": each.without_key,
        "erased_since": each.erased,
        "first_at": shown_time(each.first_ms) or None,
        "last_at": shown_time(each.last_ms) or None,
        "partitions": {str(number): list(span) for number, span in sorted(each.spans.items())},
        "fields": [
            {"path": row.path, "class": row.class_name, "treatment": row.treatment, "policies": row.policies}
            for row in each.fields
        ],
        **listed,
        "not_known": each.missing,
    }
