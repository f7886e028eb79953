"""Replays from a configuration: looks at the dead letters before anything is done, and builds the replay."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.topicreader import read_until
from tokenweir.app.cluster import unknown_partition
from tokenweir.app.workspace import unknown_stream
from tokenweir.config import Config
from tokenweir.core.deadletter import ReadLetter
from tokenweir.core.outcome import Reason
from tokenweir.core.policy.models import Policy
from tokenweir.errors import RefusedError, UsageError
from tokenweir.runtime.gateway import Gateway, group_of
from tokenweir.runtime.keyrows import outputs_of, read_rows
from tokenweir.runtime.replay import Outcome, Replay
from tokenweir.runtime.replaychild import ReplayOrder
from tokenweir.runtime.replayletters import Choice, Counts, Desk, Lot
from tokenweir.runtime.survey import replay_group
from tokenweir.runtime.topics import dead_letter_topic
from tokenweir.validation import suggest

_CLIENT_ID: Final = "tokenweir-replay-tool"

#: A transaction that a killed replay left open is aborted after 15 s, and the offsets in it are unstable until then.
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.2

#: A broker forgets the offsets of a group that has had no members for ``offsets.retention.minutes``, a week by default
#: (KIP-211). Nobody is assumed to forget within a day.
_FORGETS_AFTER_MS: Final = 86_400_000


class LetterKind(NamedTuple):
    """What letters are counted by: audience ("" where the policy has no such output), reason and schema id."""

    audience: str
    reason: str
    schema_id: int


@dataclass(slots=True)
class Survey:
    """What a replay would find, before it does anything.

    Attributes:
        topic: The dead-letter topic.
        group: The group whose offsets say what was replayed.
        starts: By partition, the first letter that was not replayed.
        ends: By partition, the end of the topic at this moment.
        expired: Places in the topic whose letters retention deleted before any replay.
        read: Letters between, foreign ones included.
        chosen: Those that are chosen, by kind.
        kept: Those of this stream that are not, by kind; they would be put back.
        foreign: Records that belong to another stream, or are no letters.
        oldest_ms: The time of the oldest source record of a chosen letter, None without any.
        newest_ms: That of the newest.
        present: Chosen letters at whose place the source topic has a record.
    """

    topic: str
    group: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    expired: int = 0
    read: int = 0
    chosen: Counter[LetterKind] = field(default_factory=Counter)
    kept: Counter[LetterKind] = field(default_factory=Counter)
    foreign: int = 0
    oldest_ms: int | None = None
    newest_ms: int | None = None
    present: int = 0

    def note(self, letter: ReadLetter, *, present: bool) -> None:
        """Count a chosen letter."""
        time_ms = letter.source_timestamp_ms
        self.oldest_ms = time_ms if self.oldest_ms is None else min(self.oldest_ms, time_ms)
        self.newest_ms = time_ms if self.newest_ms is None else max(self.newest_ms, time_ms)
        self.present += present


def choice_of(  # noqa: PLR0913 - what can be asked for
    policy: Policy,
    stream: str,
    *,
    reasons: list[str],
    audience: str | None,
    partition: int | None,
    first_offset: int | None,
    last_offset: int | None,
) -> Choice:
    """Return the choice that these words make.

    Raises:
        UsageError: a stream, reason or audience does not exist, or the range is none.
    """
    if stream not in policy.streams:
        raise unknown_stream(stream, policy.streams)
    for reason in reasons:
        if reason not in list(Reason):
            raise UsageError(f"'{reason}' is no reason; {_hint(reason, [each.value for each in Reason])}")
    audiences = [output.audience for output in policy.streams[stream].outputs]
    if audience is not None and audience not in audiences:
        raise UsageError(f"stream '{stream}' has no output for '{audience}'; {_hint(audience, audiences)}")
    if partition is None and (first_offset is not None or last_offset is not None):
        raise UsageError("--from and --to are offsets of one source partition: name it with --partition")
    if first_offset is not None and last_offset is not None and first_offset > last_offset:
        raise UsageError("--from is beyond --to")
    chosen = frozenset() if audience is None else frozenset({audience})
    return Choice(frozenset(reasons), chosen, partition, first_offset, last_offset)


def _hint(word: str, choices: list[str]) -> str:
    return suggest(word, choices) or f"it is one of: {', '.join(choices)}"


def survey(config: Config, policy: Policy, stream: str, choice: Choice, *, from_beginning: bool = False) -> Survey:
    """Read all letters that were not replayed yet, and write nothing.

    Raises:
        UsageError: A partition is chosen that the source does not have.
        RefusedError: It is not known what was replayed already.
        KafkaFault: A topic or the group cannot be read.
    """
    properties = config.kafka.client_properties()
    admin = Admin(properties, _CLIENT_ID)
    source = policy.streams[stream].source.topic
    described = admin.describe_topic(source)
    if choice.partition is not None and choice.partition >= described.partitions:
        raise unknown_partition(described, choice.partition)
    topic, group = dead_letter_topic(config, source), replay_group(group_of(config, stream))
    numbers = range(admin.describe_topic(topic).partitions)
    committed = _committed(admin, group, topic, numbers)
    # Every letter below these ends is read by the replay itself, which waits for transactions that are open now. Here
    # it is enough to see what is decided.
    ends = admin.high_watermarks(topic, numbers)
    stable = admin.high_watermarks(topic, numbers, "read_committed")
    lows = admin.low_watermarks(topic, numbers)
    starts = {number: max(committed.get(number) or 0, lows[number]) for number in numbers}
    found = Survey(topic, group, starts, ends)
    found.expired = sum(lows[number] - offset for number, offset in committed.items() if lows[number] > offset)
    desk = Desk(policy, stream, choice, outputs_of(policy, stream, read_rows(config)))
    # Anybody who may write letters can name any place, so that one before the beginning is not the only kind of gone.
    sources = range(described.partitions)
    source_lows, source_ends = admin.low_watermarks(source, sources), admin.high_watermarks(source, sources)
    now_ms = time.time_ns() // 1_000_000
    for message in read_until(properties, topic, {number: (starts[number], stable[number]) for number in numbers}):
        if not committed and not from_beginning and message.timestamp()[1] < now_ms - _FORGETS_AFTER_MS:
            raise RefusedError(_unknown_start(group, topic))
        sorted_ = desk.sort(message.value())
        found.read += 1
        if sorted_.letter is None or sorted_.lot is Lot.FOREIGN:
            found.foreign += 1
            continue
        letter = sorted_.letter
        kinds = found.chosen if sorted_.lot is Lot.CHOSEN else found.kept
        kinds[LetterKind(sorted_.audience, letter.reason, letter.schema_id)] += 1
        if sorted_.lot is Lot.CHOSEN:
            low, end = (places.get(letter.source_partition, 0) for places in (source_lows, source_ends))
            found.note(letter, present=low <= letter.source_offset < end)
    return found


def _committed(admin: Admin, group: str, topic: str, numbers: range) -> dict[int, int]:
    """Return the stable offsets of a group, as far as it has any."""
    deadline_seconds = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            answers = admin.committed(group, topic, numbers)
        except KafkaFault as fault:
            if not fault.retriable or time.monotonic() > deadline_seconds:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return {number: found.offset for number, found in answers.items() if found.offset is not None}


def _unknown_start(group: str, topic: str) -> str:
    return (
        f"group {group} has no offsets, and {topic} has letters of more than a day ago. Either they were never "
        "replayed: then say --from-beginning. Or they were, and the broker has forgotten it (it does so with "
        "offsets.retention.minutes): then --from-beginning would publish again what was published. Set the group to "
        "the time of the last replay first (kafka-consumer-groups.sh --reset-offsets --to-datetime)"
    )


def new_replay(  # noqa: PLR0913 - what a replay consists of
    config: Config,
    stream: str,
    choice: Choice,
    found: Survey,
    *,
    limit: int | None,
    on_progress: Callable[[Counts], None],
) -> Replay:
    """Return a replay of what a survey found, up to the ends that it saw.

    Raises:
        RefusedError: The configuration asks for what is not there, such as keys.
    """
    level = config.logging.level
    # A verb talks for itself; what its processes have to say is what went wrong.
    logging = config.logging.model_copy(update={"level": "error" if level == "error" else "warning"})
    gateway = Gateway.open(config.model_copy(update={"logging": logging}))
    return Replay(gateway, stream, ReplayOrder(choice, dict(found.ends), limit), on_progress)


__all__ = ["LetterKind", "Outcome", "Survey", "choice_of", "new_replay", "survey"]
