"""An installation without the internet: the list of images is complete, and all of them follow the chart's registry."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.helm_chart import pods, refusal, template

from attune_contract.resources import Sensor
from attune_operator.resources import common
from attune_operator.resources.deployment import deployment
from attune_operator.sensor_environment import SensorEnvironment
from attune_operator.settings import Settings

REPOSITORY = Path(__file__).parents[3]
REGISTRY = "registry.example:5000/mirror"


def documented() -> set[str]:
    """The images of the table in docs/air-gap.md."""
    text = (REPOSITORY / "docs" / "air-gap.md").read_text()
    [table] = re.findall(r"<!-- images -->\n\n(.*?)\n\n", text, re.DOTALL)
    return set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE))


def images(pod: dict[str, Any]) -> set[str]:
    spec = pod["spec"]
    return {container["image"] for container in (*spec["containers"], *spec.get("initContainers", ()))}


def packs() -> list[Sensor]:
    bodies = [
        body
        for folder in ("packs", "examples")
        for file in sorted((REPOSITORY / folder).rglob("*.yaml"))
        for body in yaml.safe_load_all(file.read_text())
    ]
    found = [body for body in bodies if isinstance(body, dict) and body.get("kind") == "Sensor"]
    return [Sensor.from_object({**body, "metadata": {"namespace": "n", **body["metadata"]}}) for body in found]


def environment(monkeypatch: pytest.MonkeyPatch, *values: str) -> common.Environment:
    """What the operator of a release with these values gives to every Sensor, from its pod's variables."""
    [container] = pods(template(*values))["operator"]["spec"]["containers"]
    for entry in container["env"]:
        if "value" in entry:
            monkeypatch.setenv(entry["name"], entry["value"])
    return SensorEnvironment(Settings(namespace="attune-system"), on_change=lambda: None).current()


def test_the_list_has_every_image_of_the_chart_and_the_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    several = ("api.database.existingSecret=db", "api.replicas=2")
    of_the_chart = {image for pod in pods(template(*several)).values() for image in images(pod)}
    around = environment(monkeypatch)
    of_sensors = {
        image
        for sensor in packs()
        for image in images(deployment(sensor, around, issued_at=None)["spec"]["template"])
        if not image.startswith("registry.example/")  # somebody's own program, to be built
    }
    assert around.stdio_image in of_sensors
    assert documented() == of_the_chart | of_sensors
    built = {entry["name"] for entry in json.loads((REPOSITORY / "hack/cluster/images.json").read_text())}
    assert {image.partition(":")[0] for image in documented()} == built


def test_with_a_registry_nothing_comes_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = f"imageRegistry={REGISTRY}"
    for pod in pods(template(registry, "api.database.existingSecret=db")).values():
        assert all(image.startswith(f"{REGISTRY}/attune/") for image in images(pod))
    around = environment(monkeypatch, registry)
    found = {
        image
        for sensor in packs()
        for image in images(deployment(sensor, around, issued_at=None)["spec"]["template"])
        if not image.startswith("registry.example/")
    }
    assert found
    assert all(image.startswith(f"{REGISTRY}/attune/") for image in found)


def test_sensors_get_the_installations_registry_secrets_and_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    around = environment(
        monkeypatch,
        "sensors.defaultRegistry=mirror.example",
        "sensors.imagePullSecrets={mirror,other}",
        "sensors.proxy.https=http://proxy.example:3128",
        r"sensors.proxy.noProxy={.corp.example,10.0.0.0/8}",
    )
    assert (around.image_registry, around.default_registry) == ("", "mirror.example")
    assert around.pull_secrets == ("mirror", "other")
    assert (around.http_proxy, around.https_proxy) == ("", "http://proxy.example:3128")
    assert around.no_proxy == (".corp.example", "10.0.0.0/8")
    plain = environment(monkeypatch)
    assert (plain.image_registry, plain.pull_secrets, plain.no_proxy) == ("", (), ())


def test_a_password_of_a_proxy_is_not_in_the_log() -> None:
    settings = Settings(namespace="n", sensor_https_proxy_url="http://user:secret@proxy.example:3128")
    assert "secret" not in str(settings.masked()["sensor_https_proxy_url"])


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("imageRegistry=registry.example/", "/imageRegistry"),
        ("imageRegistry=https://registry.example", "/imageRegistry"),
        ("sensors.defaultRegistry=a b", "/sensors/defaultRegistry"),
        ("sensors.imagePullSecrets[0].name=x", "/sensors/imagePullSecrets/0"),
        ("sensors.proxy.https=proxy.example:3128", "/sensors/proxy/https"),
        ("sensors.proxy.noProxy[0]=a b", "/sensors/proxy/noProxy/0"),
        ("sensors.proxies=x", "proxies"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(value: str, where: str) -> None:
    assert where in refusal(value)
