"""The webhook sensor over real HTTP, and a sender."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy
from support.eventually import until

from attune_sensor import AckState, Rule, SensorContext
from attune_sensor.testing import SensorHarness
from attune_webhook.handler import WebhookHandler
from attune_webhook.sns import Fetch, fetch

OPEN = {"type": "none"}


class Hooks:
    """The sensor under test, and a sender."""

    def __init__(self, harness: SensorHarness, handler: WebhookHandler, session: aiohttp.ClientSession, secrets: Path):
        self.harness = harness
        self.handler = handler
        self.session = session
        self.secrets = secrets

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.handler.listener.port}"

    async def rule(self, path: str, *, state: AckState = AckState.ACTIVE, **parameters: Any) -> Rule:
        """Make a rule (named after its path) and wait for what becomes of it."""
        name = parameters.pop("name", path.strip("/").replace("/", "-"))
        created_at = parameters.pop("created_at", None)
        rule = self.harness.apply(
            "core.webhook", {"path": path, "auth": OPEN, **parameters}, name=name, created_at=created_at
        )
        await self.harness.wait_for(rule, state)
        return rule

    def secret(self, reference: str, value: str) -> None:
        """Have kubelet bring a secret."""
        path = self.secrets / reference
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(value + "\n")
        new.replace(path)

    async def send(
        self, path: str, body: bytes = b"{}", *, method: str = "POST", **headers: str
    ) -> tuple[int, dict[str, Any], CIMultiDictProxy[str]]:
        """Send a request; returns status, decoded answer and headers."""
        named = {
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        async with self.session.request(method, self.url + path, data=body, headers=named) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers

    async def status(self, path: str, body: bytes = b"{}", **given: Any) -> int:
        """The status of a request."""
        return (await self.send(path, body, **given))[0]

    async def answers(self, path: str, status: int, *, within: float = 5) -> None:
        """Wait until the path answers so."""

        async def does() -> bool:
            return await self.status(path) == status

        await until(does, within=within)

    async def raw(self, text: bytes, *, then: bytes = b"", pause: float = 0) -> bytes:
        """Send bytes as they are, and read until the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.handler.listener.port)
        try:
            writer.write(text)
            await writer.drain()
            if then:
                await asyncio.sleep(pause)
                writer.write(then)
            return await asyncio.wait_for(reader.read(), 150)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def running(tmp_path: Path, *, fetch_url: Fetch = fetch, **config: Any) -> AsyncIterator[Hooks]:
    made: list[WebhookHandler] = []

    def handler(context: SensorContext) -> WebhookHandler:
        made.append(WebhookHandler(context, fetch_url=fetch_url))
        return made[0]

    secrets = tmp_path / "secrets"
    harness = SensorHarness(
        handler,
        trigger_types=["core.webhook"],
        config={"drainSeconds": 0, **config},
        settings={"secrets_dir": secrets, "listen_host": "127.0.0.1", "ports": {"http": 0}},
    )
    async with harness, aiohttp.ClientSession() as session:
        yield Hooks(harness, made[0], session, secrets)
