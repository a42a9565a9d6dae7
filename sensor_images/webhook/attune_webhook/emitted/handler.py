"""Serves rules of the type ``core.event``."""

import asyncio
from typing import Final

from attune_contract.emitted import PORT_NAME
from attune_kit.backoff import Backoff
from attune_sensor import Rule, SensorContext
from attune_webhook.config import config_of
from attune_webhook.emitted.server import EmittedServer, Tokens
from attune_webhook.emitted.takers import Takers
from attune_webhook.listener import Listener

#: The port where the environment names none.
DEFAULT_PORT: Final = 8000
_RETRY: Final = Backoff(initial=0.2, maximum=5.0)


class EmittedHandler:
    """A :class:`attune_sensor.RuleHandler` for emitted events. It listens whether there are rules or not: the runner of actions
    must hear that no rule takes its event.

    Args:
        context: how events are reported.
    """

    def __init__(self, context: SensorContext) -> None:
        self._context = context
        self._takers = Takers()
        config = config_of(context.config)
        server = EmittedServer(
            takers=self._takers,
            sink=context,
            tokens=Tokens(context.settings.token_file),
            config=config,
            registry=context.metrics.registry,
            log=context.log,
        )
        #: The port that requests come to.
        self.listener = Listener(server=server, config=config)
        self._problem: str | None = None
        self._opening = asyncio.get_running_loop().create_task(self._open(), name="emitted events")
        context.add_health_check("port", lambda: self._problem)
        context.add_live_check("port", self._died)

    async def start(self, rule: Rule) -> None:
        """Take events for the rule.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        self._takers.put(rule)

    async def update(self, old: Rule, new: Rule) -> None:
        """Take events as the new state says, from one request to the next.

        Raises:
            InvalidRuleError: the new parameters cannot be used.
        """
        self._takers.put(new)

    async def stop(self, rule: Rule) -> None:
        """Take no more events for the rule."""
        self._takers.remove(rule.uid)

    async def close(self) -> None:
        """Finish what is under way, and stop listening."""
        self._opening.cancel()
        await asyncio.wait({self._opening})
        await self.listener.close()

    async def _open(self) -> None:
        settings = self._context.settings
        port = settings.ports.get(PORT_NAME, DEFAULT_PORT)
        retries = _RETRY.start()
        while True:
            try:
                await self.listener.open(settings.listen_host, port)
            except OSError as error:
                self._problem = f"the port {port} cannot be listened on: {error}"
                await asyncio.sleep(retries.next_delay())
            else:
                self._problem = None
                self._context.log.info("emitted_listening", port=self.listener.port)
                return

    def _died(self) -> str | None:
        task = self._opening
        if not task.done() or task.cancelled() or task.exception() is None:
            return None
        return f"the port is not opened: {task.exception()!r}"
