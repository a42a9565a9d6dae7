"""A real RabbitMQ server of a test's own: private names and ports, everything in a temporary folder, ended by its pid."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import aiormq
from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPError
from support.eventually import eventually

from attune_local.ports import free_port

_PROGRAMS: Final = Path("/usr/lib/rabbitmq/bin")
_USER: Final = "attune"
_PASSWORD: Final = "s3cr@t:/"
#: Where the sensor's configuration says that the password is: a Secret and its key.
_PASSWORD_REFERENCE: Final = "attune-amqp/password"


class NoName(str):
    """An empty ``message_id`` that the client does not replace by one of its own."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


class RabbitServer:
    """``rabbitmq-server`` on loopback, with ports and a folder that stay the same over restarts.

    Erlang's port mapper runs as a process of its own beside it: otherwise the server would start one that outlives it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self._mapper_port = free_port()
        self._distribution_port = free_port()
        self._mapper: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "enabled_plugins").write_text("[].")
        (directory / "rabbitmq.conf").write_text(
            f"default_user = {_USER}\ndefault_pass = {_PASSWORD}\ntotal_memory_available_override_value = 1GB\n"
        )

    @property
    def url(self) -> str:
        """The address, without credentials."""
        return f"amqp://127.0.0.1:{self.port}"

    @property
    def url_with_credentials(self) -> str:
        """The address for other clients than the sensor."""
        return f"amqp://{_USER}:{quote(_PASSWORD, safe='')}@127.0.0.1:{self.port}"

    @property
    def access(self) -> dict[str, str]:
        """What the sensor's configuration says of it; the password is where :meth:`place_password` puts it."""
        return {"url": self.url, "username": _USER, "password": _PASSWORD_REFERENCE}

    @staticmethod
    def place_password(secrets: Path, *, end: str = "") -> None:
        """Write the password, and what is to follow it, into the folder of mounted Secrets."""
        file = secrets / _PASSWORD_REFERENCE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_PASSWORD + end)

    @property
    def environment(self) -> dict[str, str]:
        """What its programs must know."""
        return {
            **os.environ,
            "HOME": str(self.directory),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_BASE": str(self.directory),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "no-environment"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq"),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_NODENAME": f"attune{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
            # As under systemd, the script becomes the server instead of waiting for it: its pid is the server's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def start(self) -> None:
        """Start it, and return when it takes connections. Nothing runs on when it does not come to that."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        with (self.directory / "rabbitmq.log").open("ab") as log:
            if self._mapper is None:
                command = ["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"]
                self._mapper = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self._process = subprocess.Popen(
                [_PROGRAMS / "rabbitmq-server"],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, within=60, what="rabbitmq-server takes connections")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "rabbitmq.log").read_text()[-2000:]

        async def nothing(_: AbstractChannel) -> bool:
            return True

        return bool(self.run(nothing))

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._end(self._process, signal.SIGKILL)

    def stop(self) -> None:
        """Let it and the port mapper end; without effect when they do not run."""
        self._end(self._process, signal.SIGTERM)
        self._end(self._mapper, signal.SIGTERM)
        self._mapper = None

    @staticmethod
    def _end(process: "subprocess.Popen[bytes] | None", number: int) -> None:
        if process is not None and process.poll() is None:
            process.send_signal(number)
            process.wait(120)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- as a client -------------------------------------------------------------------------------------------------------

    async def work(self, work: Callable[[AbstractChannel], Awaitable[Any]]) -> Any:
        """Do something on a channel.

        Raises:
            ConnectionError: the server is not there, or went away.
        """
        try:
            async with asyncio.timeout(60):
                connection = await aiormq.connect(f"{self.url_with_credentials}/?timeout=10")
                try:
                    return await work(await connection.channel())
                finally:
                    with contextlib.suppress(AMQPError, OSError):
                        await connection.close()
        except (AMQPError, RuntimeError, TimeoutError, OSError) as error:
            raise ConnectionError(str(error)) from error

    def run(self, work: Callable[[AbstractChannel], Awaitable[Any]]) -> Any:
        """The same for code without an event loop."""
        return asyncio.run(self.work(work))

    async def declare(self, queue: str, **arguments: Any) -> None:
        """Make a durable queue."""

        async def declare(channel: AbstractChannel) -> None:
            await channel.queue_declare(queue, durable=True, arguments=arguments)

        await self.work(declare)

    async def delete(self, queue: str) -> None:
        """Delete a queue."""

        async def delete(channel: AbstractChannel) -> None:
            await channel.queue_delete(queue)

        await self.work(delete)

    async def send(self, queue: str, *bodies: bytes, **properties: Any) -> None:
        """Send messages, and see that the server has them. Their ``message_id`` is random unless given."""

        async def send(channel: AbstractChannel) -> None:
            for body in bodies:
                made = aiormq.spec.Basic.Properties(**{"delivery_mode": 2, **properties})
                await channel.basic_publish(body, routing_key=queue, properties=made)

        await self.work(send)

    async def ready(self, queue: str) -> int:
        """Messages that nobody has got, or whose getter is gone."""

        async def count(channel: AbstractChannel) -> int:
            return int((await channel.queue_declare(queue, passive=True)).message_count or 0)

        return int(await self.work(count))

    def control(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` answers."""
        done = subprocess.run(
            [_PROGRAMS / "rabbitmqctl", "--quiet", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout
