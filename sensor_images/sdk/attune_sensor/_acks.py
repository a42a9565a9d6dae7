"""Publishes what the sensor did with each rule (docs/sensor-protocol.md, "Acks")."""

import asyncio
import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import nats.errors

from attune_contract.messages import Ack, AckState, encode
from attune_kit.backoff import Backoff
from attune_kit.nats.client import unsubscribe
from attune_kit.nats.connector import NatsConnector
from attune_kit.outage import Outage
from attune_sensor._metrics import Metrics
from attune_sensor._rules import Rule

_RETRY: Final = Backoff(initial=0.2, maximum=10.0)
#: Acks that wait for their confirmation at once.
_BATCH: Final = 256
_CONFIRM_TIMEOUT: Final = 5.0
#: Characters of a message, which is shown in a condition.
_MAX_MESSAGE: Final = 1024


def _now() -> datetime:
    return datetime.now(UTC)


class AckPublisher:
    """Publishes the latest ack of each rule until JetStream has confirmed it.

    Only the latest ack of a rule matters, so what waits is bounded by the number of rules.

    Args:
        connector: the connection to NATS.
        prefix: what the subjects begin with (``ATTUNE_ACKS_SUBJECT``).
        instance: this process (the pod's name).
        metrics: where confirmed acks are counted.
        log: a structlog logger.
        now: the wall clock.
        chance: random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        *,
        connector: NatsConnector,
        prefix: str,
        instance: str,
        metrics: Metrics,
        log: Any,
        now: Callable[[], datetime] = _now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._connector = connector
        self._prefix = prefix
        self._instance = instance
        self._metrics = metrics
        self._now = now
        self._chance = chance
        self._outage = Outage(log=log, name="acks")
        self._latest: dict[str, Ack] = {}
        self._waiting: dict[str, None] = {}  # a set that keeps its order
        self._wake = asyncio.Event()
        connector.on_connected(self.repeat)

    def publish(self, rule: Rule, state: AckState, message: str = "", next_at: datetime | None = None) -> None:
        """Ack this generation of the rule: soon, and again after each reconnect and resync."""
        self._latest[rule.uid] = Ack(
            rule_uid=rule.uid,
            generation=rule.generation,
            state=state,
            instance=self._instance,
            at=self._now(),
            message=message[:_MAX_MESSAGE],
            next_at=next_at,
        )
        self._waiting[rule.uid] = None
        self._wake.set()

    def forget(self, uid: str) -> None:
        """The rule is no longer bound to this sensor: publish nothing more about it."""
        self._latest.pop(uid, None)
        self._waiting.pop(uid, None)

    def repeat(self) -> None:
        """Publish every latest ack again, because the stream may have lost it."""
        self._waiting = dict.fromkeys(self._latest)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many acks are not confirmed yet."""
        return len(self._waiting)

    async def run(self) -> None:
        """Publish until cancelled."""
        attempt = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                client = (await self._connector.wait_connected()).client
                batch = [self._latest[uid] for uid in itertools.islice(self._waiting, _BATCH)]
                try:
                    await self._publish(client, batch)
                except (nats.errors.Error, OSError, ValueError) as error:
                    attempt += 1
                    self._outage.failed(type(error).__name__, str(error) or type(error).__name__)
                    await asyncio.sleep(_RETRY.delay(attempt=attempt, chance=self._chance()))
                    continue
                attempt = 0
                self._outage.recovered()
                self._metrics.acks.inc(len(batch))
                for ack in batch:
                    # It may have been overtaken by a newer one while this one was on its way.
                    if self._latest.get(ack.rule_uid) is ack:
                        self._waiting.pop(ack.rule_uid, None)

    async def _publish(self, client: Any, batch: list[Ack]) -> None:
        """Publish a batch and wait until JetStream has stored all of it.

        Raises:
            nats.errors.Error: some were not confirmed; publishing an ack twice does no harm.
        """
        inbox = client.new_inbox()
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        missing = len(batch)

        async def on_reply(message: Any) -> None:
            nonlocal missing
            if confirmed.done():
                return
            problem = _problem(message)
            if problem is not None:
                confirmed.set_exception(nats.errors.Error(problem))
                return
            missing -= 1
            if missing == 0:
                confirmed.set_result(None)

        subscription = await client.subscribe(f"{inbox}.*", cb=on_reply)
        try:
            for number, ack in enumerate(batch):
                await client.publish(f"{self._prefix}.{ack.rule_uid}", encode(ack), reply=f"{inbox}.{number}")
            async with asyncio.timeout(_CONFIRM_TIMEOUT):
                await confirmed
        except TimeoutError as error:
            raise nats.errors.Error(f"JetStream did not confirm acks within {_CONFIRM_TIMEOUT:g} s") from error
        finally:
            if not confirmed.cancel() and not confirmed.cancelled():
                confirmed.exception()  # so that one that came after another error counts as seen
            await unsubscribe(subscription)


def _problem(message: Any) -> str | None:
    """What is wrong with JetStream's answer to a published message; None when it was stored."""
    if message.headers and message.headers.get("Status") == "503":
        return "no stream takes acks yet; the operator makes it when it starts"
    try:
        answer = msgspec.json.decode(message.data)
    except msgspec.MsgspecError:
        return "JetStream's answer to an ack is not JSON"
    if isinstance(answer, dict) and "error" in answer:
        return f"JetStream refused an ack: {answer['error'].get('description', 'unknown error')}"
    return None
