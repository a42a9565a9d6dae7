"""Events go in once each and come out again, on both databases."""

import asyncio
import gzip
import json
import uuid
from typing import Any

import pytest
from support.api_process import ApiProcess, report

pytest_plugins = ["support.api_fixtures"]


async def test_an_event_is_stored_once_by_its_id(api_on_each: ApiProcess) -> None:
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        first = await sensor.post("/api/v1/events", json=report(1, payload={"kept": True}))
        again = await sensor.post("/api/v1/events", json=report(1, payload={"kept": False}))
        assert (first.status_code, first.json()["data"]["status"]) == (201, "stored")
        assert (again.status_code, again.json()["data"]["status"]) == (200, "duplicate")
        assert again.json()["data"]["seq"] == first.json()["data"]["seq"]
        events = (await reader.get("/api/v1/events")).json()["data"]
        assert [event["payload"] for event in events] == [{"kept": True}]


async def test_an_event_comes_out_as_it_went_in(api_on_each: ApiProcess) -> None:
    payload: dict[str, Any] = {
        "text": "Grüße ☃ \U0001f600",
        "numbers": [1, -2.5, 1e300, 2**53],
        "null": None,
        "nested": {"a": [{}]},
    }
    body = report(occurred_at="2026-11-23T14:00:00.123456+02:00", payload=payload)
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        assert (await sensor.post("/api/v1/events", json=body)).status_code == 201
        event = (await reader.get(f"/api/v1/events/{body['id']}")).json()["data"]
    assert event.pop("seq") >= 1
    assert event.pop("received_at").endswith("Z")
    assert event == {**body, "occurred_at": "2026-11-23T12:00:00.123456Z", "sensor_ref": "attune-system/core.timer"}


async def test_a_batch_answers_for_each_event_in_its_order(api_on_each: ApiProcess) -> None:
    events: list[Any] = [
        report(1),
        report(2),
        report(2),
        report(3, trigger_type="core.webhook"),
        report(4, occurred_at="2026-11-23T12:00:00"),
        {"id": 7},
        "nonsense",
        report(5),
    ]
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        await sensor.post("/api/v1/events", json=report(1))
        answer = await sensor.post("/api/v1/events/batch", json={"events": events})
        results = answer.json()["data"]
        assert answer.status_code == 200
        assert [result["status"] for result in results] == [
            "duplicate", "stored", "duplicate", "refused", "refused", "refused", "refused", "stored",
        ]  # fmt: skip
        assert results[3]["id"] == events[3]["id"]
        assert "core.webhook" in results[3]["reason"]
        assert "occurred_at" in results[4]["reason"]
        assert results[5]["id"] is None
        stored = (await reader.get("/api/v1/events", params={"order": "asc"})).json()["data"]
        assert [event["payload"]["k"] for event in stored] == [1, 2, 5]


async def test_a_full_batch_is_taken_and_one_more_is_not(api_on_each: ApiProcess) -> None:
    async with api_on_each.client() as sensor:
        full = await sensor.post("/api/v1/events/batch", json={"events": [report(k) for k in range(1000)]})
        assert {result["status"] for result in full.json()["data"]} == {"stored"}
        over = await sensor.post("/api/v1/events/batch", json={"events": [report(k) for k in range(1001)]})
        assert over.status_code == 413
        assert (await sensor.post("/api/v1/events/batch", json={"events": []})).json() == {"data": []}


async def test_a_gzip_body_is_unpacked(api: ApiProcess) -> None:
    async with api.client() as sensor:
        body = gzip.compress(json.dumps({"events": [report(k) for k in range(50)]}).encode())
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        answer = await sensor.post("/api/v1/events/batch", content=body, headers=headers)
        assert [result["status"] for result in answer.json()["data"]] == ["stored"] * 50


async def test_many_at_once_share_transactions_and_are_all_stored_once(api_on_each: ApiProcess) -> None:
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        answers = await asyncio.gather(
            *(sensor.post("/api/v1/events", json=report(k % 100)) for k in range(300)),
            *(sensor.post("/api/v1/events/batch", json={"events": [report(k) for k in range(100)]}) for _ in range(3)),
        )
        assert {answer.status_code for answer in answers} <= {200, 201}
        singles = [answer.json()["data"]["status"] for answer in answers[:300]]
        batches = [result["status"] for answer in answers[300:] for result in answer.json()["data"]]
        assert (singles + batches).count("stored") == 100
        page = (await reader.get("/api/v1/events", params={"limit": 1000})).json()
        assert len({event["id"] for event in page["data"]}) == len(page["data"]) == 100
        commits = _metric((await reader.get("/metrics")).text, "attune_api_group_commit_events_count")
        assert commits < 200  # 303 requests


def _metric(text: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith((name + " ", name + "{")))


async def test_pages_hold_every_event_once_in_both_orders(api_on_each: ApiProcess) -> None:
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        await sensor.post("/api/v1/events/batch", json={"events": [report(k) for k in range(25)]})
        for order, expected in (("asc", list(range(25))), ("desc", list(range(24, -1, -1)))):
            seen: list[int] = []
            query: dict[str, str] = {"order": order, "limit": "10"}
            while True:
                page = (await reader.get("/api/v1/events", params=query)).json()
                seen += [event["payload"]["k"] for event in page["data"]]
                if page["next_cursor"] is None:
                    break
                query["cursor"] = page["next_cursor"]
            assert seen == expected


async def test_a_follower_sees_what_comes_later_and_nothing_twice(api_on_each: ApiProcess) -> None:
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        page = (await reader.get("/api/v1/events", params={"order": "asc"})).json()
        assert page["data"] == []
        seen: list[int] = []
        for step in range(3):
            await sensor.post(
                "/api/v1/events/batch", json={"events": [report(k) for k in range(step * 5, step * 5 + 5)]}
            )
            page = (await reader.get("/api/v1/events", params={"order": "asc", "cursor": page["resume_cursor"]})).json()
            seen += [event["payload"]["k"] for event in page["data"]]
        assert seen == list(range(15))
        last_seq = page["data"][-1]["seq"]
        assert (await reader.get("/api/v1/events", params={"order": "asc", "after_seq": last_seq})).json()["data"] == []


async def test_seq_is_seen_in_order_while_several_write(api_on_each: ApiProcess) -> None:
    """A follower that polls during writes by two replicas (on PostgreSQL) misses nothing."""
    replicas = [api_on_each]
    second = ApiProcess(api_on_each.directory / "second", database_url=api_on_each.database_url)
    second.minter = api_on_each.minter
    second.environment["ATTUNE_API_JWKS_FILE"] = str(api_on_each.jwks_file)
    try:
        if api_on_each.database_url.startswith("postgresql"):
            second.start()
            replicas.append(second)
        seen: list[str] = []
        done = asyncio.Event()

        async def follow() -> None:
            async with api_on_each.reader() as reader:
                cursor: dict[str, str] = {}
                while True:
                    last_round = done.is_set()
                    query = {"order": "asc", "limit": "1000", **cursor}
                    page = (await reader.get("/api/v1/events", params=query)).json()
                    seen.extend(event["id"] for event in page["data"])
                    cursor = {"cursor": page["resume_cursor"]}
                    if last_round and not page["data"]:
                        return

        async def write(replica: ApiProcess, worker: int) -> None:
            async with replica.client() as sensor:
                for batch in range(10):
                    events = [report(batch * 10 + k, rule_uid=f"rule-{worker}") for k in range(10)]
                    assert (await sensor.post("/api/v1/events/batch", json={"events": events})).status_code == 200

        follower = asyncio.create_task(follow())
        await asyncio.gather(*(write(replicas[worker % len(replicas)], worker) for worker in range(6)))
        done.set()
        await follower
        assert len(seen) == len(set(seen)) == 600
    finally:
        second.stop()


async def test_filters(api_on_each: ApiProcess) -> None:
    events = [
        report(1, rule_uid="r-1", rule_namespace="team-a", rule_name="daily"),
        report(2, rule_uid="r-2", rule_namespace="team-b", rule_name="hourly"),
        report(3, rule_uid="r-3", rule_namespace="team-a", rule_name="hourly"),
    ]
    questions: list[tuple[dict[str, str], set[int]]] = [
        ({"rule_uid": "r-2"}, {2}),
        ({"rule_namespace": "team-a"}, {1, 3}),
        ({"rule_namespace": "team-a", "rule_name": "hourly"}, {3}),
        ({"trigger_type": "core.intervaltimer"}, {1, 2, 3}),
        ({"trigger_type": "core.other"}, set()),
        ({"sensor": "attune-system/core.timer"}, {1, 2, 3}),
        ({"sensor": "default/other"}, set()),
        ({"occurred_after": "2026-11-23T12:00:02Z"}, {2, 3}),
        ({"occurred_before": "2026-11-23T14:00:03+02:00"}, {1, 2}),
        ({"occurred_after": "2026-11-23T12:00:02Z", "occurred_before": "2026-11-23T12:00:03Z"}, {2}),
    ]
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        await sensor.post("/api/v1/events/batch", json={"events": events})
        for query, expected in questions:
            page = (await reader.get("/api/v1/events", params=query)).json()
            assert {event["payload"]["k"] for event in page["data"]} == expected, query


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/events?limit=0", 422),
        ("/api/v1/events?limit=1001", 422),
        ("/api/v1/events?order=up", 422),
        ("/api/v1/events?cursor=nonsense", 400),
        ("/api/v1/events?cursor=WzEsImRlc2MiLDZd&order=asc", 400),
        ("/api/v1/events?after_seq=1", 400),
        ("/api/v1/events?occurred_after=2026-01-01T00:00:00", 422),
        ("/api/v1/events?occurred_after=0001-01-01T00:00:00%2B10:00", 422),
        ("/api/v1/events?rule_uid=%00", 422),
        ("/api/v1/events/not-a-uuid", 422),
        (f"/api/v1/events/{uuid.UUID(int=0)}", 404),
    ],
)
async def test_a_question_that_makes_no_sense_says_so(shared_api: ApiProcess, path: str, status: int) -> None:
    async with shared_api.reader() as reader:
        answer = await reader.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
