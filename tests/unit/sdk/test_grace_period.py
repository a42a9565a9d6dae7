"""A sensor delivers what it holds within its pod's grace period, and knows how long that is."""

import pytest

from attune_contract import environment
from attune_contract.resources import Sensor
from attune_operator.resources.common import Environment
from attune_operator.resources.deployment import deployment


@pytest.mark.parametrize(("period", "grace"), [(None, "25"), (60, "55"), (5, "1"), (0, "1")])
def test_a_sensor_is_told_the_grace_period_less_a_reserve(period: int | None, grace: str) -> None:
    spec = {"image": "i", "triggerTypes": [{"name": "acme.queue"}], "terminationGracePeriodSeconds": period}
    sensor = Sensor.from_object({"metadata": {"name": "queue", "namespace": "default", "uid": "u"}, "spec": spec})
    made = deployment(sensor, Environment(nats_url="nats://nats:4222", api_url="http://api"), issued_at=None)
    pod = made["spec"]["template"]["spec"]
    variables = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert variables[environment.GRACE_SECONDS] == grace
    assert pod["terminationGracePeriodSeconds"] == (30 if period is None else period)
