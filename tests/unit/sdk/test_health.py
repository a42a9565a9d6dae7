"""What a sensor says of itself, and what it asks to find it out."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attune_contract.identity import SensorRef
from attune_contract.messages import SensorHealth
from attune_kit.outage import Outage
from attune_sensor import Sensor, SensorRuntime, SensorSettings
from attune_sensor._api_client import Unavailable
from attune_sensor._health import ApiProbe, _has_changed


def settings(tmp_path: Path) -> SensorSettings:
    token = tmp_path / "token"
    token.write_text("a-token")
    return SensorSettings(
        sensor=SensorRef("default", "queue"), trigger_types=("acme.queue",), api_url="http://api.invalid",
        token_file=token, nats_url="nats://nats.invalid", rules_subject="", acks_subject="attune.acks.default.queue",
        instance="pod", nats_inbox_prefix="",
    )  # fmt: skip


async def test_versions_are_part_of_the_report(tmp_path: Path) -> None:
    runtime = SensorRuntime(settings=settings(tmp_path), handler=Sensor().handler)
    runtime.context.versions["tzdata"] = "2026f"
    assert runtime._health._health().versions == {"tzdata": "2026f"}


async def test_problems_are_the_sensor_s_own_and_the_sdk_s(tmp_path: Path) -> None:
    runtime = SensorRuntime(settings=settings(tmp_path), handler=Sensor().handler)
    assert runtime._problems() == {}
    runtime.context.add_health_check("broker", lambda: "the broker is away (since 12:00)")
    runtime.context.add_health_check("fine", lambda: None)

    def broken() -> str:
        raise RuntimeError("as the test wants")

    runtime.context.add_health_check("broken", broken)
    runtime.emitter.note_api(Unavailable("connection", "cannot reach http://api.invalid"))
    (tmp_path / "token").unlink()
    found = runtime._problems()
    assert set(found) == {"broker", "broken", "api", "token"}
    assert found["broken"] == "the check itself fails: RuntimeError('as the test wants')"
    assert found["api"].startswith("cannot reach http://api.invalid (since 20")
    runtime.emitter.note_api(None)
    assert "api" not in runtime._problems()


def test_what_is_news() -> None:
    def said(rules: int = 1, **problems: str) -> SensorHealth:
        return SensorHealth(
            instance="pod", at=datetime(2026, 1, 1, tzinfo=UTC), every=15, rules=rules, problems=problems
        )

    assert not _has_changed(said(1), said(2), 100)
    assert _has_changed(said(1), said(0), 0)
    assert _has_changed(said(), said(api="away"), 0)
    assert _has_changed(said(api="away"), said(), 0)
    assert not _has_changed(said(api="away"), said(api="refused"), 1), "a sentence that changes is told at leisure"
    assert _has_changed(said(api="away"), said(api="refused"), 6)


def test_a_fault_is_told_in_words_that_stay() -> None:
    class Silent:
        def warning(self, *_: Any, **__: Any) -> None: ...
        def info(self, *_: Any, **__: Any) -> None: ...

    moment = [100.0]
    outage = Outage(log=Silent(), name="api", clock=lambda: moment[0], wall=lambda: moment[0])
    assert outage.fault is None
    outage.failed("connection", "cannot reach it")
    first = outage.fault
    assert first == "cannot reach it (since 1970-01-01T00:01:40Z)"
    moment[0] = 200.0
    outage.failed("connection", "cannot reach it")
    assert outage.fault == first
    outage.recovered()
    assert outage.fault is None


async def test_a_quiet_api_is_asked_and_a_busy_one_is_not() -> None:
    class Fake:
        last_request = 0.0
        noted: list[Unavailable | None]

        def __init__(self) -> None:
            self.noted = []

        def note_api(self, failure: Unavailable | None) -> None:
            self.noted.append(failure)

    emitter, away, asked = Fake(), Unavailable("connection", "away"), asyncio.Event()

    async def check() -> Unavailable:
        asked.set()
        return away

    probe = ApiProbe(check=check, emitter=emitter, after=0.01, chance=lambda: 0.5)  # type: ignore[arg-type]
    task = asyncio.create_task(probe.run())
    await asyncio.wait_for(asked.wait(), 150)
    await asyncio.sleep(0)
    assert emitter.noted[0] is away
    emitter.last_request = float("inf")  # a request was made just now
    await asyncio.sleep(0.05)
    before = len(emitter.noted)
    await asyncio.sleep(0.05)
    assert len(emitter.noted) == before
    task.cancel()
    await asyncio.wait({task})
