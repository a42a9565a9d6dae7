"""Finds the bond between a sensor and a rule, for every event that comes in.

Nearly always it is in the book, which costs a microsecond. What is not there may be about to come (the sensor hears of a new
rule a moment before this program may), be over (deleted, moved), or be made up. Then NATS is asked: the rule stream itself,
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
from attune_api.rules.bonds import Bond, Refused, judge, judge_outside, not_bound
from attune_api.rules.book import RuleBook
from attune_contract.identity import SensorRef

log = structlog.get_logger(__name__)

#: Seconds that an event waits for the book to become current.
_PATIENCE: Final = 3.0
#: Seconds for which a bond that had to be asked for is believed, and how many are.
_KEEP: Final = 10.0
_KEPT: Final = 4096
#: Questions to NATS at a time.
_QUESTIONS: Final = 16


Row = Mapping[str, Any]


class NotKnownYet(Exception):  # noqa: N818 - read as a sentence: "raise NotKnownYet"
    """Whether the sensor serves the rule cannot be found out now."""


class Oracle(Protocol):
    """Who is asked for what the book lacks (:class:`attune_api.streams.rules.RuleReader`)."""

    @property
    def settled(self) -> bool:
        """Whether what is missing can be believed not to exist."""

    async def wait_complete(self, seconds: float) -> bool:
        """Wait until the book is current, if that may be soon; whether it is."""

    async def find_bond(self, uid: str, *, binding: str) -> Bond | None:
        """What NATS says of the bond now.

        Raises:
            NotKnownYet: it does not answer.
        """


#: What the database says: of these rules, those of which this sensor reported the last event.
Witness = Callable[[str, Sequence[str]], Awaitable[dict[str, Bond]]]


class RuleCheck:
    """Checks reports. One for the program.

    Args:
        book: the rules as they were heard of.
        oracle: who is asked about others.
        witness: the database's word.
        states: which sensors are in the cluster.
    """

    def __init__(self, *, book: RuleBook, oracle: Oracle, witness: Witness, states: IdentityStates) -> None:
        self._book = book
        self._oracle = oracle
        self._witness = witness
        self._states = states
        self._found: ExpiringCache[tuple[str, str], Bond] = ExpiringCache(most=_KEPT, clock=time.monotonic)
        self._questions = asyncio.Semaphore(_QUESTIONS)

    async def check(self, rows: Sequence[Row], *, sensor: SensorRef) -> Sequence[Refused | None]:
        """What is wrong with each of these events of a sensor, None where nothing is.

        Args:
            rows: as :func:`attune_api.events.reports.as_row` makes them.
            sensor: who reports them.

        Raises:
            NotKnownYet: of one of them that cannot be told now.
        """
        binding = sensor.token
        bonds: dict[str, Bond | None] = {}
        for row in rows:
            uid = row["rule_uid"]
            if uid not in bonds:
                bonds[uid] = self._book.bond(uid, binding)
        if wanted := [uid for uid, bond in bonds.items() if bond is None]:
            bonds |= await self._find(wanted, binding=binding, sensor=sensor)
        return [self._judge(row, bonds[row["rule_uid"]], sensor) for row in rows]

    def _judge(self, row: Row, bond: Bond | None, sensor: SensorRef) -> Refused | None:
        uid, namespace = row["rule_uid"], row["rule_namespace"]
        if bond is not None:
            return judge(bond, namespace=namespace, name=row["rule_name"], uid=uid, occurred_at=row["occurred_at"])
        if not self._outside(sensor):
            return not_bound(uid=uid, sensor=sensor)
        rule = self._book.get(uid)
        bound_to = None if rule is None else rule.sensor
        return judge_outside(sensor=sensor, bound_to=bound_to, namespace=namespace, uid=uid)

    def _outside(self, sensor: SensorRef) -> bool:
        """Whether it is known that there is no such Sensor in the cluster."""
        return self._states.heard and self._states.get(str(sensor)) is None

    async def _find(self, uids: list[str], *, binding: str, sensor: SensorRef) -> dict[str, Bond | None]:
        """The bond of each rule, None where there is none.

        Raises:
            NotKnownYet: of one of them that cannot be told now.
        """
        current = await self._oracle.wait_complete(_PATIENCE)
        outside = self._outside(sensor) and self._book.heard
        found: dict[str, Bond | None] = {
            uid: self._book.bond(uid, binding) or self._found.get((uid, binding)) for uid in uids
        }
        missing = [uid for uid, bond in found.items() if bond is None]
        unknown: list[str] = []
        if missing and not outside:
            if current:
                asked = await asyncio.gather(*(self._ask(uid, binding) for uid in missing))
                found |= {uid: bond for uid, bond in zip(missing, asked, strict=True) if isinstance(bond, Bond)}
                unknown = [uid for uid, bond in zip(missing, asked, strict=True) if isinstance(bond, NotKnownYet)]
            else:
                unknown = missing
        if missing := [uid for uid, bond in found.items() if bond is None]:
            for uid, bond in (await self._witness(str(sensor), missing)).items():
                found[uid] = bond
                self._found.put((uid, binding), bond, seconds=_KEEP)
        missing = [uid for uid, bond in found.items() if bond is None]
        if missing and not outside and (not self._oracle.settled or not set(unknown).isdisjoint(missing)):
            log.info("rules_not_known_yet", sensor=str(sensor), rules=len(missing), first=missing[0])
            raise NotKnownYet
        return found

    async def _ask(self, uid: str, binding: str) -> Bond | NotKnownYet | None:
        try:
            async with self._questions:
                bond = await self._oracle.find_bond(uid, binding=binding)
        except NotKnownYet as error:
            return error
        if bond is not None:
            self._found.put((uid, binding), bond, seconds=_KEEP)
        return bond
