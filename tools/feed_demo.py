"""Play the producers of the demo: topics, a registered schema and events for what ``tokenweir demo --write DIR`` wrote.

``python tools/feed_demo.py DIR`` creates the source topics where they are missing, registers the schema of
``interactions`` and produces the events of both streams. Broker and registry are those of ``DIR/gateway.yaml``, or of
the variables ``TOKENWEIR__KAFKA__BOOTSTRAP_SERVERS`` and ``TOKENWEIR__REGISTRY__URL``.
"""
# ruff: noqa: INP001, T201 - a script, no package; it prints.

from __future__ import annotations

import os
import sys
from pathlib import Path

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.topicwriter import TopicWriter
from tokenweir.app import demodata
from tokenweir.app.files import open_source
from tokenweir.app.workspace import open_workspace
from tokenweir.core.wire import frame
from tokenweir.errors import TokenweirError
from tokenweir.runtime.sources import open_registry

PARTITIONS = 4

#: The input of each stream, as ``demo --write`` leaves it.
EVENTS = {"interactions": "events.avro", "web": "web.jsonl"}


def feed(directory: Path) -> None:
    """Create, register and produce."""
    workspace = open_workspace(config_path=directory / demodata.GATEWAY, policy_path=None, environ=os.environ)
    config = workspace.config
    if config is None:
        raise AssertionError("a workspace that was opened by its configuration has one")
    properties = config.kafka.client_properties()
    admin = Admin(properties)
    existing = admin.topics()
    for stream, file in EVENTS.items():
        source = workspace.policy.policy.streams[stream].source
        if source.topic not in existing:
            admin.create_topic(source.topic, PARTITIONS)
        header = b""
        if source.format == "avro":
            text = (directory / demodata.SCHEMA).read_text("utf-8")
            header = frame(open_registry(config).register(f"{source.topic}-value", text, "AVRO"), b"")
        with open_source(str(directory / file)) as opened:
            values = [header + record for record in opened.records]
        # The key only spreads the records over the partitions; the policy reads subjects from the values.
        records = [(str(number).encode(), value) for number, value in enumerate(values)]
        TopicWriter(properties, source.topic, "tokenweir-demo").write_all(records, lambda _key, _place: None)
        print(f"{source.topic}: {len(values)} records")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/feed_demo.py DIR")
    try:
        feed(Path(sys.argv[1]))
    except (TokenweirError, OSError) as error:
        sys.exit(f"feed_demo: {error}")
