"""What `runner: Stdio` makes of a Sensor's pods."""

from typing import Any

import pytest

from attune_contract.resources import Sensor
from attune_operator.resources import companions
from attune_operator.resources.common import Environment
from attune_operator.resources.deployment import deployment
from attune_operator.sensors.pods import problem
from attune_stdio.settings import Mode, OnExit, StdioSettings

AROUND = Environment(nats_url="nats://nats:4222", api_url="http://api", stdio_image="registry.example/stdio:1")


def sensor(**spec: Any) -> Sensor:
    return Sensor.from_object(
        {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Sensor",
            "metadata": {"name": "ticks", "namespace": "default", "uid": "uid-1"},
            "spec": {"runner": "Stdio", "command": ["./tick"], "triggerTypes": [{"name": "acme.tick"}], **spec},
        }
    )


def template(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = deployment(sensor(**spec), AROUND, issued_at=None)["spec"]["template"]
    return found


def container(**spec: Any) -> dict[str, Any]:
    [found] = template(**spec)["spec"]["containers"]
    return dict(found)


def env(**spec: Any) -> dict[str, str]:
    return {found["name"]: found.get("value", "") for found in container(**spec)["env"]}


def test_without_an_image_it_is_ours_and_the_supervisor_is_in_it() -> None:
    found = container(args=["--fast"])
    assert found["image"] == "registry.example/stdio:1"
    assert (found["command"], found["args"]) == (["attune-stdio"], ["--", "./tick", "--fast"])
    assert "initContainers" not in template()["spec"]


def test_into_an_image_of_ones_own_the_supervisor_is_copied() -> None:
    pod = template(image="node:1")["spec"]
    [found] = pod["containers"]
    assert found["image"] == "node:1"
    assert found["command"] == ["python3", "-I", "/var/lib/attune/stdio/attune-stdio.pyz"]
    [copier] = pod["initContainers"]
    assert copier["image"] == "registry.example/stdio:1"
    assert copier["command"] == ["cp", "/opt/attune/attune-stdio.pyz", "/var/lib/attune/stdio/attune-stdio.pyz"]
    assert copier["securityContext"] == found["securityContext"]
    assert found["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {mount["name"]: mount for mount in found["volumeMounts"]}
    assert mounts["stdio"] == {"name": "stdio", "mountPath": "/var/lib/attune/stdio", "readOnly": True}


def test_unless_that_image_has_it() -> None:
    found = template(image="mine:1", stdio={"supervisor": "Image"})["spec"]
    assert "initContainers" not in found
    assert found["containers"][0]["command"] == ["attune-stdio"]


def test_scripts_are_executable_files_and_a_change_rolls_the_pods() -> None:
    found = template(scripts={"tick": "#!/bin/sh"})
    [volume] = [volume for volume in found["spec"]["volumes"] if volume["name"] == "scripts"]
    assert volume["configMap"] == {"name": "sensor-ticks-scripts", "defaultMode": 0o555}
    assert env(scripts={"tick": ""})["ATTUNE_SCRIPTS_DIR"] == "/var/lib/attune/scripts"
    assert template(scripts={"tick": "#!/bin/sh\n"})["metadata"] != found["metadata"]
    made = companions.scripts_config_map(sensor(scripts={"tick": "#!/bin/sh"}))
    assert made is not None
    assert (made["metadata"]["name"], made["data"]) == ("sensor-ticks-scripts", {"tick": "#!/bin/sh"})
    assert companions.scripts_config_map(sensor()) is None


@pytest.mark.parametrize(
    ("stdio", "expected"),
    [
        ({}, StdioSettings(command=("./tick",))),
        (
            {"mode": "perSensor", "linesPerSecond": 7, "stopSeconds": 0},
            StdioSettings(command=("./tick",), mode=Mode.PER_SENSOR, lines_per_second=7, stop_seconds=0),
        ),
        ({"onExit": "Restart"}, StdioSettings(command=("./tick",), on_exit=OnExit.RESTART)),
    ],
)
def test_the_supervisor_understands_what_it_is_told(stdio: dict[str, Any], expected: StdioSettings) -> None:
    assert StdioSettings.read(container(stdio=stdio)["args"], env(stdio=stdio)) == expected
    assert env(stdio=stdio)["ATTUNE_SPOOL_FULL"] == "block"


def test_standalone_sensors_are_as_they_were() -> None:
    standalone = Sensor.from_object(
        {
            "metadata": {"name": "t", "namespace": "d", "uid": "u"},
            "spec": {"image": "t:1", "command": ["run"], "triggerTypes": [{"name": "a.b"}]},
        }
    )
    pod = deployment(standalone, AROUND, issued_at=None)["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"] == ["run"]
    assert "initContainers" not in pod
    assert not [found for found in pod["containers"][0]["env"] if "STDIO" in found["name"] or "FULL" in found["name"]]


def test_a_supervisor_that_cannot_be_copied_is_told() -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    statuses = {
        "initContainerStatuses": [
            {"name": "stdio", "image": "registry.example/stdio:1", "state": {"waiting": waiting}}
        ],
        "containerStatuses": [{"name": "sensor", "state": {"waiting": {"reason": "PodInitializing"}}}],
    }
    found = problem({"metadata": {"name": "p"}, "status": statuses})
    assert (found.reason, found.grave) == ("ImagePullBackOff", True)
    assert "registry.example/stdio:1" in found.message
    statuses["initContainerStatuses"][0]["state"] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    assert problem({"metadata": {"name": "p"}, "status": statuses}).reason == "Progressing"
