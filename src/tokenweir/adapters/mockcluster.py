"""A Kafka cluster inside this process: the mock broker that librdkafka brings along, for the demo.

It speaks Kafka's protocol over a local port and knows topics, groups and transactions. It keeps no offsets that a
transaction commits, so nothing that runs on it shows that records are handled exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Producer

from tokenweir.adapters.kafka_errors import KAFKA_LOGGER, configuration_faults, faults

_TIMEOUT_SECONDS = 10


class MockCluster:
    """One mock broker; it lives as long as this object."""

    def __init__(self) -> None:
        """Start the broker.

        Raises:
            KafkaFault: this librdkafka brings none, or no port can be opened.
        """
        # The address is never used: a client with mock brokers talks to them alone.
        configuration: dict[str, object] = {"bootstrap.servers": "127.0.0.1:9", "test.mock.num.brokers": 1}
        with configuration_faults("mock cluster"):
            self._client = Producer(configuration, logger=KAFKA_LOGGER)
        with faults("find the mock broker"):
            brokers = self._client.list_topics(timeout=_TIMEOUT_SECONDS).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def create_topics(self, names: Iterable[str]) -> dict[str, int]:
        """Make topics by asking for them, which is how a mock broker makes them, and return their partition numbers.

        Raises:
            KafkaFault: the broker does not answer.
        """
        partitions = {}
        for name in names:
            with faults("make a topic"):
                partitions[name] = len(self._client.list_topics(name, timeout=_TIMEOUT_SECONDS).topics[name].partitions)
        return partitions
