"""What a sensor reads of other rules' events, and what is kept for it, on both databases."""

import base64
import uuid
from typing import Any

import httpx
import pytest
from support.api_process import ADMIN_TOKEN, ApiProcess, report

from attune_contract.derived import MOST_RULES

pytest_plugins = ["support.api_fixtures"]

EVENTS = "/api/v1/sensor/events"


@pytest.fixture
def token(api_on_each: ApiProcess) -> str:
    """A token of a sensor whose rules are about events."""
    return api_on_each.minter.token(metadata={"trigger_types": ["core.intervaltimer", "core.count"]})


def asked(*names: str, **more: Any) -> dict[str, Any]:
    return {"rule_uid": "patterns", "namespace": "attune-system", "name": list(names), **more}


async def store(client: httpx.AsyncClient, *names: str, namespace: str = "attune-system") -> None:
    """One event of each rule, in this order."""
    events = [
        report(number, rule_uid=f"{namespace}-{name}", rule_namespace=namespace, rule_name=name, id=str(uuid.uuid4()))
        for number, name in enumerate(names)
    ]
    answer = await client.post("/api/v1/events/batch", json={"events": events})
    assert {each["status"] for each in answer.json()["data"]} == {"stored"}


async def test_events_of_several_rules_come_in_the_order_of_seq(api_on_each: ApiProcess, token: str) -> None:
    async with api_on_each.client(token) as sensor:
        await store(sensor, "before-a")
        start = (await sensor.get(EVENTS, params=asked("a"))).json()
        assert start["data"] == []
        assert start["position"] == start["newest"] > 0
        names = [name for _ in range(4) for name in ("a", "c", "b")]
        await store(sensor, *names)
        await store(sensor, "a", "b", namespace="other")
        found: list[tuple[int, str]] = []
        place = start["position"]
        pages = 0
        while True:
            page = (await sensor.get(EVENTS, params=asked("a", "b", after=place, limit=3))).json()
            found += [(event["seq"], event["rule_name"]) for event in page["data"]]
            assert {event["rule_namespace"] for event in page["data"]} <= {"attune-system"}
            assert len(page["data"]) <= 3
            pages += 1
            assert page["position"] > place
            place = page["position"]
            if place == page["newest"]:
                break
        assert [name for _, name in found] == [name for name in names if name != "c"]
        assert found == sorted(found)
        assert pages >= 3
        again = (await sensor.get(EVENTS, params=asked("a", "b", after=place))).json()
        assert again["data"] == []
        assert again["position"] == place


async def test_a_place_behind_the_newest_event_is_told(api_on_each: ApiProcess, token: str) -> None:
    async with api_on_each.client(token) as sensor:
        page = (await sensor.get(EVENTS, params=asked("a", after=10_000_000))).json()
    assert page["data"] == []
    assert page["position"] == page["newest"] < 10_000_000


async def test_a_sensor_whose_rules_are_not_about_events_reads_none(api_on_each: ApiProcess) -> None:
    async with api_on_each.client() as timer:
        answer = await timer.get(EVENTS, params=asked("a"))
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:attune:problem:events-not-allowed"
        # What it remembers of its own rules has nothing to do with others' events.
        assert (await timer.put("/api/v1/sensor/states/r", json=state(1, 1))).status_code == 200


async def test_without_a_rule_stream_it_reads_those_of_its_own_namespace(api_on_each: ApiProcess, token: str) -> None:
    async with api_on_each.client(token) as sensor:
        answer = await sensor.get(EVENTS, params={**asked("a"), "namespace": "other"})
    assert answer.status_code == 403
    assert "attune-system" in answer.json()["detail"]


async def test_only_a_sensor_may_ask(api_on_each: ApiProcess) -> None:
    for other in ("", ADMIN_TOKEN):
        async with api_on_each.client(other) as client:
            assert (await client.get(EVENTS, params=asked("a"))).status_code == 401
            assert (await client.put("/api/v1/sensor/states/r", json=state(1, 1))).status_code == 401


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        (asked(), "name"),
        (asked("a", after=-1), "after"),
        (asked("a", limit=501), "limit"),
        (asked("a\0b"), "NUL"),
        (asked(*(f"r{n}" for n in range(MOST_RULES + 1))), str(MOST_RULES)),
        ({"name": ["a"]}, "rule_uid"),
    ],
)
async def test_a_wrong_question_is_refused_with_what_is_wrong(
    api_on_each: ApiProcess, token: str, params: dict[str, Any], complaint: str
) -> None:
    async with api_on_each.client(token) as sensor:
        answer = await sensor.get(EVENTS, params=params)
    assert answer.status_code == 422
    assert complaint in answer.text


def state(generation: int, position: int, content: bytes = b"\0packed") -> dict[str, Any]:
    return {"generation": generation, "position": position, "state": base64.b64encode(content).decode()}


async def test_a_state_is_kept_unless_a_newer_one_is(api_on_each: ApiProcess, token: str) -> None:
    path = f"/api/v1/sensor/states/{uuid.uuid4()}"
    async with api_on_each.client(token) as sensor:
        assert (await sensor.get(path)).status_code == 404
        for kept, given in [
            (True, state(1, 10)),
            (True, state(1, 10, b"again")),
            (False, state(1, 9)),
            (True, state(1, 11)),
            (True, state(2, 5, b"another generation")),
            (False, state(1, 12)),
        ]:
            answer = await sensor.put(path, json=given)
            assert answer.status_code == (200 if kept else 409), answer.text
        assert (await sensor.get(path)).json() == state(2, 5, b"another generation")
        assert (await sensor.delete(path)).json() == {"kept": False}
        assert (await sensor.get(path)).status_code == 404
        assert (await sensor.delete(path)).json() == {"kept": False}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"generation": -1, "position": 0, "state": ""}',
        b'{"generation": 1, "position": 0, "state": "?"}',
    ],
)
async def test_what_is_no_state_is_refused(api_on_each: ApiProcess, token: str, body: bytes) -> None:
    async with api_on_each.client(token) as sensor:
        answer = await sensor.put("/api/v1/sensor/states/r", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "state" in answer.json()["detail"]
