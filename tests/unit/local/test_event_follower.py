"""Events are shown once each, also while the last ones are asked for."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from attune_local.event_follower import EventFollower


async def test_who_asks_for_the_last_events_meanwhile_shows_none_twice(tmp_path: Path) -> None:
    stored = [{"seq": seq} for seq in range(1, 4)]
    shown: list[int] = []
    showing, go_on = asyncio.Event(), asyncio.Event()

    async def events(request: web.Request) -> web.Response:
        after = int(request.query["after_seq"])
        return web.json_response({"data": [event for event in stored if event["seq"] > after]})

    async def show(events: list[dict[str, Any]]) -> None:
        shown.extend(event["seq"] for event in events)
        showing.set()
        await go_on.wait()

    application = web.Application()
    application.router.add_get("/api/v1/events", events)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    follower = EventFollower(url=f"http://127.0.0.1:{port}", token="t", position=tmp_path / "shown", on_events=show)
    try:
        async with aiohttp.ClientSession() as session:
            first = asyncio.create_task(follower.read_page(session))
            await showing.wait()
            rest = asyncio.create_task(follower.read_rest())
            await asyncio.sleep(0.2)  # it would have asked by now
            go_on.set()
            assert await first == 3
            await rest
    finally:
        await runner.cleanup()
    assert shown == [1, 2, 3]
