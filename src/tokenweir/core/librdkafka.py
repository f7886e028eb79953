"""The properties of librdkafka: which client takes which, which the gateway owns, what is wrong with a mapping.

The names and scopes are those that ``rd_kafka_conf_properties_show()`` of librdkafka 2.16 prints, which is also its
CONFIGURATION.md. A test compares them with the library that is installed. Properties that can only be set by a
function call (callbacks, opaque pointers, loaded certificates) are left out: a configuration file cannot hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Literal, NamedTuple

PropertyValue = str | int | float | bool
"""What a configuration file may give for a property; :func:`text` makes it what librdkafka reads."""

Scope = Literal["C", "P", "*"]
"""Consumer, producer, or every client, as librdkafka's own table marks it."""

_CONSUMER = """
auto.commit.enable auto.commit.interval.ms auto.offset.reset check.crcs consume.callback.max.messages
coordinator.query.interval.ms enable.auto.commit enable.auto.offset.store enable.partition.eof
fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms
fetch.wait.max.ms group.id group.instance.id group.protocol group.protocol.type group.remote.assignor
heartbeat.interval.ms isolation.level max.partition.fetch.bytes max.poll.interval.ms max.poll.records
offset.store.method offset.store.path offset.store.sync.interval.ms partition.assignment.strategy
queued.max.messages.kbytes queued.min.messages session.timeout.ms share.acknowledgement.mode
"""

_PRODUCER = """
acks batch.num.messages batch.size compression.codec compression.level compression.type
delivery.report.only.error delivery.timeout.ms enable.gapless.guarantee enable.idempotence linger.ms
message.send.max.retries message.timeout.ms partitioner produce.offset.report
queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages
queue.buffering.max.ms queuing.strategy request.required.acks request.timeout.ms retries
sticky.partitioning.linger.ms transaction.timeout.ms transactional.id
"""

_EVERY_CLIENT = """
allow.auto.create.topics api.version.fallback.ms api.version.request api.version.request.timeout.ms
bootstrap.servers broker.address.family broker.address.ttl broker.version.fallback builtin.features
client.dns.lookup client.id client.rack connections.max.idle.ms debug enable.metrics.push enable.random.seed
enable.sasl.oauthbearer.unsecure.jwt enable.ssl.certificate.verification enabled_events https.ca.location
https.ca.pem internal.termination.signal log.connection.close log.queue log.thread.name log_level max.in.flight
max.in.flight.requests.per.connection message.copy.max.bytes message.max.bytes metadata.broker.list
metadata.max.age.ms metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy plugin.library.paths
receive.message.max.bytes reconnect.backoff.jitter.ms reconnect.backoff.max.ms reconnect.backoff.ms
retry.backoff.max.ms retry.backoff.ms sasl.kerberos.keytab sasl.kerberos.kinit.cmd
sasl.kerberos.min.time.before.relogin sasl.kerberos.principal sasl.kerberos.service.name sasl.mechanism
sasl.mechanisms sasl.oauthbearer.assertion.algorithm sasl.oauthbearer.assertion.claim.aud
sasl.oauthbearer.assertion.claim.exp.seconds sasl.oauthbearer.assertion.claim.iss
sasl.oauthbearer.assertion.claim.jti.include sasl.oauthbearer.assertion.claim.nbf.seconds
sasl.oauthbearer.assertion.claim.sub sasl.oauthbearer.assertion.file
sasl.oauthbearer.assertion.jwt.template.file sasl.oauthbearer.assertion.private.key.file
sasl.oauthbearer.assertion.private.key.passphrase sasl.oauthbearer.assertion.private.key.pem
sasl.oauthbearer.client.credentials.client.id sasl.oauthbearer.client.credentials.client.secret
sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.config sasl.oauthbearer.extensions
sasl.oauthbearer.grant.type sasl.oauthbearer.metadata.authentication.type sasl.oauthbearer.method
sasl.oauthbearer.scope sasl.oauthbearer.sub.claim.name sasl.oauthbearer.token.endpoint.url sasl.password
sasl.username security.protocol socket.blocking.max.ms socket.connection.setup.timeout.ms
socket.keepalive.enable socket.max.fails socket.nagle.disable socket.receive.buffer.bytes
socket.send.buffer.bytes socket.timeout.ms ssl.ca.certificate.stores ssl.ca.location ssl.ca.pem
ssl.certificate.location ssl.certificate.pem ssl.cipher.suites ssl.crl.location ssl.curves.list
ssl.endpoint.identification.algorithm ssl.engine.id ssl.engine.location ssl.key.location ssl.key.password
ssl.key.pem ssl.keystore.location ssl.keystore.password ssl.providers ssl.sigalgs.list statistics.interval.ms
topic.blacklist topic.metadata.propagation.max.ms topic.metadata.refresh.fast.cnt
topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.interval.ms topic.metadata.refresh.sparse
"""

PROPERTIES: Mapping[str, Scope] = {
    **dict.fromkeys(_CONSUMER.split(), "C"),
    **dict.fromkeys(_PRODUCER.split(), "P"),
    **dict.fromkeys(_EVERY_CLIENT.split(), "*"),
}
"""Every property that a configuration file may hold, and the client that takes it."""

_OWN_FIELD = "kafka.bootstrap_servers says it"
_NO_COMMIT = "offsets are committed only inside transactions"
_STARTING_POINT = "gateway.start says where a source begins; a lost offset must stop the gateway"
_ASSIGNMENT = "the gateway releases every partition at each rebalance"
_TRANSACTION = "it follows from the stream and the slot, so that a successor fences its predecessor"
_SAFE_WRITE = "a transaction needs every write acknowledged by every replica in sync, once and in order"
_SLOT = "one value cannot serve several workers"
_INTERNAL = "the gateway's own handling of the client depends on it"

OWNED: Mapping[str, str] = {
    "bootstrap.servers": _OWN_FIELD,
    "metadata.broker.list": _OWN_FIELD,
    "group.id": "it is gateway.group_prefix and the stream's name",
    "group.instance.id": _SLOT,
    "client.id": _SLOT,
    "group.protocol": _ASSIGNMENT,
    "group.protocol.type": _ASSIGNMENT,
    "group.remote.assignor": _ASSIGNMENT,
    "partition.assignment.strategy": _ASSIGNMENT,
    "share.acknowledgement.mode": "share groups are not used",
    "isolation.level": "records of aborted transactions must never be read",
    "enable.auto.commit": _NO_COMMIT,
    "auto.commit.enable": _NO_COMMIT,
    "auto.commit.interval.ms": _NO_COMMIT,
    "enable.auto.offset.store": _NO_COMMIT,
    "offset.store.method": _NO_COMMIT,
    "offset.store.path": _NO_COMMIT,
    "offset.store.sync.interval.ms": _NO_COMMIT,
    "auto.offset.reset": _STARTING_POINT,
    "enable.partition.eof": _INTERNAL,
    "transactional.id": _TRANSACTION,
    "transaction.timeout.ms": "the revoke barrier's alarm is a multiple of it",
    "enable.idempotence": _SAFE_WRITE,
    "acks": _SAFE_WRITE,
    "request.required.acks": _SAFE_WRITE,
    "queuing.strategy": _SAFE_WRITE,
    "enable.gapless.guarantee": _SAFE_WRITE,
    "partitioner": "equal keys must reach the partition that Kafka's Java clients choose",
    "allow.auto.create.topics": "topics are never created by accident; `tokenweir doctor --fix` creates them",
    "log.queue": _INTERNAL,
    "enabled_events": _INTERNAL,
    "delivery.report.only.error": _INTERNAL,
    "log.connection.close": _INTERNAL,
}
"""Properties that the gateway sets itself, each with the reason why a configuration must not."""


class PropertyProblem(NamedTuple):
    """What is wrong with one property: its key, the problem, and what to do. Never its value, which may be a secret."""

    key: str
    problem: str
    remedy: str


def check_properties(properties: Mapping[str, PropertyValue]) -> list[PropertyProblem]:
    """Give every key that is unknown to librdkafka or owned by the gateway, in the order of the mapping."""
    return [problem for key in properties if (problem := _check(key)) is not None]


def _check(key: str) -> PropertyProblem | None:
    if key in OWNED:
        return PropertyProblem(key, "is set by the gateway", f"remove it: {OWNED[key]}")
    if key in PROPERTIES:
        return None
    close = get_close_matches(key.lower().replace("_", "."), PROPERTIES, n=1, cutoff=0.75)
    remedy = f"did you mean '{close[0]}'?" if close else "see librdkafka's CONFIGURATION.md for the names it knows"
    return PropertyProblem(key, "is not a property of librdkafka", remedy)


def text(value: PropertyValue) -> str:
    """Return a value as librdkafka reads it: booleans in lower case, everything else as Python prints it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def for_consumer(properties: Mapping[str, PropertyValue]) -> dict[str, str]:
    """Return the properties that a consumer takes.

    A key that librdkafka does not know is kept, so that the client refuses it loudly and nothing is lost in silence.
    """
    return _without(properties, ("P",))


def for_producer(properties: Mapping[str, PropertyValue]) -> dict[str, str]:
    """Return the properties that a producer takes; unknown keys are kept as in :func:`for_consumer`."""
    return _without(properties, ("C",))


def for_admin(properties: Mapping[str, PropertyValue]) -> dict[str, str]:
    """Return the properties that every client takes; unknown keys are kept as in :func:`for_consumer`."""
    return _without(properties, ("C", "P"))


def _without(properties: Mapping[str, PropertyValue], scopes: tuple[Scope, ...]) -> dict[str, str]:
    return {key: text(value) for key, value in properties.items() if PROPERTIES.get(key) not in scopes}
