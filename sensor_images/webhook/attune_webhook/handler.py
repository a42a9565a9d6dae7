"""Serves webhook rules: each has a path, and each request to it that is taken becomes an event."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from attune_sensor import AckState, Rule, SensorContext
from attune_webhook.config import config_of
from attune_webhook.key_ring import KeyRing
from attune_webhook.parameters import hook_of
from attune_webhook.rates import Bucket
from attune_webhook.routes import Route, Routes
from attune_webhook.secret_files import SecretFiles
from attune_webhook.server import WebhookServer

#: The port's name in the Sensor's manifest, and the port where nobody says which.
PORT_NAME: Final = "http"
DEFAULT_PORT: Final = 8000
#: How often (seconds) it is looked at whether secrets came or went.
_LOOK: Final = 2.0


class WebhookHandler:
    """A :class:`attune_sensor.RuleHandler` for webhooks.

    Args:
        context: how events are reported.
        now: Unix time in seconds.
    """

    def __init__(self, context: SensorContext, *, now: Callable[[], float] = time.time) -> None:
        self._context = context
        self._routes = Routes()
        self._keys = KeyRing(SecretFiles(context.settings.secrets_dir))
        self._said: dict[str, tuple[AckState, str]] = {}
        self._look: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.server = WebhookServer(
            routes=self._routes,
            keys=self._keys,
            outlet=context,
            config=config_of(context.config),
            registry=context.metrics.registry,
            log=context.log,
            now=now,
        )
        context.add_live_check("secrets", self._look_problem)

    async def start(self, rule: Rule) -> None:
        """Serve the rule's path.

        Raises:
            InvalidRule: its parameters cannot be used.
            OSError: the port is taken.
        """
        hook = hook_of(rule)
        async with self._opening:
            settings = self._context.settings
            await self.server.open(settings.listen_host, settings.ports.get(PORT_NAME, DEFAULT_PORT))
        if self._look is None:
            self._look = asyncio.create_task(self._watch_secrets(), name="secrets")
        self._said.pop(rule.uid, None)
        bucket = Bucket(rate=hook.rate, burst=hook.burst, now=time.monotonic())
        self._review(self._routes.put(Route(rule=rule, hook=hook, bucket=bucket)))

    async def update(self, old: Rule, new: Rule) -> None:
        """Serve the new path as the new state says; from one request to the next.

        Raises:
            InvalidRule: the new parameters cannot be used.
        """
        await self.start(new)

    async def stop(self, rule: Rule) -> None:
        """Serve the rule's path no more; the next oldest that asks for it takes over."""
        self._said.pop(rule.uid, None)
        self.server.forget(rule.uid)
        self._review(self._routes.remove(rule.uid))

    async def close(self) -> None:
        """Finish what is under way, and stop listening."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait({self._look})
        await self.server.close()

    def _review(self, paths: Iterable[str]) -> None:
        """Say how the rules at these paths fare, where that has changed."""
        for path in paths:
            for number, route in enumerate(routes := self._routes.at(path)):
                if number:
                    owner = routes[0].rule.ref
                    text = f"parameters.path {path} is served for the rule {owner}, which is older; choose another path"
                    self._say(route, AckState.REJECTED, text)
                elif problems := self._keys.problems(route.hook.auth):
                    self._say(route, AckState.FAILING, self._failing(route, problems))
                else:
                    self._say(route, AckState.ACTIVE, "")

    def _failing(self, route: Route, problems: list[str]) -> str:
        text = f"parameters.auth.secrets: {'; '.join(problems)}"
        if len(problems) < len(route.hook.auth.secrets):
            return f"{text}; requests are checked with the other secrets"
        return f"{text}, so requests are answered 503; list the Secret in the Sensor's spec.secrets and check this key"

    def _say(self, route: Route, state: AckState, message: str) -> None:
        uid = route.rule.uid
        if self._said.get(uid, (AckState.ACTIVE, "")) != (state, message):
            self._context.report(route.rule, state, message)
        self._said[uid] = (state, message)

    async def _watch_secrets(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            self._review([route.hook.path for route in self._routes.serving() if route.hook.auth.secrets])

    def _look_problem(self) -> str | None:
        task = self._look
        if task is None or not task.done() or task.cancelled():
            return None
        return f"secrets are looked at no more: {task.exception()!r}"
