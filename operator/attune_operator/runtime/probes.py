"""Liveness, readiness and metrics over HTTP, served by the event loop that does the work.

So an answer proves that the loop runs. ``/healthz`` also fails if the loop was blocked, or a supervised task has ended.
``/readyz`` fails until the operator has its keys and a complete list of everything.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from attune_operator.runtime import metrics

_log = structlog.stdlib.get_logger(__name__)

_BEAT = 1.0
#: Seconds without a beat after which the loop counts as stalled.
_STALLED = 15.0


class Heartbeat:
    """Measures that the event loop runs."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last = monotonic()

    def stalled(self) -> bool:
        """Whether the loop has been blocked for too long."""
        return self._monotonic() - self._last > _STALLED

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._last = self._monotonic()
            await asyncio.sleep(_BEAT)
            metrics.LOOP_LAG.set(max(0.0, self._monotonic() - self._last - _BEAT))


class Probes:
    """The answers to the probes."""

    def __init__(self, *, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self._awaited: set[str] = set()
        self._dead: str | None = None

    def wait_for(self, what: str) -> None:
        """Be not ready until :meth:`completed` was called for this too."""
        self._awaited.add(what)

    def completed(self, what: str) -> None:
        """What :meth:`wait_for` named is complete."""
        self._awaited.discard(what)

    def died(self, what: str) -> None:
        """A supervised task ended by itself."""
        self._dead = what

    def liveness(self) -> tuple[int, str]:
        """Return HTTP status and text of ``/healthz``."""
        if self._dead is not None:
            return 503, f"{self._dead} has ended"
        if self._heartbeat.stalled():
            return 503, "the event loop was blocked"
        return 200, "ok"

    def readiness(self) -> tuple[int, str]:
        """Return HTTP status and text of ``/readyz``."""
        status, text = self.liveness()
        if status == 200 and self._awaited:
            return 503, f"waiting for {', '.join(sorted(self._awaited))}"
        return status, text


def _answers(question: Callable[[], tuple[int, str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        status, text = question()
        return web.Response(status=status, text=text + "\n")

    return answer


async def _metrics(_: web.Request) -> web.Response:
    # Built in a thread: with thousands of series it takes too long for the loop.
    body = await asyncio.to_thread(generate_latest)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


class ProbeServer:
    """The two HTTP servers. ``liveness_port`` and ``metrics_port`` are the real ports once :meth:`start` returned."""

    def __init__(self, *, probes: Probes, address: str, liveness_port: int, metrics_port: int) -> None:
        self._probes = probes
        self._address = address
        self.liveness_port = liveness_port
        self.metrics_port = metrics_port
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        """Start answering.

        Raises:
            OSError: a port is taken.
        """
        probes = web.Application()
        probes.router.add_get("/healthz", _answers(self._probes.liveness))
        probes.router.add_get("/readyz", _answers(self._probes.readiness))
        scrapes = web.Application()
        scrapes.router.add_get("/metrics", _metrics)
        self.liveness_port = await self._serve(probes, self.liveness_port)
        self.metrics_port = await self._serve(scrapes, self.metrics_port)
        _log.info("health_served", liveness_port=self.liveness_port, metrics_port=self.metrics_port)

    async def _serve(self, app: web.Application, port: int) -> int:
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, self._address, port).start()
        bound: int = runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Stop answering."""
        for runner in self._runners:
            await runner.cleanup()
