"""How a sensor fares: finds it out where nothing else would, and tells the operator, for the Sensor's condition Healthy."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import nats.errors

from attune_contract.messages import SensorHealth, encode
from attune_contract.subjects import health_subject
from attune_kit.nats.connector import NatsConnector
from attune_sensor._api_client import Unavailable
from attune_sensor._emitter import Emitter

_LOOK: Final = 0.5
#: A sentence that changes while the problem stays is not told more often than this (seconds).
_REWORDED: Final = 5.0
#: The first time (seconds) the API is asked soon.
_FIRST_PROBE: Final = 2.0
_MAX_MESSAGE: Final = 300
_MAX_PROBLEMS: Final = 16


def _now() -> datetime:
    return datetime.now(UTC)


class HealthReporter:
    """Says over NATS how the sensor fares, when it changes and every few seconds.

    While there is no connection nothing is said, which is what the operator then notices.

    Args:
        connector: the connection to NATS.
        acks_prefix: what the sensor's subjects begin with (``ATTUNE_ACKS_SUBJECT``).
        instance: this process (the pod's name).
        rules: how many rules are known now.
        problems: a sentence for each thing that is wrong now, by its name (:class:`attune_contract.messages.SensorHealth`).
        every: seconds between two words that say the same.
        now: the wall clock.
        chance: random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        *,
        connector: NatsConnector,
        acks_prefix: str,
        instance: str,
        rules: Callable[[], int],
        problems: Callable[[], dict[str, str]],
        every: float,
        now: Callable[[], datetime] = _now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._connector = connector
        self._subject = health_subject(acks_prefix, instance)
        self._instance = instance
        self._rules = rules
        self._problems = problems
        self._every = every
        self._now = now
        self._chance = chance
        self._due = 0.0
        connector.on_connected(self._again)

    def _again(self) -> None:
        self._due = 0.0

    async def run(self) -> None:
        """Say it until cancelled."""
        said: SensorHealth | None = None
        said_at = 0.0
        while True:
            client = (await self._connector.wait_connected()).client
            health = self._health()
            now = time.monotonic()
            if now >= self._due or (said is not None and _has_changed(said, health, now - said_at)):
                self._due = now + self._every * (0.9 + 0.2 * self._chance())
                if await _publish(client, self._subject, encode(health)):
                    said, said_at = health, now
            await asyncio.sleep(_LOOK)

    def _health(self) -> SensorHealth:
        problems = {name: text[:_MAX_MESSAGE] for name, text in sorted(self._problems().items())[:_MAX_PROBLEMS]}
        return SensorHealth(
            instance=self._instance, at=self._now(), every=self._every, rules=self._rules(), problems=problems
        )


def _has_changed(said: SensorHealth, health: SensorHealth, since: float) -> bool:
    if said.problems.keys() != health.problems.keys() or bool(said.rules) != bool(health.rules):
        return True
    return since > _REWORDED and said.problems != health.problems


async def _publish(client: Any, subject: str, body: bytes) -> bool:
    try:
        await client.publish(subject, body)
    except (nats.errors.Error, OSError):
        return False  # the connection is being looked after, and then it is said
    return True


class ApiProbe:
    """Asks a quiet sensor's API now and then whether it is there, so that its being away is known before an event is.

    Args:
        check: asks the API (:meth:`attune_sensor._api_client.EventsApi.check`).
        emitter: told what was found; its own requests make asking needless.
        after: seconds without a request after which it is asked.
        chance: random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        *,
        check: Callable[[], Awaitable[Unavailable | None]],
        emitter: Emitter,
        after: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._check = check
        self._emitter = emitter
        self._after = after
        self._chance = chance

    async def run(self) -> None:
        """Ask until cancelled."""
        wait = min(_FIRST_PROBE, self._after)
        while True:
            await asyncio.sleep(wait * (0.8 + 0.4 * self._chance()))
            wait = self._after
            if time.monotonic() - self._emitter.last_request >= self._after or not self._emitter.last_request:
                self._emitter.note_api(await self._check())
