"""One watch, shared by all rules that select the same objects: list, watch, and list again when the version has expired.

It keeps the objects as they were at the latest version that it has read. Each rule gets the changes in order. A restarted sensor
resumes from the version up to which all changes are safe (stored or spooled).
"""

import asyncio
import collections
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from attune_kit.backoff import Backoff
from attune_kit.kubernetes.client import KubernetesError
from attune_kubernetes.changes import Change, found_late
from attune_kubernetes.client import OPENED, KubernetesApi, Resource
from attune_kubernetes.objects import Object, ObjectSnapshot, snapshot_of
from attune_kubernetes.parameters import ChangeKind

_RETRY: Final = Backoff(initial=0.25, maximum=30.0)
#: Rules of one sensor start together: the first list waits this long (seconds) for rules with the same key.
_GATHER: Final = 0.3
#: The most changes with unconfirmed reports. At this number, reading waits, and the API server keeps further changes.
_MOST_PENDING: Final = 500
#: HTTP status: the requested version has expired.
_GONE: Final = 410
#: HTTP status: the content is too large. Here: the collection has too many objects.
_TOO_MANY: Final = 413
#: A watch request that ends sooner (seconds) without a change counts as failed.
_TOO_SHORT: Final = 1.0
#: Length of one watch request in seconds; jitter adds up to the same again.
_WATCH_SECONDS: Final = 240


class Key(NamedTuple):
    """What is watched. An empty namespace means all, or that the kind has none."""

    api_version: str
    kind: str
    namespace: str
    label_selector: str
    field_selector: str

    @property
    def text(self) -> str:
        """The key in the saved state."""
        return "|".join(self)


@dataclass(slots=True, eq=False)
class Subscription:
    """One rule's subscription to one watch.

    Attributes:
        uid: the rule's uid.
        generation: the rule's generation.
        since: changes before this time (seconds since 1970) are not reported to the rule.
        report: reports a change. The task returns True when it is safe, False when it never will be.
        failing: called with the reason when the watch fails, and with None when it works again.
        resumed_at: the version up to which this rule has received all changes; None when unknown.
        resumed_time: the time of that version, by the API server's clock (seconds since 1970).
        uncertain: objects that changed after ``since`` and before the watch began, if ``resumed_at`` is unknown; see
            :meth:`Watch.catch_up`.
        caught_up: whether it has received everything up to the watch's version.
        ready: set when no later change is missed, or when ``failing`` was called.
    """

    uid: str
    generation: int
    since: float
    report: Callable[[Change], "asyncio.Task[bool] | None"]
    failing: Callable[[str | None], None]
    resumed_at: int | None = None
    resumed_time: int = 0
    uncertain: list[ObjectSnapshot] = field(default_factory=list)
    caught_up: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Reports that must be safe before ``version`` is committed, and the rule that has then caught up."""

    version: int
    time: int
    tasks: "list[asyncio.Task[bool]]"
    subscription: Subscription | None


class Watch:
    """Follows the objects of one key.

    Args:
        key: what is watched.
        resource: the path of their kind.
        api: the API server.
        log: a structlog logger.
        resume_at: the version to resume from; None begins now.
        most_objects: with more objects than this, the watch fails.
        on_commit: called when :attr:`committed` or :meth:`caught_up` has changed.
        chance: random numbers in [0, 1), for jitter.

    Attributes:
        committed: the version up to which all changes are safe; 0 before the first.
        committed_time: the time of that version, by the API server's clock (seconds since 1970).
    """

    def __init__(
        self,
        key: Key,
        *,
        resource: Resource,
        api: KubernetesApi,
        log: Any,
        resume_at: int | None,
        most_objects: int,
        on_commit: Callable[[], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.key = key
        self.committed = 0
        self.committed_time = 0
        self._path = resource.path(key.namespace if resource.namespaced else "")
        self._api = api
        self._log = log.bind(kind=key.kind, namespace=key.namespace)
        self._most_objects = most_objects
        self._on_commit = on_commit
        self._chance = chance
        self._subscriptions: dict[str, Subscription] = {}
        self._objects: dict[str, ObjectSnapshot] = {}
        self._version = 0  # of these objects; 0 before the first list
        self._time = 0
        self._resume_at = resume_at
        self._replay_until = 0  # changes up to this version happened before the watch began
        self._pending: collections.deque[_Batch] = collections.deque()
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._broken = False  # a report was given up, so later changes are not safe either
        self._selectors = {
            name: text
            for name, text in (("labelSelector", key.label_selector), ("fieldSelector", key.field_selector))
            if text
        }
        self._reading = asyncio.create_task(self._read_on(), name=f"watch {key.text}")
        self._committing = asyncio.create_task(self._commit(), name=f"commit {key.text}")

    def __len__(self) -> int:
        return len(self._subscriptions)

    @property
    def objects(self) -> int:
        """How many objects are known."""
        return len(self._objects)

    def caught_up(self) -> dict[str, int]:
        """The generations of the rules that received everything up to :attr:`committed`, by uid."""
        return {each.uid: each.generation for each in self._subscriptions.values() if each.caught_up}

    def problem(self) -> str | None:
        """Why this watch has ended unexpectedly; None while it runs."""
        for task in (self._reading, self._committing):
            if task.done() and not task.cancelled() and task.exception() is not None:
                return f"{task.get_name()} has ended: {task.exception()!r}"
        return None

    def join(self, subscription: Subscription) -> None:
        """Report changes to a rule from now on."""
        self._subscriptions[subscription.uid] = subscription
        if self._version:
            self._add_subscriber(subscription)
            subscription.ready.set()

    def leave(self, subscription: Subscription) -> None:
        """Stop reporting changes to a rule."""
        if self._subscriptions.get(subscription.uid) is subscription:
            del self._subscriptions[subscription.uid]

    def catch_up(self, subscription: Subscription, *, after: float, last_reported: float) -> None:
        """Report to a rule the objects that were uncertain when it joined and have changed.
        :func:`~attune_kubernetes.changes.found_late` explains ``after`` and ``last_reported``.
        """
        tasks = []
        for each in subscription.uncertain:
            change = found_late(each, after=after, last_reported=last_reported)
            if change is not None and self._objects.get(each.uid) is each:
                tasks += _task(subscription.report(change))
        subscription.uncertain = []
        self._enqueue(self._version, tasks, subscription)

    async def close(self, *, patience: float) -> None:
        """End the watch. Unconfirmed reports get ``patience`` seconds to be confirmed."""
        self._reading.cancel()
        await asyncio.wait({self._reading})
        waiting = {task for batch in self._pending for task in batch.tasks}
        if waiting:
            await asyncio.wait(waiting, timeout=patience)
        while self._pending and all(task.done() for task in self._pending[0].tasks):
            self._take(self._pending.popleft())
        self._committing.cancel()
        for task in waiting:
            task.cancel()
        await asyncio.wait({self._committing, *waiting})

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _read_on(self) -> None:
        """List and watch until cancelled."""
        await asyncio.sleep(_GATHER)
        attempt = 0
        while True:
            began, before = time.monotonic(), self._version
            try:
                if not self._version:
                    await self._list()
                await self._follow()
                if self._version > before or time.monotonic() - began > _TOO_SHORT:
                    attempt = 0
                    continue
                error = KubernetesError("the API server ends each watch at once")
            except KubernetesError as failure:
                error = failure
                if (failure.status == _GONE or failure.status == _TOO_MANY) and self._version:
                    self._log.info("watch_expired", version=self._version, reason=str(failure))
                    try:
                        await self._list_again()
                        continue
                    except KubernetesError as again:
                        error = again
            attempt = 1 if self._version > before else attempt + 1
            if attempt > 1 or error.status:
                self._report_problem(self._sentence(error))
            self._log.warning("watch_failed", error=str(error), attempt=attempt)
            await asyncio.sleep(_RETRY.delay(attempt=attempt, chance=self._chance()))

    async def _list(self) -> None:
        """The first list: at the version to resume from, or the present state when that version has expired."""
        if self._resume_at is not None:
            try:
                version, objects = await self._read(self._resume_at)
                self._replay_until = await self._api.version(self._path, self._selectors)
            except KubernetesError as error:
                if not error.status == _GONE:
                    raise
                self._log.info("watch_cannot_resume", version=self._resume_at)
            else:
                self._begin(version, objects)
                return
        self._begin(*await self._read(None))

    async def _read(self, version: int | None) -> tuple[int, dict[str, ObjectSnapshot]]:
        found: dict[str, ObjectSnapshot] = {}
        of_all = 0
        async for at, items in self._api.pages(self._path, self._selectors, version=version):
            of_all = at
            for item in items:
                each = self._snapshot(item)
                found[each.uid] = each
            if len(found) > self._most_objects:
                raise self._too_many()
            await asyncio.sleep(0)
        return version or of_all, found

    def _snapshot(self, body: Object) -> ObjectSnapshot:
        found = snapshot_of(body, secret=self.key.kind == "Secret" and self.key.api_version == "v1")
        self._time = max(self._time, found.changed_at)
        return found

    def _begin(self, version: int, objects: dict[str, ObjectSnapshot]) -> None:
        self._version, self._objects = version, objects
        self._log.info("watch_began", version=version, objects=len(objects))
        for subscription in self._subscriptions.values():
            self._add_subscriber(subscription)
        self._enqueue(version, [])

    async def _list_again(self) -> None:
        """The API server forgot the version that was come to: what differs from what was known is what happened meanwhile."""
        version, objects = await self._read(None)
        before, self._objects, self._version = self._objects, objects, version
        for each in sorted(objects.values(), key=lambda each: each.version):
            known = before.get(each.uid)
            if known is None:
                await self._publish(Change(ChangeKind.ADDED, each))
            elif known.version != each.version:
                await self._publish(Change(ChangeKind.MODIFIED, each, old=known))
        for uid, known in before.items():
            if uid not in objects:
                await self._publish(Change(ChangeKind.DELETED, known, old=known, lost=True))
        self._enqueue(version, [])

    async def _follow(self) -> None:
        """One request to watch, to its end."""
        seconds = int(_WATCH_SECONDS * (1 + self._chance()))
        async for kind, body in self._api.watch(self._path, self._selectors, version=self._version, seconds=seconds):
            if kind == OPENED:
                self._report_problem(None)
            elif kind == "BOOKMARK":
                self._version = int(body["metadata"]["resourceVersion"])
                self._enqueue(self._version, [])
            else:
                change = self._change(kind, self._snapshot(body))
                self._version = max(self._version, change.current.version)
                await self._publish(change)

    def _change(self, kind: str, current: ObjectSnapshot) -> Change:
        old = self._objects.get(current.uid)
        if kind == "DELETED":
            self._objects.pop(current.uid, None)
            return Change(ChangeKind.DELETED, current, old=old)
        if old is None and len(self._objects) >= self._most_objects:
            raise self._too_many()
        self._objects[current.uid] = current
        return Change(ChangeKind.ADDED if old is None else ChangeKind.MODIFIED, current, old=old)

    def _too_many(self) -> KubernetesError:
        return KubernetesError(
            f"there are more than {self._most_objects} objects; narrow the rule with a selector or a namespace, or raise "
            "maxObjects in the Sensor's spec.config",
            status=_TOO_MANY,
        )

    def _sentence(self, error: KubernetesError) -> str:
        if error.status == 403:
            return (
                f"{error}. Give the ServiceAccount that the Sensor names (spec.serviceAccountName) the right to list and watch "
                "this"
            )
        selectors = (("labelSelector", self.key.label_selector), ("fieldSelector", self.key.field_selector))
        given = " and ".join(f"{name} {text!r}" for name, text in selectors if text)
        asked = f" with {given}" if given and error.status == 400 else ""
        return f"cannot watch {self.key.kind} of {self.key.api_version}{asked}: {error}"

    # -- reporting -----------------------------------------------------------------------------------------------------

    def _report_problem(self, problem: str | None) -> None:
        for subscription in self._subscriptions.values():
            if problem is None:
                subscription.ready.set()
            if subscription.problem != problem:
                subscription.problem = problem
                subscription.failing(problem)
            subscription.ready.set()

    def _add_subscriber(self, subscription: Subscription) -> None:
        """Report to a resuming rule what has changed since; for any other, note which objects are uncertain."""
        resumed_at = subscription.resumed_at
        if resumed_at is None:
            subscription.uncertain = [each for each in self._objects.values() if each.changed_at > subscription.since]
            if not subscription.uncertain:
                self._enqueue(self._version, [], subscription)
            return
        tasks = []
        for each in sorted(self._objects.values(), key=lambda each: each.version):
            if each.version > resumed_at:
                change = ChangeKind.ADDED if each.created_at > subscription.resumed_time else ChangeKind.MODIFIED
                tasks += _task(subscription.report(Change(change, each, certain=False)))
        self._enqueue(self._version, tasks, subscription)

    async def _publish(self, change: Change) -> None:
        """Report a change to all rules; its version is committed when these reports are safe."""
        tasks = []
        for subscription in self._subscriptions.values():
            fresh = subscription.resumed_at is None
            if (
                fresh
                and change.current.version <= self._replay_until
                and change.current.changed_at <= subscription.since
            ):
                continue  # it happened before the rule had its present form
            tasks += _task(subscription.report(change))
        self._enqueue(self._version if change.lost else change.current.version, tasks)
        while len(self._pending) > _MOST_PENDING:
            self._room.clear()
            await self._room.wait()

    def _enqueue(
        self, version: int, tasks: "list[asyncio.Task[bool]]", subscription: Subscription | None = None
    ) -> None:
        self._pending.append(_Batch(version, self._time, tasks, subscription))
        self._more.set()

    async def _commit(self) -> None:
        """Advance :attr:`committed`, in order."""
        while True:
            while self._pending:
                if tasks := self._pending[0].tasks:
                    await asyncio.wait(tasks)
                self._take(self._pending.popleft())
                self._room.set()
            self._more.clear()
            await self._more.wait()

    def _take(self, batch: _Batch) -> None:
        self._broken |= not all(_safe(task) for task in batch.tasks)
        if self._broken:
            return
        self.committed = max(self.committed, batch.version)
        self.committed_time = max(self.committed_time, batch.time)
        if batch.subscription is not None:
            batch.subscription.caught_up = True
        self._on_commit()


def _task(task: "asyncio.Task[bool] | None") -> "list[asyncio.Task[bool]]":
    return [] if task is None else [task]


def _safe(task: "asyncio.Task[bool]") -> bool:
    return not task.cancelled() and task.exception() is None and task.result()
