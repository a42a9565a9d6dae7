"""A small real HTTP server in the API's place, which answers as a test tells it to."""

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from support.eventually import patience

from attune_conformance.api import LoopbackServer

Answer = Callable[[web.Request, list[dict[str, Any]]], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Request:
    """What arrived."""

    token: str
    ids: list[str]


class ScriptedApi(LoopbackServer):
    """Stores events once by id, unless the next entry of ``script`` says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.events: list[dict[str, Any]] = []  # stored, in order
        self.script: deque[Answer] = deque()
        self.always: Answer | None = None
        self.refuse: Callable[[dict[str, Any]], str | None] = lambda _event: None
        self._stored: set[str] = set()
        self._arrived = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/api/v1/events/batch", self._batch)]

    async def wait_for(self, condition: Callable[[], bool], *, within: float = 10.0) -> None:
        """Wait until ``condition`` holds; it is looked at after each request."""
        async with asyncio.timeout(patience(within)):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        events = (await request.json(loads=msgspec.json.decode))["events"]
        self.requests.append(
            Request(request.headers.get("Authorization", "").removeprefix("Bearer "), [e["id"] for e in events])
        )
        try:
            if self.script:
                return await self.script.popleft()(request, events)
            if self.always is not None:
                return await self.always(request, events)
            return self.store(events)
        finally:
            self._arrived.set()

    def store(self, events: list[dict[str, Any]]) -> web.Response:
        """The regular answer."""
        results = []
        for event in events:
            identifier = str(uuid.UUID(event["id"]))
            reason = self.refuse(event)
            if reason is not None:
                results.append({"id": identifier, "status": "refused", "reason": reason})
            elif identifier in self._stored:
                results.append({"id": identifier, "status": "duplicate"})
            else:
                self._stored.add(identifier)
                self.events.append(event)
                results.append({"id": identifier, "status": "stored"})
        return web.json_response({"data": results})


def status(code: int, *, headers: dict[str, str] | None = None, title: str = "as scripted") -> Answer:
    """Answer with a problem document."""

    async def answer(_request: web.Request, _events: list[dict[str, Any]]) -> web.Response:
        return web.json_response(
            {"title": title, "status": code}, status=code, headers=headers, content_type="application/problem+json"
        )

    return answer


async def reset(request: web.Request, _events: list[dict[str, Any]]) -> web.Response:
    """Cut the connection instead of answering."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def hang(until: asyncio.Event) -> Answer:
    """Do not answer before ``until``."""

    async def answer(_request: web.Request, _events: list[dict[str, Any]]) -> web.Response:
        await until.wait()
        return web.Response(status=503)

    return answer
