"""What is known of Rules, Sensors and namespaces, and of the rule stream, by Rule.

Kept current by watch events and corrected by complete lists (:mod:`attune_operator.runtime.cache`).
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from attune_contract.identity import SensorRef
from attune_contract.quotas import Quotas
from attune_operator.rules import metrics
from attune_operator.rules.binding import Binding, Bound, bind
from attune_operator.rules.entry import AckEntry, RuleEntry
from attune_operator.rules.places import Places, Seat
from attune_operator.rules.records import NamespaceRecord, ObservedRule, RuleRecord, SensorRecord
from attune_operator.rules.stream_numbers import StreamNumbers
from attune_operator.runtime.cache import ListClock, ObjectCache, Seen

#: Rules that only sensors or the stream know of are remembered up to this many, so that a sensor cannot fill the memory.
_MAX_ORPHANS: Final = 10_000
#: And up to so many before the first complete list: until then every Rule may be one of them.
_MAX_UNLISTED: Final = 200_000
_NO_QUOTAS: Final = Quotas()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Complete lists that began together. ``unchanged`` are the uids of Rules that were known as listed."""

    rules: list[ObservedRule]
    sensors: list[SensorRecord]
    namespaces: list[NamespaceRecord]
    unchanged: Collection[str] = ()


@dataclass(slots=True)
class StreamState(StreamNumbers):
    """What holds of the rule stream as a whole while there is a connection.

    Attributes:
        connected: whether the stream is read and written.
        outage: why it is not, as a sentence; empty if not known.
        acks_known_at: before this moment (the loop's seconds), a missing ack means nothing.
        in_flight: Rules whose messages NATS has not answered.
        contested: Rules of which something on the stream is not ours to touch until Kubernetes was listed again.
        actions_contested: the same of the stream of actions.
        refused: Rules whose message NATS refuses.
        with_history: Rules whose history is kept although the rule stream is new: they are restored, not created.
    """

    connected: bool = False
    outage: str = ""
    acks_known_at: float = 0.0
    in_flight: set[str] = field(default_factory=set)
    contested: set[str] = field(default_factory=set)
    actions_contested: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    with_history: set[str] = field(default_factory=set)


class RuleCache:
    """The state of the Rule side. Methods that change it return the uids of the Rules that must be reconciled.

    Args:
        believe_own_write: seconds for which a status that we wrote is believed more than events, which may be older.
        trusted: the namespaces whose Sensors may serve Rules of all others; None: every one's.
        sensor_namespaces: those where Sensors run; empty means all.
        quotas: how many Rules Sensors serve.
    """

    def __init__(
        self,
        *,
        believe_own_write: float = 10.0,
        trusted: frozenset[str] | None = None,
        sensor_namespaces: frozenset[str] = frozenset(),
        quotas: Quotas = _NO_QUOTAS,
    ) -> None:
        self.trusted = trusted
        self.sensor_namespaces = sensor_namespaces
        self._believe_own_write = believe_own_write
        self._clock = ListClock()
        self._sensors: ObjectCache[SensorRef, SensorRecord] = ObjectCache(clock=self._clock)
        self._namespaces: ObjectCache[str, NamespaceRecord] = ObjectCache(clock=self._clock)
        self.rules: dict[str, RuleEntry] = {}
        """The Rules that Kubernetes has."""
        self.orphans: dict[str, RuleEntry] = {}
        """Entries of which only streams, or work that is under way, know."""
        self.stream = StreamState()
        self.known_types: frozenset[str] = frozenset()
        """Every trigger type and alias that some Sensor offers."""
        self.places = Places(quotas)
        """Which Rules have a place at their Sensors."""
        self._by_type: dict[str, set[str]] = {}
        self._by_namespace: dict[str, set[str]] = {}
        self._offering: dict[str, dict[SensorRef, SensorRecord]] = {}

    @property
    def tick(self) -> int:
        """How many lists have begun, plus one."""
        return self._clock.tick

    @property
    def listed(self) -> int:
        """The tick of the latest complete list; 0 if there was none yet."""
        return self._clock.listed

    @property
    def complete(self) -> bool:
        """Whether there ever was a complete list. Before that, nothing can be said to be absent."""
        return self.listed > 0

    @property
    def sensors(self) -> ObjectCache[SensorRef, SensorRecord]:
        """The Sensors; not to be changed."""
        return self._sensors

    def labels(self, namespace: str) -> dict[str, str] | None:
        """The namespace's labels; None while they are not known."""
        found = self._namespaces.get(namespace)
        return None if found is None else found.labels

    def candidates(self, trigger_type: str) -> Iterable[SensorRecord]:
        """The Sensors that offer the trigger type by any name."""
        return self._offering.get(trigger_type, {}).values()

    def binding(self, rule: RuleRecord) -> Binding:
        """Which Sensor serves the Rule."""
        return bind(
            namespace=rule.namespace,
            trigger_type=rule.trigger_type,
            candidates=self.candidates(rule.trigger_type),
            labels=self.labels(rule.namespace),
            known_types=self.known_types,
            trusted=self.trusted,
            run_in=self.sensor_namespaces,
        )

    def _seated(self, affected: set[str]) -> set[str]:
        """Give these Rules their places; returns them, and those that got a place by it or lost theirs."""
        if not self.places.active or not affected:
            return affected
        seats: dict[str, Seat | None] = dict.fromkeys(affected)
        bindings: dict[tuple[str, str], Binding] = {}
        for uid in affected:
            entry = self.rules.get(uid)
            if entry is None or (rule := entry.rule) is None:
                continue
            key = rule.namespace, rule.trigger_type
            if key not in bindings:
                bindings[key] = self.binding(rule)
            if isinstance(bound := bindings[key], Bound):
                sensor = bound.sensor
                seats[uid] = Seat(sensor.ref, rule.namespace, rule.created_at, process=sensor.process_per_rule)
        found = set(affected)
        # The oldest first: then each comes behind the others, which costs least.
        for uid in sorted(seats, key=lambda each: _age(seats[each])):
            found |= self.places.put(uid, seats[uid])
        metrics.OVER_QUOTA.set(self.places.refused)
        return found

    def was_deleted(self, uid: str) -> bool:
        """Whether the object with this uid is known to be gone for good."""
        return self._clock.was_deleted(uid)

    # -- entries

    def entries(self) -> Iterator[RuleEntry]:
        """Every entry, orphans last."""
        return chain(self.rules.values(), self.orphans.values())

    def get(self, uid: str) -> RuleEntry | None:
        """The entry of this uid, orphan or not."""
        return self.rules.get(uid) or self.orphans.get(uid)

    def entry(self, uid: str) -> RuleEntry:
        """The entry of this uid, which is created if there is none."""
        found = self.get(uid)
        if found is None:
            found = self.orphans[uid] = RuleEntry(uid)
        return found

    def release(self, entry: RuleEntry) -> None:
        """Drop the entry if nothing is known of it any more."""
        if entry.empty:
            self.orphans.pop(entry.uid, None)

    def put_ack(self, uid: str, ack: AckEntry) -> bool:
        """Remember an ack; returns whether it says something new. Acks of too many unknown Rules are dropped."""
        if self.get(uid) is None and len(self.orphans) >= (_MAX_ORPHANS if self.complete else _MAX_UNLISTED):
            return False
        return self.entry(uid).put_ack(ack)

    def begin_session(self) -> None:
        """A new connection to NATS begins: what was read over the last one is forgotten."""
        self.stream = StreamState(outage=self.stream.outage)
        for entry in list(self.entries()):
            entry.begin_session()
            self.release(entry)

    # -- Rules

    def knows(self, uid: str, version: str) -> bool:
        """Whether the Rule is known as it stands in this resourceVersion."""
        entry = self.rules.get(uid)
        return entry is not None and version != "" and entry.version == version

    def put_rule(self, seen: ObservedRule, *, now: float) -> set[str]:
        """An event showed a Rule. ``now`` is the loop's time, in seconds."""
        uid = seen.rule.uid
        if self._clock.was_deleted(uid) or _generation(self.rules.get(uid)) > seen.rule.generation:
            return set()  # an old event
        return self._seated(self._store_rule(seen, tick=self.tick, now=now))

    def delete_rule(self, uid: str) -> set[str]:
        """An event said that a Rule is gone."""
        self._clock.delete(uid)
        return self._seated(self._remove_rule(uid))

    def forget_rules(self, namespace: str) -> set[str]:
        """The Rules of this namespace are not ours any more. They exist, and may come back."""
        return self._seated({found for uid in self._in_namespace(namespace) for found in self._remove_rule(uid)})

    def _store_rule(self, seen: ObservedRule, *, tick: int, now: float) -> set[str]:
        uid = seen.rule.uid
        entry = self.rules.get(uid)
        if entry is None:
            entry = self.rules[uid] = self.orphans.pop(uid) if uid in self.orphans else RuleEntry(uid)
            entry.rule, entry.touched, entry.version = seen.rule, tick, seen.version
            entry.status = entry.desired = seen.status
            entry.event_time = entry.desired_event_time = seen.last_event_time
            entry.next_time = entry.desired_next_time = seen.next_time
            self._index(seen.rule)
            return {uid}
        changed = False
        entry.touched = tick
        entry.version = ""
        if entry.rule is not None and seen.rule != entry.rule:
            self._unindex(entry.rule)
            entry.rule = seen.rule
            self._index(seen.rule)
            changed = True
        if now - entry.written_at > self._believe_own_write and seen.status != entry.status:
            entry.status = seen.status
            changed = changed or seen.status != entry.desired
        if now - entry.times_written_at > self._believe_own_write:
            entry.event_time, entry.next_time = seen.last_event_time, seen.next_time
        if seen.status == entry.status and (seen.last_event_time, seen.next_time) == (
            entry.event_time,
            entry.next_time,
        ):
            entry.version = seen.version  # all of it was taken, or is the echo of what we wrote
        return {uid} if changed else set()

    def _remove_rule(self, uid: str) -> set[str]:
        entry = self.rules.pop(uid, None)
        if entry is None or entry.rule is None:
            return set()
        self._unindex(entry.rule)
        # Reconciling it takes what is left off the stream and out of the counters, and releases it.
        self.orphans[uid] = entry
        entry.rule = entry.acceptance = None
        entry.times_due = False
        return {uid}

    def _index(self, rule: RuleRecord) -> None:
        self._by_type.setdefault(rule.trigger_type, set()).add(rule.uid)
        self._by_namespace.setdefault(rule.namespace, set()).add(rule.uid)

    def _unindex(self, rule: RuleRecord) -> None:
        for index, key in ((self._by_type, rule.trigger_type), (self._by_namespace, rule.namespace)):
            uids = index.get(key)
            if uids is not None:
                uids.discard(rule.uid)
                if not uids:
                    del index[key]

    # -- Sensors

    def put_sensor(self, record: SensorRecord) -> set[str]:
        """An event showed a Sensor."""
        before = self._sensors.get(record.ref)
        return self._seated(self._reindex(before, record)) if self._sensors.put(_seen_sensor(record)) else set()

    def delete_sensor(self, ref: SensorRef, uid: str) -> set[str]:
        """An event said that a Sensor is gone. Another one of the same name stays."""
        record = self._sensors.remove(ref, uid=uid)
        return self._seated(self._reindex(record, None))

    def _reindex(self, before: SensorRecord | None, after: SensorRecord | None) -> set[str]:
        """Offer what the Sensor declares now; returns the Rules that ask for what it declares or declared."""
        affected: set[str] = set()
        for record in (before, after):
            for name in record.offered if record is not None else ():
                affected |= self._by_type.get(name, set())
        if before is not None:
            for name in before.offered:
                offering = self._offering[name]
                del offering[before.ref]
                if not offering:
                    del self._offering[name]
        if after is not None:
            for name in after.offered:
                self._offering.setdefault(name, {})[after.ref] = after
        self.known_types = frozenset(self._offering)
        return affected

    # -- namespaces

    def put_namespace(self, record: NamespaceRecord) -> set[str]:
        """An event showed a namespace."""
        known = not self._namespaces.put(_seen_namespace(record))
        return set() if known else self._seated(self._in_namespace(record.name))

    def delete_namespace(self, name: str, uid: str) -> set[str]:
        """An event said that a namespace is gone; so are, soon, the Rules in it."""
        gone = self._namespaces.remove(name, uid=uid)
        return set() if gone is None else self._seated(self._in_namespace(name))

    def _in_namespace(self, name: str) -> set[str]:
        return set(self._by_namespace.get(name, ()))

    # -- lists

    def begin_list(self) -> int:
        """A list begins; give the returned tick to :meth:`replace`."""
        return self._clock.begin()

    def replace(self, listing: Listing, *, began: int, now: float) -> set[str]:
        """Complete lists came: everything is as they say, except what events showed since they began."""
        affected: set[str] = set()
        changed, gone = self._sensors.replace(map(_seen_sensor, listing.sensors), began=began)
        for ref, before in changed:
            affected |= self._reindex(before, self._sensors.get(ref))
        for _, sensor in gone:
            affected |= self._reindex(sensor, None)
        relabelled, removed = self._namespaces.replace(map(_seen_namespace, listing.namespaces), began=began)
        for name, _ in chain(relabelled, removed):
            affected |= self._in_namespace(name)
        listed = set(listing.unchanged)
        for seen in listing.rules:
            uid = seen.rule.uid
            listed.add(uid)
            entry = self.rules.get(uid)
            if self._clock.was_deleted(uid, since=began) or (
                entry is not None and entry.touched >= began and _generation(entry) >= seen.rule.generation
            ):
                continue
            affected |= self._store_rule(seen, tick=began - 1, now=now)
        for uid in [uid for uid, entry in self.rules.items() if uid not in listed and entry.touched < began]:
            affected |= self._remove_rule(uid)
        self._clock.complete(began)
        return self._seated(affected)


def _age(seat: Seat | None) -> float:
    """What seats are sorted by; what loses its place comes first."""
    return float("-inf") if seat is None else seat.created_at.timestamp()


def _generation(entry: RuleEntry | None) -> int:
    return -1 if entry is None or entry.rule is None else entry.rule.generation


def _seen_sensor(record: SensorRecord) -> Seen[SensorRef, SensorRecord]:
    return Seen(record.ref, record.uid, record)


def _seen_namespace(record: NamespaceRecord) -> Seen[str, NamespaceRecord]:
    return Seen(record.name, record.uid, record)
