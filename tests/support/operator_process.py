"""The operator as a process of its own, as it runs in its pod."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from attune_local.ports import free_port


@dataclass
class OperatorProcess:
    """The operator's process."""

    process: asyncio.subprocess.Process
    log: Path
    liveness: int
    metrics: int

    async def page(self, port: int, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                    return answer.status, await answer.text()
            except aiohttp.ClientError as error:
                raise LookupError(str(error)) from error

    async def ready(self) -> bool:
        """Whether it says that it is ready.

        Raises:
            LookupError: it does not answer yet.
        """
        return (await self.page(self.liveness, "/readyz"))[0] == 200

    async def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(150):
            return await self.process.wait()


@asynccontextmanager
async def operator_process(kubeconfig: Path, directory: Path, **settings: str) -> AsyncIterator[OperatorProcess]:
    ports = {"LIVENESS_PORT": free_port(), "METRICS_PORT": free_port()}
    environment = {f"ATTUNE_OPERATOR_{name}": str(value) for name, value in (settings | ports).items()}
    log = directory / "operator.log"
    with log.open("wb") as output:
        started = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "attune_operator",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"KUBECONFIG": str(kubeconfig), "ATTUNE_OPERATOR_BIND_ADDRESS": "127.0.0.1", **environment},
        )
    try:
        yield OperatorProcess(started, log, ports["LIVENESS_PORT"], ports["METRICS_PORT"])
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
