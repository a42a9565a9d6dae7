"""The resources' models and the definitions that are made from them."""

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

import attune_contract
from attune_contract import crds
from attune_contract.resources import Rule, Sensor
from attune_contract.resources.durations import parse_duration

REPOSITORY = Path(__file__).resolve().parents[3]
SENSOR = {
    "apiVersion": "attune.dev/v1alpha1",
    "kind": "Sensor",
    "metadata": {"name": "core.timer", "namespace": "attune-system", "uid": "u", "generation": 2, "managedFields": []},
    "spec": {
        "image": "attune/sensor-timer:0.1.0",
        "triggerTypes": [{"name": "core.intervaltimer", "aliases": ["core.timer"]}],
    },
}


def test_a_sensor_is_read_as_kubernetes_gives_it() -> None:
    sensor = Sensor.from_object(SENSOR)
    assert str(sensor.ref) == "attune-system/core.timer"
    assert sensor.spec.token.lifetime() == timedelta(hours=24)
    assert sensor.spec.rules.namespaces.from_ == "Same"
    assert sensor.spec.replicas == 1


def test_a_trigger_type_is_found_by_its_name_and_its_aliases() -> None:
    spec = Sensor.from_object(SENSOR).spec
    for name in ("core.intervaltimer", "core.timer"):
        found = spec.canonical(name)
        assert found is not None
        assert found.name == "core.intervaltimer"
    assert spec.canonical("core.crontimer") is None


def test_a_rule_is_enabled_unless_it_says_otherwise() -> None:
    rule = Rule.from_object({"metadata": {"name": "r", "namespace": "n"}, "spec": {"trigger": {"type": "a.b"}}})
    assert rule.spec.enabled
    assert rule.spec.trigger.parameters == {}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("90s", 90), ("1h30m", 5400), ("10m", 600), ("1h1m1s", 3661), ("500ms", 0.5), ("1s250ms", 1.25)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "24", "h", "1d", "1µs", "-1h", "1.5h", "1h ", "24h30"])
def test_what_is_no_duration_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_the_files_in_the_repository_are_what_the_models_say() -> None:
    for directory in ("deploy/crds", "deploy/helm/attune/files/crds"):
        assert crds.main(["--check", str(REPOSITORY / directory)]) == 0


def test_a_stale_file_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crds.main([str(tmp_path)]) == 0
    assert crds.main(["--check", str(tmp_path)]) == 0
    (tmp_path / "rules.yaml").write_text("old")
    assert crds.main(["--check", str(tmp_path)]) == 1
    assert "make crds" in capsys.readouterr().err


def walk(schema: Any) -> list[dict[str, Any]]:
    """All schemas inside a schema."""
    found = [schema]
    for child in schema.get("properties", {}).values():
        found += walk(child)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += walk(schema[key])
    return found


@pytest.mark.parametrize("name", ["sensors.yaml", "rules.yaml"])
def test_schemas_are_structural_and_every_field_is_explained(name: str) -> None:
    [version] = crds.definitions()[name]["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    for part in walk(schema):
        assert "type" in part or part.get("x-kubernetes-preserve-unknown-fields"), part
        assert not {"$ref", "anyOf", "title", "$defs"} & part.keys(), part
    for part in (schema["properties"]["spec"], schema["properties"]["status"]):
        for child in walk(part):
            for field, field_schema in child.get("properties", {}).items():
                assert field_schema.get("description"), f"{name}: {field} is not explained"


def test_users_see_the_columns_of_the_design() -> None:
    [version] = crds.definitions()["rules.yaml"]["spec"]["versions"]
    columns = [column["name"] for column in version["additionalPrinterColumns"] if "priority" not in column]
    assert columns == ["Type", "Sensor", "Enabled", "Active", "Reason", "Actions", "Last Event", "Next", "Age"]


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((REPOSITORY / "deploy/helm/attune/Chart.yaml").read_text())
    assert attune_contract.__version__ == project["version"] == chart["version"] == chart["appVersion"]
