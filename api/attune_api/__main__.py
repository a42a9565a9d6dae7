"""``attune-api``: serve, ``attune-api migrate``, or ``attune-api backup FILE``."""

import argparse
import asyncio
import contextlib
import shutil
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI
from prometheus_client import disable_created_metrics
from pydantic import ValidationError

from attune_api.app import create_app
from attune_api.events.stream.response import AbortableProtocol
from attune_api.services import Services, running
from attune_api.settings import Settings
from attune_api.storage.backup import back_up, sqlite_directory
from attune_api.storage.faults import OUTAGES, explain
from attune_api.tls import renew_certificate, server_context
from attune_kit.logs import STYLES, configure_logs
from attune_kit.memory import freeze_startup_objects, limit_allocator

log = structlog.get_logger("attune_api")

#: How long (seconds) one thread may keep the interpreter while another waits. SQLite's writer needs it back after each statement;
#: with Python's own 5 ms, events would wait for the reading of those that come next.
_SWITCH_INTERVAL = 0.0005
#: Seconds that running requests get to finish after SIGTERM. Kubernetes gives a pod 30 by default.
_GRACE = 20


class _Server(uvicorn.Server):
    """uvicorn, without its habit of killing itself by the signal that stopped it: a stop that was asked for is exit 0.

    Args:
        config: of its first port.
        app: what answers.
        second: another port of the same address, and TLS for it; None for one port alone.
    """

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, *, second: tuple[int, ssl.SSLContext] | None = None
    ) -> None:
        super().__init__(config)
        self._app = app
        self._second = second

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        yield  # and they stay: what was taken is still being finished

    def _stop(self, number: signal.Signals) -> None:
        log.info("stopping", signal=number.name)
        # Answers without an end would hold up the stop until its grace is over; their readers go to another replica.
        services: Services = self._app.state.services
        services.feed.close()
        services.run_feed.close()
        # A second Ctrl-C does not wait for running requests.
        self.force_exit = self.should_exit and number is signal.SIGINT
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # First: when the port that probes ask answers, both do.
        second = None if self._second is None else await self._listen_with_tls(*self._second)
        await super().startup(sockets=sockets)
        if self.started:
            if second is not None:
                self.servers.append(second)
            freeze_startup_objects()
            log.info("listening", addresses=[listener.getsockname()[:2] for listener in self._listeners()])

    async def _listen_with_tls(self, port: int, context: ssl.SSLContext) -> asyncio.Server:
        """The second port is one more of this server: connections of both are counted, and ended, together."""
        config = self.config

        def protocol() -> asyncio.Protocol:
            return AbortableProtocol(config=config, server_state=self.server_state, app_state=self.lifespan.state)

        loop = asyncio.get_running_loop()
        return await loop.create_server(protocol, host=config.host, port=port, ssl=context, backlog=config.backlog)

    def _listeners(self) -> Iterator[socket.socket]:
        for server in self.servers:
            yield from server.sockets


@contextlib.asynccontextmanager
async def _certified(settings: Settings) -> AsyncIterator[ssl.SSLContext | None]:
    """TLS with the certificate of the settings, which is looked after meanwhile; None without one."""
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None or key is None:
        yield None
        return
    context = await asyncio.to_thread(server_context, certificate=certificate, key=key)
    task = asyncio.create_task(renew_certificate(context, certificate=certificate, key=key))
    try:
        yield context
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _serve(settings: Settings) -> int:
    loop, starting = asyncio.get_running_loop(), asyncio.current_task()
    assert starting is not None  # noqa: S101 - this runs in a task
    # Until the server listens, there is nothing to be finished.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, starting.cancel)
    try:
        async with running(settings) as services:
            started = await _listen(settings, services)
    except asyncio.CancelledError:
        started = True
    log.info("stopped")
    return 0 if started else 3


async def _listen(settings: Settings, services: Services) -> bool:
    """Answer requests until a signal comes; returns whether it could."""
    app = create_app()
    app.state.services = services
    async with _certified(settings) as context:
        second = None if context is None or settings.tls_port is None else (settings.tls_port, context)
        alone = context if second is None else None
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=AbortableProtocol,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=2048,
            timeout_keep_alive=75,  # longer than clients keep idle connections, so that they close them and not we
            timeout_graceful_shutdown=_GRACE,
            ssl_context_factory=None if alone is None else lambda _config, _default: alone,
        )
        server = _Server(config, app, second=second)
        await server.serve()
    return server.started


async def _migrate(settings: Settings) -> int:
    from attune_api.storage.migrate import migrate  # 10 MiB that a server does without

    await migrate(settings.database_url)
    return 0


async def _back_up(settings: Settings, target: str) -> int:
    """Copy the SQLite file to ``target``, or to standard output for ``-``: a container may have no place for it."""
    if target != "-":
        size = await asyncio.to_thread(back_up, settings.database_url, Path(target))
        log.info("backed_up", file=target, bytes=size)
        return 0

    def pass_on() -> int:
        with tempfile.TemporaryDirectory(dir=sqlite_directory(settings.database_url)) as directory:
            copy = Path(directory) / "backup.db"
            size = back_up(settings.database_url, copy)
            with copy.open("rb") as read:
                shutil.copyfileobj(read, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return size

    log.info("backed_up", file="standard output", bytes=await asyncio.to_thread(pass_on))
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with its exit status."""
    parser = argparse.ArgumentParser(
        prog="attune-api", description="Takes events from sensors. Settings: variables that begin with ATTUNE_API_."
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("serve", "migrate", "backup"),
        default="serve",
        help="serve (default); bring the database's tables up to date; or copy the SQLite file while the API runs",
    )
    parser.add_argument("file", nargs="?", help="of backup: where to; - for standard output")
    parser.add_argument("--log-format", choices=STYLES, help="json for machines, text for people; default: the setting")
    options = parser.parse_args(arguments)
    command = options.command
    if (command == "backup") != (options.file is not None):
        parser.error("backup needs a FILE, and nothing else takes one")
    try:
        settings = Settings(**({"log_format": options.log_format} if options.log_format else {}))
    except ValidationError as error:
        for fault in error.errors():
            name = "ATTUNE_API_" + "_".join(str(part) for part in fault["loc"]).upper()
            sys.stderr.write(f"attune-api: {name}: {fault['msg']}\n")
        sys.exit(2)
    limit_allocator()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    # A second series for each counter, which nothing here reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    configure_logs(
        level=settings.log_level, style=settings.log_format, stream=sys.stderr if options.file == "-" else sys.stdout
    )
    log.info("settings", command=command, **settings.masked())
    run = {
        "serve": lambda: _serve(settings),
        "migrate": lambda: _migrate(settings),
        "backup": lambda: _back_up(settings, options.file),
    }
    try:
        sys.exit(uvloop.run(run[command]()))
    except (*OUTAGES, RuntimeError, ValueError) as error:
        log.critical("failed", error=explain(error), kind=type(error).__name__)
        sys.exit(1)


if __name__ == "__main__":
    main()
