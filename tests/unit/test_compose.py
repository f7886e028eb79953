"""The files of the Compose stack agree with each other, with the shipped configuration and with the test rig."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.artifacts import pinned_version

from tokenweir.config.loader import load_config

_ROOT = Path(__file__).parents[2]
_ONE_SHOT = {"topics", "prepare"}


def _yaml(path: str) -> Any:  # noqa: ANN401 - YAML.
    return YAML(typ="safe").load(_ROOT / path)


@pytest.fixture(scope="module")
def services() -> Mapping[str, Mapping[str, Any]]:
    """Give the services with their anchors resolved."""
    found: Mapping[str, Mapping[str, Any]] = _yaml("docker-compose.yml")["services"]
    return found


def _mounts(service: Mapping[str, Any]) -> dict[str, str]:
    """Return what is mounted, by the path inside the container."""
    pairs = [mount.split(":")[:2] for mount in service.get("volumes", [])]
    return {inside: outside for outside, inside in pairs}


def _outside(service: Mapping[str, Any], path: str) -> Path:
    """Return the file of this repository that a container sees at a path."""
    for inside, outside in _mounts(service).items():
        if path.startswith(f"{inside}/") and outside.startswith("./"):
            return _ROOT / outside / path.removeprefix(f"{inside}/")
    raise AssertionError(f"{path} is not mounted")


def test_there_are_the_parts_of_a_whole_stack(services: Mapping[str, Mapping[str, Any]]) -> None:
    """Broker, registry, gateway and Prometheus, and what prepares them."""
    assert set(services) == {"kafka", "registry", "gateway", "prometheus"} | _ONE_SHOT


def test_every_image_is_pinned(services: Mapping[str, Mapping[str, Any]]) -> None:
    """No image moves under the reader's feet, and tests run what the stack runs."""
    images = {name: service["image"] for name, service in services.items()}

    assert all(re.search(r":v?\d+\.\d+\.\d+(\.Final)?$", image) for image in images.values())
    assert images["kafka"] == images["topics"] == f"apache/kafka:{pinned_version('kafka')}"
    assert images["registry"] == f"apicurio/apicurio-registry-mem:{pinned_version('apicurio')}"


def test_what_runs_on_is_checked_and_what_ends_is_waited_for(services: Mapping[str, Mapping[str, Any]]) -> None:
    """`docker compose up --wait` works: health checks, and one-shot services that somebody waits for."""
    for name, service in services.items():
        assert ("healthcheck" in service) == (name not in _ONE_SHOT)
        assert service["restart"] == ("no" if name in _ONE_SHOT else "unless-stopped")
    waits = {
        (other, condition["condition"])
        for service in services.values()
        for other, condition in service.get("depends_on", {}).items()
    }
    assert {name for name, condition in waits if condition == "service_completed_successfully"} == _ONE_SHOT
    assert {name for name, condition in waits if condition == "service_healthy"} == {"kafka", "registry", "gateway"}


def test_everything_that_is_mounted_exists(services: Mapping[str, Mapping[str, Any]]) -> None:
    """Docker would make an empty directory of a missing path."""
    volumes = set(_yaml("docker-compose.yml")["volumes"])
    for service in services.values():
        for outside in _mounts(service).values():
            assert (_ROOT / outside).is_dir() if outside.startswith("./") else outside in volumes


def test_nothing_listens_beyond_this_machine(services: Mapping[str, Mapping[str, Any]]) -> None:
    """A broker without authentication is published on the loopback address only."""
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert sorted(ports) == [
        "127.0.0.1:8081:8080",
        "127.0.0.1:9090:9090",
        "127.0.0.1:9092:9092",
        "127.0.0.1:9464:9464",
    ]


def test_the_gateway_starts_with_the_shipped_configuration(services: Mapping[str, Mapping[str, Any]]) -> None:
    """The file of the command is mounted, loads with the service's environment, and leads to the other services."""
    gateway = services["gateway"]
    verb, option, path = gateway["command"]
    config = load_config(_outside(gateway, path), gateway["environment"])

    assert (verb, option) == ("run", "--config")
    assert config.policy.file.is_file()
    assert config.kafka.bootstrap_servers == "kafka:29092"
    assert "INTERNAL://kafka:29092" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert config.registry.url == "http://registry:8080/apis/ccompat/v7"
    assert f"127.0.0.1:{config.admin.port}:{config.admin.port}" in gateway["ports"]
    assert f":{config.admin.port}/readyz" in gateway["healthcheck"]["test"][-1]
    assert config.admin.host == "0.0.0.0"  # noqa: S104 - inside the container.
    assert services["prepare"]["environment"]["CONFIG"] == path


def test_what_the_gateway_writes_is_kept(services: Mapping[str, Mapping[str, Any]]) -> None:
    """Keys and state lie on the volume; the rest of the container is read-only."""
    gateway = services["gateway"]
    [directory] = [inside for inside, outside in _mounts(gateway).items() if not outside.startswith("./")]
    kept = [
        value for key, value in gateway["environment"].items() if key.startswith(("TOKENWEIR__KEYS", "TOKENWEIR__ST"))
    ]

    assert len(kept) == 3
    assert all(value.startswith(f"{directory}/") for value in kept)
    assert gateway["read_only"] is True
    assert f"VOLUME {directory}" in (_ROOT / gateway["build"]["dockerfile"]).read_text()


def test_prometheus_scrapes_the_gateway(services: Mapping[str, Mapping[str, Any]]) -> None:
    """The target is the gateway's service and port, and rules are looked for in the mounted directory."""
    prometheus = _yaml("deploy/prometheus/prometheus.yml")
    [job] = prometheus["scrape_configs"]

    assert job["static_configs"] == [{"targets": ["gateway:9464"]}]
    assert _outside(services["prometheus"], "/etc/prometheus/prometheus.yml").is_file()


def test_the_image_copies_what_there_is(services: Mapping[str, Mapping[str, Any]]) -> None:
    """Every source of a COPY exists, base images are pinned, and the process is not root."""
    build = services["gateway"]["build"]
    lines = (_ROOT / build["dockerfile"]).read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from=" not in line]

    assert copies
    assert all((_ROOT / build["context"] / source).exists() for sources in copies for source in sources)
    assert all(re.match(r"FROM \S+:\d+\.\d+\.\d+-", line) for line in lines if line.startswith("FROM "))
    assert "USER tokenweir" in lines


def test_every_topic_of_the_policy_is_created() -> None:
    """The script makes the source, the outputs, the dead letters and the compacted consent topic."""
    policy = _yaml("deploy/config/minimal-policy.yaml")
    config = load_config(_ROOT / "deploy/config/minimal.yaml", {})
    script = (_ROOT / "deploy/docker/prepare/create-topics.sh").read_text()
    created = dict(re.findall(r"^create (\S+)(.*)$", script, re.MULTILINE))
    wanted = {config.consent.topic}
    for stream in policy["streams"].values():
        source = stream["source"]["topic"]
        wanted |= {source, config.dead_letters.topic.replace("{source}", source)}
        wanted |= {f"{source}.{output['audience']}" for output in stream["outputs"]}

    assert set(created) == wanted
    assert "cleanup.policy=compact" in created[config.consent.topic]


def test_no_output_is_kept_longer_than_its_purposes_allow() -> None:
    """The retention of an output topic is at most the shortest that its audience's purposes name."""
    policy = _yaml("deploy/config/minimal-policy.yaml")
    script = (_ROOT / "deploy/docker/prepare/create-topics.sh").read_text()
    for name, audience in policy["audiences"].items():
        match = re.search(rf"^create \S+\.{name} .*days (\d+)", script, re.MULTILINE)
        assert match is not None
        assert int(match[1]) <= min(policy["purposes"][purpose]["retention_days"] for purpose in audience["purposes"])


def test_the_prepared_schema_fits_the_policy() -> None:
    """The raw schema belongs to the stream's topic, and its tags are classes of the policy."""
    policy = _yaml("deploy/config/minimal-policy.yaml")
    [stream] = policy["streams"].values()
    subject = f"{stream['source']['topic']}-value"
    schema = json.loads((_ROOT / f"deploy/docker/prepare/{subject}.avsc").read_text())
    script = (_ROOT / "deploy/docker/prepare/prepare.sh").read_text()

    assert f"{subject} /prepare/{subject}.avsc" in script
    assert {tag for field in schema["fields"] for tag in field["confluent:tags"]} == set(policy["classes"])
    assert {path["path"] for path in stream["subjects"]} <= {field["name"] for field in schema["fields"]}


@pytest.mark.parametrize("script", ["create-topics.sh", "prepare.sh"])
def test_scripts_are_executable_and_parse(script: str) -> None:
    """A shell reads them without running them."""
    path = _ROOT / "deploy/docker/prepare" / script
    shell = shutil.which(path.read_text().splitlines()[0].removeprefix("#!"))

    assert os.access(path, os.X_OK)
    assert shell is not None
    assert subprocess.run([shell, "-n", str(path)], check=False, timeout=30).returncode == 0


def test_the_ci_script_runs_the_documented_targets() -> None:
    """CI does what a contributor can do with make, and lets no missing part pass."""
    path = _ROOT / ".ci/run"
    text = path.read_text()
    targets = set(re.findall(r"^([a-z]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))

    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in text
    assert "export CI=1" in text
    assert set(re.findall(r"^make (.+)$", text, re.MULTILINE)) == {"check test", "demo"}
    assert {"setup", "demo", "test", "check", "chaos", "bench", "clean"} <= targets
