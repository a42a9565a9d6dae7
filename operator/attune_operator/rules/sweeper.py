"""Lists everything from Kubernetes again and again, so that a watch event that never came does no harm.

At start, periodically, when the watch of Rules may have missed something, after a connection to NATS began, and when somebody
else's message on the rule stream is contested.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import structlog

from attune_kit.backoff import Backoff
from attune_operator.rules import metrics
from attune_operator.rules.cache import Listing, RuleCache
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.records import (
    InvalidObjectError,
    ObservedRule,
    is_deleting,
    parse_namespace,
    parse_rule,
    parse_sensor,
)
from attune_operator.runtime.client import Body, ClusterError
from attune_operator.runtime.cluster import RuleCluster
from attune_operator.runtime.queue import PriorityQueue

_log = structlog.stdlib.get_logger(__name__)

#: Shortest time between two lists that were requested, in seconds.
_SHORTEST: Final = 1.0
#: How long the first list waits for the rule stream to be read, in seconds.
_FIRST: Final = 1.0
#: Objects that are read before the loop lets others run.
_CHUNK: Final = 100
#: The longest time for a list, in seconds. Each of its pages has a timeout of its own; a busy API server needs minutes for 200.
_LIST_TIMEOUT: Final = 600.0
#: Lists that took less processor time than this, in seconds, are made as often as they should be.
_CHEAP: Final = 0.5
#: Seconds until the next list for each second of processor time that the last one took.
_SPARING: Final = 100.0
#: And the longest of these pauses, unless lists should be rarer.
_LONGEST: Final = 900.0

_Parsed = TypeVar("_Parsed")


def pause_after(spent: float, *, interval: float) -> float:
    """Seconds until the next list, so that lists take at most a hundredth of a core (docs/decisions/0141).

    Args:
        spent: processor time of the last list, in seconds.
        interval: how often lists should be made, in seconds.
    """
    return interval if spent < _CHEAP else max(interval, min(spent * _SPARING, _LONGEST))


class Sweeper:
    """Corrects the cache by complete lists, and enqueues the Rules that they changed."""

    def __init__(
        self,
        *,
        cluster: RuleCluster,
        cache: RuleCache,
        queue: PriorityQueue[str],
        options: RulesOptions,
        rng: random.Random,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._options = options
        self._rng = rng
        self._requested = asyncio.Event()
        self.first_list = asyncio.Event()
        """Set when the first complete list was applied."""
        self.swept = asyncio.Event()
        """Set after each complete list; the task that waits for it clears it."""

    def request(self) -> None:
        """List soon."""
        self._requested.set()

    async def run(self) -> None:
        """List until cancelled.

        The first list waits a moment for a request, which a connection to NATS makes once it has read the stream: a list
        that began before that would have to be repeated.
        """
        await self._wait(_FIRST)
        retries = Backoff(initial=0.5, maximum=self._options.backoff_limit).start(chance=self._rng.random)
        while True:
            self._requested.clear()
            spent = time.process_time()
            try:
                await self.sweep()
            except (ClusterError, TimeoutError, OSError) as error:
                if retries.failures in (0, 5):
                    _log.warning("rules_not_listed", error=str(error) or "timeout")
                await asyncio.sleep(retries.next_delay())
                continue
            if retries.failures:
                _log.info("rules_listed_again")
                retries.reset()
            pause = pause_after(time.process_time() - spent, interval=self._options.sweep_interval)
            await asyncio.sleep(_SHORTEST * self._rng.uniform(0.5, 1.0))
            await self._wait(pause * self._rng.uniform(0.8, 1.2))

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._requested.wait()

    async def sweep(self) -> None:
        """List everything once and apply it.

        Raises:
            ClusterError: Kubernetes refused or could not be reached; nothing was changed.
        """
        started = time.monotonic()
        began = self._cache.begin_list()
        async with asyncio.timeout(_LIST_TIMEOUT):
            rules, sensors, namespaces = await asyncio.gather(
                self._cluster.list_rules(_read_rule, known=self._cache.knows),
                self._cluster.list_sensors(),
                self._cluster.list_namespaces(),
            )
        listing = Listing(
            rules=rules.read,
            unchanged=rules.unchanged,
            sensors=await _read_all("Sensor", sensors, parse_sensor),
            namespaces=await _read_all("Namespace", namespaces, parse_namespace, deleting=True),
        )
        affected = self._cache.replace(listing, began=began, now=asyncio.get_running_loop().time())
        metrics.COMPARE_SECONDS.observe(time.monotonic() - started)
        if not self.first_list.is_set():
            rules_listed = len(listing.rules) + len(listing.unchanged)
            _log.info("rules_listed", rules=rules_listed, sensors=len(listing.sensors))
            self.first_list.set()
        self._queue.enqueue_all(affected)
        self._queue.enqueue_all(self._cache.stream.contested | self._cache.stream.actions_contested)
        self._queue.enqueue_all(uid for uid, entry in self._cache.orphans.items() if entry.stream or entry.actions)
        self.swept.set()


def _read(kind: str, body: Body, parse: Callable[[Body], _Parsed], *, deleting: bool = False) -> _Parsed | None:
    """Parse the object. None if it is being deleted (unless ``deleting``), or cannot be read, which is logged."""
    try:
        return parse(body) if deleting or not is_deleting(body) else None
    except InvalidObjectError as error:
        _log.warning("object_unreadable", kind=kind, error=str(error))
        return None


def _read_rule(body: Body) -> ObservedRule | None:
    return _read("Rule", body, parse_rule)


async def _read_all(
    kind: str, bodies: list[dict[str, Any]], parse: Callable[[Body], _Parsed], *, deleting: bool = False
) -> list[_Parsed]:
    found = []
    for position, body in enumerate(bodies):
        if position % _CHUNK == _CHUNK - 1:
            await asyncio.sleep(0)
        if (one := _read(kind, body, parse, deleting=deleting)) is not None:
            found.append(one)
    return found
