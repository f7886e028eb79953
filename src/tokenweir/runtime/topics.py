"""Whether the topics of a configuration and its policy are all different where one topic for two uses would do harm."""

from __future__ import annotations

from tokenweir.config import Config
from tokenweir.core.epochs import reserved_by
from tokenweir.core.policy.check_streams import topic_of
from tokenweir.core.policy.models import Policy
from tokenweir.errors import Finding, FindingsError

RULE = "topic-clash"


def topic_clashes(config: Config, policy: Policy) -> list[Finding]:
    """Return errors where the consent topic or a dead-letter topic is also a source, an output, or one another.

    Dead letters in a source would be read as records and rejected, which makes further dead letters without end;
    records among decisions deny every subject. Streams may share one dead-letter topic.
    """
    uses: dict[str, str] = {}
    kept: dict[str, str] = {}
    for name, stream in policy.streams.items():
        uses.setdefault(stream.source.topic, f"the source of the stream '{name}'")
        outputs = [topic_of(stream, output) for output in stream.outputs]
        kept |= dict.fromkeys(outputs, name)
        for topic in outputs:
            uses.setdefault(topic, f"an output of the stream '{name}'")
    findings = []
    consent = config.consent.topic
    others = [dead_letter_topic(config, stream.source.topic) for stream in policy.streams.values()]
    for topic, section in [(consent, "consent"), *((topic, "dead_letters") for topic in dict.fromkeys(others))]:
        if output := reserved_by(topic, kept):
            message = f"'{topic}' is kept for a later key epoch of the output '{output}'"
            findings.append(config.finding((section, "topic"), RULE, message, "name it in another way"))
    if consent in uses:
        message = f"'{consent}' is {uses[consent]}, so it cannot be the consent topic"
        findings.append(config.finding(("consent", "topic"), RULE, message, "give decisions a topic of their own"))
    uses[consent] = "the consent topic"
    for topic in dict.fromkeys(others):
        if topic in uses:
            message = f"'{topic}' is {uses[topic]}, so it cannot take dead letters"
            remedy = "give dead letters a topic of their own"
            findings.append(config.finding(("dead_letters", "topic"), RULE, message, remedy))
    return findings


def require_distinct_topics(config: Config, policy: Policy) -> None:
    """Stop where one topic would serve two uses.

    Raises:
        FindingsError: with all of :func:`topic_clashes`.
    """
    findings = topic_clashes(config, policy)
    if findings:
        raise FindingsError(findings)


def dead_letter_topic(config: Config, source_topic: str) -> str:
    """Return where rejected records of a source are reported."""
    return config.dead_letters.topic.replace("{source}", source_topic)
