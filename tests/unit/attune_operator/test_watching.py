"""The watches outlive a namespace that refuses them, and what was begun is ended. Of kopf its real requests."""

import asyncio
import itertools
import logging
import ssl
from typing import Any, cast

import kopf
import pytest
from aiohttp import web
from kopf._cogs.clients import api, auth, errors

from attune_kit.backoff import Backoff
from attune_kit.kubernetes.access import Access
from attune_operator.observers import Observers
from attune_operator.resources.kinds import WATCHED
from attune_operator.watching import Endless, Scope, Watches, scopes, settings

MANY = 100


@pytest.mark.parametrize(
    ("watched", "where_sensors_run"), [((), ()), ((), ("b",)), (("a", "b"), ("b",)), (("a", "b"), ())]
)
def test_a_refused_watch_is_tried_again_without_end(
    watched: tuple[str, ...], where_sensors_run: tuple[str, ...]
) -> None:
    for scope in scopes(watched, where_sensors_run):
        waits = settings(scope).networking.error_backoffs
        assert not isinstance(waits, float | int)
        for _ in range(2):  # kopf starts again for each request
            found = list(itertools.islice(waits, MANY))
            assert len(found) == MANY
            assert found[0] <= 1
            assert all(0 < wait <= 30 for wait in found)
            assert all(wait >= 15 for wait in found[10:])
            assert len(set(found[10:])) > 1  # jitter: what was refused together does not come back together


async def test_kopf_takes_waits_without_an_end() -> None:
    refused = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal refused
        if refused == MANY:
            return web.json_response({"items": []})
        refused += 1
        return web.json_response({"kind": "Status", "code": 403}, status=403)

    app = web.Application()
    app.router.add_get("/secrets", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    context = auth.APIContext(kopf.ConnectionInfo(server=f"http://127.0.0.1:{runner.addresses[0][1]}"))
    scope = Scope(namespaces=("b",), ours=False, children=WATCHED)
    quick = settings(scope)

    async def status() -> int:
        async with asyncio.timeout(30):
            response = await api.request("get", "/secrets", settings=quick, context=context, logger=logging.getLogger())
        async with response:
            return response.status

    try:
        quick.networking.error_backoffs = [0.0] * 3
        with pytest.raises(errors.APIForbiddenError):
            await status()
        refused = 0
        quick.networking.error_backoffs = Endless(Backoff(initial=1e-6, maximum=1e-6))
        assert await status() == 200
        assert refused == MANY
    finally:
        await context.session.close()
        await runner.cleanup()


async def test_if_the_second_scope_cannot_be_watched_the_watches_of_the_first_are_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[asyncio.Task[Any]] = []

    async def spawn_tasks(**_: Any) -> list[asyncio.Task[Any]]:
        if begun:
            raise OSError("no more")
        begun.append(asyncio.create_task(asyncio.Event().wait()))
        return begun

    monkeypatch.setattr(kopf, "spawn_tasks", spawn_tasks)
    access = Access(server="http://127.0.0.1:1", verify=ssl.create_default_context(), bearer=lambda: None)
    watches = Watches(cast("Observers", None), access=access, namespaces=(), sensor_namespaces=("b",))
    with pytest.raises(OSError, match="no more"):
        await watches.run()
    assert [task.cancelled() for task in begun] == [True]


async def test_if_nothing_can_be_watched_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spawn_tasks(**_: Any) -> list[asyncio.Task[Any]]:
        raise OSError("none at all")

    monkeypatch.setattr(kopf, "spawn_tasks", spawn_tasks)
    access = Access(server="http://127.0.0.1:1", verify=ssl.create_default_context(), bearer=lambda: None)
    with pytest.raises(OSError, match="none at all"):
        await Watches(cast("Observers", None), access=access, namespaces=()).run()
