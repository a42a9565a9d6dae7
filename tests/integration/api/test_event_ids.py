"""Ids of events belong to their rules: what one rule stores keeps no event of another rule out."""

import pytest
from support.api_process import ADMIN_TOKEN, ApiProcess, report

from attune_api.events.query.sql import MAX_SHARING_ID

pytest_plugins = ["support.api_fixtures"]

VICTIM = report()["rule_uid"]


def _taken(k: int, *, rule_uid: str = "takers-rule") -> dict[str, object]:
    """An event of another rule, under the id that the victim's occurrence ``k`` will have: ids can be computed."""
    return report(k, rule_uid=rule_uid, rule_namespace="team-b", id=report(k)["id"])


async def test_ids_taken_in_advance_keep_no_event_out(api_on_each: ApiProcess) -> None:
    taker = api_on_each.minter.token(login="sensor:team-b/taker", sub="uid-of-the-taker")
    async with api_on_each.client(taker) as attacker, api_on_each.client() as victim:
        answer = await attacker.post("/api/v1/events/batch", json={"events": [_taken(k) for k in range(10)]})
        assert {result["status"] for result in answer.json()["data"]} == {"stored"}
        for k in range(3):
            single = await victim.post("/api/v1/events", json=report(k))
            assert (single.status_code, single.json().get("type")) == (201, None)
        rest = await victim.post("/api/v1/events/batch", json={"events": [report(k) for k in range(10)]})
        assert [result["status"] for result in rest.json()["data"]] == ["duplicate"] * 3 + ["stored"] * 7
        # One batch may hold the same id for several rules.
        both = [report(20), _taken(20, rule_uid="third-rule")]
        mixed = await victim.post("/api/v1/events/batch", json={"events": [*both, *both]})
        assert [result["status"] for result in mixed.json()["data"]] == ["stored"] * 2 + ["duplicate"] * 2
    async with api_on_each.reader() as reader:
        page = await reader.get("/api/v1/events", params={"rule_uid": VICTIM, "order": "asc"})
        assert [event["payload"]["k"] for event in page.json()["data"]] == [*range(10), 20]


async def test_an_id_is_still_one_event_within_its_rule(api_on_each: ApiProcess) -> None:
    other = api_on_each.minter.token(login="sensor:team-b/other", sub="uid-of-the-other")
    async with api_on_each.client() as sensor, api_on_each.client(other) as second:
        assert (await sensor.post("/api/v1/events", json=report(1))).status_code == 201
        again = await sensor.post("/api/v1/events", json=report(1, payload={"k": "changed"}))
        assert (again.status_code, again.json()["data"]["status"]) == (200, "duplicate")
        conflict = await second.post("/api/v1/events", json=report(1))
        assert (conflict.status_code, conflict.json()["type"]) == (409, "urn:attune:problem:event-conflict")
        assert "Another sensor" in conflict.json()["detail"]


async def test_an_event_is_found_by_its_id_and_where_rules_share_one_by_its_rule(api_on_each: ApiProcess) -> None:
    path = f"/api/v1/events/{report(1)['id']}"
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        assert (await reader.get(path)).status_code == 404
        await sensor.post("/api/v1/events", json=report(1))
        assert (await reader.get(path)).json()["data"]["rule_uid"] == VICTIM
        await sensor.post("/api/v1/events", json=_taken(1))
        shared = await reader.get(path)
        assert (shared.status_code, shared.json()["type"]) == (409, "urn:attune:problem:event-id-ambiguous")
        assert shared.json()["rule_uids"] == [VICTIM, "takers-rule"]
        for uid in (VICTIM, "takers-rule"):
            found = await reader.get(path, params={"rule_uid": uid})
            assert (found.status_code, found.json()["data"]["rule_uid"]) == (200, uid)
        assert (await reader.get(path, params={"rule_uid": "another"})).status_code == 404
        assert (await reader.get(path, params={"rule_uid": "\0"})).status_code == 422


async def test_however_many_rules_share_an_id_the_answer_is_bounded(api_on_each: ApiProcess) -> None:
    path = f"/api/v1/events/{report(1)['id']}"
    many = [_taken(1, rule_uid=f"rule-{number}") for number in range(MAX_SHARING_ID + 10)]
    async with api_on_each.client() as sensor, api_on_each.client(ADMIN_TOKEN) as reader:
        await sensor.post("/api/v1/events/batch", json={"events": [*many, report(1)]})
        shared = await reader.get(path)
        assert shared.status_code == 409
        assert len(shared.json()["rule_uids"]) == MAX_SHARING_ID
        assert (await reader.get(path, params={"rule_uid": VICTIM})).status_code == 200


@pytest.mark.parametrize("taken_first", [True, False])
async def test_counts_and_last_events_tell_rules_apart(api_on_each: ApiProcess, taken_first: bool) -> None:
    pair = [report(1), _taken(1)]
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        await sensor.post("/api/v1/events/batch", json={"events": pair[::-1] if taken_first else pair})
        query = {"occurred_after": "2026-11-23T00:00:00Z", "occurred_before": "2026-11-24T00:00:00Z"}
        counts = (await reader.get("/api/v1/events/counts", params=query)).json()["data"]
        assert {(rule["rule_uid"], rule["total"]) for rule in counts} == {(VICTIM, 1), ("takers-rule", 1)}
        last = await sensor.get("/api/v1/sensor/last-events", params={"rule_uid": [VICTIM, "takers-rule"]})
        assert {found["rule_uid"] for found in last.json()["data"]} == {VICTIM, "takers-rule"}
