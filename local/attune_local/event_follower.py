"""Every stored event, in order, from the API: each once in a run, and from where the run before ended."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import structlog

from attune_local.node.volumes import write_private

_log = structlog.stdlib.get_logger(__name__)

#: Seconds between looks for new events.
_POLL: Final = 0.1
_PAGE: Final = 500
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)

Event = dict[str, Any]


class EventFollower:
    """Hands stored events to ``on_events``, a page at a time.

    Args:
        url: the API.
        token: a token that may read.
        position: file that says how far an earlier run came; what was stored after that is not passed over.
        on_events: awaited before more is asked for, so a slow reader slows nothing but itself.
    """

    def __init__(
        self, *, url: str, token: str, position: Path, on_events: Callable[[list[Event]], Awaitable[None]]
    ) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._position = position
        self._on_events = on_events
        self._after = 0
        self._reading = asyncio.Lock()  # the last events are read while the reading of all still goes on
        with contextlib.suppress(OSError, ValueError):
            self._after = int(position.read_text())

    async def run(self) -> None:
        """Follow until cancelled. While the API is away, it waits."""
        said = False
        async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers) as session:
            while True:
                try:
                    found = await self.read_page(session)
                    said = False
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                    if not said:
                        _log.info("events_not_read", error=str(error) or type(error).__name__)
                        said = True
                    found = 0
                if found < _PAGE:
                    await asyncio.sleep(_POLL)

    async def read_rest(self) -> None:
        """What came in meanwhile, before the API goes."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
            async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers) as session:
                while await self.read_page(session) == _PAGE:
                    pass

    async def read_page(self, session: aiohttp.ClientSession) -> int:
        """Ask once; returns how many events came.

        Raises:
            aiohttp.ClientError, TimeoutError, OSError, ValueError: there was no answer, or none that helps.
        """
        async with self._reading:
            query = {"order": "asc", "limit": str(_PAGE), "after_seq": str(self._after)}
            async with session.get(f"{self._url}/api/v1/events", params=query) as answer:
                if answer.status != 200:
                    raise ValueError(f"the API answered {answer.status}")
                events: list[Event] = (await answer.json())["data"]
            if events:
                await self._on_events(events)
                self._after = events[-1]["seq"]
                write_private(self._position, str(self._after).encode())
        return len(events)
