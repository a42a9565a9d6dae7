"""A list at an address as something that a sensor reads, and its sensor in trouble."""

import asyncio
import json
from email.message import Message
from pathlib import Path
from typing import Any, Final

from support.api_process import ApiProcess
from support.nats_server import NatsServer
from support.polled_server import Page, PolledServer
from support.sensor_process import stored_events
from support.source_chaos import RULES, Chaos, Outcome, ServerQueue, go_through, sensor_of

from attune_contract.identity import SensorRef

REF = SensorRef("attune-system", "core.http")
TYPE = "core.httppoll"
#: Items that the list shows, the newest. One that leaves the list before it was seen is no event, so none may here.
SHOWN: Final = 20_000


class HttpList(ServerQueue[PolledServer]):
    """A list of the newest items, the newest first, with an ETag.

    Args:
        server: serves it.
        api: where the events of its items arrive.
        shown: how many items it shows.
    """

    def __init__(self, server: PolledServer, *, api: ApiProcess, shown: int = SHOWN) -> None:
        super().__init__(server)
        self.sent = 0
        self.shown = shown
        self._api = api
        server.pages["/items"] = self._page

    def make(self) -> None:
        """Nothing: the list is there, and empty."""

    def send(self, numbers: range) -> None:
        """Add items."""
        self.sent = numbers.stop

    def unacknowledged(self) -> int:
        """Items whose events are not stored: nobody acknowledges at a list."""
        return self.sent * RULES - len(asyncio.run(stored_events(self._api)))

    def _page(self, _path: str, _headers: Message) -> Page:
        sent = self.sent
        items = [
            {"id": number, "body": {"n": number}} for number in range(sent - 1, max(-1, sent - 1 - self.shown), -1)
        ]
        return Page(json.dumps(items).encode(), etag=f'"{sent}"')


async def live_through(directory: Path, *, nats: NatsServer, chaos: Chaos) -> Outcome:
    """Add items and let things fail; returns what became of them."""
    api = ApiProcess(directory / "api")
    await asyncio.to_thread(api.start)
    server = PolledServer()
    server.start()
    try:
        config: dict[str, Any] = {"servers": {"default": {"url": server.url}}, "minInterval": "100ms"}
        sensor, replica = (
            sensor_of("attune_http", directory / name, api=api, nats=nats, config=config, ref=REF, trigger_type=TYPE)
            for name in ("sensor", "replica")
        )
        parameters = {"path": "items", "mode": "items", "id": "/id", "interval": "100ms", "first": "report"}
        outcome = await go_through(chaos, HttpList(server, api=api), sensor, replica, api, parameters=parameters)
    finally:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(api.stop)
    for event in outcome.events:
        event["payload"]["body"] = event["payload"]["item"]["body"]
    return outcome
