"""The chart's values for traces and logs: what the API, the runner of actions and Sensors' pods are given."""

from typing import Any

import pytest
from support.helm_chart import pods, refusal, template

from attune_contract.resources import Sensor
from attune_kit.tracing import wanted
from attune_operator.resources.deployment import deployment
from attune_operator.sensor_environment import SensorEnvironment
from attune_operator.settings import Settings

ENDPOINT = "http://otel-collector.observability.svc:4318"
VALUES = (
    f"tracing.endpoint={ENDPOINT}",
    "tracing.headersSecret=otlp",
    "tracing.sampler=parentbased_traceidratio",
    "tracing.samplerArg=0.25",
)
EXPECTED = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT,
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.25",
}


def traced(container: dict[str, Any]) -> dict[str, Any]:
    """The container's variables for OpenTelemetry; those of a Secret as its reference."""
    return {
        each["name"]: each.get("value", each.get("valueFrom", {}).get("secretKeyRef"))
        for each in container.get("env", ())
        if each["name"].startswith("OTEL_")
    }


def of_sensor(monkeypatch: pytest.MonkeyPatch, values: tuple[str, ...], **env: str) -> dict[str, Any]:
    """A Sensor's container, as the operator of a release with these values makes it."""
    [operator] = pods(template(*values))["operator"]["spec"]["containers"]
    for entry in operator["env"]:
        if "value" in entry:
            monkeypatch.setenv(entry["name"], entry["value"])
    around = SensorEnvironment(Settings(namespace="attune-system"), on_change=lambda: None).current()
    spec = {
        "image": "acme/sensor:1",
        "triggerTypes": [{"name": "acme.x"}],
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }
    metadata = {"name": "acme.x", "namespace": "team-a", "uid": "u"}
    sensor = Sensor.from_object({"metadata": metadata, "spec": spec})
    container: dict[str, Any]
    [container] = deployment(sensor, around, issued_at=None)["spec"]["template"]["spec"]["containers"]
    return container


def test_by_default_nothing_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    for pod in pods(template()).values():
        assert [traced(container) for container in pod["spec"]["containers"]] == [{}] * len(pod["spec"]["containers"])
    assert traced(of_sensor(monkeypatch, ())) == {}


def test_api_runner_and_sensors_export_to_the_same_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"name": "otlp", "key": "headers"}
    made = pods(template(*VALUES))
    for part in ("api", "actions"):
        [container] = made[part]["spec"]["containers"]
        assert traced(container) == {**EXPECTED, "OTEL_EXPORTER_OTLP_HEADERS": secret}
    found = traced(of_sensor(monkeypatch, VALUES))
    # In another namespace there may be no such Secret: the pod starts without.
    assert found == {**EXPECTED, "OTEL_EXPORTER_OTLP_HEADERS": {**secret, "optional": True}}
    assert wanted({name: value for name, value in found.items() if isinstance(value, str)})


def test_what_a_sensor_s_author_sets_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    container = of_sensor(monkeypatch, VALUES, OTEL_TRACES_SAMPLER="always_off", OTEL_EXPORTER_OTLP_HEADERS="x-team=a")
    found = traced(container)
    assert found["OTEL_TRACES_SAMPLER"] == "always_off"
    assert found["OTEL_EXPORTER_OTLP_HEADERS"] == "x-team=a"
    assert found["OTEL_EXPORTER_OTLP_ENDPOINT"] == ENDPOINT


def test_a_password_of_a_collector_is_not_in_the_log() -> None:
    settings = Settings(namespace="n", sensor_otlp_endpoint="http://user:secret@collector.example:4318")
    assert "secret" not in str(settings.masked()["sensor_otlp_endpoint"])


def test_one_value_says_how_all_programs_write_their_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, of_pod in (("json", None), ("text", "text")):
        values = (f"logFormat={value}",)
        made = pods(template(*values))
        for part in ("operator", "api", "actions"):
            [container] = made[part]["spec"]["containers"]
            assert {"name": f"ATTUNE_{part.upper()}_LOG_FORMAT", "value": value} in container["env"]
        found = {each["name"]: each.get("value") for each in of_sensor(monkeypatch, values)["env"]}
        assert found.get("ATTUNE_LOG_FORMAT") == of_pod, "JSON is what sensors write anyway"


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("tracing.endpoint=collector:4317", "/tracing/endpoint"),
        ("tracing.sampler=sometimes", "/tracing/sampler"),
        ("tracing.samplerArg=2", "/tracing/samplerArg"),
        ("tracing.endpoints=x", "endpoints"),
        ("logFormat=pretty", "/logFormat"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(value: str, where: str) -> None:
    assert where in refusal(value)
