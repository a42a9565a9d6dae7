"""Asks the API for the last stored event of each of this sensor's rules (docs/sensor-tutorial.md, "After a restart").

A sensor that catches up on what it missed begins there. It asks until it gets an answer: a guess would report things
twice, or not at all.
"""

import asyncio
import random
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from attune_kit.backoff import Backoff
from attune_kit.outage import Outage

_RETRY: Final = Backoff(initial=0.25, maximum=5.0)
#: Rules in one request: their uids are in its address, and proxies allow about 8 KB there.
MAX_RULES: Final = 100


class LastEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The last stored event of a rule."""

    rule_uid: str
    id: uuid.UUID
    occurred_at: datetime


class _Answer(msgspec.Struct, frozen=True):
    data: list[LastEvent]


_ANSWER: Final = msgspec.json.Decoder(_Answer)


class Reader(Protocol):
    """What reads from the API (:class:`attune_sensor._api_client.EventsApi`)."""

    async def last_events(self, rule_uids: list[str]) -> "list[LastEvent] | str":
        """The last event of each rule that has one; a sentence when the API does not answer now."""


def decode(body: bytes) -> "list[LastEvent] | str":
    """Read the API's answer; a sentence when it is malformed."""
    try:
        found = _ANSWER.decode(body).data
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"the API's answer is malformed: {error}"
    if any(event.occurred_at.tzinfo is None for event in found):
        return "the API's answer has a time without a zone"
    return found


class LastEvents:
    """Reads the last events of rules, however long it takes.

    Args:
        api: where from.
        log: a structlog logger.
        chance: random numbers in [0, 1), for jitter.
    """

    def __init__(self, *, api: Reader, log: Any, retry: Backoff = _RETRY, chance: Callable[[], float] = random.random):
        self._api = api
        self._outage = Outage(log=log, name="last_events")
        self._retry = retry
        self._chance = chance

    async def read(self, rule_uids: Iterable[str]) -> dict[str, LastEvent]:
        """The last event of each of these rules, by the rule's uid; a rule without a stored event is absent."""
        wanted = list(dict.fromkeys(rule_uids))
        found: dict[str, LastEvent] = {}
        attempt = 0
        while wanted:
            answer = await self._api.last_events(wanted[:MAX_RULES])
            if isinstance(answer, str):
                attempt += 1
                self._outage.failed("unavailable", f"{answer}; missed occurrences wait for it")
                await asyncio.sleep(self._retry.delay(attempt=attempt, chance=self._chance()))
                continue
            attempt = 0
            self._outage.recovered()
            found.update((event.rule_uid, event) for event in answer)
            wanted = wanted[MAX_RULES:]
        return found
