"""A stage for the runner of actions: a real NATS server with the streams that operator and API keep, the runner as a process of
its own, a real HTTP server as the target, and what became of the runs.
"""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import nats
import nats.errors
from aiohttp import web
from nats.js.api import DiscardPolicy, StreamConfig
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer

from attune_contract.actions import (
    ACTIONS_STREAM,
    ALL_ACTIONS,
    RUNS_STREAM,
    RuleActions,
    Run,
    actions_subject,
    decode_run,
    encode,
)
from attune_contract.events import Event, event_id
from attune_contract.subjects import ALL_EVENTS, EVENTS_STREAM, event_subject
from attune_kit.supervisor import end
from attune_local.ports import free_port

NAMESPACE = "demo"


def event(k: int, *, rule: str = "r", payload: dict[str, Any] | None = None) -> Event:
    """An event of a rule."""
    uid = f"uid-{rule}"
    return Event(
        id=event_id(uid, str(k)),
        trigger_type="core.test",
        rule_uid=uid,
        rule_namespace=NAMESPACE,
        rule_name=rule,
        occurred_at="2026-11-23T12:00:00.000000Z",
        received_at="2026-11-23T12:00:00.000001Z",
        payload=msgspec.Raw(msgspec.json.encode(payload if payload is not None else {"k": k})),
        seq=k + 1,
        sensor_ref="demo/core.test",
    )


def http(url: str, *, name: str = "post", **more: Any) -> dict[str, Any]:
    """An action of kind http; what is not of the action is of its request."""
    of_action: dict[str, Any] = {
        key: more.pop(key) for key in ("when", "retry", "rateLimit", "concurrency", "success") if key in more
    }
    return {"name": name, "http": {"url": url, "method": "POST", **more}, **of_action}


def rule_actions(name: str, *actions: dict[str, Any], **more: Any) -> RuleActions:
    """What the operator says of a Rule."""
    return RuleActions(uid=f"uid-{name}", namespace=NAMESPACE, name=name, generation=1, actions=actions, **more)


class Target:
    """A real HTTP server. ``answer`` says what each request gets; what came is counted by idempotency key."""

    def __init__(self, answer: Callable[[str, int], Any] = lambda key, times: 200) -> None:
        self.answer = answer
        self.keys: Counter[str] = Counter()
        self.requests: list[tuple[web.BaseRequest, bytes]] = []
        self.keep = True
        self.times: dict[str, float] = {}
        self._runner: web.ServerRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        self.port = free_port()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        key = request.headers.get("Idempotency-Key", "")
        self.keys[key] += 1
        self.times.setdefault(key, asyncio.get_running_loop().time())
        if self.keep:
            self.requests.append((request, body))
        answer = self.answer(key, self.keys[key])
        if asyncio.iscoroutine(answer):
            answer = await answer
        return web.Response(status=answer) if isinstance(answer, int) else answer


class Stage:
    """Everything but the target."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = NatsServer(directory / "nats")
        self.client: Any = None
        self.jetstream: Any = None
        self.runs: dict[uuid.UUID, Run] = {}
        self.reports = 0
        self.port = free_port()
        self.settings: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        self._collecting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.server.start)
        self.client = await connect(self.server.url, reconnect_time_wait=0.1, max_reconnect_attempts=-1)
        self.jetstream = self.client.jetstream(timeout=60)
        await self.jetstream.add_stream(
            StreamConfig(name=EVENTS_STREAM, subjects=[ALL_EVENTS], discard=DiscardPolicy.OLD, allow_direct=True)
        )
        await self.jetstream.add_stream(
            StreamConfig(name=ACTIONS_STREAM, subjects=[ALL_ACTIONS], max_msgs_per_subject=1, allow_direct=True)
        )
        self._collecting = asyncio.create_task(self._collect())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._collecting is not None:
            await end(self._collecting)
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(120)
        await self.client.close()
        await asyncio.to_thread(self.server.kill)

    # -- what the operator and the API do

    async def tell(self, rule: RuleActions) -> None:
        """Publish what a Rule does."""
        await self.jetstream.publish(actions_subject(rule.namespace, rule.uid), encode(rule))

    async def store(self, *events: Event) -> None:
        """Publish events."""
        for each in events:
            await self.client.publish(event_subject(each.rule_namespace, each.rule_uid), msgspec.json.encode(each))
        await self.client.flush()

    async def stop_collecting(self) -> None:
        """From now on no one takes the reports."""
        if self._collecting is not None:
            await end(self._collecting)

    async def _collect(self) -> None:
        """Take the reports, as the API does."""
        while True:
            try:
                subscription = await self.jetstream.pull_subscribe(
                    "attune.runs.>", durable="attune-api", stream=RUNS_STREAM
                )
                while True:
                    try:
                        messages = await subscription.fetch(500, timeout=1)
                    except TimeoutError:
                        continue
                    for message in messages:
                        run = decode_run(message.data)
                        self.reports += 1
                        known = self.runs.get(run.id)
                        if known is None or known.revision < run.revision:
                            self.runs[run.id] = run
                        await message.ack()
            except (nats.errors.Error, OSError):
                await asyncio.sleep(0.1)

    # -- the runner

    def start(self, **settings: str) -> "subprocess.Popen[bytes]":
        """Start a runner; its output goes into a file of the directory."""
        number = len(self.processes)
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if name not in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")
            },
            **{
                f"ATTUNE_ACTIONS_{name.upper()}": value
                for name, value in {
                    "nats_url": self.server.url,
                    "kubernetes": "off",
                    "host": "127.0.0.1",
                    "port": "0",
                    "allowed_networks": "127.0.0.1/32",
                    **self.settings,
                    **settings,
                }.items()
            },
        }
        environment |= self.environment
        with (self.directory / f"runner-{number}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "attune_actions"], env=environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def log(self, number: int = -1) -> str:
        """What a runner has said."""
        logs = sorted(self.directory.glob("runner-*.log"), key=lambda path: int(path.stem.partition("-")[2]))
        return logs[number].read_text()

    async def stop(self, process: "subprocess.Popen[bytes]", *, within: float = 40) -> int:
        """End a runner in order; returns its exit status."""
        process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(process.wait, within)

    # -- what is waited for

    async def ended(self, number: int, *, within: float = 60.0) -> list[Run]:
        """The runs, when so many have ended."""

        def over() -> list[Run]:
            found = [run for run in self.runs.values() if run.state.final]
            return found if len(found) >= number else []

        return await until(over, within=within, what=f"{number} runs have ended")

    async def left(self, stream: str) -> int:
        """Messages in a stream."""
        info = await self.jetstream.stream_info(stream)
        return int(info.state.messages)

    async def emptied(self, stream: str) -> None:
        """Wait until a stream holds nothing: a run leaves the queue after it was said that it ended."""

        async def empty() -> bool:
            return await self.left(stream) == 0

        await until(empty)
