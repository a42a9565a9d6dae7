"""All that the operator knows about one Rule, in one place.

What Kubernetes says of it, what stands on the rule stream for it, what sensors acknowledged, and what is under way. The
second half is true of one connection to NATS only, and is cleared when the next one begins.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import AckState
from attune_operator.rules.conditions import Acceptance, LatestAck
from attune_operator.rules.records import RuleRecord, RunCounts, StatusRecord

_NO_STATUS: Final = StatusRecord()
_NEVER: Final = -1e9


class StreamEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The last message of a subject of the rule stream.

    ``body`` is the rule's state on the stream; empty for a tombstone, whose state is not needed. ``seen`` is the tick
    (:attr:`~attune_operator.rules.cache.RuleCache.tick`) at which we learnt of it; 0 if we wrote it ourselves.
    ``tombstone_at`` is in seconds since the epoch, for a tombstone; it ends by its own TTL.
    """

    subject: str
    sequence: int
    generation: int
    tombstone: bool
    body: bytes
    seen: int
    tombstone_at: float = 0.0

    @property
    def binding(self) -> str:
        """The binding's two tokens (``SensorRef.token``)."""
        return subjects.split_binding(self.subject)[0]


class AckEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The latest ack of one sensor. ``binding`` is ``SensorRef.token``; ``seen`` as in :class:`StreamEntry`."""

    binding: str
    generation: int
    state: AckState
    message: str
    sequence: int
    seen: int
    next_time: str | None = None

    @property
    def latest(self) -> LatestAck:
        """What the conditions depend on."""
        return LatestAck(generation=self.generation, state=self.state, message=self.message, next_time=self.next_time)


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How one Rule counts: for which Sensor (None: for none), and the reason of its condition Active."""

    sensor: SensorRef | None
    reason: str


@lru_cache(maxsize=4096)
def rule_count(sensor: SensorRef | None, reason: str) -> RuleCount:
    """Return the count; thousands of Rules share one."""
    return RuleCount(sensor, reason)


@dataclass(slots=True, eq=False)
class RuleEntry:
    """One Rule. Times are the event loop's seconds unless they say otherwise.

    Attributes:
        uid: the Rule's uid.
        rule: identity and spec; None while Kubernetes has not shown the Rule, or after it was deleted.
        status: the status in Kubernetes, as far as we know.
        desired: the status that should be there.
        event_time: ``lastEventTime`` in Kubernetes.
        desired_event_time: the ``lastEventTime`` that should be there.
        next_time: ``nextTime`` in Kubernetes.
        desired_next_time: the ``nextTime`` that should be there.
        times_due: whether these times, and ``runs``, may be written now.
        touched: the tick at which Kubernetes showed the Rule last.
        version: the resourceVersion of which all this is known; empty if the next list must read the Rule again.
        written_at: when we wrote the status last.
        times_written_at: when we wrote one of the times last.
        acceptance: whether the Rule is accepted, and who serves it; None until it was reconciled.
        count: how the Rule was counted.
        changed_at: when the Rule changed, until the change is on the rule stream.
        published_at: when the change was on the stream, until the sensor acknowledges it.
        stream: the last messages on the rule stream. More than one only while the binding moves.
        acks: the latest ack of each sensor.
        in_flight: messages of the current plan that NATS has not answered.
        replan: whether something happened in between, so that the Rule is reconciled again after that plan.
        refusal: why NATS refuses the Rule's message; empty if it does not.
        refusals: how often in a row.
        actions: the last message about its actions on their stream.
        actions_in_flight: whether NATS has not answered a message about them.
        actions_replan: whether something happened in between.
        actions_refusals: how often in a row NATS has refused such a message.
        actions_problem: what is wrong with its expressions; empty if nothing is, None while it is not known.
        actions_checked: the :attr:`RuleRecord.actions` that this is about.
        runs: how its runs have ended lately; None while it is not known.
        runs_written: what of it we wrote last.
    """

    uid: str
    rule: RuleRecord | None = None
    status: StatusRecord = _NO_STATUS
    desired: StatusRecord = _NO_STATUS
    event_time: str | None = None
    desired_event_time: str | None = None
    next_time: str | None = None
    desired_next_time: str | None = None
    times_due: bool = False
    touched: int = 0
    version: str = ""
    written_at: float = _NEVER
    times_written_at: float = _NEVER
    acceptance: Acceptance | None = None
    count: RuleCount | None = None
    changed_at: float | None = None
    published_at: float | None = None
    stream: tuple[StreamEntry, ...] = ()
    acks: tuple[AckEntry, ...] = ()
    in_flight: int = 0
    replan: bool = False
    refusal: str = ""
    refusals: int = 0
    actions: StreamEntry | None = None
    actions_in_flight: bool = False
    actions_replan: bool = False
    actions_refusals: int = 0
    actions_problem: str | None = None
    actions_checked: bytes = b""
    runs: RunCounts | None = None
    runs_written: RunCounts | None = None

    @property
    def generation(self) -> int | None:
        """The Rule's generation; None if we know no such Rule."""
        return None if self.rule is None else self.rule.generation

    @property
    def empty(self) -> bool:
        """Whether nothing is known, so that the entry can go."""
        known = self.stream or self.acks or self.in_flight or self.actions or self.actions_in_flight
        return self.rule is None and self.count is None and not known

    @property
    def unwritten(self) -> bool:
        """Whether Kubernetes has other times or numbers than it should."""
        return (
            self.desired_event_time not in (None, self.event_time)
            or self.desired_next_time != self.next_time
            or (self.runs is not None and self.runs != self.runs_written)
        )

    def wrote(self, status: StatusRecord, *, now: float) -> None:
        """We wrote the status."""
        self.status, self.written_at = status, now
        self.version = ""

    def wrote_times(self, *, event_time: str | None, next_time: str | None, now: float) -> None:
        """We wrote the times, as they are in Kubernetes now."""
        self.event_time, self.next_time, self.times_written_at = event_time, next_time, now

    def latest_ack(self, sensor: SensorRef) -> LatestAck | None:
        """The sensor's latest ack; None if it sent none."""
        token = sensor.token
        return next((ack.latest for ack in self.acks if ack.binding == token), None)

    def differs_in_next_time(self, ack: AckEntry) -> bool:
        """Whether an ack says nothing new but when the next occurrence is due."""
        return any(
            known.binding == ack.binding
            and known.sequence < ack.sequence
            and known.latest == msgspec.structs.replace(ack, next_time=known.next_time).latest
            for known in self.acks
        )

    def put_ack(self, ack: AckEntry) -> bool:
        """Remember an ack unless a later one is known; returns whether it says something new."""
        changed = True
        for known in self.acks:
            if known.binding == ack.binding:
                if known.sequence > ack.sequence:
                    return False
                changed = known.latest != ack.latest
        self.acks = (*(known for known in self.acks if known.binding != ack.binding), ack)
        return changed

    def forget_ack(self, binding: str) -> None:
        """Drop one sensor's ack."""
        self.acks = tuple(ack for ack in self.acks if ack.binding != binding)

    def begin_session(self) -> None:
        """A new connection begins: what was true of the last one is forgotten."""
        self.stream = self.acks = ()
        self.in_flight = self.refusals = self.actions_refusals = 0
        self.replan = self.actions_in_flight = self.actions_replan = False
        self.actions = None
        self.refusal = ""
