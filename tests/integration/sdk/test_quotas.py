"""Namespaces over their quotas, as the SDK delivers their events: to the real API."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import structlog
from support.api_process import ApiProcess, report
from support.eventually import until

from attune_contract.events import EventReport
from attune_kit.backoff import Backoff
from attune_sensor import Disposition
from attune_sensor._api_client import EventsApi
from attune_sensor._credentials import TokenFile
from attune_sensor._emitter import Emitter
from attune_sensor._metrics import Metrics
from attune_sensor._outcomes import Outcomes
from attune_sensor._spool import Spool

SHOP, BANK = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


def event(namespace: str, k: int) -> EventReport:
    uid = SHOP if namespace == "shop" else BANK
    return msgspec.convert(report(k, rule_uid=uid, rule_namespace=namespace), EventReport)


@contextlib.asynccontextmanager
async def emitting(
    api: ApiProcess, directory: Path, *, spool: bool, outcomes: Outcomes | None = None, grace: float = 5.0
) -> AsyncIterator[tuple[Emitter, Metrics]]:
    token = directory / "token"
    token.write_text(api.minter.token())
    metrics = Metrics()
    client = EventsApi(url=api.url, token=TokenFile(token), user_agent="test", metrics=metrics)
    emitter = Emitter(
        api=client,
        spool=Spool(directory=directory / "spool", max_bytes=1 << 24) if spool else None,
        metrics=metrics,
        log=structlog.get_logger(),
        retry=Backoff(initial=0.02, maximum=0.1),
        outcomes=outcomes,
    )
    run = asyncio.create_task(emitter.run())
    try:
        yield emitter, metrics
    finally:
        await emitter.close(run=run, grace_seconds=grace)
        await client.close()


async def stored(api: ApiProcess, namespace: str) -> list[int]:
    """The occurrences that are stored of a namespace, in the order in which they came."""
    found: list[int] = []
    async with api.reader() as reader:
        path = f"/api/v1/events?rule_namespace={namespace}&order=asc&limit=1000"
        while path:
            page = (await reader.get(path)).json()
            found += [each["payload"]["k"] for each in page["data"]]
            cursor = page.get("next_cursor")
            path = f"/api/v1/events?rule_namespace={namespace}&order=asc&limit=1000&cursor={cursor}" if cursor else ""
    return found


@pytest.mark.parametrize("spool", [True, False], ids=["spool", "memory"])
async def test_one_namespace_waits_and_the_other_does_not(tmp_path: Path, spool: bool) -> None:
    quotas = json.dumps({"eventsPerSecond": 1000, "namespaces": {"shop": {"eventsPerSecond": 50}}})
    outcomes = Outcomes(clock=time.monotonic)
    outcomes.begin(SHOP)
    outcomes.begin(BANK)
    with ApiProcess(tmp_path / "api", quotas=quotas) as api:
        async with emitting(api, tmp_path, spool=spool, outcomes=outcomes) as (emitter, metrics):
            for k in range(1200):
                await emitter.emit(event("shop", k))
            await emitter.emit(event("bank", 0))  # behind all of the shop's
            await until(lambda: outcomes.standing(SHOP) is not None, what="the shop is said to be over its quota")
            assert outcomes.standing(BANK) is None
            standing = outcomes.standing(SHOP)
            assert standing is not None
            assert not standing.failing
            assert "the namespace shop is over its quota of 50 events a second" in standing.text

            async def shop() -> bool:
                return len(await stored(api, "shop")) == 1200

            await until(shop)
            await until(lambda: emitter.waiting == 0)
        assert await stored(api, "shop") == list(range(1200)), "in order, and each once"
        async with api.reader() as reader:
            [bank] = (await reader.get("/api/v1/events?rule_namespace=bank")).json()["data"]
            [last] = (await reader.get("/api/v1/events?rule_namespace=shop&limit=1")).json()["data"]
        assert bank["seq"] < last["seq"], "the other namespace did not wait for this one"
        value = metrics.registry.get_sample_value("attune_sensor_events_total", {"result": "dropped"})
        assert value == 0


async def test_the_next_process_goes_on_with_what_waited(tmp_path: Path) -> None:
    with ApiProcess(tmp_path / "api", quotas='{"eventsPerSecond": 1}') as api:
        async with emitting(api, tmp_path, spool=True, grace=0.0) as (emitter, _):
            for k in range(1200):
                await emitter.emit(event("shop", k))
            await until(lambda: emitter.waiting and not emitter.spooled and len(emitter._held_back) > 0)
            await until(lambda: not emitter._queue and not emitter._forwarder.taken)
            taken = len(await stored(api, "shop"))
        assert taken < 1200
        api.environment["ATTUNE_API_QUOTAS"] = "{}"
        api.restart()
        async with emitting(api, tmp_path, spool=True) as (emitter, _):
            await until(lambda: emitter.waiting == 0)
        assert await stored(api, "shop") == list(range(1200))


async def test_who_waits_for_an_event_is_told_to_come_again(tmp_path: Path) -> None:
    with ApiProcess(tmp_path / "api", quotas='{"eventsPerSecond": 1}') as api:
        async with emitting(api, tmp_path, spool=True, grace=0.0) as (emitter, _):
            for k in range(20):
                await emitter.emit_confirmed(event("shop", k))
            found = await emitter.emit_confirmed(event("shop", 20))
            other = await emitter.emit_confirmed(event("bank", 0))
        assert (found.disposition, found.kept) == (Disposition.DEFERRED, False)
        assert found.wait > 0
        assert "over its quota" in (found.reason or "")
        assert other.disposition is Disposition.STORED
        assert len(emitter._held_back) == 0, "nothing was kept that its reporter sends again"
