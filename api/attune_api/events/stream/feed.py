"""The newest events in memory, for all who follow them at once.

One task reads what is stored, by this replica or another, into a window of bounded size. A reader is no more than a place in
the order of ``seq``: it takes what lies behind its place from the window, in its own time, and when it was so slow that the
window has gone on it takes pages from the database. So nothing is queued for a client: one that never reads costs what is in
its socket, delays no other, and is cut off by :class:`attune_api.events.stream.response.EventStream`.

Places are by the order of commits (see :mod:`attune_api.events.ingest.sql`), so what follows a place never appears before it.
"""

import asyncio
import contextlib
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy import Connection

from attune_api.events.query.filters import EQUAL, Candidate, EventFilter
from attune_api.events.query.service import read_page, walk_on
from attune_api.events.table import newest_seq
from attune_api.metrics import Metrics
from attune_api.storage.database import Database
from attune_api.storage.faults import OUTAGES
from attune_contract.events import Event
from attune_kit.backoff import Backoff

log = structlog.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.2, maximum=5.0)

#: Events in the window, and the bytes of them.
_MOST_EVENTS: Final = 4000
_MOST_BYTES: Final = 4 * 1024 * 1024
#: Events and bytes of one look at the table.
_LOOK_EVENTS: Final = 500
_LOOK_BYTES: Final = 1 * 1024 * 1024
#: Seconds between looks: at least, so that a storm of small commits costs few; and at most, for what other replicas stored.
_PAUSE: Final = 0.02
_POLL: Final = 0.5
#: Bytes that a reader is given at once.
_PORTION: Final = 256 * 1024
#: Readers that take pages from the database at once; the others wait.
_CATCHING_UP: Final = 4


class TooManyClientsError(Exception):
    """As many readers follow as may."""


class Frame:
    """An event as a reader gets it, encoded once for all."""

    __slots__ = ("candidate", "data", "seq")

    def __init__(self, event: Event) -> None:
        self.seq = event.seq
        self.candidate = Candidate(
            {name: getattr(event, name) for name in EQUAL},
            occurred_at=datetime.fromisoformat(event.occurred_at),
            payload=event.payload,
        )
        self.data = frame(event)


def frame(event: Event) -> bytes:
    """An event as a server-sent event (WHATWG HTML, "Server-sent events")."""
    return b"id: %d\ndata: %s\n\n" % (event.seq, msgspec.json.encode(event))


_F = TypeVar("_F")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch(Generic[_F]):
    """What follows a place; ``more`` says whether there may be more behind it."""

    items: Sequence[_F]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What a reader who is behind is given: frames, the place behind them, and whether there may be more."""

    frames: list[bytes]
    seen: int
    more: bool


class Window(Protocol):
    """What is in the window: a place, the bytes for readers, and what filters are tried on."""

    seq: int
    data: bytes
    candidate: Any


class Source(Protocol):
    """What a feed is of: events here, runs in :mod:`attune_api.runs.feed`. Its order is that of commits."""

    def newest(self, connection: Connection) -> int:
        """The highest place there is."""
        ...

    def beyond(self, connection: Connection, *, place: int, limit: int, most_bytes: int) -> Stretch[Any]:
        """What follows a place, as items of the window."""
        ...

    async def page(self, database: Database, *, where: Any, place: int, limit: int) -> Portion:
        """What a reader who is behind the window is given."""
        ...


class EventSource:
    """Events, in the order in which they were stored."""

    def newest(self, connection: Connection) -> int:
        """See :class:`Source`."""
        return newest_seq(connection)

    def beyond(self, connection: Connection, *, place: int, limit: int, most_bytes: int) -> Stretch[Frame]:
        """See :class:`Source`."""
        found = walk_on(connection, beyond=place, limit=limit, most_bytes=most_bytes)
        return Stretch(items=[Frame(event) for event in found.events], more=found.reached is not None)

    async def page(self, database: Database, *, where: EventFilter, place: int, limit: int) -> Portion:
        """See :class:`Source`."""
        page = await read_page(database, where=where, order="asc", beyond=place, limit=limit)
        # Let go of the page as soon as it is encoded: it can be megabytes, and this reader may be in no hurry.
        return Portion(frames=[frame(event) for event in page.events], seen=page.seen, more=page.more is not None)


class Feed:
    """The window, and the task that moves it (:meth:`run`).

    Args:
        database: where events are.
        metrics: what is counted.
        max_clients: clients at once.
        heartbeat: seconds after which a reader hears something, though there is nothing for it.
        source: what is followed.
        readers: says how many readers there are; events' own unless given.
        catch_ups: counts pages for readers that were behind; events' own unless given.
    """

    def __init__(
        self,
        *,
        database: Database,
        metrics: Metrics,
        max_clients: int,
        heartbeat: float,
        source: Source | None = None,
        readers: Gauge | None = None,
        catch_ups: Counter | None = None,
    ) -> None:
        self._database = database
        self._source = source or EventSource()
        self._readers_metric = readers or metrics.stream_readers
        self._catch_ups = catch_ups or metrics.stream_catch_ups
        self._max_clients = max_clients
        self._heartbeat = heartbeat
        self._window: list[Window] = []
        self._bytes = 0
        self._floor = 0  # every event above it, up to the position, is in the window
        self._position: int | None = None  # None while there are no clients
        self._readers = 0
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._closed = False
        self._catching_up = asyncio.Semaphore(_CATCHING_UP)
        self.stored = asyncio.Event()  #: set it when something was stored

    # -- the task ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Move the window while there are clients, until cancelled; outages of the database are waited out."""
        retries = _RETRY.start()
        while True:
            try:
                await self._look()
                retries.reset()
            except OUTAGES as error:
                if retries.failures == 0:
                    log.warning("feed_waits", error=type(error).__name__)
                await asyncio.sleep(retries.next_delay())

    async def _look(self) -> None:
        """Take what was stored since the last look, then wait until there may be more."""
        if not self._readers:
            self._position = None
            self._window.clear()
            self._bytes = 0
            await self._wanted.wait()
        if self._position is None:
            self._floor = self._position = await self._database.read(self._source.newest)
            self._notify()
        self.stored.clear()  # before reading: what is stored from here on sets it again
        position = self._position

        def read(connection: Connection) -> Stretch[Any]:
            return self._source.beyond(connection, place=position, limit=_LOOK_EVENTS, most_bytes=_LOOK_BYTES)

        found = await self._database.read(read)
        if found.items:
            self._add(found.items)
            self._notify()
        await asyncio.sleep(_PAUSE)
        if not found.more:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await self.stored.wait()

    def _add(self, added: Sequence[Window]) -> None:
        self._window += added
        self._bytes += sum(len(one.data) for one in added)
        self._position = added[-1].seq
        gone = 0
        while len(self._window) - gone > _MOST_EVENTS or self._bytes > _MOST_BYTES:
            self._bytes -= len(self._window[gone].data)
            self._floor = self._window[gone].seq
            gone += 1
        del self._window[:gone]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Let every reader go: the program stops."""
        self._closed = True
        self._notify()

    # -- readers -------------------------------------------------------------------------------------------------------

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Be counted as a reader while the context lasts.

        Raises:
            TooManyClientsError: there are as many as may be.
        """
        if self._readers >= self._max_clients:
            raise TooManyClientsError
        self._readers += 1
        self._readers_metric.set(self._readers)
        self._wanted.set()
        try:
            yield
        finally:
            self._readers -= 1
            self._readers_metric.set(self._readers)
            if not self._readers:
                self._wanted.clear()

    async def start(self, after: int | None) -> int:
        """Where a reader begins.

        Args:
            after: the ``seq`` that it has had; None to begin with what is stored from now on. One that is higher than any there
                is comes from before the database was restored, and would keep back all that is stored until it is reached.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: the database does not answer.
        """
        newest = await self._database.read(self._source.newest)
        return newest if after is None else min(after, newest)

    async def follow(self, where: Any, *, after: int) -> AsyncGenerator[bytes]:
        """Server-sent events of all events behind ``after`` that are wanted, as they come, and heartbeats.

        Ends when the feed is closed.
        """
        sent = place = after
        heard = time.monotonic()
        yield b"retry: 2000\n\n"
        while not self._closed:
            changed = self._changed
            frames, reached = self._take(where, place)
            if reached is None:
                frames, reached = await self._catch_up(where, place)
            moved, place = reached != place, reached
            now = time.monotonic()
            if frames:
                sent, heard = place, now
                yield b"".join(frames)
            elif now - heard >= self._heartbeat:
                heard = now
                # An id without data: the reader resumes there, and nothing is dispatched.
                yield b": ping\n\n" if sent == place else b"id: %d\n\n" % place
                sent = place
            elif not moved:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(heard + self._heartbeat - now):
                        await changed.wait()

    def _take(self, where: Any, place: int) -> tuple[list[bytes], int | None]:
        """A portion from the window, and the place behind it; None when the window does not reach back so far."""
        if self._position is None or place < self._floor:
            return [], None
        frames: list[bytes] = []
        size = 0
        start = bisect_right(self._window, place, key=lambda one: one.seq)
        for index in range(start, len(self._window)):
            one = self._window[index]
            place = one.seq
            if where.matches(one.candidate):
                frames.append(one.data)
                size += len(one.data)
                if size >= _PORTION:
                    break
        return frames, place

    async def _catch_up(self, where: Any, place: int) -> tuple[list[bytes], int]:
        """A page from the database, and the place behind it."""
        self._catch_ups.inc()
        try:
            async with self._catching_up:
                portion = await self._source.page(self._database, where=where, place=place, limit=200)
        except OUTAGES:
            await asyncio.sleep(1.0)
            return [], place
        if not portion.more and self._position is None:
            await asyncio.sleep(_PAUSE)  # the window is about to open
        return portion.frames, portion.seen
