"""Following events: nothing skipped, nothing twice, whoever commits where; and a reader that does not read harms nobody."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.api_process import ApiProcess, report, write_jwks
from support.event_stream import StreamReader
from support.eventually import until
from support.postgres import PostgresServer
from support.process_figures import resident_mib

from attune_api.events.stream.routes import while_allowed
from attune_api.web.problems import ProblemError

pytest_plugins = ["support.api_fixtures"]


async def _send(api: ApiProcess, *events: dict[str, object]) -> None:
    async with api.client() as sensor:
        answer = await sensor.post("/api/v1/events/batch", json={"events": list(events)})
        assert answer.status_code == 200
        assert all(result["status"] == "stored" for result in answer.json()["data"]), answer.text


async def _metric(api: ApiProcess, name: str) -> float:
    async with api.client("") as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name + " "))


async def test_events_come_as_they_are_stored_from_now_on(api_on_each: ApiProcess) -> None:
    await _send(api_on_each, report(0))
    async with StreamReader(api_on_each.port) as reader:
        assert reader.status == 200
        await _send(api_on_each, report(1), report(2))
        await reader.read_until(2)
        assert [event["payload"]["k"] for event in reader.events] == [1, 2]
        assert reader.place == reader.events[-1]["seq"]
        async with api_on_each.reader() as client:
            page = (await client.get("/api/v1/events", params={"order": "asc"})).json()["data"]
        assert reader.events == page[1:]


async def test_filters_are_those_of_a_page(api_on_each: ApiProcess) -> None:
    events = [
        report(k, rule_uid=f"rule-{k % 2}", payload={"user": {"name": "ann" if k % 3 else "bob"}}) for k in range(12)
    ]
    async with (
        StreamReader(api_on_each.port, query="rule_uid=rule-1&payload.user.name=ann") as live,
        StreamReader(api_on_each.port, query="occurred_before=2026-11-23T12:00:02Z") as early,
    ):
        await _send(api_on_each, *events)
        await live.read_until(4)
        await early.read_until(2)
        async with StreamReader(api_on_each.port, query="rule_uid=rule-1&payload.user.name=ann", after=0) as behind:
            await behind.read_until(4)
        assert [event["id"] for event in live.events] == [events[k]["id"] for k in (1, 5, 7, 11)]
        assert behind.events == live.events
        assert [event["id"] for event in early.events] == [events[k]["id"] for k in (0, 1)]


async def test_who_comes_back_misses_nothing_and_gets_nothing_twice_though_the_api_was_killed(api: ApiProcess) -> None:
    seen: list[int] = []
    place: int | None = 0
    for round_ in range(4):
        await _send(api, *(report(k) for k in range(round_ * 50, round_ * 50 + 50)))
        async with StreamReader(api.port, after=place) as reader:
            # Not all that there is: it comes back in the middle.
            await reader.read_until(30)
            seen += [event["payload"]["k"] for event in reader.events[:30]]
            place = reader.events[29]["seq"]
        api.kill()
        api.start()
    async with StreamReader(api.port, after=place) as reader:
        await reader.read_until(200 - len(seen))
        seen += [event["payload"]["k"] for event in reader.events]
    assert seen == list(range(200))


async def test_over_two_replicas_nothing_is_skipped_while_both_write(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.create_database()
    with ApiProcess(tmp_path / "one", database_url=url) as one, ApiProcess(tmp_path / "two", database_url=url) as two:
        total = 600
        two.minter = one.minter
        write_jwks(two.jwks_file, two.minter)

        async def send(api: ApiProcess, start: int) -> None:
            async with api.client() as sensor:
                for k in range(start, start + total // 6):
                    assert (await sensor.post("/api/v1/events", json=report(k))).status_code == 201

        async def follow(first: ApiProcess, other: ApiProcess) -> list[int]:
            """Read, changing replicas every 70 events."""
            seqs: list[int] = []
            while len(seqs) < total:
                async with StreamReader(first.port, after=seqs[-1] if seqs else 0) as reader:
                    await reader.read_until(min(70, total - len(seqs)))
                    seqs += [event["seq"] for event in reader.events]
                first, other = other, first
            return seqs

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(follow(*pair)) for pair in ((one, two), (two, one))]
            for n in range(6):
                group.create_task(send((one, two)[n % 2], n * (total // 6)))
        for reader in readers:
            assert reader.result() == sorted(set(reader.result()))
        assert len(readers[0].result()) == len(readers[1].result()) == total


async def test_a_reader_of_rare_events_hears_how_far_it_is(tmp_path: Path) -> None:
    with ApiProcess(tmp_path, stream_heartbeat="0.3") as api:
        async with StreamReader(api.port, query="rule_uid=nobody") as reader:
            await _send(api, *(report(k) for k in range(5)))
            async with asyncio.timeout(150):
                while reader.place != 5 or reader.pings < 2:
                    await reader.read_line()
            assert reader.events == []


async def test_a_place_from_before_a_restore_does_not_keep_back_what_comes(api: ApiProcess) -> None:
    async with StreamReader(api.port, after=1_000_000) as reader:
        await _send(api, report(1))
        await reader.read_until(1)
        assert [event["payload"]["k"] for event in reader.events] == [1]


@pytest.mark.alone
async def test_a_stop_does_not_wait_for_readers(api: ApiProcess) -> None:
    async with StreamReader(api.port) as reader:
        started = time.monotonic()
        assert await asyncio.to_thread(api.stop) == 0
        assert time.monotonic() - started < 10
        await reader.read_until(1)
        assert reader.ended


async def test_more_readers_than_may_are_sent_away(tmp_path: Path) -> None:
    with ApiProcess(tmp_path, max_stream_clients="2") as api:
        async with StreamReader(api.port), StreamReader(api.port) as second:
            async with api.reader() as client:
                answer = await client.get("/api/v1/events/stream")
                assert (answer.status_code, answer.json()["type"]) == (503, "urn:attune:problem:too-many-streams")
                assert answer.headers["retry-after"]
            second.close()

            async def one_left() -> bool:
                return await _metric(api, "attune_api_stream_readers") == 1

            await until(one_left, within=30)
            async with StreamReader(api.port) as third:
                assert third.status == 200


@pytest.mark.parametrize(("place", "status"), [("x", 400), ("-1", 400), ("9" * 20, 400), ("1" * 21, 422)])
async def test_an_id_that_is_none_is_refused(shared_api: ApiProcess, place: str, status: int) -> None:
    async with shared_api.reader() as client:
        answer = await client.get("/api/v1/events/stream", headers={"Last-Event-ID": place})
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    async with shared_api.client("") as client:
        assert (await client.get("/api/v1/events/stream")).status_code == 401


@pytest.mark.alone
async def test_one_of_200_readers_never_reads_and_the_others_are_not_slowed(tmp_path: Path) -> None:
    readers, backlog, events = 200, 400, 100
    with ApiProcess(tmp_path, stream_send_timeout="3") as api:
        # More than sockets hold, for the one that will begin there and take none of it.
        for k in range(0, backlog, 40):
            await _send(api, *(report(n, payload={"text": "x" * 20_000}) for n in range(k, k + 40)))
        async with contextlib.AsyncExitStack() as stack:
            others = [await stack.enter_async_context(StreamReader(api.port)) for _ in range(readers - 1)]
            sent = backlog

            async def round_trip() -> float:
                """Seconds from the first event sent to the last one read by everybody."""
                nonlocal sent
                started = time.monotonic()
                async with asyncio.TaskGroup() as group:
                    for reader in others:
                        group.create_task(reader.read_until(len(reader.events) + events, seconds=90))
                    for k in range(sent, sent + events, 10):
                        await _send(api, *(report(n, payload={"text": "x" * 2000}) for n in range(k, k + 10)))
                sent += events
                return time.monotonic() - started

            without = await round_trip()
            memory = [resident_mib(api.process.pid)]
            with socket.socket() as dead:
                dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                dead.connect(("127.0.0.1", api.port))
                dead.sendall(StreamReader(api.port, after=0).request)
                beside = await round_trip()
                memory.append(resident_mib(api.process.pid))

                async def cut_off() -> bool:
                    memory.append(resident_mib(api.process.pid))
                    return await _metric(api, "attune_api_stream_readers_cut_off_total") >= 1

                await until(cut_off, within=60, every=0.1)
            afterwards = await round_trip()
            for reader in others:
                assert [event["seq"] for event in reader.events] == list(range(backlog + 1, sent + 1))
            assert await _metric(api, "attune_api_stream_readers") == readers - 1
        print(
            f"{without:.2f} s without, {beside:.2f} s beside one that never reads, {afterwards:.2f} s after it was cut off;"
            f" at most {max(memory):.0f} MiB"
        )
        assert beside < 3 * max(without, afterwards) + 2  # the machine may be busy with something else
        assert max(memory) < 150


async def _frames(count: int) -> AsyncGenerator[bytes]:
    for n in range(count):
        yield b"%d" % n


async def _collect(frames: AsyncIterator[bytes]) -> list[bytes]:
    return [frame async for frame in frames]


async def test_a_stream_ends_with_the_problem_when_the_right_is_gone() -> None:
    now = iter(range(0, 1000, 20))
    asked = 0

    async def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise ProblemError(403, "service:team-a/reader may not list rules.", kind="forbidden")

    frames = await _collect(while_allowed(_frames(20), check, clock=lambda: float(next(now))))
    assert frames[:-1] == [b"0", b"1", b"2", b"3"]
    assert frames[-1].startswith(b'event: problem\ndata: {"type":"urn:attune:problem:forbidden"')
    assert frames[-1].endswith(b"\n\n")


async def test_a_stream_outlives_a_cluster_that_does_not_answer_for_a_while() -> None:
    now = iter(range(0, 10_000, 20))
    asked = 0

    async def check() -> None:
        nonlocal asked
        asked += 1
        raise ProblemError(503, "The cluster's API server does not answer.", kind="cluster-unavailable")

    frames = await _collect(while_allowed(_frames(100), check, clock=lambda: float(next(now))))
    assert len(frames) == 17  # 300 s, and the problem
    assert b"cluster-unavailable" in frames[-1]


async def test_a_compressed_or_cached_stream_would_be_none(shared_api: ApiProcess) -> None:
    async with shared_api.reader() as client, client.stream("GET", "/api/v1/events/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert "content-length" not in answer.headers
        with contextlib.suppress(httpx.StreamClosed):
            async for line in answer.aiter_lines():
                assert line == "retry: 2000"
                break
