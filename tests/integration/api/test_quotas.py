"""Namespaces that report more events than they may: told so, and nobody else's are delayed."""

import asyncio
import json
from pathlib import Path
from typing import Any

from support.api_process import ApiProcess, report
from support.eventually import until

#: Of any number of events a namespace is taken one batch, and then none for as long as these tests run.
_QUOTAS = json.dumps({"eventsPerSecond": 1})
_OWN = json.dumps({"eventsPerSecond": 1, "namespaces": {"bank": {"eventsPerSecond": 0}}})


def reports(namespace: str, start: int, count: int) -> list[dict[str, Any]]:
    uid = f"00000000-0000-4000-8000-{sum(namespace.encode()):012d}"
    return [report(k, rule_uid=uid, rule_namespace=namespace) for k in range(start, start + count)]


async def test_an_event_above_the_quota_is_answered_with_429_and_says_which_quota(tmp_path: Path) -> None:
    with ApiProcess(tmp_path, quotas=_QUOTAS) as api:
        async with api.client() as sensor:
            assert (await sensor.post("/api/v1/events/batch", json={"events": reports("shop", 0, 500)})).is_success
            answer = await sensor.post("/api/v1/events", json=reports("shop", 500, 1)[0])
            other = await sensor.post("/api/v1/events", json=reports("bank", 0, 1)[0])
    problem = answer.json()
    assert answer.status_code == 429
    assert 400 < int(answer.headers["Retry-After"]) <= 500
    assert problem["type"] == "urn:attune:problem:quota-exceeded"
    assert {key: problem[key] for key in ("quota", "namespace", "limit")} == {
        "quota": "eventsPerSecond",
        "namespace": "shop",
        "limit": 1,
    }
    assert "the namespace shop is over its quota of 1 event a second" in problem["detail"]
    assert other.status_code == 201


async def test_in_a_batch_only_the_events_of_that_namespace_are_deferred(tmp_path: Path) -> None:
    with ApiProcess(tmp_path, quotas=_QUOTAS) as api:
        async with api.client() as sensor, api.reader() as reader:
            await sensor.post("/api/v1/events/batch", json={"events": reports("shop", 0, 500)})
            mixed = [each for pair in zip(reports("shop", 500, 3), reports("bank", 0, 3), strict=True) for each in pair]
            answer = await sensor.post("/api/v1/events/batch?defer=true", json={"events": mixed})
            results = answer.json()["data"]
            assert [result["status"] for result in results] == ["deferred", "stored"] * 3
            assert all(400 < result["retry_after"] <= 500 for result in results[::2])
            assert results[0]["id"] == mixed[0]["id"]
            assert "over its quota of 1 event a second" in results[0]["reason"]
            page = (await reader.get("/api/v1/events?rule_namespace=bank")).json()["data"]
            assert len(page) == 3
            metrics = (await reader.get("/metrics")).text
    assert 'attune_api_quota_deferred_total{rule_namespace="shop"} 3.0' in metrics
    assert 'attune_api_events_total{status="deferred"} 3.0' in metrics


async def test_a_sender_that_does_not_know_deferrals_gets_429_and_nothing_is_stored(tmp_path: Path) -> None:
    with ApiProcess(tmp_path, quotas=_QUOTAS) as api:
        async with api.client() as sensor, api.reader() as reader:
            await sensor.post("/api/v1/events/batch", json={"events": reports("shop", 0, 500)})
            mixed = [*reports("bank", 0, 2), *reports("shop", 500, 1)]
            answer = await sensor.post("/api/v1/events/batch", json={"events": mixed})
            assert (answer.status_code, answer.json()["namespace"]) == (429, "shop")
            assert (await reader.get("/api/v1/events?rule_namespace=bank")).json()["data"] == []


async def test_the_namespace_may_report_again_by_itself(tmp_path: Path) -> None:
    quotas = json.dumps({"eventsPerSecond": 100})
    with ApiProcess(tmp_path, quotas=quotas) as api:
        async with api.client() as sensor:
            for start in (0, 1000):
                await sensor.post("/api/v1/events/batch", json={"events": reports("shop", start, 1000)})

            async def taken() -> bool:
                return (await sensor.post("/api/v1/events", json=reports("shop", 5000, 1)[0])).status_code == 201

            await until(taken)


async def test_a_claimed_namespace_is_not_charged_for_a_rule_that_is_not_of_it(tmp_path: Path) -> None:
    """Who reports for a rule of its own cannot use up the quota of another namespace: what is refused costs nothing."""
    with ApiProcess(tmp_path, quotas=_OWN) as api:
        async with api.client() as sensor:
            bad = [{**each, "occurred_at": "1200-01-01T00:00:00Z"} for each in reports("shop", 0, 500)]
            assert (await sensor.post("/api/v1/events/batch", json={"events": bad})).is_success
            assert (await sensor.post("/api/v1/events", json=reports("shop", 0, 1)[0])).status_code == 201


async def test_a_flood_of_one_namespace_leaves_the_api_to_the_others(tmp_path: Path) -> None:
    with ApiProcess(tmp_path, quotas=_OWN) as api:
        async with api.client() as flooding, api.client() as other, api.reader() as reader:
            stop = asyncio.Event()
            deferred = 0

            async def flood(part: int) -> None:
                nonlocal deferred
                while not stop.is_set():
                    batch = reports("shop", part * 200, 200)
                    answer = await flooding.post("/api/v1/events/batch?defer=true", json={"events": batch})
                    deferred += sum(result["status"] == "deferred" for result in answer.json()["data"])

            async with asyncio.TaskGroup() as group:
                for part in range(4):
                    group.create_task(flood(part))
                answers = [await other.post("/api/v1/events", json=each) for each in reports("bank", 0, 100)]
                await until(lambda: deferred > 1000)
                stop.set()
            assert {answer.status_code for answer in answers} == {201}
            stored = (await reader.get("/api/v1/events?rule_namespace=shop&limit=1000")).json()["data"]
    # What was on its way at the same time, before the first was counted, is taken.
    assert 0 < len(stored) <= 4 * 200
