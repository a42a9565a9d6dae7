"""A small real HTTP server in the API's place: keeps to the contract, writes everything down, answers as a check wants."""

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from attune_contract.events import MAX_BATCH_EVENTS, MAX_BODY_BYTES, EventReport
from attune_local.ports import free_port

#: Answers in place of the regular answer; None lets the regular one be given.
Answer = Callable[["Request"], Awaitable[web.StreamResponse | None]]

#: Distinct violations that are kept; a sensor that does everything wrong must not fill the memory.
_MOST_VIOLATIONS: Final = 50
#: Ports that are tried for a server.
_TRIES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that arrived. ``at`` is monotonic, in seconds."""

    at: float
    token: str
    events: tuple[EventReport, ...]
    http: web.Request


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event that was stored, in the order of storing."""

    at: float
    report: EventReport


class _Batch(msgspec.Struct):
    events: list[msgspec.Raw]


_BATCH: Final = msgspec.json.Decoder(_Batch)
_EVENT: Final = msgspec.json.Decoder(EventReport)


class LoopbackServer:
    """An HTTP server on a free port of loopback, which keeps its port over a stop."""

    def __init__(self) -> None:
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def routes(self) -> list[web.RouteDef]:
        """What it answers."""
        raise NotImplementedError

    async def start(self) -> None:
        """Listen; after :meth:`stop`, on the same port again."""
        # The server's own limit is above the protocol's, so that a body that is too large is seen and reported.
        app = web.Application(client_max_size=8 * MAX_BODY_BYTES)
        app.router.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        if self.port:
            await self._listen(self._runner, self.port)
        for _ in range(_TRIES):
            if self.port:
                return
            # Not one that the system chooses: those go to outgoing connections, too, while this one is stopped.
            port = free_port()
            with contextlib.suppress(OSError):  # somebody was quicker
                await self._listen(self._runner, port)
                self.port = port
        raise OSError("no port of loopback could be listened on")

    async def _listen(self, runner: web.AppRunner, port: int) -> None:
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()

    async def stop(self) -> None:
        """Stop listening and cut all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


class ScriptedApi(LoopbackServer):
    """Stores each event once by its id, and remembers what arrived and what was wrong with it."""

    def __init__(self, *, trigger_types: tuple[str, ...]) -> None:
        super().__init__()
        self._trigger_types = trigger_types
        self.valid_tokens: set[str] = set()
        self.script: Answer | None = None
        """Asked first, for each request."""
        self.refuse: Callable[[EventReport], str | None] = lambda _event: None
        """Why a single event is refused; None stores it."""
        self.requests: list[Request] = []
        self.unauthorised = 0
        """Requests that were answered with 401, by their token."""
        self.stored: list[StoredEvent] = []
        self.arrivals: Counter[uuid.UUID] = Counter()
        """How often each event arrived, whatever became of it."""
        self.refused: Counter[uuid.UUID] = Counter()
        self.violations: dict[str, None] = {}
        """What broke the protocol, each once."""
        self.states: dict[str, dict[str, Any]] = {}
        """What the sensor remembers of rules, by their uid."""
        self._ids: set[uuid.UUID] = set()

    def routes(self) -> list[web.RouteDef]:
        """The part of the API that sensors call."""
        return [
            web.post("/api/v1/events", self._one),
            web.post("/api/v1/events/batch", self._several),
            web.get("/api/v1/sensor/last-events", self._last_events),
            web.route("*", "/api/v1/sensor/states/{uid}", self._state),
        ]

    def violation(self, text: str) -> None:
        """Write down what broke the protocol."""
        if len(self.violations) < _MOST_VIOLATIONS:
            self.violations[text] = None

    def of(self, rule_uid: str) -> list[StoredEvent]:
        """The stored events of a rule, in the order of storing."""
        return [event for event in self.stored if event.report.rule_uid == rule_uid]

    # -- requests ------------------------------------------------------------------------------------------------------

    async def _one(self, http: web.Request) -> web.StreamResponse:
        return await self._take(http, single=True)

    async def _several(self, http: web.Request) -> web.StreamResponse:
        return await self._take(http, single=False)

    async def _take(self, http: web.Request, *, single: bool) -> web.StreamResponse:
        body = await http.read()
        if len(body) > MAX_BODY_BYTES:
            self.violation(f"a request had {len(body)} bytes; at most {MAX_BODY_BYTES} are allowed")
            return problem(413, "too large")
        token = self._token(http)
        raw = [msgspec.Raw(body)] if single else self._split(body)
        events = tuple(event for part in raw or () if (event := self._read(part)) is not None)
        request = Request(at=time.monotonic(), token=token, events=events, http=http)
        self.requests.append(request)
        self.arrivals.update(event.id for event in events)
        if self.script is not None and (answer := await self.script(request)) is not None:
            return answer
        if token not in self.valid_tokens:
            self.unauthorised += 1
            return problem(401, "the token is not accepted", {"WWW-Authenticate": 'Bearer error="invalid_token"'})
        if raw is None or len(events) != len(raw):
            return problem(422, "an event is not as agreed")
        results = self.store(events)
        if not single:
            return web.json_response({"data": results})
        if results[0]["status"] == "refused":
            return problem(422, results[0]["reason"])
        return web.json_response({"data": results[0]}, status=201 if results[0]["status"] == "stored" else 200)

    def store(self, events: tuple[EventReport, ...]) -> list[dict[str, Any]]:
        """Store events as the API does; returns the result of each."""
        results: list[dict[str, Any]] = []
        for event in events:
            reason = self.refuse(event)
            if reason is not None:
                self.refused[event.id] += 1
                results.append({"id": str(event.id), "status": "refused", "reason": reason})
            elif event.id in self._ids:
                results.append({"id": str(event.id), "status": "duplicate", "seq": 1})
            else:
                self._ids.add(event.id)
                self.stored.append(StoredEvent(at=time.monotonic(), report=event))
                results.append({"id": str(event.id), "status": "stored", "seq": len(self.stored)})
        return results

    def _token(self, http: web.Request) -> str:
        scheme, _, token = http.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            self.violation("a request had no header Authorization: Bearer <token>")
        return token.strip()

    def _split(self, body: bytes) -> list[msgspec.Raw] | None:
        try:
            events = _BATCH.decode(body).events
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.violation(f'a batch was not {{"events": […]}}: {error}')
            return None
        if len(events) > MAX_BATCH_EVENTS:
            self.violation(f"a batch had {len(events)} events; at most {MAX_BATCH_EVENTS} are allowed")
        return events

    def _read(self, raw: msgspec.Raw) -> EventReport | None:
        try:
            event = _EVENT.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.violation(f"an event was not as agreed: {error}")
            return None
        if event.occurred_at.tzinfo is None:
            self.violation("an event's occurred_at has no time zone")
        if event.id.version != 5:
            self.violation(f"an event's id is {event.id}, which is not derived from the occurrence (UUIDv5)")
        if event.trigger_type not in self._trigger_types:
            self.violation(
                f"an event was of {event.trigger_type!r}, but this sensor's types are {', '.join(self._trigger_types)}"
            )
        return event

    async def _last_events(self, http: web.Request) -> web.StreamResponse:
        if self._token(http) not in self.valid_tokens:
            self.unauthorised += 1
            return problem(401, "the token is not accepted")
        last: dict[str, dict[str, Any]] = {}
        for seq, event in enumerate(self.stored, 1):
            report = event.report
            last[report.rule_uid] = {
                "rule_uid": report.rule_uid,
                "id": str(report.id),
                "seq": seq,
                "occurred_at": _time(report.occurred_at),
            }
        return web.json_response({"data": [last[uid] for uid in http.query.getall("rule_uid", []) if uid in last]})

    async def _state(self, http: web.Request) -> web.StreamResponse:
        if self._token(http) not in self.valid_tokens:
            self.unauthorised += 1
            return problem(401, "the token is not accepted")
        uid = http.match_info["uid"]
        known = self.states.get(uid)
        match http.method:
            case "GET":
                return web.json_response(known) if known is not None else problem(404, "nothing is remembered")
            case "PUT":
                given = await http.json()
                if known is not None and _age(given) < _age(known):
                    return problem(409, "a newer state is kept")
                self.states[uid] = given
            case "DELETE":
                self.states.pop(uid, None)
            case _:
                return problem(405, "not allowed")
        return web.json_response({"kept": uid in self.states})


def _age(state: dict[str, Any]) -> tuple[int, int]:
    return int(state["generation"]), int(state["position"])


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    """An answer that is a problem document (RFC 9457)."""
    return web.json_response(
        {"type": "about:blank", "title": "as the check wants it", "status": status, "detail": detail},
        status=status,
        headers=headers,
        content_type="application/problem+json",
    )


def always(status: int, *, headers: dict[str, str] | None = None) -> Answer:
    """Answer every request with this status."""

    async def answer(_request: Request) -> web.StreamResponse:
        await asyncio.sleep(0)
        return problem(status, "as the check wants it", headers)

    return answer
