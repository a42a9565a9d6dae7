"""Finds the binding between a sensor and a rule, for every event that comes in.

Nearly always it is in the cache, which costs a microsecond. A rule that is not there may be about to come (the sensor may read a
new rule a moment before this program), have ended (deleted, moved), or be invented. Then NATS is asked: the rule stream itself,
whose answer no reader can be ahead of, and the rule's history. While NATS does not answer, an event of the rule that this
sensor reported before is proof enough: it was checked then. What cannot be found out now is answered with "send it again",
never with a refusal.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog

from attune_api.identity.cluster import ExpiringCache
from attune_api.identity.revocation import IdentityStates
from attune_api.rules.bindings import Binding, Refused, judge, judge_outside, not_bound
from attune_api.rules.cache import RuleCache
from attune_contract.identity import SensorRef

log = structlog.get_logger(__name__)

#: Seconds that an event waits for the cache to become current.
_PATIENCE: Final = 3.0
#: Seconds for which a binding that had to be asked for is believed, and how many are.
_KEEP: Final = 10.0
_KEPT: Final = 4096
#: Questions to NATS at a time.
_QUESTIONS: Final = 16


Row = Mapping[str, Any]


class NotKnownYetError(Exception):
    """Whether the sensor serves the rule cannot be found out now."""


class RuleLookup(Protocol):
    """Finds what the cache lacks (:class:`attune_api.streams.rules.RuleReader`)."""

    @property
    def absence_is_known(self) -> bool:
        """Whether what is missing can be believed not to exist."""

    async def wait_complete(self, seconds: float) -> bool:
        """Wait until the cache is current, if that may be soon. Returns whether it is."""

    async def find_binding(self, uid: str, *, sensor_key: str) -> Binding | None:
        """What NATS says of the binding now.

        Raises:
            NotKnownYetError: it does not answer.
        """


#: Asks the database: of these rules, those whose last event this sensor reported.
EventObserver = Callable[[str, Sequence[str]], Awaitable[dict[str, Binding]]]


class RuleCheck:
    """Checks reports. One for the program.

    Args:
        rules: the rules as the stream has them.
        lookup: finds others.
        observer: finds what stored events prove.
        states: which sensors are in the cluster.
    """

    def __init__(
        self, *, rules: RuleCache, lookup: RuleLookup, observer: EventObserver, states: IdentityStates
    ) -> None:
        self._rules = rules
        self._lookup = lookup
        self._observer = observer
        self._states = states
        self._found: ExpiringCache[tuple[str, str], Binding] = ExpiringCache(most=_KEPT, clock=time.monotonic)
        self._questions = asyncio.Semaphore(_QUESTIONS)

    async def check(self, rows: Sequence[Row], *, sensor: SensorRef) -> Sequence[Refused | None]:
        """What is wrong with each of these events of a sensor, None where nothing is.

        Args:
            rows: as :func:`attune_api.events.ingest.reports.as_row` makes them.
            sensor: who reports them.

        Raises:
            NotKnownYetError: it cannot be determined for one of them now.
        """
        sensor_key = sensor.token
        bindings: dict[str, Binding | None] = {}
        for row in rows:
            uid = row["rule_uid"]
            if uid not in bindings:
                bindings[uid] = self._rules.binding(uid, sensor_key)
        if wanted := [uid for uid, binding in bindings.items() if binding is None]:
            bindings |= await self._find(wanted, sensor_key=sensor_key, sensor=sensor)
        return [self._judge(row, bindings[row["rule_uid"]], sensor) for row in rows]

    def _judge(self, row: Row, binding: Binding | None, sensor: SensorRef) -> Refused | None:
        uid, namespace = row["rule_uid"], row["rule_namespace"]
        if binding is not None:
            return judge(binding, namespace=namespace, name=row["rule_name"], uid=uid, occurred_at=row["occurred_at"])
        if not self._outside(sensor):
            return not_bound(uid=uid, sensor=sensor)
        rule = self._rules.get(uid)
        bound_to = None if rule is None else rule.sensor
        return judge_outside(sensor=sensor, bound_to=bound_to, namespace=namespace, uid=uid)

    def _outside(self, sensor: SensorRef) -> bool:
        """Whether it is known that there is no such Sensor in the cluster."""
        return self._states.heard and self._states.get(str(sensor)) is None

    async def _find(self, uids: list[str], *, sensor_key: str, sensor: SensorRef) -> dict[str, Binding | None]:
        """The binding of each rule, None where there is none.

        Raises:
            NotKnownYetError: it cannot be determined for one of them now.
        """
        current = await self._lookup.wait_complete(_PATIENCE)
        outside = self._outside(sensor) and self._rules.heard
        found: dict[str, Binding | None] = {
            uid: self._rules.binding(uid, sensor_key) or self._found.get((uid, sensor_key)) for uid in uids
        }
        missing = [uid for uid, binding in found.items() if binding is None]
        unknown: list[str] = []
        if missing and not outside:
            if current:
                asked = await asyncio.gather(*(self._ask(uid, sensor_key) for uid in missing))
                found |= {
                    uid: binding for uid, binding in zip(missing, asked, strict=True) if isinstance(binding, Binding)
                }
                unknown = [
                    uid for uid, binding in zip(missing, asked, strict=True) if isinstance(binding, NotKnownYetError)
                ]
            else:
                unknown = missing
        if missing := [uid for uid, binding in found.items() if binding is None]:
            for uid, binding in (await self._observer(str(sensor), missing)).items():
                found[uid] = binding
                self._found.put((uid, sensor_key), binding, seconds=_KEEP)
        missing = [uid for uid, binding in found.items() if binding is None]
        if missing and not outside and (not self._lookup.absence_is_known or not set(unknown).isdisjoint(missing)):
            log.info("rules_not_known_yet", sensor=str(sensor), rules=len(missing), first=missing[0])
            raise NotKnownYetError
        return found

    async def _ask(self, uid: str, sensor_key: str) -> Binding | NotKnownYetError | None:
        try:
            async with self._questions:
                binding = await self._lookup.find_binding(uid, sensor_key=sensor_key)
        except NotKnownYetError as error:
            return error
        if binding is not None:
            self._found.put((uid, sensor_key), binding, seconds=_KEEP)
        return binding
