"""Whose turn it is, and what was seen."""

import asyncio
from typing import Any

import pytest

from attune_contract.identity import SensorRef
from attune_operator.kube import DEPLOYMENT, POD, SENSOR
from attune_operator.runtime.queue import WorkQueue, backoff
from attune_operator.sensors.store import Store, owner_of


async def test_a_key_that_waits_is_one_entry() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]


async def test_a_key_that_is_worked_on_comes_again_afterwards_and_not_before() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"


async def test_what_is_urgent_goes_first() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "abc":
        queue.add(key, urgent=False)
    queue.add("c")
    queue.add("d")
    assert [await queue.get() for _ in range(4)] == ["c", "d", "a", "b"]


async def test_what_became_urgent_while_it_was_worked_on_stays_so() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a", urgent=False)
    queue.add("b", urgent=False)
    queue.done("a")
    assert await queue.get() == "a"


async def test_of_several_times_the_earliest_holds() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    queue.add_after("a", 30)
    async with asyncio.timeout(5):
        assert await queue.get() == "a"


async def test_a_look_takes_the_place_of_the_one_that_was_to_come() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.add("a")
    await queue.get()
    queue.done("a", after=60)
    queue.add_after("b", 0.05)
    async with asyncio.timeout(5):
        assert await queue.get() == "b"


async def test_a_key_whose_work_brings_it_back_does_not_keep_the_others_from_running() -> None:
    queue: WorkQueue[str] = WorkQueue()
    turns: list[str] = []

    async def work() -> None:
        while True:
            key = await queue.get()
            turns.append(key)
            if key == "loops":
                queue.add(key)  # what it wrote is seen as a change
            queue.done(key)

    queue.add("loops")
    worker = asyncio.create_task(work())
    await asyncio.sleep(0.3)
    queue.add("other")
    await asyncio.sleep(0.3)
    worker.cancel()
    assert "other" in turns, "other keys, and other tasks, have their turn"
    assert turns.count("loops") <= 60, "it comes at once for a while, and then twice a second"


async def test_after_a_failure_a_key_waits_longer_each_time_and_success_forgets_that() -> None:
    queue: WorkQueue[str] = WorkQueue(random_=lambda: 1.0)
    delays = []
    for _ in range(4):
        queue.add("a")
        await queue.get()
        delays.append(queue.failed("a"))
    assert delays == [0.25, 0.5, 1.0, 2.0]
    queue.add("a")
    await queue.get()
    queue.done("a")
    queue.add("a")
    await queue.get()
    assert queue.failed("a") == 0.25
    queue.forget("a")


def test_backoff_has_a_limit_and_half_of_it_is_jitter() -> None:
    assert backoff(0, random_=lambda: 0.0) == 0.125
    assert backoff(1000, random_=lambda: 1.0) == 60.0
    assert backoff(1000, random_=lambda: 0.0) == 30.0


REF = SensorRef("n", "s")


def body(name: str = "s", *, uid: str = "u", version: int = 1, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(version), **metadata}}


def child(*, uid: str = "u", version: int = 1) -> dict[str, Any]:
    return body("sensor-s", uid=uid, version=version, labels={"attune.dev/sensor": "s"})


def test_what_is_older_is_no_news() -> None:
    store = Store()
    assert store.put(DEPLOYMENT, child(version=5))
    assert not store.put(DEPLOYMENT, child(version=4))
    assert not store.put(DEPLOYMENT, child(version=5))
    assert store.put(DEPLOYMENT, child(version=6))
    assert store.put(DEPLOYMENT, child(uid="other", version=1)), "another object of the same name"


def test_only_the_object_that_is_there_can_be_removed() -> None:
    store = Store()
    store.put(DEPLOYMENT, child(uid="new"))
    assert not store.remove(DEPLOYMENT, child(uid="old"))
    assert store.remove(DEPLOYMENT, child(uid="new"))
    assert store.child(DEPLOYMENT, REF) is None


def test_a_list_removes_what_is_gone_but_not_what_came_meanwhile() -> None:
    store = Store()
    store.put(SENSOR, body("old"))
    since = store.moment
    store.put(SENSOR, body("new", uid="v"))
    gone = store.replace(SENSOR, [body("s", uid="w")], since=since)
    assert [found["metadata"]["name"] for found in gone] == ["old"]
    assert sorted(ref.name for ref in store.sensors()) == ["new", "s"]


def test_a_deleted_sensor_does_not_come_back_with_a_list_that_was_begun_before() -> None:
    store = Store()
    store.put(SENSOR, body())
    since = store.moment
    store.observe(SENSOR, "DELETED", body())
    store.replace(SENSOR, [body()], since=since)
    assert store.sensors() == []
    store.put(SENSOR, body(uid="another"))
    assert store.sensors() == [REF]


def test_an_object_that_lost_its_label_and_got_it_back_is_seen_again() -> None:
    store = Store()
    store.put(DEPLOYMENT, child(version=1))
    store.observe(DEPLOYMENT, "DELETED", child(version=2))
    assert store.put(DEPLOYMENT, child(version=3))
    assert store.child(DEPLOYMENT, REF) is not None


def test_pods_are_found_by_their_sensor() -> None:
    store = Store()
    labels = {"attune.dev/sensor": "s"}
    store.put(POD, body("p1", uid="1", labels=labels))
    store.put(POD, body("p2", uid="2", labels=labels))
    assert len(store.pods(REF)) == 2
    store.observe(POD, "DELETED", body("p1", uid="1", labels=labels))
    assert [pod["metadata"]["name"] for pod in store.pods(REF)] == ["p2"]


@pytest.mark.parametrize("labels", [None, {}, {"app": "x"}])
def test_what_carries_no_label_belongs_to_nobody(labels: Any) -> None:
    assert owner_of(body(labels=labels)) is None
