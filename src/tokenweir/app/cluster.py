"""What every verb that talks to a cluster begins with: a configuration, its policy, and Kafka's answers in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tokenweir.adapters.admin import TopicDescription
from tokenweir.adapters.kafka_errors import KafkaFault, in_words, remedy_for
from tokenweir.app.workspace import Workspace, open_config, open_workspace
from tokenweir.config import Config
from tokenweir.config.loader import given_by_environment
from tokenweir.errors import RefusedError, UsageError
from tokenweir.runtime.topics import require_distinct_topics


def open_cluster(config_path: Path | None, environ: Mapping[str, str]) -> tuple[Config, Workspace]:
    """Load the configuration, from its file or from the environment alone, and the policy that it names.

    Raises:
        FindingsError: with every finding of either.
        UsageError: if there is neither a file nor a variable ``TOKENWEIR__…``.
        FileFormatError: if a file cannot be read.
    """
    if config_path is None and not given_by_environment(environ):
        raise UsageError("there is no configuration: name one (--config tokenweir.yaml), or set TOKENWEIR__… variables")
    config = open_config(config_path, environ)
    workspace = open_workspace(config_path=None, policy_path=config.policy.file, environ=environ)
    require_distinct_topics(config, workspace.policy.policy)
    workspace.config = config
    return config, workspace


@contextmanager
def cluster_faults(config: Config) -> Iterator[None]:
    """Turn what Kafka answers into words for whoever called the verb, with what to do about it where that is known.

    Raises:
        RefusedError: in place of a :class:`KafkaFault`.
    """
    try:
        yield
    except KafkaFault as fault:
        remedy = remedy_for(fault)
        raise RefusedError(in_words(fault, config.kafka.bootstrap_servers) + (remedy and f": {remedy}")) from fault


def unknown_partition(topic: TopicDescription, number: int) -> UsageError:
    """Return the error that a topic does not have a partition."""
    return UsageError(f"{topic.name} has the partitions 0 to {topic.partitions - 1}, and not {number}")
