"""What was seen of Sensors and their objects."""

from typing import Any

import pytest

from attune_contract.identity import SensorRef
from attune_operator.resources.kinds import DEPLOYMENT, POD, SENSOR
from attune_operator.sensors.cache import SensorCache, owner_of

REF = SensorRef("n", "s")


def body(name: str = "s", *, uid: str = "u", version: int = 1, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(version), **metadata}}


def child(*, uid: str = "u", version: int = 1) -> dict[str, Any]:
    return body("sensor-s", uid=uid, version=version, labels={"attune.dev/sensor": "s"})


def test_what_is_older_is_no_news() -> None:
    cache = SensorCache()
    assert cache.put(DEPLOYMENT, child(version=5))
    assert not cache.put(DEPLOYMENT, child(version=4))
    assert not cache.put(DEPLOYMENT, child(version=5))
    assert cache.put(DEPLOYMENT, child(version=6))
    assert cache.put(DEPLOYMENT, child(uid="other", version=1)), "another object of the same name"


def test_only_the_object_that_is_there_can_be_removed() -> None:
    cache = SensorCache()
    cache.put(DEPLOYMENT, child(uid="new"))
    assert not cache.remove(DEPLOYMENT, child(uid="old"))
    assert cache.remove(DEPLOYMENT, child(uid="new"))
    assert cache.child(DEPLOYMENT, REF) is None


def test_a_list_removes_what_is_gone_but_not_what_came_meanwhile() -> None:
    cache = SensorCache()
    cache.put(SENSOR, body("old"))
    began = cache.begin_list(SENSOR)
    cache.put(SENSOR, body("new", uid="v"))
    gone = cache.replace(SENSOR, [body("s", uid="w")], began=began)
    assert [found["metadata"]["name"] for found in gone] == ["old"]
    assert sorted(ref.name for ref in cache.sensors()) == ["new", "s"]


def test_a_deleted_sensor_does_not_come_back_with_a_list_that_was_begun_before() -> None:
    cache = SensorCache()
    cache.put(SENSOR, body())
    began = cache.begin_list(SENSOR)
    cache.observe(SENSOR, "DELETED", body())
    cache.replace(SENSOR, [body()], began=began)
    assert cache.sensors() == []
    cache.put(SENSOR, body(uid="another"))
    assert cache.sensors() == [REF]


def test_an_object_that_lost_its_label_and_got_it_back_is_seen_again() -> None:
    cache = SensorCache()
    cache.put(DEPLOYMENT, child(version=1))
    cache.observe(DEPLOYMENT, "DELETED", child(version=2))
    assert cache.put(DEPLOYMENT, child(version=3))
    assert cache.child(DEPLOYMENT, REF) is not None


def test_pods_are_found_by_their_sensor() -> None:
    cache = SensorCache()
    labels = {"attune.dev/sensor": "s"}
    cache.put(POD, body("p1", uid="1", labels=labels))
    cache.put(POD, body("p2", uid="2", labels=labels))
    assert len(cache.pods(REF)) == 2
    cache.observe(POD, "DELETED", body("p1", uid="1", labels=labels))
    assert [pod["metadata"]["name"] for pod in cache.pods(REF)] == ["p2"]


@pytest.mark.parametrize("labels", [None, {}, {"app": "x"}])
def test_what_carries_no_label_belongs_to_nobody(labels: Any) -> None:
    assert owner_of(body(labels=labels)) is None
