"""Health reports to the operator, for the Sensor's condition Healthy, and a probe of the API for sensors without
events.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import nats.errors

from attune_contract.messages import SensorHealth, encode
from attune_contract.subjects import health_subject
from attune_kit.backoff import spread
from attune_kit.nats.connector import NatsConnector
from attune_sensor._api_client import Unavailable
from attune_sensor._emitter import Emitter

_LOOK: Final = 0.5
#: Seconds between two reports that differ only in the wording of a problem.
_REWORDED: Final = 5.0
#: The first time (seconds) the API is asked soon.
_FIRST_PROBE: Final = 2.0
_MAX_MESSAGE: Final = 300
_MAX_PROBLEMS: Final = 16


def _now() -> datetime:
    return datetime.now(UTC)


class HealthReporter:
    """Publishes a health report when it changes and every few seconds.

    Without a connection nothing is published, and the operator notices the silence.

    Args:
        connector: the connection to NATS.
        acks_prefix: what the sensor's subjects begin with (``ATTUNE_ACKS_SUBJECT``).
        instance: this process (the pod's name).
        rules: how many rules are known now.
        problems: a sentence for each problem there is now, by name (:class:`attune_contract.messages.SensorHealth`).
        versions: what is reported as :attr:`attune_contract.messages.SensorHealth.versions`.
        every: seconds between two reports that are the same.
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
        versions: Callable[[], Mapping[str, str]] = dict,
        every: float,
        now: Callable[[], datetime] = _now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._connector = connector
        self._subject = health_subject(acks_prefix, instance)
        self._instance = instance
        self._rules = rules
        self._problems = problems
        self._versions = versions
        self._every = every
        self._now = now
        self._chance = chance
        self._due = 0.0
        connector.on_connected(self._again)

    def _again(self) -> None:
        self._due = 0.0

    async def run(self) -> None:
        """Publish until cancelled."""
        published: SensorHealth | None = None
        published_at = 0.0
        while True:
            client = (await self._connector.wait_connected()).client
            health = self._health()
            now = time.monotonic()
            if now >= self._due or (published is not None and _has_changed(published, health, now - published_at)):
                self._due = now + spread(self._every, chance=self._chance())
                if await _publish(client, self._subject, encode(health)):
                    published, published_at = health, now
            await asyncio.sleep(_LOOK)

    def _health(self) -> SensorHealth:
        problems = {name: text[:_MAX_MESSAGE] for name, text in sorted(self._problems().items())[:_MAX_PROBLEMS]}
        return SensorHealth(
            instance=self._instance,
            at=self._now(),
            every=self._every,
            rules=self._rules(),
            problems=problems,
            versions=dict(self._versions()),
        )


def _has_changed(published: SensorHealth, health: SensorHealth, since: float) -> bool:
    if published.problems.keys() != health.problems.keys() or bool(published.rules) != bool(health.rules):
        return True
    return since > _REWORDED and published.problems != health.problems


async def _publish(client: Any, subject: str, body: bytes) -> bool:
    try:
        await client.publish(subject, body)
    except (nats.errors.Error, OSError):
        return False  # it is published after the reconnect
    return True


class ApiProbe:
    """Asks the API now and then while the sensor has no events, so that an outage is noticed before the next event.

    Args:
        check: asks the API (:meth:`attune_sensor._api_client.EventsApi.check`).
        emitter: gets the result; its own requests replace the probe's.
        after: seconds without a request after which the API is asked.
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
        """Probe until cancelled."""
        wait = min(_FIRST_PROBE, self._after)
        while True:
            await asyncio.sleep(wait * (0.8 + 0.4 * self._chance()))
            wait = self._after
            if time.monotonic() - self._emitter.last_request >= self._after or not self._emitter.last_request:
                self._emitter.note_api(await self._check())
