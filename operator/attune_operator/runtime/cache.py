"""Objects as they were last seen: kept current by watch events, corrected by complete lists.

A watch event is a hint: it may be late, be repeated or never come (after a 410 there is no DELETED). A complete list holds
as of the moment when it began, so it replaces everything except what came in since. "When" is a count of lists, the tick:
what was seen since the latest list began carries its number.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: Deleted objects are remembered, so that a late event does not bring one back: so many of them,
_REMEMBERED_DELETIONS: Final = 20_000
#: and for so many lists. No event is late by that much, and the next list would correct what one did.
_REMEMBERED_LISTS: Final = 5


class ListClock:
    """Counts lists and remembers what was deleted during the last of them."""

    def __init__(self) -> None:
        self.tick = 1
        """How many lists have begun, plus one."""
        self.listed = 0
        """The tick of the latest complete list; 0 if there was none yet."""
        self._deleted: OrderedDict[str, int] = OrderedDict()

    def begin(self) -> int:
        """A list begins; returns its tick."""
        self.tick += 1
        return self.tick

    def complete(self, began: int) -> None:
        """The list that began at this tick was applied."""
        self.listed = max(self.listed, began)
        while self._deleted and next(iter(self._deleted.values())) < began - _REMEMBERED_LISTS:
            self._deleted.popitem(last=False)

    def delete(self, uid: str) -> None:
        """Remember that the object with this uid is gone for good."""
        if not uid:
            return
        self._deleted[uid] = self.tick
        self._deleted.move_to_end(uid)
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)

    def was_deleted(self, uid: str, *, since: int = 0) -> bool:
        """Whether the object is known to be gone, by an event that came at tick ``since`` or later."""
        return self._deleted.get(uid, -1) >= since


class Seen(NamedTuple, Generic[K, V]):
    """An object as it was seen once. ``version`` orders what was seen of the same uid; 0 where that is not known."""

    key: K
    uid: str
    value: V
    version: int = 0


@dataclass(slots=True)
class _Cached(Generic[V]):
    uid: str
    version: int
    value: V
    tick: int


class ObjectCache(Generic[K, V]):
    """Objects of one kind by key.

    Args:
        clock: counts lists; shared by caches that are listed together.
        final: whether DELETED means that the object is gone. It does not where a selector limits the watch: there it may
            also mean that the object lost its label.
    """

    def __init__(self, *, clock: ListClock | None = None, final: bool = True) -> None:
        self.clock = clock or ListClock()
        self._final = final
        self._objects: dict[K, _Cached[V]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: K) -> bool:
        return key in self._objects

    def __iter__(self) -> Iterator[K]:
        return iter(self._objects)

    def get(self, key: K) -> V | None:
        """The object."""
        found = self._objects.get(key)
        return None if found is None else found.value

    def uid(self, key: K) -> str:
        """The object's uid; empty if it is not there."""
        found = self._objects.get(key)
        return "" if found is None else found.uid

    def put(self, seen: Seen[K, V]) -> bool:
        """An event showed the object, or an answer to our own write; returns whether it changed."""
        old = self._objects.get(seen.key)
        if self.clock.was_deleted(seen.uid) or (old is not None and old.uid == seen.uid and old.version > seen.version):
            return False
        return self._store(seen, tick=self.clock.tick)

    def remove(self, key: K, *, uid: str) -> V | None:
        """The object is gone; returns it if it was there. Another one of the same name stays."""
        if self._final:
            self.clock.delete(uid)
        old = self._objects.get(key)
        if old is None or old.uid != uid:
            return None
        del self._objects[key]
        return old.value

    def replace(
        self, listed: Iterable[Seen[K, V]], *, began: int
    ) -> tuple[list[tuple[K, V | None]], list[tuple[K, V]]]:
        """A complete list came, which began at this tick.

        Returns:
            What changed, as (key, the object before; None if it is new), and what is gone, as (key, the object).
        """
        changed: list[tuple[K, V | None]] = []
        keys = set()
        for seen in listed:
            keys.add(seen.key)
            old = self._objects.get(seen.key)
            if self.clock.was_deleted(seen.uid, since=began) or (
                old is not None and old.tick >= began and (old.uid != seen.uid or old.version >= seen.version)
            ):
                continue  # an event showed something later
            before = None if old is None else old.value
            if self._store(seen, tick=began - 1):
                changed.append((seen.key, before))
        gone = [(key, old.value) for key, old in self._objects.items() if key not in keys and old.tick < began]
        for key, _ in gone:
            del self._objects[key]
        return changed, gone

    def _store(self, seen: Seen[K, V], *, tick: int) -> bool:
        old = self._objects.get(seen.key)
        if old is not None and old.uid == seen.uid:
            same = old.version == seen.version if seen.version else old.value == seen.value
            if same:
                old.tick = max(old.tick, tick)
                return False
        self._objects[seen.key] = _Cached(seen.uid, seen.version, seen.value, tick)
        return True
