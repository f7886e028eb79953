"""The configuration as a typed model: what may be written, the defaults, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, model_validator

from tokenweir.config.sections import FilePath, Section
from tokenweir.config.serving import DetokenizeSection, ServeSection
from tokenweir.errors import Finding
from tokenweir.validation import Version, json_schema
from tokenweir.yamlsource import Document
from tokenweir.yamlsource import Path as KeyPath

TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]

#: librdkafka reads every property as text; what YAML takes for a number or a boolean is allowed and means the same.
PropertyValue = str | int | float | bool | SecretStr


class KafkaSection(Section):
    """How to reach Kafka."""

    bootstrap_servers: str = Field(default="localhost:9092", min_length=1, description="Brokers to ask first.")
    properties: dict[str, PropertyValue] = Field(
        default_factory=dict,
        description="Any property of librdkafka, such as `security.protocol`. `NAME_file` reads the property `NAME` "
        "from a file. Passwords and private keys stand in files or variables, never here.",
    )

    def plain_properties(self) -> dict[str, str | int | float | bool]:
        """Return ``properties`` for a client, secrets in the clear; never log what this gives."""
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in self.properties.items()
        }

    def client_properties(self) -> dict[str, str | int | float | bool]:
        """Return :meth:`plain_properties` with ``bootstrap.servers``, as clients take them."""
        return {**self.plain_properties(), "bootstrap.servers": self.bootstrap_servers}


class RegistrySection(Section):
    """Where schemas come from: a registry, or a directory."""

    url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        description="Address of the registry. Default: http://localhost:8081/apis/ccompat/v7; with `directory` none.",
    )
    directory: FilePath | None = Field(
        default=None, description="Instead of `url`: a directory with `{subject}.avsc` and `{subject}.json`."
    )
    register_: Literal["auto", "never"] = Field(
        default="auto",
        alias="register",
        description="`auto`: register derived schemas. `never`: they must be registered already.",
    )
    unknown_schema_seconds: float = Field(
        default=10, ge=0, le=3600, description="How long to wait for a schema id that the registry does not know yet."
    )
    username: str | None = Field(default=None, min_length=1, description="User of the registry.")
    password: SecretStr | None = Field(
        default=None, description="Password of the user, as `${VARIABLE}`; or use `password_file`."
    )
    password_file: FilePath | None = Field(default=None, description="File with the password.")
    ca_file: FilePath | None = Field(default=None, description="Certificates (PEM) to trust. Default: the system's.")

    @model_validator(mode="before")
    @classmethod
    def _default_url(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("url") is None and data.get("directory") is None:
            return {**data, "url": "http://localhost:8081/apis/ccompat/v7"}
        return data

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.url is not None and self.directory is not None:
            raise ValueError("schemas come from `url` or from `directory`, not from both")
        if self.url is not None and "@" in urlsplit(self.url).netloc:
            raise ValueError("`url` holds no user and password; use `username` and `password_file`")
        if (self.username is None) != (self.password is None):
            raise ValueError("`username` goes with `password` or `password_file`, and these go with `username`")
        return self


class PolicySection(Section):
    """The policy."""

    file: FilePath = Field(default=Path("policy.yaml"), description="The policy file.")


class AwsKek(Section):
    """A symmetric key of AWS KMS; credentials come from where AWS clients look for them."""

    key: str = Field(
        pattern=r"^[A-Za-z0-9:/_-]{1,2048}$", description="ARN, id or `alias/NAME` of the key; an ARN says the most."
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]{1,64}$",
        description="Region of the key. Default: that of the ARN, or of the environment.",
    )


class GcpKek(Section):
    """A symmetric key of Google Cloud KMS; credentials are the application default ones."""

    key: str = Field(
        pattern=r"^projects/[^/\s]{1,256}/locations/[^/\s]{1,64}/keyRings/[^/\s]{1,64}/cryptoKeys/[^/\s]{1,64}$",
        description="Resource name of the key, without a version.",
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9.-]+(?::[0-9]{1,5})?$",
        description="Host of the API, such as a regional or private one. Default: cloudkms.googleapis.com.",
    )


class AzureKek(Section):
    """An RSA key of Azure Key Vault or a Managed HSM; credentials are the default Azure ones."""

    vault_url: str = Field(
        pattern=r"^https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?/?$",
        description="Address of the vault: `https://NAME.vault.azure.net`.",
    )
    key: str = Field(pattern=r"^[A-Za-z0-9-]{1,127}$", description="Name of the key, without a version.")


class VaultKek(Section):
    """A key of the transit engine of HashiCorp Vault or OpenBao."""

    address: str = Field(
        pattern=r"^(?:https://[A-Za-z0-9.\[\]:-]+|http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?)/?$",
        description="Address of the server: `https://HOST:8200`; without TLS only on this machine, for an agent.",
    )
    key: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="Name of the key.")
    mount: str = Field(
        default="transit",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$",
        description="Where the transit engine is mounted.",
    )
    namespace: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$", description="Namespace of the engine."
    )
    token_file: FilePath | None = Field(
        default=None,
        description="File with the token, such as the sink of an agent; read anew for each use. "
        "Default: the variable `VAULT_TOKEN`.",
    )
    ca_file: FilePath | None = Field(
        default=None, description="Certificates (PEM) to trust. Default: `VAULT_CACERT`, or the system's."
    )


#: Providers of a KEK; the names of the keys of `KekSection`.
_PROVIDERS: Final = ("file", "aws", "gcp", "azure", "vault")


class KekSection(Section):
    """The key that encrypts the keyset: exactly one provider."""

    file: FilePath | None = Field(
        default=None,
        description="32 random bytes, readable by the owner only. Default: keys/kek.key; with another provider none.",
    )
    aws: AwsKek | None = Field(default=None, description="A key of AWS KMS.")
    gcp: GcpKek | None = Field(default=None, description="A key of Google Cloud KMS.")
    azure: AzureKek | None = Field(default=None, description="A key of Azure Key Vault.")
    vault: VaultKek | None = Field(default=None, description="A key of HashiCorp Vault or OpenBao.")

    @model_validator(mode="before")
    @classmethod
    def _default_file(cls, data: object) -> object:
        if isinstance(data, dict) and all(data.get(name) is None for name in _PROVIDERS):
            return {**data, "file": "keys/kek.key"}
        return data

    @model_validator(mode="after")
    def _one_provider(self) -> Self:
        named = [name for name in _PROVIDERS if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"name one provider, not both `{named[0]}` and `{named[1]}`")
        return self


class KeysSection(Section):
    """The keyset from which tokens are made."""

    directory: FilePath = Field(default=Path("keys"), description="Directory of `keyset.json`.")
    kek: KekSection = Field(default_factory=KekSection, description="The key that encrypts the keyset.")
    kek_recheck_seconds: float = Field(
        default=3600,
        ge=1,
        le=86_400,
        description="How often a running gateway asks the provider of the KEK whether it may still open the keyset; "
        "it stops as soon as the answer is no. A KEK in a file is not asked again.",
    )
    kek_grace_seconds: float = Field(
        default=86_400,
        ge=0,
        le=2_592_000,
        description="How long a running gateway goes on while that provider does not answer, before it stops.",
    )


class ConsentSection(Section):
    """Where decisions of data subjects come from."""

    topic: TopicName = Field(default="consent.decisions", description="The compacted topic with the decisions.")
    max_staleness_seconds: float = Field(
        default=5, gt=0, le=3600, description="Nothing is processed while a consent partition is older than this."
    )


class StateSection(Section):
    """What the gateway keeps on disk; all of it can be rebuilt."""

    directory: FilePath = Field(default=Path("state"), description="Directory for the consent store and counters.")


class CommitSection(Section):
    """When a transaction ends: at the first of these."""

    interval_ms: int = Field(default=100, ge=1, le=10_000, description="Milliseconds after its first record.")
    records: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Records read. The reference engine ends a transaction after at most 2,000.",
    )
    bytes: int = Field(default=8 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024, description="Bytes read.")


class GatewaySection(Section):
    """How the gateway runs."""

    group_prefix: str = Field(
        default="tokenweir",
        pattern=r"^[a-zA-Z0-9._-]{1,128}$",
        description="Consumer groups and transactional ids are named `{group_prefix}.{stream}…`.",
    )
    workers: int = Field(default=1, ge=1, le=256, description="Worker processes for each stream.")
    ordinal: int | None = Field(
        default=None,
        ge=0,
        description="Number of this instance. Default: the number at the end of the host name, or 0.",
    )
    engine: Literal["auto", "native", "reference"] = Field(
        default="auto",
        description="Which engine treats records: the native one, the one in Python, or (auto) the native one where "
        "its module is installed. Both give the same.",
    )
    start: Literal["earliest", "latest", "refuse"] = Field(
        default="earliest", description="Where a source begins that has no committed offset at all."
    )
    commit: CommitSection = Field(default_factory=CommitSection, description="When a transaction ends.")


class DeadLettersSection(Section):
    """Where rejected records are reported."""

    topic: str = Field(
        default="{source}.dead-letters",
        pattern=r"^(?:[a-zA-Z0-9._-]|\{source\})+$",
        description="Topic of the dead letters; `{source}` stands for the source topic.",
    )


class AdminSection(Section):
    """The port for health checks and metrics."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=9464, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")


class LoggingSection(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The lowest level shown.")
    format: Literal["json", "text"] = Field(default="json", description="`json` for machines, `text` for people.")


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a configuration came from; two equal configurations may come from different files."""

    document: Document = field(default_factory=lambda: Document("configuration"), compare=False)


class Config(Section):
    """A whole configuration file."""

    version: Version = Field(description="Version of the configuration format.")
    kafka: KafkaSection = Field(default_factory=KafkaSection, description="How to reach Kafka.")
    registry: RegistrySection = Field(default_factory=RegistrySection, description="Where schemas come from.")
    policy: PolicySection = Field(default_factory=PolicySection, description="The policy.")
    keys: KeysSection = Field(default_factory=KeysSection, description="The keyset.")
    consent: ConsentSection = Field(default_factory=ConsentSection, description="Where decisions come from.")
    state: StateSection = Field(default_factory=StateSection, description="What the gateway keeps on disk.")
    gateway: GatewaySection = Field(default_factory=GatewaySection, description="How the gateway runs.")
    dead_letters: DeadLettersSection = Field(
        default_factory=DeadLettersSection, description="Where rejected records are reported."
    )
    admin: AdminSection = Field(default_factory=AdminSection, description="The port for health checks and metrics.")
    detokenize: DetokenizeSection = Field(
        default_factory=DetokenizeSection, description="Who may turn tokens back into values."
    )
    serve: ServeSection = Field(default_factory=ServeSection, description="The HTTP API of `tokenweir serve`.")
    logging: LoggingSection = Field(default_factory=LoggingSection, description="What is logged.")

    _source: _Source = PrivateAttr(default_factory=_Source)

    def finding(self, path: KeyPath, rule: str, message: str, remedy: str = "") -> Finding:
        """Return an error at a key of the configuration, for checks that only other parts of the program can make."""
        return self._source.document.finding(path, rule, message, remedy, at_key=True)

    def came_from(self, source: Document) -> None:
        """Remember where the keys stand, and nothing of the values."""
        self._source = _Source(Document(source.file, positions=source.positions, origins=source.origins))


def normalised(config: Config) -> dict[str, Any]:
    """Return the configuration with every default written out and every secret masked."""
    return config.model_dump(mode="json", by_alias=True)


def config_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 7) of a configuration file, for editors.

    Every value may also be a text with ``${VARIABLE}``, whatever its type.
    """
    schema = json_schema(Config, "tokenweir configuration")
    for model in (schema, *schema["definitions"].values()):
        for name, part in model.get("properties", {}).items():
            model["properties"][name] = _or_variable(part)
    return schema


def _or_variable(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "object" or "allOf" in part or "$ref" in part:
        return part
    outside: dict[str, Any] = {key: part[key] for key in ("title", "description", "default") if key in part}
    inside = {key: value for key, value in part.items() if key not in outside}
    alternatives = inside.pop("anyOf", None) or [inside]
    return {**outside, "anyOf": [*alternatives, {"type": "string", "pattern": r"\$\{"}]}
