"""Foreign libraries, each wrapped once: Kafka clients, the schema registry, LMDB and key files."""
