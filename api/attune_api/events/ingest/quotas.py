"""How many events a namespace may report: a bucket of tokens for each, so that no namespace takes the API from the others.

A namespace may report while its bucket is not empty; then all that it has in the request is taken, and the bucket may owe.
So events of one rule stay in their order, and any batch gets through, whatever the quota. On average it is the quota.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from attune_contract.quotas import Quotas

#: Seconds of its quota that a namespace which was quiet may report at once.
BURST: Final = 10.0
#: Full buckets need not be remembered; they are looked for when there are so many.
_MANY: Final = 4096


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float  # when there were so many, in seconds


class EventQuotas:
    """What each namespace may still report. One for the program: replicas do not know of each other.

    Args:
        quotas: the limits.
        clock: seconds, as ``time.monotonic``.
    """

    def __init__(self, quotas: Quotas, *, clock: Callable[[], float]) -> None:
        self._quotas = quotas
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        #: Whether there are limits at all.
        self.active = quotas.events_per_second > 0 or any(each.events_per_second for each in quotas.namespaces.values())

    def wait(self, namespace: str) -> float:
        """Seconds until the namespace may report again; 0 if it may now."""
        bucket = self._buckets.get(namespace)
        if bucket is None:
            return 0.0
        rate = self._quotas.events_per_second_of(namespace)
        tokens = _tokens(bucket, rate=rate, now=self._clock())
        return 0.0 if tokens > 0 else (_ENOUGH - tokens) / rate

    def charge(self, counts: Mapping[str, int]) -> None:
        """So many events of each namespace are taken."""
        now = self._clock()
        for namespace, count in counts.items():
            rate = self._quotas.events_per_second_of(namespace)
            if not rate:
                continue
            bucket = self._buckets.get(namespace)
            if bucket is None:
                if len(self._buckets) >= _MANY:
                    self._forget_full(now)
                bucket = self._buckets[namespace] = _Bucket(rate * BURST, now)
            bucket.tokens, bucket.at = _tokens(bucket, rate=rate, now=now) - count, now

    def reason(self, namespace: str) -> str:
        """Why events of the namespace have to wait, as a sentence for the author of its Rules."""
        rate = self._quotas.events_per_second_of(namespace)
        return over_quota(namespace, rate)

    def limit(self, namespace: str) -> int:
        """Events that the namespace may report in a second; 0 for any number."""
        return self._quotas.events_per_second_of(namespace)

    def _forget_full(self, now: float) -> None:
        for namespace, bucket in list(self._buckets.items()):
            rate = self._quotas.events_per_second_of(namespace)
            if _tokens(bucket, rate=rate, now=now) >= rate * BURST:
                del self._buckets[namespace]


#: Tokens that a namespace waits for after it owed some.
_ENOUGH: Final = 1.0


def over_quota(namespace: str, rate: int) -> str:
    """The sentence for a namespace that may report ``rate`` events in a second."""
    return (
        f"the namespace {namespace} is over its quota of {rate} event{'' if rate == 1 else 's'} a second; have its Rules fire "
        "less often, or let an administrator raise the chart value quotas.eventsPerSecond"
    )


def whole_seconds(wait: float) -> int:
    """A wait as ``Retry-After`` has it: whole seconds, at least one."""
    return max(1, math.ceil(wait))


def _tokens(bucket: _Bucket, *, rate: int, now: float) -> float:
    return min(rate * BURST, bucket.tokens + (now - bucket.at) * rate)
