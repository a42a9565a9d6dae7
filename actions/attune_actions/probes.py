"""``/live``, ``/ready`` and ``/metrics``."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

_log = structlog.stdlib.get_logger(__name__)

#: A check returns None when all is well, else what is wrong.
Check = Callable[[], str | None]
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Probes:
    """Serves them.

    Args:
        host, port: where to listen; port 0 takes a free one.
        live: checks that must pass, or the process should be restarted, by name.
        ready: checks that must pass for the runner to do its work, by name.
        registry: what ``/metrics`` shows.
        refresh: called before metrics are shown.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
        registry: CollectorRegistry,
        refresh: Callable[[], None],
    ) -> None:
        self._host = host
        self._port = port
        self._live = live
        self._ready = ready
        self._registry = registry
        self._refresh = refresh
        self._runner: web.AppRunner | None = None

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
        _log.info("listening", port=self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve_live(self, _request: web.Request) -> web.Response:
        return _answer(self._live)

    async def _serve_ready(self, _request: web.Request) -> web.Response:
        return _answer({**self._live, **self._ready})

    async def _serve_metrics(self, _request: web.Request) -> web.Response:
        self._refresh()
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": _METRICS_TYPE})


def _answer(checks: Mapping[str, Check]) -> web.Response:
    problems = {name: problem for name, check in checks.items() if (problem := check()) is not None}
    body = msgspec.json.encode({"status": "fail" if problems else "pass", "problems": problems})
    return web.Response(status=503 if problems else 200, body=body, content_type="application/json")
