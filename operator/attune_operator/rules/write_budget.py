"""Which Rule's times and numbers are written next: ``lastEventTime``, ``nextTime``, ``runs``. Pure: the clock is passed in.

They may change with each event, and there may be 10,000 events a second; so what is written is what may be, not what changed.
All Rules share one rate, and those of one Sensor a smaller one (docs/decisions/0083).
"""

import heapq
from collections.abc import Callable


class WriteBudget:
    """Rules that wait for their turn. Of one Sensor's, the one whose shown event is oldest is first, so a rule that begins to
    fire does not wait for those that fire all the time. Sensors take turns.

    Args:
        rate: turns a second, of all Rules.
        sensor_rate: turns a second, of one Sensor's Rules.
    """

    def __init__(self, *, rate: float, sensor_rate: float) -> None:
        self._pause = 1.0 / rate
        self._sensor_pause = 1.0 / sensor_rate
        self._waiting: dict[str, list[tuple[str, int, str]]] = {}
        self._uids: set[str] = set()
        self._number = 0  # those that wait for the same reason go in the order in which they came
        self._free = 0.0
        self._free_of: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._uids)

    def offer(self, uid: str, *, sensor: str, shown: str) -> None:
        """Have a Rule wait for its turn; without effect if it waits already.

        Args:
            uid: the Rule.
            sensor: who serves it; empty if nobody does.
            shown: the ``lastEventTime`` that it shows now; empty if it shows none.
        """
        if uid in self._uids:
            return
        self._uids.add(uid)
        self._number += 1
        heapq.heappush(self._waiting.setdefault(sensor, []), (shown, self._number, uid))

    def take(self, *, now: float, wanted: Callable[[str], bool]) -> str | None:
        """The Rule whose turn it is; None if it is nobody's now.

        Args:
            now: seconds, monotonic.
            wanted: whether a Rule still has something to be written; others are dropped, and cost nothing.
        """
        if now < self._free:
            return None
        for sensor in sorted(self._waiting, key=lambda sensor: self._free_of.get(sensor, 0.0)):
            if self._free_of.get(sensor, 0.0) > now:
                return None
            queue = self._waiting[sensor]
            while queue:
                uid = heapq.heappop(queue)[2]
                self._uids.discard(uid)
                if wanted(uid):
                    self._free = now + self._pause
                    self._free_of[sensor] = now + self._sensor_pause
                    return uid
            del self._waiting[sensor]
        self._free_of = {sensor: free for sensor, free in self._free_of.items() if free > now}
        return None

    def wait(self, *, now: float) -> float | None:
        """In how many seconds :meth:`take` may give something; None while nobody waits."""
        if not self._waiting:
            return None
        first = min(self._free_of.get(sensor, 0.0) for sensor in self._waiting)
        return max(0.0, max(self._free, first) - now)
