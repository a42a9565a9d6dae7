"""A sensor as the process that runs in a pod, against the real API and a real NATS server."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from support.api_process import ApiProcess
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_stream import RuleStream, rule_state

from attune_contract.identity import SensorRef
from attune_contract.messages import AckState, RuleState
from attune_local.ports import free_port


class SensorProcess:
    """One sensor's process, with its token and its spool. It can be killed and started again."""

    def __init__(
        self,
        module: str,
        *,
        directory: Path,
        ref: SensorRef,
        trigger_type: str,
        api: ApiProcess,
        nats: NatsServer,
        python: str = sys.executable,
        arguments: Sequence[str] = (),
        **variables: str,
    ) -> None:
        self.python = python
        self.module = module
        self.arguments = arguments
        self.ref = ref
        self.trigger_type = trigger_type
        self.spool = directory / "spool"
        self.log = directory / f"{module}.log"
        self.metrics_port = free_port()
        self.token_file = token = directory / f"{module}.token"
        token.write_text(api.minter.token(login=ref.login, metadata={"trigger_types": [trigger_type]}))
        self.environment = {
            "PATH": os.environ["PATH"],
            "ATTUNE_SENSOR_REF": str(ref),
            "ATTUNE_TRIGGER_TYPES": trigger_type,
            "ATTUNE_API_URL": api.url,
            "ATTUNE_API_TOKEN_FILE": str(token),
            "ATTUNE_NATS_URL": nats.url,
            "ATTUNE_SPOOL_DIR": str(self.spool),
            "ATTUNE_METRICS_HOST": "127.0.0.1",
            "ATTUNE_METRICS_PORT": str(self.metrics_port),
            "ATTUNE_LISTEN_HOST": "127.0.0.1",
            **variables,
        }
        self.process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, "it was not started"
        return self.process.pid

    @property
    def runs(self) -> bool:
        """Whether it was started, and has not ended."""
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                self.python, "-m", self.module, *self.arguments, env=self.environment, stdout=log, stderr=log
            )

    async def kill(self) -> None:
        """End it at once (SIGKILL); without effect when it does not run."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def stop(self) -> int:
        """Let it end by itself (SIGTERM); its exit status."""
        assert self.process is not None, "it was not started"
        self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 150)

    def logged(self, name: str) -> list[dict[str, Any]]:
        """Log lines with this event; one that is being written is none yet."""
        whole = self.log.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def spooled(self) -> int:
        """Bytes in the spool."""
        return sum(path.stat().st_size for path in self.spool.glob("*.segment"))

    async def ready(self, *, within: float = 30) -> None:
        """Wait until ``/ready`` passes."""
        async with aiohttp.ClientSession() as session:

            async def passes() -> bool:
                async with session.get(f"http://127.0.0.1:{self.metrics_port}/ready") as answer:
                    return answer.status == 200

            await until(passes, within=within)

    def rule(self, number: int, parameters: dict[str, Any], **changes: Any) -> RuleState:
        """The state of one of its rules."""
        return rule_state(number, trigger_type=self.trigger_type, parameters=parameters, **changes)

    async def stream(self) -> RuleStream:
        """The operator's side of NATS, with the streams made."""
        stream = RuleStream(self.environment["ATTUNE_NATS_URL"], sensor=self.ref)
        await stream.connect()
        await stream.make_streams()
        return stream


async def serve(stream: RuleStream, states: list[RuleState], *, within: float = 30) -> None:
    """Publish rules and wait until the sensor says that it runs them."""
    await stream.put_many(states)
    for state in states:
        await stream.wait_ack(state, AckState.ACTIVE, within=within)


async def stored_events(api: ApiProcess, *, rule_uid: str | None = None) -> list[dict[str, Any]]:
    """Everything that the API holds, in the order in which it was stored."""
    query: dict[str, Any] = {"order": "asc", "limit": 1000, **({"rule_uid": rule_uid} if rule_uid else {})}
    found: list[dict[str, Any]] = []
    async with api.reader() as reader:
        while True:
            page = (await reader.get("/api/v1/events", params=query)).json()
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]


async def newest_event(reader: httpx.AsyncClient) -> dict[str, Any] | None:
    """The event that the API stored last; the reader is the API's (:meth:`ApiProcess.reader`)."""
    page = (await reader.get("/api/v1/events", params={"order": "desc", "limit": 1})).json()["data"]
    return dict(page[0]) if page else None


async def newest_seq(reader: httpx.AsyncClient) -> int:
    """Its ``seq``, 0 when nothing is stored: how many events were stored, if none was removed."""
    event = await newest_event(reader)
    return int(event["seq"]) if event else 0


async def drained(sensor: SensorProcess, *, within: float) -> None:
    """Wait until the sensor has delivered all that it spooled."""
    await until(lambda: sensor.spooled() == 0, within=within, every=0.1)
