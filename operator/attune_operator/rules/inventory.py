"""What Kubernetes said: Rules, Sensors and namespaces, kept current by watch events and made true by complete lists.

A watch event is a hint: it may be late, repeated or never come. A complete list is the truth as of when it began, so it
replaces everything, except what an event told meanwhile. "When" is a count of lists (``tick``): what was learnt since the
latest list began has its number.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from attune_contract.identity import SensorRef
from attune_operator.rules.conditions import Acceptance
from attune_operator.rules.records import ObservedRule, RuleRecord, SensorRecord, StatusRecord

#: Deleted objects are remembered, so that a late event does not bring one back: so many of them,
_REMEMBERED_DELETIONS: Final = 20_000
#: and for so many lists. No event is late by that much, and the next list would undo what one did.
_REMEMBERED_LISTS: Final = 5


@dataclass(slots=True, kw_only=True)
class TrackedRule:
    """A Rule as it is known now.

    ``status`` is what stands in Kubernetes, as far as we know; ``wanted`` what should. ``event_time`` and
    ``wanted_event_time`` likewise for ``lastEventTime``. Times of our own writes are the loop's seconds.
    """

    rule: RuleRecord
    status: StatusRecord
    wanted: StatusRecord
    event_time: str | None
    wanted_event_time: str | None
    touched: int
    written_at: float = -1e9
    event_written_at: float = -1e9
    acceptance: Acceptance | None = None
    version: str = ""
    """The resourceVersion of which all this is known; empty: of none, so that the next list reads the Rule again."""

    def wrote(self, status: StatusRecord, *, event_time: str | None, now: float) -> None:
        """We wrote the status, and with it the time of the latest event unless that is None."""
        self.status, self.written_at = status, now
        if event_time is not None:
            self.event_time, self.event_written_at = event_time, now
        self.version = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Everything there is, as lists that began together gave it. ``unchanged`` are uids of Rules that were known as listed."""

    rules: list[ObservedRule]
    sensors: list[SensorRecord]
    namespaces: dict[str, dict[str, str]]
    unchanged: Collection[str] = ()


@dataclass(slots=True)
class Inventory:
    """The state. Methods that change it return the uids of the Rules that have to be looked at again."""

    rules: dict[str, TrackedRule] = field(default_factory=dict)
    sensors: dict[SensorRef, SensorRecord] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    tick: int = 1
    """How often a list has begun, plus one."""
    listed: int = 0
    """The tick of the latest complete list; 0: there was none yet."""
    known_types: frozenset[str] = frozenset()
    believe_own_write: float = 10.0
    """Seconds during which what we wrote into a status is believed more than what events say: they may be older."""
    _by_type: dict[str, set[str]] = field(default_factory=dict)
    _by_namespace: dict[str, set[str]] = field(default_factory=dict)
    _offering: dict[str, dict[SensorRef, SensorRecord]] = field(default_factory=dict)
    _touched: dict[SensorRef | str, int] = field(default_factory=dict)
    _deleted: OrderedDict[str, int] = field(default_factory=OrderedDict)

    @property
    def complete(self) -> bool:
        """Whether a complete list was ever had. Before that, nothing can be said to be absent."""
        return self.listed > 0

    def candidates(self, trigger_type: str) -> Iterable[SensorRecord]:
        """The Sensors that offer the trigger type by any name."""
        return self._offering.get(trigger_type, {}).values()

    def was_deleted(self, uid: str) -> bool:
        """Whether the object with this uid is known to be gone for good."""
        return uid in self._deleted

    # -- Rules

    def knows(self, uid: str, version: str) -> bool:
        """Whether the Rule is known as it stands in this resourceVersion."""
        tracked = self.rules.get(uid)
        return tracked is not None and version != "" and tracked.version == version

    def see_rule(self, seen: ObservedRule, *, now: float) -> set[str]:
        """An event told of a Rule. ``now`` is the loop's time, in seconds."""
        uid = seen.rule.uid
        tracked = self.rules.get(uid)
        if uid in self._deleted or (tracked is not None and seen.rule.generation < tracked.rule.generation):
            return set()  # an old event
        return self._put_rule(seen, touched=self.tick, now=now)

    def drop_rule(self, uid: str) -> set[str]:
        """An event told that a Rule is gone."""
        self._remember_deletion(uid)
        return self._remove_rule(uid)

    def _put_rule(self, seen: ObservedRule, *, touched: int, now: float) -> set[str]:
        uid = seen.rule.uid
        tracked = self.rules.get(uid)
        if tracked is None:
            self.rules[uid] = TrackedRule(
                rule=seen.rule,
                status=seen.status,
                wanted=seen.status,
                event_time=seen.last_event_time,
                wanted_event_time=seen.last_event_time,
                touched=touched,
                version=seen.version,
            )
            self._index(seen.rule)
            return {uid}
        changed = False
        tracked.touched = touched
        tracked.version = ""
        if seen.rule != tracked.rule:
            self._unindex(tracked.rule)
            tracked.rule = seen.rule
            self._index(seen.rule)
            changed = True
        if now - tracked.written_at > self.believe_own_write and seen.status != tracked.status:
            tracked.status = seen.status
            changed = changed or seen.status != tracked.wanted
        if now - tracked.event_written_at > self.believe_own_write:
            tracked.event_time = seen.last_event_time
        if seen.status == tracked.status and seen.last_event_time == tracked.event_time:
            tracked.version = seen.version  # all of it was taken, or is the echo of what we wrote
        return {uid} if changed else set()

    def _remove_rule(self, uid: str) -> set[str]:
        tracked = self.rules.pop(uid, None)
        if tracked is None:
            return set()
        self._unindex(tracked.rule)
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

    def see_sensor(self, record: SensorRecord) -> set[str]:
        """An event told of a Sensor."""
        if record.uid in self._deleted:
            return set()
        self._touched[record.ref] = self.tick
        return self._put_sensor(record)

    def drop_sensor(self, ref: SensorRef, uid: str) -> set[str]:
        """An event told that a Sensor is gone. One of the same name that was made since stays."""
        self._remember_deletion(uid)
        present = self.sensors.get(ref)
        return self._remove_sensor(ref) if present is not None and present.uid == uid else set()

    def _put_sensor(self, record: SensorRecord) -> set[str]:
        present = self.sensors.get(record.ref)
        if present == record:
            return set()
        affected = self._remove_sensor(record.ref) if present is not None else set()
        self.sensors[record.ref] = record
        for name in record.offered:
            self._offering.setdefault(name, {})[record.ref] = record
        self.known_types = frozenset(self._offering)
        return affected | self._asking_for(record)

    def _remove_sensor(self, ref: SensorRef) -> set[str]:
        record = self.sensors.pop(ref, None)
        if record is None:
            return set()
        for name in record.offered:
            offering = self._offering[name]
            del offering[ref]
            if not offering:
                del self._offering[name]
        self.known_types = frozenset(self._offering)
        return self._asking_for(record)

    def _asking_for(self, record: SensorRecord) -> set[str]:
        return {uid for name in record.offered for uid in self._by_type.get(name, ())}

    # -- namespaces

    def see_namespace(self, name: str, labels: dict[str, str]) -> set[str]:
        """An event told of a namespace."""
        self._touched[name] = self.tick
        return self._put_namespace(name, labels)

    def drop_namespace(self, name: str) -> set[str]:
        """An event told that a namespace is gone; so are, soon, the Rules in it."""
        self._touched[name] = self.tick
        return set(self._by_namespace.get(name, ())) if self.namespaces.pop(name, None) is not None else set()

    def _put_namespace(self, name: str, labels: dict[str, str]) -> set[str]:
        if self.namespaces.get(name) == labels:
            return set()
        self.namespaces[name] = labels
        return set(self._by_namespace.get(name, ()))

    # -- lists

    def begin_list(self) -> int:
        """A list begins; give the returned tick to :meth:`replace`."""
        self.tick += 1
        return self.tick

    def replace(self, listing: Listing, *, began: int, now: float) -> set[str]:
        """A complete list came: everything is as it says, except what events told since it began."""
        affected: set[str] = set()
        affected |= self._replace_sensors(listing.sensors, began)
        affected |= self._replace_namespaces(listing.namespaces, began)
        listed = set(listing.unchanged)
        for seen in listing.rules:
            uid = seen.rule.uid
            listed.add(uid)
            tracked = self.rules.get(uid)
            if self._deleted.get(uid, -1) >= began or (
                tracked is not None and tracked.touched >= began and tracked.rule.generation >= seen.rule.generation
            ):
                continue
            affected |= self._put_rule(seen, touched=began - 1, now=now)
        for uid in [uid for uid, rule in self.rules.items() if uid not in listed and rule.touched < began]:
            affected |= self._remove_rule(uid)
        self.listed = max(self.listed, began)
        self._forget_deletions(before=began - _REMEMBERED_LISTS)
        return affected

    def _replace_sensors(self, sensors: Iterable[SensorRecord], began: int) -> set[str]:
        affected: set[str] = set()
        listed = set()
        for record in sensors:
            listed.add(record.ref)
            if self._touched.get(record.ref, -1) < began and self._deleted.get(record.uid, -1) < began:
                affected |= self._put_sensor(record)
        for ref in [ref for ref in self.sensors if ref not in listed and self._touched.get(ref, -1) < began]:
            affected |= self._remove_sensor(ref)
        return affected

    def _replace_namespaces(self, namespaces: Mapping[str, dict[str, str]], began: int) -> set[str]:
        affected: set[str] = set()
        for name, labels in namespaces.items():
            if self._touched.get(name, -1) < began:
                affected |= self._put_namespace(name, labels)
        for name in [n for n in self.namespaces if n not in namespaces and self._touched.get(n, -1) < began]:
            del self.namespaces[name]
            affected |= self._by_namespace.get(name, set())
        self._touched = {key: tick for key, tick in self._touched.items() if tick >= began}
        return affected

    def _remember_deletion(self, uid: str) -> None:
        if not uid:
            return
        self._deleted[uid] = self.tick
        self._deleted.move_to_end(uid)
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)

    def _forget_deletions(self, *, before: int) -> None:
        while self._deleted and next(iter(self._deleted.values())) < before:
            self._deleted.popitem(last=False)

    def __iter__(self) -> Iterator[TrackedRule]:
        return iter(self.rules.values())
