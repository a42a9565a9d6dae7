"""All that the console keeps, for as long as the API runs."""

import asyncio
import time
from typing import Final

from attune_api.console.cluster import ConsoleCluster
from attune_api.console.listing import Listings
from attune_api.console.session import Sessions
from attune_kit.supervisor import end

#: Seconds between looks for sessions and lists that have ended.
_SWEEP: Final = 10.0


class Console:
    """The console's sessions and lists.

    Args:
        cluster: the Kubernetes API, asked with callers' tokens. Closed by :meth:`close`.
        proxied: whether a proxy in front sends the caller's token with each request.
    """

    def __init__(self, cluster: ConsoleCluster, *, proxied: bool) -> None:
        self.cluster = cluster
        self.proxied = proxied
        self.sessions = Sessions(clock=time.monotonic)
        self.listings = Listings(cluster)
        self._sweeping: asyncio.Task[None] | None = None

    def used(self) -> None:
        """Somebody uses the console: what has ended is swept away from now on, until nothing is left."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep(), name="console sweep")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            if not await self.listings.sweep() and not self.sessions.expire():
                return

    async def close(self) -> None:
        """Stop everything."""
        if self._sweeping is not None:
            await end(self._sweeping)
        await self.listings.close()
        await self.cluster.close()
