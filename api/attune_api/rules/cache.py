"""The Rules in memory: what the stream ``ATTUNE_RULES`` says, in some 250 bytes for each, so that 100,000 of them fit.

Parameters are left out: nothing here needs them, and they are most of a rule. What many rules share (namespace, trigger type,
sensor_key) is kept once.

**Absent is not deleted.** A stream that was wiped is empty until the operator has filled it again, and sensors go on meanwhile
(docs/decisions/0008). So a rule that is missing from a snapshot without a tombstone stays for a while, longer than any sensor
keeps it; then it counts as having ended when it was found missing.
"""

import struct
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from attune_api.rules.bindings import Binding
from attune_contract.identity import SensorRef
from attune_contract.messages import RuleHead

#: Seconds for which a rule that is absent from the stream, without a tombstone, is kept; sensors keep it for 15.
PATIENCE: Final = 60.0
#: Bindings that ended and are remembered; what is forgotten can be asked for on NATS.
_MOST_ENDED: Final = 10_000

Key = tuple[str, str, str]


class KnownRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, without its parameters. ``sensor_key`` is which sensor serves it (:attr:`SensorRef.token`).

    ``created_at`` is in whole seconds since the epoch, which is what Kubernetes keeps.
    """

    uid: str
    namespace: str
    name: str
    generation: int
    enabled: bool
    trigger_type: str
    sensor_key: str
    created_at: int

    @property
    def sensor(self) -> SensorRef:
        """The sensor that serves it."""
        namespace, _, name = self.sensor_key.partition(".")
        return SensorRef(namespace, name.replace("_", "."))

    @property
    def key(self) -> Key:
        """Its place in lists: namespace, name, and uid, since a rule that was created again may meet its predecessor."""
        return self.namespace, self.name, self.uid

    @classmethod
    def of(cls, state: RuleHead, *, sensor_key: str) -> "KnownRule":
        """What is kept of a rule's state."""
        return cls(
            uid=state.uid,
            namespace=state.namespace,
            name=state.name,
            generation=state.generation,
            enabled=state.enabled,
            trigger_type=state.trigger_type,
            sensor_key=sensor_key,
            created_at=int(state.created_at.timestamp()),
        )


class _Texts:
    """Texts by small numbers, each for as long as it is used."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._uses: list[int] = []
        self._numbers: dict[str, int] = {}
        self._free: list[int] = []

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    def take(self, text: str) -> int:
        """The text's number, to be given back with :meth:`drop`."""
        number = self._numbers.get(text)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._texts[number] = text
            else:
                number = len(self._texts)
                self._texts.append(text)
                self._uses.append(0)
            self._numbers[text] = number
        self._uses[number] += 1
        return number

    def drop(self, number: int) -> None:
        """One user less."""
        self._uses[number] -= 1
        if not self._uses[number]:
            del self._numbers[self._texts[number]]
            self._texts[number] = ""
            self._free.append(number)

    def uses(self, text: str) -> int:
        """How many use the text."""
        number = self._numbers.get(text)
        return 0 if number is None else self._uses[number]


#: generation, created at, namespace, trigger type, sensor_key, enabled; the name follows.
_PACKED: Final = struct.Struct("<qqIII?")


class RuleCache:
    """Which rules there are, and what they are bound to.

    Args:
        patience: seconds for which a rule that is absent from the stream is kept.
        most_ended: bindings that ended and are remembered.
    """

    def __init__(self, *, patience: float = PATIENCE, most_ended: int = _MOST_ENDED) -> None:
        self._patience = patience
        self._most_ended = most_ended
        self._rules: dict[str, bytes] = {}
        self._texts = _Texts()
        self._bindings = _Texts()
        self._order: list[str] | None = []
        self._absent: dict[str, float] = {}
        self._seen: set[str] | None = None
        self._ended: OrderedDict[tuple[str, str], Binding] = OrderedDict()
        self.heard = (
            False  #: whether the stream was ever read to its end; before that, nothing can be said to be missing
        )

    def __len__(self) -> int:
        return len(self._rules)

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, uid: str) -> KnownRule | None:
        """The rule with this uid, if it is there."""
        packed = self._rules.get(uid)
        return None if packed is None else self._unpack(uid, packed)

    def binding(self, uid: str, sensor_key: str) -> Binding | None:
        """What is known of a rule and a sensor that serves it, or did; None when nothing is.

        Args:
            uid: the rule's.
            sensor_key: which sensor (:attr:`SensorRef.token`).
        """
        packed = self._rules.get(uid)
        if packed is not None:
            _, _, namespace, _, its_binding, _ = _PACKED.unpack_from(packed)
            if self._bindings[its_binding] == sensor_key:
                return Binding(self._texts[namespace], packed[_PACKED.size :].decode())
        return self._ended.get((uid, sensor_key))

    def count(self, sensor_key: str) -> int:
        """How many rules a sensor serves."""
        return self._bindings.uses(sensor_key)

    def after(self, key: Key | None = None, *, namespace: str | None = None) -> Iterator[KnownRule]:
        """Rules by namespace, name and uid.

        Args:
            key: begin behind this :attr:`KnownRule.key`; None begins at the beginning.
            namespace: only rules of this one.
        """
        order = self._ordered()
        start = 0
        if namespace is not None and (key is None or key[0] < namespace):
            start = bisect_left(order, (namespace, "", ""), key=self._key)
        elif key is not None:
            start = bisect_right(order, key, key=self._key)
        for index in range(start, len(order)):
            rule = self._unpack(order[index], self._rules[order[index]])
            if namespace is not None and rule.namespace != namespace:
                return
            yield rule

    def _key(self, uid: str) -> Key:
        packed = self._rules[uid]
        return self._texts[_PACKED.unpack_from(packed)[2]], packed[_PACKED.size :].decode(), uid

    def _ordered(self) -> list[str]:
        if self._order is None:
            self._order = sorted(self._rules, key=self._key)
        return self._order

    # -- what the stream says ------------------------------------------------------------------------------------------

    def begin_snapshot(self) -> None:
        """The stream is read from its beginning: note what is there."""
        self._seen = set()

    def put(self, rule: KnownRule) -> bool:
        """A rule as the stream has it; whether that is new. The stream's order counts, as its one writer compares and sets."""
        if self._seen is not None:
            self._seen.add(rule.uid)
        self._absent.pop(rule.uid, None)
        self._ended.pop((rule.uid, rule.sensor_key), None)
        old = self.get(rule.uid)
        if old == rule:
            return False
        if old is not None:
            self._remove(rule.uid)
        self._rules[rule.uid] = self._pack(rule)
        if self._seen is not None:
            self._order = None
        elif self._order is not None:
            self._order.insert(bisect_left(self._order, rule.key, key=self._key), rule.uid)
        return True

    def end_binding(self, uid: str, *, sensor_key: str, at: float, namespace: str = "", name: str = "") -> None:
        """A tombstone: the rule is gone from this sensor since ``at`` (seconds since the epoch).

        Args:
            uid: the rule's.
            sensor_key: which sensor (:attr:`SensorRef.token`).
            at: when it was written.
            namespace: the rule's, empty where that is not known.
            name: the rule's, likewise.
        """
        rule = self.get(uid)
        if rule is not None:
            namespace, name = rule.namespace, rule.name
        self._end(uid, sensor_key, Binding(namespace, name, at))
        if rule is not None and rule.sensor_key == sensor_key:
            self._absent.pop(uid, None)
            self._remove(uid)

    def complete_snapshot(self, *, now: float) -> int:
        """The stream was read to its end.

        Args:
            now: seconds since the epoch.

        Returns:
            how many rules are absent, and kept for the time being.
        """
        if self._seen is None:
            return len(self._absent)
        for uid in self._rules.keys() - self._seen:
            self._absent.setdefault(uid, now)
        self._seen = None
        self.heard = True
        return self.expire(now=now)

    def expire(self, *, now: float) -> int:
        """Let rules end that have been absent for too long; returns how many others are absent."""
        over = [uid for uid, since in self._absent.items() if now - since >= self._patience]
        for uid in over:
            since = self._absent.pop(uid)
            rule = self._unpack(uid, self._rules[uid])
            self._end(uid, rule.sensor_key, Binding(rule.namespace, rule.name, since + self._patience))
            self._remove(uid)
        return len(self._absent)

    def _end(self, uid: str, sensor_key: str, binding: Binding) -> None:
        self._ended[uid, sensor_key] = binding
        self._ended.move_to_end((uid, sensor_key))
        if len(self._ended) > self._most_ended:
            self._ended.popitem(last=False)

    def _remove(self, uid: str) -> None:
        if self._seen is not None:
            self._order = None
        elif self._order is not None:
            del self._order[bisect_left(self._order, self._key(uid), key=self._key)]
        _, _, namespace, trigger_type, sensor_key, _ = _PACKED.unpack_from(self._rules.pop(uid))
        self._texts.drop(namespace)
        self._texts.drop(trigger_type)
        self._bindings.drop(sensor_key)

    def _pack(self, rule: KnownRule) -> bytes:
        head = _PACKED.pack(
            rule.generation,
            rule.created_at,
            self._texts.take(rule.namespace),
            self._texts.take(rule.trigger_type),
            self._bindings.take(rule.sensor_key),
            rule.enabled,
        )
        return head + rule.name.encode()

    def _unpack(self, uid: str, packed: bytes) -> KnownRule:
        generation, created_at, namespace, trigger_type, sensor_key, enabled = _PACKED.unpack_from(packed)
        return KnownRule(
            uid=uid,
            namespace=self._texts[namespace],
            name=packed[_PACKED.size :].decode(),
            generation=generation,
            enabled=enabled,
            trigger_type=self._texts[trigger_type],
            sensor_key=self._bindings[sensor_key],
            created_at=created_at,
        )
