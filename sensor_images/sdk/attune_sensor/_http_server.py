"""``/live``, ``/ready`` and ``/metrics`` of a sensor."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import generate_latest

from attune_sensor._metrics import Metrics

#: A check returns None when all is well, else what is wrong.
Check = Callable[[], str | None]

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class HealthServer:
    """Serves health and metrics.

    Args:
        host: address to listen on; None listens on all.
        port: port to listen on; 0 takes a free one, see :attr:`port`.
        live: checks that must pass, or the process should be restarted, by name.
        ready: checks that must pass for the sensor to do its work, by name.
        notes: checks that ``/ready`` shows but that do not make it fail, by name.
        metrics: what ``/metrics`` shows.
        refresh: called before metrics are shown.
    """

    def __init__(
        self,
        *,
        host: str | None,
        port: int,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
        metrics: Metrics,
        refresh: Callable[[], None],
        notes: Mapping[str, Check] | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._live = live
        self._ready = ready
        self._notes = notes or {}
        self._metrics = metrics
        self._refresh = refresh
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; 0 before :meth:`start`."""
        addresses = self._runner.addresses if self._runner is not None else []
        return int(addresses[0][1]) if addresses else 0

    async def start(self) -> None:
        """Begin to serve.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_get("/live", self._serve_live)
        app.router.add_get("/ready", self._serve_ready)
        app.router.add_get("/metrics", self._serve_metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, reuse_address=True).start()

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve_live(self, _request: web.Request) -> web.Response:
        return _answer(self._live)

    async def _serve_ready(self, _request: web.Request) -> web.Response:
        return _answer(self._ready, self._notes)

    async def _serve_metrics(self, _request: web.Request) -> web.Response:
        self._refresh()
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": _METRICS_TYPE})


def _answer(checks: Mapping[str, Check], notes: Mapping[str, Check] | None = None) -> web.Response:
    problems = _failing(checks)
    body: dict[str, object] = {"status": "fail" if problems else "pass", "problems": problems}
    if notes is not None:
        body["notes"] = _failing(notes)
    return web.Response(
        status=503 if problems else 200, body=msgspec.json.encode(body), content_type="application/json"
    )


def _failing(checks: Mapping[str, Check]) -> dict[str, str]:
    return {name: problem for name, check in checks.items() if (problem := check()) is not None}
