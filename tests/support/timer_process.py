"""The timer sensor as a process of its own, with the environment that the operator gives it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from attune_contract.identity import SensorRef
from attune_local.ports import free_port


def timer_environment(
    ref: SensorRef, *, nats_url: str, api_url: str, directory: Path, types: str = "core.intervaltimer"
) -> dict[str, str]:
    """What the process is given; the token is a made-up one."""
    token = directory / "token"
    token.write_text("a-secret-token")
    return {
        "ATTUNE_SENSOR_REF": str(ref),
        "ATTUNE_TRIGGER_TYPES": types,
        "ATTUNE_API_URL": api_url,
        "ATTUNE_API_TOKEN_FILE": str(token),
        "ATTUNE_NATS_URL": nats_url,
        "ATTUNE_SPOOL_DIR": str(directory / "spool"),
        "ATTUNE_METRICS_HOST": "127.0.0.1",
        "ATTUNE_METRICS_PORT": str(free_port()),
    }


@contextlib.asynccontextmanager
async def timer_process(
    environment: dict[str, str], log: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run it; at the end it is killed if it still runs. Without a ``log`` its output is the process's ``stdout``."""
    with contextlib.ExitStack() as files:
        output = asyncio.subprocess.PIPE if log is None else files.enter_context(log.open("wb"))
        started = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "attune_timer",
            env={"PATH": os.environ["PATH"], **environment},
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            # A group of its own: when a group is orphaned, who is stopped in it is sent SIGCONT (POSIX, _exit).
            process_group=0,
        )
        try:
            yield started
        finally:
            if started.returncode is None:
                started.kill()
                await started.wait()
