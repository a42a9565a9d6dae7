"""How much may go on at once and how fast: slots per rule, rate limits, circuits of targets. Clocks are passed in."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from attune_kit.deadline import answer_within

#: Targets and actions that are remembered at most; the longest unused are forgotten.
_REMEMBERED: Final = 10_000
#: Seconds for which a run waits for a slot of its rule, and less than which an attempt takes whose target is not slow.
_PATIENCE: Final = 3.0
_QUICK: Final = 1.0
#: Seconds without a free slot of a rule after which nothing waits for one any more.
_STANDSTILL: Final = 0.2

_T = TypeVar("_T")


class Slots:
    """Which runs may be under way at once.

    A rule may have at most as many slots as are free, and never more than its bound. The last quarter of all is for rules that
    have none: so a rule with a slow target delays no other, as long as fewer rules are slow than a quarter of the slots.

    Args:
        total: runs under way at once.
        per_rule: the same of one rule.
    """

    def __init__(self, *, total: int, per_rule: int) -> None:
        self._total = total
        self._per_rule = per_rule
        self._used: Counter[str] = Counter()
        self._sum = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._stuck: set[str] = set()
        #: When a slot of a rule became free the last time, and how long it had been used, while something waits or is stuck.
        self._freed: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._watched: set[str] = set()
        self.waiting = 0
        """Runs that wait for a slot."""
        self.on_waiting: Callable[[], None] = lambda: None
        """Called when there is one more of them."""

    @property
    def used(self) -> int:
        """Runs under way."""
        return self._sum

    def take(self, rule: str) -> bool:
        """Take a slot if the rule may have one."""
        used = self._used[rule]
        free = self._total - self._sum
        shared = free - self._total // 4  # the last quarter is for rules that have none
        if used >= self._per_rule or free <= 0 or (used and used >= shared):
            return False
        self._used[rule] += 1
        self._sum += 1
        return True

    def is_stuck(self, rule: str) -> bool:
        """Whether one has waited for a slot of the rule in vain, and no attempt of it was quick since."""
        return rule in self._stuck

    def seconds_apart(self, rule: str) -> float | None:
        """How often a slot of a stuck rule becomes free: seconds between two. None before that is known."""
        seconds = self._seconds.get(rule)
        return None if seconds is None else seconds / max(1, self._used[rule])

    async def acquire(self, rule: str) -> bool:
        """Take a slot, and wait a moment for one if need be; returns whether there was one.

        Where one has waited in vain, or none became free for a moment, nothing waits any more until an attempt of the rule was
        quick: its target is slow.
        """
        if self.take(rule):
            return True
        waiting = self._waiting.setdefault(rule, deque())
        if rule in self._stuck or not self._used[rule]:
            return False
        loop = asyncio.get_running_loop()
        if not waiting:
            self._freed[rule] = loop.time()
        if rule not in self._watched:
            self._watched.add(rule)
            loop.call_later(_STANDSTILL, self._watch, rule)
        turn: asyncio.Future[None] = loop.create_future()
        waiting.append(turn)
        self.waiting += 1
        self.on_waiting()
        try:
            await answer_within(turn, _PATIENCE)
        except TimeoutError:
            self._stuck.add(rule)
            return False
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back(rule)
            raise
        finally:
            self.waiting -= 1
        return True

    def _watch(self, rule: str) -> None:
        """Let nothing wait for a rule of which no slot becomes free."""
        waiting = self._waiting.get(rule)
        if not waiting:
            self._watched.discard(rule)
            return
        loop = asyncio.get_running_loop()
        left = self._freed.get(rule, 0.0) + _STANDSTILL - loop.time()
        if left > 0:
            loop.call_later(left, self._watch, rule)
            return
        self._watched.discard(rule)
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_exception(TimeoutError())

    def give_back(self, rule: str, *, seconds: float = 0.0) -> None:
        """End the use of a slot: the next one that waits has it.

        Args:
            rule: whose slot it was.
            seconds: how long it was used.
        """
        if seconds < _QUICK:
            self._stuck.discard(rule)
            self._seconds.pop(rule, None)
        elif rule in self._stuck:
            self._seconds[rule] = seconds
        waiting = self._waiting.get(rule)
        if waiting:
            self._freed[rule] = asyncio.get_running_loop().time()
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._waiting.pop(rule, None)
        self._freed.pop(rule, None)
        self._sum -= 1
        self._used[rule] -= 1
        if not self._used[rule]:
            del self._used[rule]
            self._seconds.pop(rule, None)


class Spacing:
    """Times for those that cannot be served now, one after the other, so that they do not all come back at once."""

    def __init__(self) -> None:
        self._next: OrderedDict[str, float] = OrderedDict()

    def delay(self, key: str, *, now: float, apart: float, least: float, most: float) -> float:
        """Seconds after which to come back.

        Args:
            key: whose turn it is.
            now: monotonic seconds.
            apart: seconds between two of the same key.
            least: the shortest result.
            most: the longest result.
        """
        last = self._next.get(key)
        at = now + least if last is None else min(max(now + least, last + apart), now + most)
        _remember(self._next, key, at)
        return at - now


class RateLimits:
    """A token bucket for each action."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, *, per_second: float, burst: int, now: float) -> float:
        """Take a token; returns 0.0, or the seconds until there will be one, and then none was taken.

        Args:
            key: the action.
            per_second: tokens that come in a second.
            burst: tokens that are kept.
            now: monotonic seconds.
        """
        tokens, since = self._buckets.get(key, (float(burst), now))
        tokens = min(float(burst), tokens + (now - since) * per_second)
        if tokens >= 1.0:
            _remember(self._buckets, key, (tokens - 1.0, now))
            return 0.0
        _remember(self._buckets, key, (tokens, now))
        return (1.0 - tokens) / per_second


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until: float = 0.0
    waits: float = 0.0
    trying: float = 0.0  #: until when one attempt is let through to see whether the target is back


class Circuits:
    """Stops sending to a target that does not answer, and lets one attempt through now and then.

    Args:
        after: failures in a row that open a target's circuit.
        first, longest: seconds for which it is open, the first time and at most; doubled each time.
    """

    def __init__(self, *, after: int = 20, first: float = 1.0, longest: float = 30.0) -> None:
        self._after = after
        self._first = first
        self._longest = longest
        self._circuits: OrderedDict[str, _Circuit] = OrderedDict()

    def closed_for(self, target: str, *, now: float, patience: float) -> float:
        """0.0 when an attempt may be made; otherwise the seconds after which to ask again.

        Args:
            target: scheme, host and port.
            now: monotonic seconds.
            patience: how long an attempt may take; after so much time another one is let through.
        """
        circuit = self._circuits.get(target)
        if circuit is None or circuit.failures < self._after:
            return 0.0
        if now < circuit.open_until:
            return circuit.open_until - now
        if now < circuit.trying:
            return min(circuit.trying - now, self._first)
        circuit.trying = now + patience
        return 0.0

    def answered(self, target: str) -> None:
        """The target answered, whatever it said but that it is broken."""
        self._circuits.pop(target, None)

    def failed(self, target: str, *, now: float) -> None:
        """The target did not answer, or said that it is broken."""
        circuit = self._circuits.get(target) or _Circuit()
        circuit.failures += 1
        circuit.trying = 0.0
        if circuit.failures >= self._after and now >= circuit.open_until:
            circuit.waits = min(self._longest, circuit.waits * 2 or self._first)
            circuit.open_until = now + circuit.waits
        _remember(self._circuits, target, circuit)

    @property
    def open(self) -> int:
        """Targets whose circuit is open."""
        return sum(circuit.failures >= self._after for circuit in self._circuits.values())


def _remember(table: "OrderedDict[str, _T]", key: str, value: _T) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > _REMEMBERED:
        table.popitem(last=False)
