"""Delivery of events, against a small real HTTP server that answers as it is told."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import structlog
from aiohttp import web
from support.eventually import until
from support.rule_stream import rule_state
from support.scripted_api import ScriptedApi, hang, reset, status

from attune_kit.backoff import Backoff
from attune_sensor import Disposition, EventReport, WhenFull, event_id
from attune_sensor._api_client import EventsApi
from attune_sensor._credentials import TokenFile
from attune_sensor._emitter import Emitter
from attune_sensor._metrics import Metrics
from attune_sensor._spool import Spool

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def event(number: int, *, rule: int = 1, padding: str = "") -> EventReport:
    state = rule_state(rule)
    return EventReport(
        id=event_id(state.uid, str(number)),
        trigger_type=state.trigger_type,
        rule_uid=state.uid,
        rule_namespace=state.namespace,
        rule_name=state.name,
        occurred_at=EPOCH + timedelta(seconds=number),
        payload={"number": number, "padding": padding},
    )


class Bench:
    """An emitter with all that it needs."""

    def __init__(self, directory: Path, url: str) -> None:
        self.token = directory / "token"
        self.token.write_text("first")
        self.spool_directory = directory / "spool"
        self.url = url
        self.metrics = Metrics()

    def count(self, result: str) -> float:
        value = self.metrics.registry.get_sample_value("attune_sensor_events_total", {"result": result})
        assert value is not None
        return value

    @contextlib.asynccontextmanager
    async def emitter(
        self, *, spool: bool = False, spool_bytes: int = 1 << 24, grace: float = 5, **options: Any
    ) -> AsyncIterator[Emitter]:
        self.metrics = Metrics()
        api = EventsApi(
            url=self.url,
            token=TokenFile(self.token),
            user_agent="test",
            metrics=self.metrics,
        )
        emitter = Emitter(
            api=api,
            spool=Spool(directory=self.spool_directory, max_bytes=spool_bytes) if spool else None,
            metrics=self.metrics,
            log=structlog.get_logger(),
            retry=Backoff(initial=0.02, maximum=0.1),
            **options,
        )
        run = asyncio.create_task(emitter.run())
        try:
            yield emitter
        finally:
            self.lost = await emitter.close(run=run, grace_seconds=grace)
            await api.close()
            if not run.cancelled():
                run.result()


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    server = ScriptedApi()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def bench(tmp_path: Path, api: ScriptedApi) -> Bench:
    return Bench(tmp_path, api.url)


def numbers(api: ScriptedApi) -> list[int]:
    return [stored["payload"]["number"] for stored in api.events]


async def test_event_leaves_at_once_and_those_that_come_meanwhile_leave_together(
    bench: Bench, api: ScriptedApi
) -> None:
    gate = asyncio.Event()

    async def slow(_request: Any, events: list[dict[str, Any]]) -> Any:
        await gate.wait()
        return api.store(events)

    api.script.append(slow)
    async with bench.emitter() as emitter:
        emitter.emit_nowait(event(0))
        await until(lambda: len(api.requests) == 1)
        for number in range(1, 50):
            emitter.emit_nowait(event(number))
        gate.set()
        await api.wait_for(lambda: len(api.events) == 50)
    assert [len(request.ids) for request in api.requests] == [1, 49]
    assert numbers(api) == list(range(50))
    assert bench.count("stored") == 50
    assert bench.lost == 0


async def test_batches_keep_to_what_the_api_takes(bench: Bench, api: ScriptedApi) -> None:
    async with bench.emitter() as emitter:
        for number in range(2500):
            emitter.emit_nowait(event(number))
        for number in range(2500, 2505):
            emitter.emit_nowait(event(number, padding="x" * 400_000))
        await api.wait_for(lambda: len(api.events) == 2505)
    assert max(len(request.ids) for request in api.requests) == 1000
    assert numbers(api) == list(range(2505))


@pytest.mark.parametrize(
    "answer", [status(500), status(503), status(404), status(408), reset], ids=lambda a: a.__qualname__
)
async def test_failure_that_passes_is_retried(bench: Bench, api: ScriptedApi, answer: Any) -> None:
    api.script.extend([answer] * 4)
    async with bench.emitter() as emitter:
        for number in range(10):
            emitter.emit_nowait(event(number))
        await api.wait_for(lambda: len(api.events) == 10)
    assert numbers(api) == list(range(10))
    assert bench.count("refused") == 0


async def test_answer_that_got_lost_makes_no_second_event(bench: Bench, api: ScriptedApi) -> None:
    async def store_and_cut(request: Any, events: list[dict[str, Any]]) -> Any:
        api.store(events)
        return await reset(request, events)

    api.script.extend([store_and_cut, store_and_cut, store_and_cut])
    async with bench.emitter() as emitter:
        emitter.emit_nowait(event(1))
        await until(lambda: bench.count("duplicate") == 1)
    assert numbers(api) == [1]


async def test_retry_after_is_honoured(bench: Bench, api: ScriptedApi) -> None:
    api.script.append(status(429, headers={"Retry-After": "1"}))
    loop = asyncio.get_running_loop()
    async with bench.emitter() as emitter:
        began = loop.time()
        emitter.emit_nowait(event(1))
        await api.wait_for(lambda: len(api.events) == 1)
        assert loop.time() - began >= 1.0


async def test_server_that_hangs_is_given_up_and_tried_again(
    bench: Bench, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune_sensor._api_client._TIMEOUT", aiohttp.ClientTimeout(total=0.3))
    release = asyncio.Event()
    api.script.append(hang(release))
    async with bench.emitter() as emitter:
        emitter.emit_nowait(event(1))
        await until(lambda: numbers(api) == [1])
    release.set()
    given_up = bench.metrics.registry.get_sample_value("attune_sensor_api_request_seconds_count", {"code": "error"})
    assert given_up is not None
    assert given_up >= 1  # a busy machine may be late with an answer, too


async def test_401_reads_the_token_again_and_retries_at_once(bench: Bench, api: ScriptedApi) -> None:
    async def expired(request: Any, events: list[dict[str, Any]]) -> Any:
        bench.token.write_text("second")
        return await status(401)(request, events)

    api.script.append(expired)
    async with bench.emitter() as emitter:
        emitter.emit_nowait(event(1))
        await api.wait_for(lambda: len(api.events) == 1)
    assert [request.token for request in api.requests] == ["first", "second"]


async def test_401_without_another_token_waits_and_loses_nothing(bench: Bench, api: ScriptedApi) -> None:
    async def by_token(request: Any, events: list[dict[str, Any]]) -> Any:
        if request.headers["Authorization"] == "Bearer second":
            return api.store(events)
        return await status(401)(request, events)

    api.always = by_token
    async with bench.emitter() as emitter:
        emitter.emit_nowait(event(1))
        await until(lambda: len(api.requests) >= 3)
        bench.token.write_text("second")
        await api.wait_for(lambda: len(api.events) == 1)
    assert bench.count("refused") == 0


async def test_token_that_is_missing_delays_events(bench: Bench, api: ScriptedApi) -> None:
    bench.token.unlink()
    async with bench.emitter() as emitter:
        emitter.emit_nowait(event(1))
        await until(lambda: emitter._api_outage.ongoing)
        bench.token.write_text("late")
        await api.wait_for(lambda: len(api.events) == 1)
    assert [request.token for request in api.requests] == ["late"]


async def test_refused_event_is_counted_and_holds_nobody_up(bench: Bench, api: ScriptedApi) -> None:
    api.refuse = lambda seen: "no such rule" if seen["payload"]["number"] % 3 == 0 else None
    async with bench.emitter() as emitter:
        for number in range(9):
            emitter.emit_nowait(event(number))
        await api.wait_for(lambda: len(api.events) == 6)
    assert numbers(api) == [1, 2, 4, 5, 7, 8]
    assert (bench.count("stored"), bench.count("refused")) == (6, 3)


async def test_answer_without_ids_and_reasons_is_understood(bench: Bench, api: ScriptedApi) -> None:
    """The API gives no id where it could not read one."""

    async def terse(_request: Any, events: list[dict[str, Any]]) -> Any:
        data: list[dict[str, Any]] = [{"id": None, "status": "refused", "reason": None} for _ in events]
        data[0] = {"id": events[0]["id"], "status": "stored", "seq": 17}
        return web.json_response({"data": data})

    api.always = terse
    async with bench.emitter() as emitter:
        for number in range(3):
            emitter.emit_nowait(event(number))
        await until(lambda: bench.count("refused") == 2)
    assert bench.count("stored") == 1
    assert len(api.requests) == 1


async def test_one_bad_event_that_spoils_its_batch_is_found(bench: Bench, api: ScriptedApi) -> None:
    async def picky(request: Any, events: list[dict[str, Any]]) -> Any:
        if any(seen["payload"]["number"] == 61 for seen in events):
            return await status(422, title="Unprocessable")(request, events)
        return api.store(events)

    api.always = picky
    async with bench.emitter() as emitter:
        for number in range(100):
            emitter.emit_nowait(event(number))
        await api.wait_for(lambda: len(api.events) == 99)
        await until(lambda: bench.count("refused") == 1)
    assert numbers(api) == [number for number in range(100) if number != 61]
    assert len(api.requests) < 20


async def test_order_per_rule_survives_trouble(bench: Bench, api: ScriptedApi) -> None:
    async with bench.emitter(spool=True) as emitter:
        for number in range(200):
            if number % 40 == 7:
                api.script.extend([status(503), reset, status(500)])
            emitter.emit_nowait(event(number, rule=number % 5))
            await asyncio.sleep(0)
        await until(lambda: len(api.events) == 200)
    per_rule: dict[str, list[int]] = defaultdict(list)
    for stored in api.events:
        per_rule[stored["rule_uid"]].append(stored["payload"]["number"])
    assert len(per_rule) == 5
    assert all(seen == sorted(seen) for seen in per_rule.values())


async def test_api_away_fills_the_spool_and_its_return_empties_it(bench: Bench, api: ScriptedApi) -> None:
    await api.stop()
    async with bench.emitter(spool=True) as emitter:
        for number in range(3000):
            emitter.emit_nowait(event(number))
        await until(lambda: bench.count("spooled") == 3000)
        assert emitter.waiting == 3000
        await api.start()
        await until(lambda: len(api.events) == 3000)
        await until(lambda: emitter.waiting == 0)
    assert numbers(api) == list(range(3000))
    assert list(bench.spool_directory.glob("*.segment")) == []


async def test_next_process_delivers_what_the_last_one_left(bench: Bench, api: ScriptedApi) -> None:
    await api.stop()
    async with bench.emitter(spool=True, grace=0.3) as emitter:
        for number in range(100):
            emitter.emit_nowait(event(number))
    assert bench.lost == 0
    await api.start()
    async with bench.emitter(spool=True) as emitter:
        emitter.emit_nowait(event(100))
        await until(lambda: len(api.events) == 101)
    assert numbers(api) == list(range(101))


async def test_killed_process_loses_nothing_that_was_spooled(bench: Bench, api: ScriptedApi) -> None:
    """The end of the last record is missing, as after a kill in the middle of a write."""
    await api.stop()
    async with bench.emitter(spool=True, grace=0.3) as emitter:
        for number in range(100):
            emitter.emit_nowait(event(number))
        await until(lambda: not emitter._queue and not emitter._forwarder.taken, what="all are in the spool")
    last = max(bench.spool_directory.glob("*.segment"))
    last.write_bytes(last.read_bytes()[:-10])
    await api.start()
    async with bench.emitter(spool=True) as emitter:
        await until(lambda: len(api.events) == 99)
        emitter.emit_nowait(event(99))
        await until(lambda: len(api.events) == 100)


async def test_full_spool_drops_the_oldest_and_counts_them(bench: Bench, api: ScriptedApi) -> None:
    await api.stop()
    async with bench.emitter(spool=True, spool_bytes=64 * 1024) as emitter:
        for number in range(1000):
            emitter.emit_nowait(event(number))
            if number % 50 == 0:
                await until(lambda: not emitter._queue and not emitter._forwarder.taken)
        await until(lambda: not emitter._queue and not emitter._forwarder.taken)
        dropped = bench.count("dropped")
        assert dropped > 0
        await api.start()
        await until(lambda: emitter.waiting == 0)
    assert numbers(api) == list(range(int(dropped), 1000))


async def test_full_spool_and_memory_drop_the_newest_and_count_them(bench: Bench, api: ScriptedApi) -> None:
    await api.stop()
    async with bench.emitter(
        spool=True, spool_bytes=64 * 1024, memory_bytes=10_000, when_full=WhenFull.DROP_NEWEST
    ) as emitter:
        taken = 0
        for number in range(1000):
            taken += emitter.emit_nowait(event(number))
            if number % 10 == 0 and number < 150:
                await until(lambda: not emitter._queue)
        assert taken < 1000
        assert bench.count("dropped") == 1000 - taken
        await api.start()
        await until(lambda: emitter.waiting == 0)
    assert len(api.events) == taken
    assert numbers(api) == sorted(numbers(api))


async def test_full_memory_blocks_until_there_is_room(bench: Bench, api: ScriptedApi) -> None:
    gate = asyncio.Event()

    async def slow(_request: Any, events: list[dict[str, Any]]) -> Any:
        await gate.wait()
        return api.store(events)

    api.always = slow
    async with bench.emitter(memory_bytes=10_000, when_full=WhenFull.BLOCK) as emitter:

        async def emit_all() -> None:
            for number in range(200):
                assert await emitter.emit(event(number))

        emitting = asyncio.create_task(emit_all())
        await until(lambda: emitter._admission.outage.ongoing)
        assert not emitting.done()
        assert emitter._queue.bytes <= 10_000
        gate.set()
        await emitting
        await api.wait_for(lambda: len(api.events) == 200)
    assert numbers(api) == list(range(200))
    assert bench.count("dropped") == 0


async def test_full_disk_is_said_and_events_wait_in_memory(bench: Bench, api: ScriptedApi) -> None:
    await api.stop()
    async with bench.emitter(spool=True) as emitter:
        emitter.emit_nowait(event(0))
        await until(lambda: bench.count("spooled") == 1)
        assert emitter._spool is not None
        spool = emitter._spool._spool
        real = spool.append

        def no_space(records: Any) -> int:
            raise OSError(28, "No space left on device")

        spool.append = no_space  # type: ignore[method-assign]
        for number in range(1, 10):
            emitter.emit_nowait(event(number))
        await until(lambda: emitter._spool is not None and emitter._spool.failing)
        await api.start()
        await until(lambda: len(api.events) == 10)
        spool.append = real  # type: ignore[method-assign]
    assert numbers(api) == list(range(10))


async def test_without_a_spool_the_end_says_how_many_are_lost(bench: Bench, api: ScriptedApi) -> None:
    await api.stop()
    async with bench.emitter(grace=0.3) as emitter:
        for number in range(7):
            emitter.emit_nowait(event(number))
    assert bench.lost == 7
    assert bench.count("dropped") == 7


async def test_end_delivers_what_waits(bench: Bench, api: ScriptedApi) -> None:
    async with bench.emitter() as emitter:
        for number in range(1500):
            emitter.emit_nowait(event(number))
    assert numbers(api) == list(range(1500))
    assert bench.lost == 0


async def test_api_that_comes_back_while_the_sensor_ends_gets_what_waits(bench: Bench, api: ScriptedApi) -> None:
    """A pod's spool ends with the pod, so the sensor tries for as long as it may."""
    await api.stop()
    async with bench.emitter(spool=True, grace=10) as emitter:
        for number in range(50):
            emitter.emit_nowait(event(number))
        await until(lambda: bench.count("spooled") == 50)
        back = asyncio.get_running_loop().call_later(0.3, lambda: tasks.append(asyncio.create_task(api.start())))
        tasks: list[asyncio.Task[None]] = []
    assert back.when() <= asyncio.get_running_loop().time()
    assert numbers(api) == list(range(50))


async def test_event_that_cannot_be_sent_is_the_callers_error(bench: Bench) -> None:
    async with bench.emitter() as emitter:
        with pytest.raises(ValueError, match="at most"):
            emitter.emit_nowait(event(1, padding="x" * 1_100_000))
        with pytest.raises(TypeError):
            emitter.emit_nowait(msgspec.structs.replace(event(1), payload={"what": object()}))
    with pytest.raises(ValueError, match="stopping"):
        emitter.emit_nowait(event(1))


async def test_events_of_another_thread_are_delivered_in_order(bench: Bench, api: ScriptedApi) -> None:
    async with bench.emitter() as emitter:

        def report() -> None:
            for number in range(500):
                assert emitter.emit_from_thread(event(number))

        await asyncio.to_thread(report)
        await api.wait_for(lambda: len(api.events) == 500)
        await asyncio.to_thread(emitter.emit_from_thread, event(500))
        await api.wait_for(lambda: len(api.events) == 501)
    assert numbers(api) == list(range(501))
    assert bench.count("emitted") == bench.count("stored") == 501


async def test_events_of_another_thread_go_to_the_spool_while_the_api_is_away(bench: Bench, api: ScriptedApi) -> None:
    await api.stop()
    async with bench.emitter(spool=True) as emitter:
        for number in range(20):
            await asyncio.to_thread(emitter.emit_from_thread, event(number))
        await until(lambda: bench.count("spooled") == 20)
        await api.start()
        await api.wait_for(lambda: len(api.events) == 20)
    assert numbers(api) == list(range(20))


async def test_closed_emitter_takes_nothing_from_another_thread_and_delivers_what_it_took(
    bench: Bench, api: ScriptedApi
) -> None:
    async with bench.emitter() as emitter:
        assert emitter.emit_from_thread(event(0))
    assert not await asyncio.to_thread(emitter.emit_from_thread, event(1))
    assert numbers(api) == [0]


async def test_a_lone_event_does_not_wait_for_others(bench: Bench, api: ScriptedApi) -> None:
    async with bench.emitter() as emitter:
        for number in range(3):
            emitter.emit_nowait(event(number))
            await api.wait_for(lambda number=number: len(api.events) == number + 1)  # type: ignore[misc]
        assert [len(request.ids) for request in api.requests] == [1, 1, 1]
        for number in range(3, 300):
            await asyncio.to_thread(emitter.emit_from_thread, event(number))
        await api.wait_for(lambda: len(api.events) == 300)
    assert len(api.requests) < 150, "under load, events share requests"


async def test_confirmed_means_stored_or_duplicate_or_refused(bench: Bench, api: ScriptedApi) -> None:
    api.refuse = lambda posted: "not yours" if posted["payload"]["number"] == 2 else None
    async with bench.emitter(spool=True) as emitter:
        first = await emitter.emit_confirmed(event(1))
        again = await emitter.emit_confirmed(event(1))
        refused = await emitter.emit_confirmed(event(2))
    assert (first.disposition, again.disposition) == (Disposition.STORED, Disposition.DUPLICATE)
    assert (refused.disposition, refused.reason, refused.kept) == (Disposition.REFUSED, "not yours", False)
    assert numbers(api) == [1]


async def test_confirmed_means_on_the_disk_while_the_api_is_away(bench: Bench, api: ScriptedApi) -> None:
    await api.stop()
    async with bench.emitter(spool=True) as emitter:
        confirmations = await asyncio.gather(*(emitter.emit_confirmed(event(number)) for number in range(50)))
        assert {confirmation.disposition for confirmation in confirmations} == {Disposition.SPOOLED}
        on_disk = b"".join(path.read_bytes() for path in sorted(bench.spool_directory.glob("*.segment")))
        assert all(str(event(number).id).encode() in on_disk for number in range(50))
        await api.start()
        await api.wait_for(lambda: len(api.events) == 50)


async def test_who_waits_hears_from_the_disk_when_the_api_hangs(bench: Bench, api: ScriptedApi) -> None:
    gate = asyncio.Event()

    async def slow(_request: Any, events: list[dict[str, Any]]) -> Any:
        await gate.wait()
        return api.store(events)

    api.script.append(slow)
    async with bench.emitter(spool=True) as emitter:
        first = asyncio.create_task(emitter.emit_confirmed(event(0)))
        await until(lambda: len(api.requests) == 1)
        behind = asyncio.create_task(emitter.emit_confirmed(event(1)))
        assert (await first).disposition is Disposition.SPOOLED
        assert (await behind).disposition is Disposition.SPOOLED
        gate.set()
        await api.wait_for(lambda: len(api.events) == 2)
        await until(lambda: emitter.waiting == 0)
    assert sorted(numbers(api)) == [0, 1]


async def test_the_next_request_leaves_before_who_waited_for_the_last_one_goes_on(
    bench: Bench, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    post = EventsApi.post

    async def noted(self: EventsApi, events: Sequence[bytes]) -> Any:
        order.append(f"request of {len(events)}")
        return await post(self, events)

    monkeypatch.setattr(EventsApi, "post", noted)
    async with bench.emitter() as emitter:

        async def report(number: int) -> None:
            assert (await emitter.emit_confirmed(event(number))).disposition is Disposition.STORED
            order.append("answer")

        await asyncio.gather(*(report(number) for number in range(200)))
    assert order[0] == "request of 100"
    assert order[1].startswith("request of"), "the API does not wait for the answers of the first hundred"
    assert order.count("answer") == 200
    assert numbers(api) == list(range(200))


async def test_who_waits_hears_of_it_when_there_is_no_room(bench: Bench, api: ScriptedApi) -> None:
    await api.stop()
    async with bench.emitter(when_full=WhenFull.DROP_NEWEST, memory_bytes=3000, grace=0.1) as emitter:
        waiting = [asyncio.create_task(emitter.emit_confirmed(event(n, padding="x" * 1000))) for n in range(3)]
        confirmation = await asyncio.wait_for(waiting[2], 150)
        assert confirmation.disposition is Disposition.DROPPED
    rest = await asyncio.wait_for(asyncio.gather(*waiting[:2]), 150)
    assert {confirmation.disposition for confirmation in rest} == {Disposition.DROPPED}, (
        "the sensor ended, and there is no disk"
    )


async def test_caller_who_gives_up_does_not_call_the_event_back(bench: Bench, api: ScriptedApi) -> None:
    await api.stop()
    async with bench.emitter() as emitter:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(emitter.emit_confirmed(event(0)), 0.1)
        await api.start()
        await api.wait_for(lambda: len(api.events) == 1)
