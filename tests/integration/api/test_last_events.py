"""Which events a sensor's rules have stored last, on both databases."""

from typing import Any

import pytest
from sqlalchemy import Connection, text
from support.api_process import ADMIN_TOKEN, ApiProcess, report

from attune_api.events.last.sql import last_events
from attune_api.settings import Settings
from attune_api.storage.opening import open_database

pytest_plugins = ["support.api_fixtures"]

PATH = "/api/v1/sensor/last-events"


def asked(*uids: str) -> dict[str, list[str]]:
    return {"rule_uid": list(uids)}


async def test_the_last_stored_event_of_each_rule_is_told(api_on_each: ApiProcess) -> None:
    async with api_on_each.client() as sensor:
        for k in (1, 2, 5, 4):
            await sensor.post("/api/v1/events", json=report(k, rule_uid="r1"))
        await sensor.post("/api/v1/events", json=report(3, rule_uid="r2"))
        answer = await sensor.get(PATH, params=asked("r1", "r2", "r3", "r1"))
    assert answer.status_code == 200
    found = {event["rule_uid"]: event for event in answer.json()["data"]}
    assert set(found) == {"r1", "r2"}
    assert len(answer.json()["data"]) == 2
    assert found["r1"]["occurred_at"] == "2026-11-23T12:00:04.000000Z", "stored last, not the latest"
    assert found["r2"]["id"] == report(3, rule_uid="r2")["id"]
    assert found["r2"]["seq"] > found["r1"]["seq"]


async def test_another_sensor_s_events_are_not_told(api_on_each: ApiProcess) -> None:
    other_sensor = api_on_each.minter.token(login="sensor:default/other", sub="another")
    async with api_on_each.client() as sensor, api_on_each.client(other_sensor) as other:
        await sensor.post("/api/v1/events", json=report(1, rule_uid="r1"))
        assert (await other.get(PATH, params=asked("r1"))).json() == {"data": []}


async def test_only_a_sensor_may_ask(api_on_each: ApiProcess) -> None:
    for token in ("", ADMIN_TOKEN, api_on_each.minter.token(exp=1)):
        async with api_on_each.client(token) as client:
            assert (await client.get(PATH, params=asked("r1"))).status_code == 401


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({}, "rule_uid"),
        (asked(""), "rule_uid"),
        (asked("x" * 65), "rule_uid"),
        (asked("a\0b"), "NUL"),
        (asked(*(f"r{n}" for n in range(201))), "200"),
    ],
)
async def test_a_wrong_question_is_refused_with_what_is_wrong(
    api_on_each: ApiProcess, params: dict[str, Any], complaint: str
) -> None:
    async with api_on_each.client() as sensor:
        answer = await sensor.get(PATH, params=params)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert complaint in answer.text


async def test_as_many_rules_as_are_allowed(api_on_each: ApiProcess) -> None:
    async with api_on_each.client() as sensor:
        events = [report(k, rule_uid=f"r{n}") for n in range(150) for k in (1, 2)]
        await sensor.post("/api/v1/events/batch", json={"events": events})
        answer = await sensor.get(PATH, params=asked(*(f"r{n}" for n in range(200))))
    assert len(answer.json()["data"]) == 150
    assert {event["occurred_at"] for event in answer.json()["data"]} == {"2026-11-23T12:00:02.000000Z"}


async def test_it_is_found_in_the_index(api_on_each: ApiProcess) -> None:
    """Thousands of events of one rule do not make the question slower: no plan reads them all."""
    database = open_database(Settings(database_url=api_on_each.database_url).database_url)
    async with api_on_each.client() as sensor:
        for start in range(0, 10_000, 1000):
            events = [report(k, rule_uid="many" if k % 2 else f"r{k % 100}") for k in range(start, start + 1000)]
            await sensor.post("/api/v1/events/batch", json={"events": events})

    def plan(connection: Connection) -> str:
        statements: list[str] = []
        original = connection.execute

        def explained(statement: Any, *rest: Any, **more: Any) -> Any:
            compiled = statement.compile(connection, compile_kwargs={"literal_binds": True, "render_postcompile": True})
            prefix = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
            statements.extend(str(row) for row in original(text(f"{prefix} {compiled}".replace(":", "\\:"))))
            return original(statement, *rest, **more)

        connection.execute = explained  # type: ignore[method-assign]
        found = last_events(connection, sensor_ref="attune-system/core.timer", rule_uids=["many", "none"])
        assert [event.occurred_at for event in found] == ["2026-11-23T14:46:39.000000Z"]
        return "\n".join(statements)

    await database.write(lambda connection: connection.execute(text("ANALYZE")) and None)
    shown = await database.read(plan)
    await database.close()
    assert "ix_events_rule_uid_seq" in shown
    assert "SCAN events" not in shown
    assert "Seq Scan on events" not in shown
