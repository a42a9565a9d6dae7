"""Serves webhook rules: each has a path, and each request to it that is accepted becomes an event."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from attune_kit.secret_files import SecretFiles
from attune_sensor import AckState, InvalidRuleError, Rule, SensorContext
from attune_webhook.authentication import Authenticator
from attune_webhook.config import config_of
from attune_webhook.key_ring import KeyRing
from attune_webhook.listener import Listener
from attune_webhook.parameters import hook_of
from attune_webhook.rates import Bucket
from attune_webhook.routes import Route, Routes
from attune_webhook.server import WebhookServer
from attune_webhook.sns import Fetch, SnsMessages, fetch

#: The port's name in the Sensor's manifest, and the port where the environment names none.
PORT_NAME: Final = "http"
DEFAULT_PORT: Final = 8000
#: How often (seconds) secrets are checked for changes.
_REVIEW_INTERVAL: Final = 2.0
#: Refusals before anybody has shown that the rule's sender may be meant: no credentials, another method, a coding.
_STRAYS: Final = frozenset({"unsigned", "method", "encoding"})
#: Refusals of credentials that are wrong: so many may be somebody else's.
_WRONG: Final = frozenset({"signature", "expired"})
_TOLERATED: Final = 2


class WebhookHandler:
    """A :class:`attune_sensor.RuleHandler` for webhooks.

    Args:
        context: how events are reported.
        now: Unix time in seconds.
        fetch_url: fetches what Amazon SNS names: its certificates, and the URLs that confirm subscriptions.
    """

    #: Requests of a disabled rule are answered, so that its sender does not switch the hook off.
    serves_disabled_rules = True

    def __init__(
        self, context: SensorContext, *, now: Callable[[], float] = time.time, fetch_url: Fetch = fetch
    ) -> None:
        self._context = context
        self._routes = Routes()
        self._keys = KeyRing(SecretFiles(context.settings.secrets_dir))
        self._reported: dict[str, tuple[AckState, str]] = {}
        self._reviewing: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._config = config_of(context.config)
        sns = SnsMessages(fetch=fetch_url)
        self._server = WebhookServer(
            routes=self._routes,
            authenticator=Authenticator(keys=self._keys, sns=sns),
            sns=sns,
            sink=context,
            config=self._config,
            registry=context.metrics.registry,
            log=context.log,
            now=now,
            on_left_out=lambda rule, why: context.left_out(rule, why, what="requests"),
            on_refused=self._refused,
            tracer=context.tracer,
        )
        #: The port that requests come to.
        self.listener = Listener(server=self._server, config=self._config)
        context.add_live_check("secrets", self._review_problem)

    async def start(self, rule: Rule) -> None:
        """Serve the rule's path.

        Raises:
            InvalidRuleError: its parameters cannot be used.
            OSError: the port is taken.
        """
        hook = hook_of(rule)
        if hook.path.text == self._config.health_path:
            raise InvalidRuleError(
                f"parameters.path: {hook.path.text} is the health path of this sensor; choose another path"
            )
        async with self._opening:
            settings = self._context.settings
            await self.listener.open(settings.listen_host, settings.ports.get(PORT_NAME, DEFAULT_PORT))
        if self._reviewing is None:
            self._reviewing = asyncio.create_task(self._review_secrets(), name="secrets")
        self._reported.pop(rule.uid, None)
        bucket = Bucket(rate=hook.rate, burst=hook.burst, now=time.monotonic())
        self._review(self._routes.put(Route(rule=rule, hook=hook, bucket=bucket)))

    async def update(self, old: Rule, new: Rule) -> None:
        """Serve the new path as the new state says, from one request to the next.

        Raises:
            InvalidRuleError: the new parameters cannot be used.
        """
        await self.start(new)

    async def stop(self, rule: Rule) -> None:
        """Stop serving the rule's path; the next oldest that asks for it takes over."""
        self._reported.pop(rule.uid, None)
        self._server.forget(rule.uid)
        self._review(self._routes.remove(rule.uid))

    async def close(self) -> None:
        """Finish what is under way, and stop listening."""
        if self._reviewing is not None:
            self._reviewing.cancel()
            await asyncio.wait({self._reviewing})
        await self.listener.close()

    def _review(self, shapes: Iterable[str]) -> None:
        """Report the state of the rules at these paths, where it has changed."""
        for shape in shapes:
            for route in self._routes.at(shape):
                if not route.enabled:
                    continue
                other = self._routes.serving_instead(route)
                if other is not None:
                    self._report(route, AckState.REJECTED, _shadowed(route, other))
                elif problems := self._keys.problems(route.hook.auth):
                    self._report(route, AckState.FAILING, _failing(route, problems))
                else:
                    self._report(route, AckState.ACTIVE, "")

    def _report(self, route: Route, state: AckState, message: str) -> None:
        uid = route.rule.uid
        if self._reported.get(uid, (AckState.ACTIVE, "")) != (state, message):
            self._context.report(route.rule, state, message)
        self._reported[uid] = (state, message)

    async def _review_secrets(self) -> None:
        while True:
            await asyncio.sleep(_REVIEW_INTERVAL)
            self._review({route.hook.path.shape for route in self._routes.serving() if route.hook.auth.secrets})

    def _refused(self, rule: Rule, why: str, kind: str) -> None:
        """A request makes no event. Scanners must not make a rule ``Failing`` for which nothing came yet."""
        tolerated = _TOLERATED if kind in _WRONG else 0
        self._context.refused(rule, why, what="requests", tolerated=tolerated, stray=kind in _STRAYS)

    def _review_problem(self) -> str | None:
        task = self._reviewing
        if task is None or not task.done() or task.cancelled():
            return None
        return f"secrets are no longer checked for changes: {task.exception()!r}"


def _shadowed(route: Route, other: Route) -> str:
    path, owner = route.hook.path.text, other.rule.ref
    same = route.rule.created_at == other.rule.created_at
    why = "which is of the same second and comes first by name" if same else "which is older"
    if route.hook.when:
        return (
            f"parameters.when: the rule {owner}, {why}, has the same condition on {path}; "
            "choose another condition or path"
        )
    return f"parameters.path {path} is served for the rule {owner}, {why}; choose another path"


def _failing(route: Route, problems: list[str]) -> str:
    text = f"parameters.auth.secrets: {'; '.join(problems)}"
    if len(problems) < len(route.hook.auth.secrets):
        return f"{text}; requests are checked with the other secrets"
    return f"{text}, so requests are answered 503; list the Secret in the Sensor's spec.secrets and check this key"
