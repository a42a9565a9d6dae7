"""What the operator made is put back when it is deleted or edited, and goes when its Sensor goes."""

import base64
import json
from collections.abc import Callable

import pytest
from support.eventually import eventually
from support.kubectl import Manifest
from support.system import System


@pytest.fixture
def sensor(system: System) -> str:
    system.sensor("own")
    return "own"


@pytest.mark.both
@pytest.mark.parametrize("kind", ["deployment", "secret", "serviceaccount"])
def test_what_is_deleted_by_hand_is_back_within_five_seconds(system: System, sensor: str, kind: str) -> None:
    before = system.kube.get(kind, f"sensor-{sensor}", system.namespace)
    system.kube.delete(kind, f"sensor-{sensor}", system.namespace, "--wait=false")

    def back() -> bool:
        found = system.kube.find(kind, f"sensor-{sensor}", system.namespace)
        return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

    eventually(back, within=5, what=f"the {kind} is back")


def _replicas(body: Manifest) -> object:
    return body["spec"]["replicas"]


def _image(body: Manifest) -> object:
    return body["spec"]["template"]["spec"]["containers"][0]["image"]


@pytest.mark.parametrize(
    ("patch", "read"),
    [
        ({"spec": {"replicas": 0}}, _replicas),
        ({"spec": {"template": {"spec": {"containers": [{"name": "sensor", "image": "other/image:1"}]}}}}, _image),
    ],
    ids=["replicas", "image"],
)
def test_an_edited_deployment_is_as_it_was_within_five_seconds(
    system: System, sensor: str, patch: Manifest, read: Callable[[Manifest], object]
) -> None:
    before = read(system.kube.get("deployment", f"sensor-{sensor}", system.namespace))
    system.kube(
        "patch", "deployment", f"sensor-{sensor}", "-n", system.namespace, "--type=strategic", "-p", json.dumps(patch)
    )
    eventually(
        lambda: read(system.kube.get("deployment", f"sensor-{sensor}", system.namespace)) == before,
        within=5,
        what="the Deployment as it was",
    )


@pytest.mark.both
def test_a_damaged_secret_holds_a_good_token_again_within_five_seconds(system: System, sensor: str) -> None:
    system.kube.patch("secret", f"sensor-{sensor}", system.namespace, {"data": {"token": "Z2FyYmxlZA=="}})

    def mended() -> bool:
        data = system.kube.get("secret", f"sensor-{sensor}", system.namespace)["data"]
        token = base64.b64decode(data["token"]).decode()
        return system.api.request("GET", "/auth/whoami", token=token).status_code == 200

    eventually(mended, within=5, what="the Secret holds a token that the API takes")


def test_a_deleted_sensor_takes_along_all_that_it_owned(system: System, sensor: str) -> None:
    rule = system.rule("orphan")
    rule.wait_condition("Active", "True")
    system.kube.delete("sensor", sensor, system.namespace, "--timeout=180s")

    def left() -> list[str]:
        text = system.kube(
            "get",
            "deployment,replicaset,pod,secret,serviceaccount,configmap,networkpolicy",
            "-n",
            system.namespace,
            "-l",
            f"attune.dev/sensor={sensor}",
            "-o",
            "name",
        )
        return text.split()

    eventually(lambda: not left(), within=60, what="nothing of the Sensor is left")
    # Its rule moves to the pack's sensor, which admits it too.
    eventually(
        lambda: rule.object["status"].get("sensor") == "attune-system/core.timer",
        within=10,
        what="the rule's new binding",
    )
    rule.wait_condition("Active", "True")


def test_events_tell_what_happened(system: System, sensor: str) -> None:
    def reasons() -> set[str]:
        events = system.kube.list("events", system.namespace)
        return {event["reason"] for event in events if event["involvedObject"]["name"] == sensor}

    eventually(lambda: {"TokenIssued"} <= reasons(), within=15, what="Kubernetes Events about the Sensor")
