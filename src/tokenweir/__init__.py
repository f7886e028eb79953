"""tokenweir: an event-streaming tokenization gateway on Apache Kafka."""

__version__ = "0.1.0"
