"""Real servers and pipes for the programs in examples/stdio, each as an asynchronous context manager.

A setup yields the parameters of the rule and the variables of the program, and a function that makes something happen.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attune_cluster.settings import Settings
from attune_cluster.tools import tools
from attune_local.ports import free_port

Happen = Callable[[int], Awaitable[None]]
JOURNAL_REMOTE = Path("/lib/systemd/systemd-journal-remote")


@dataclass
class Setup:
    """What a program is run with. ``happen(n)`` makes the n-th occurrence; ``beside`` are payloads that may come with it."""

    parameters: dict[str, Any]
    happen: Happen
    variables: dict[str, str] = field(default_factory=dict)
    beside: list[dict[str, Any]] = field(default_factory=list)


def listening(pid: int) -> list[int]:
    """The ports on which a process listens, by /proc."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(fd.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes]


async def run(*command: str, text: str | None = None, **variables: str) -> str:
    """Run a program to its end; returns what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **variables},
    )
    out, error = await asyncio.wait_for(process.communicate(None if text is None else text.encode()), 150)
    if process.returncode:
        raise AssertionError(f"{command[0]}: {error.decode(errors='replace')[-500:]}")
    return out.decode(errors="replace")


@contextlib.asynccontextmanager
async def server(*command: str, port: int | None = None, directory: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A server that runs, and listens."""
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: ASYNC220
        try:
            for _ in range(300):
                if port is None:
                    break
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                    break
                if process.poll() is not None:
                    raise AssertionError((directory / "server.log").read_text(errors="replace")[-500:])
                await asyncio.sleep(0.1)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, 120)


@contextlib.asynccontextmanager
async def mosquitto_sub(directory: Path) -> AsyncIterator[Setup]:
    port = free_port()
    async with server("mosquitto", "-p", str(port), port=port, directory=directory):

        async def happen(number: int) -> None:
            await run(
                "mosquitto_pub", "-p", str(port), "-q", "1", "-t", "plant/a/t", "-m", f'{{"n": {number}}}\nand "more"'
            )

        yield Setup({"topic": "plant/+/t"}, happen, {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(port)})


@contextlib.asynccontextmanager
async def redis_cli(directory: Path) -> AsyncIterator[Setup]:
    port = free_port()
    async with server(
        "redis-server", "--port", str(port), "--save", "", "--dir", str(directory), port=port, directory=directory
    ):

        async def happen(number: int) -> None:
            await run("redis-cli", "-p", str(port), "publish", "news", f'message {number}, "quoted"\nsecond line')

        yield Setup({"channel": "news"}, happen, {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port)})


@contextlib.asynccontextmanager
async def inotifywait(directory: Path) -> AsyncIterator[Setup]:
    async def happen(number: int) -> None:
        (directory / f'file {number}, "quoted"').write_text("x")

    yield Setup({"directory": str(directory)}, happen)


@contextlib.asynccontextmanager
async def tail(directory: Path) -> AsyncIterator[Setup]:
    file = directory / "app.log"
    file.write_text("2026-11-23T11:00:00Z ERROR an old one\n")

    async def happen(number: int) -> None:
        with file.open("a") as opened:
            opened.write(f"2026-11-23T12:00:00Z INFO nothing\n2026-11-23T12:00:0{number}+0100 ERROR number {number}\n")

    yield Setup({"file": str(file)}, happen)


@contextlib.asynccontextmanager
async def kcat(directory: Path) -> AsyncIterator[Setup]:
    """The broker is librdkafka's own mock, which runs inside of a kcat."""
    command = ["kcat", "-C", "-q", "-b", "localhost:1", "-X", "test.mock.num.brokers=1", "-t", "none"]
    with (directory / "broker.log").open("wb") as log:
        broker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: ASYNC220
        try:
            ports: list[int] = []
            for _ in range(100):
                if ports := listening(broker.pid):
                    break
                await asyncio.sleep(0.1)
            assert ports, (directory / "broker.log").read_text()
            address = f"127.0.0.1:{ports[0]}"
            await run("kcat", "-P", "-b", address, "-t", "orders", "-K", "|", text="k0|before\n")

            async def happen(number: int) -> None:
                await run(
                    "kcat", "-P", "-b", address, "-t", "orders", "-K", "|", text=f'k{number}|not JSON, "{number}"\n'
                )

            yield Setup({"topic": "orders"}, happen, {"KAFKA_BROKERS": address, "KAFKA_OFFSET": "beginning"})
        finally:
            broker.kill()
            await asyncio.to_thread(broker.wait)


@contextlib.asynccontextmanager
async def tshark(directory: Path) -> AsyncIterator[Setup]:
    port = free_port()

    async def happen(number: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x" * number, ("127.0.0.1", port))

    yield Setup({"interface": "lo", "filter": f"udp dst port {port}"}, happen, {"HOME": str(directory)})


@contextlib.asynccontextmanager
async def journalctl(directory: Path) -> AsyncIterator[Setup]:
    """A journal of its own, written by systemd-journal-remote."""
    journal = directory / "journal"
    journal.mkdir()

    async def happen(number: int) -> None:
        now = time.time_ns() // 1000
        entry = (
            f"__REALTIME_TIMESTAMP={now}\n__MONOTONIC_TIMESTAMP={now % 10**9}\n_BOOT_ID={'a' * 32}\n_MACHINE_ID={'b' * 32}\n"
            f"_SYSTEMD_UNIT=app.service\n_PID=1\nPRIORITY=3\nMESSAGE=message {number}\n\n"
        )
        await run(str(JOURNAL_REMOTE), "-o", str(journal / "app.journal"), "-", text=entry)

    await happen(0)
    yield Setup({"unit": "app.service"}, happen, {"JOURNAL": str(journal)})


@contextlib.asynccontextmanager
async def pipe(directory: Path, line: Callable[[int], str]) -> AsyncIterator[tuple[str, Happen]]:
    """A named pipe with a writer that stays."""
    path = directory / "pipe"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)  # for reading too: so it opens without waiting for a reader
    try:

        async def happen(number: int) -> None:
            os.write(fd, line(number).encode())

        yield str(path), happen
    finally:
        os.close(fd)


@contextlib.asynccontextmanager
async def grep(directory: Path) -> AsyncIterator[Setup]:
    async with pipe(directory, lambda number: f"INFO nothing\nERROR number {number}\n") as (path, happen):
        yield Setup({"pattern": "ERROR", "pipe": path}, happen)


@contextlib.asynccontextmanager
async def mawk(directory: Path) -> AsyncIterator[Setup]:
    async with pipe(directory, lambda number: f"sda 5\nsdb {90 + number}\n") as (path, happen):
        yield Setup({"pipe": path}, happen)


@contextlib.asynccontextmanager
async def jq(directory: Path) -> AsyncIterator[Setup]:
    def line(number: int) -> str:
        return json.dumps({"level": "info"}) + json.dumps({"level": "error", "message": f"number {number}"}) + "\n"

    async with pipe(directory, line) as (path, happen):
        yield Setup({"level": "error", "pipe": path}, happen)


@contextlib.asynccontextmanager
async def vmstat(directory: Path) -> AsyncIterator[Setup]:
    async def happen(number: int) -> None:
        await asyncio.sleep(0)

    yield Setup({"every": 1, "above": 0}, happen)


@contextlib.asynccontextmanager
async def kubectl(directory: Path, kubeconfig: Path) -> AsyncIterator[Setup]:
    """With a real kube-apiserver, and the kubectl that was built with it."""
    program = tools(Settings.from_environment(), ["kubectl"])["kubectl"]

    async def happen(number: int) -> None:
        name = f"map-{number}"
        command = [str(program), "--kubeconfig", str(kubeconfig), "-n", "default"]
        await run(*command, "delete", "configmap", name, "--ignore-not-found")
        await run(*command, "create", "configmap", name, '--from-literal=a=b"\n}')

    path = f"{program.parent}:{os.environ['PATH']}"
    yield Setup(
        {"resource": "configmaps", "namespace": "default"},
        happen,
        {"KUBECONFIG": str(kubeconfig), "HOME": str(directory), "PATH": path},
        beside=[{"change": "DELETED", "name": f"map-{number}"} for number in (1, 2)],
    )


@contextlib.asynccontextmanager
async def psql(directory: Path, url: str) -> AsyncIterator[Setup]:
    async def happen(number: int) -> None:
        await run("psql", "-X", "-q", "-d", url, "-c", f"notify jobs, 'job {number} \"x\"'")

    yield Setup({"channel": "jobs"}, happen, {"DATABASE": url})
