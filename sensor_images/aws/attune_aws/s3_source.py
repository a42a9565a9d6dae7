"""Lists a bucket for one rule: what is new since the last time that was stored."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final

from attune_aws.config import Server
from attune_aws.errors import FAILURES, code_of, source_error
from attune_aws.s3_parameters import BucketSubscription
from attune_aws.s3_payload import message_of, object_of
from attune_aws.s3_state import MOST_OBJECTS, Object, State, mark_of, new_in, pack, settle, unpack
from attune_sensor import KeptState, Message, RuleStore, SourceError

#: Seconds that a read waits for the next time to list.
_WAITS: Final = 2.0
#: Seconds between two times that is kept what is known, while more is under way: at least, and for each byte of it.
_KEEPS: Final = 2.0
_KEEPS_PER_BYTE: Final = 1 / 100_000
_BATCH: Final = 250
#: Pages of a listing for one read, and objects on one. A read must not take too long.
_PAGES: Final = 10
_PAGE: Final = 1000


class Bucket:
    """A :class:`attune_sensor.Source`.

    Args:
        server: where it is.
        subscription: what the rule wants.
        connect: makes a client.
        store: keeps what is remembered.
        before: the source of the same before this one, if there was one.
        monotonic: seconds.

    Attributes:
        next_at: when to list next, in monotonic seconds.
        why: why the last listing did not succeed, when it makes no sense to try again before that; None otherwise.
    """

    def __init__(
        self,
        server: Server,
        subscription: BucketSubscription,
        *,
        connect: Callable[[], Awaitable[AbstractAsyncContextManager[Any]]],
        store: RuleStore,
        before: "Bucket | None" = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._subscription = subscription
        self._connect = connect
        self._monotonic = monotonic
        self._stack = AsyncExitStack()
        self._s3: Any = None
        self._kept = KeptState(
            store,
            pack=pack,
            unpack=unpack,
            pause=lambda size: max(_KEEPS, size * _KEEPS_PER_BYTE),
            monotonic=monotonic,
        )
        #: Whether the rule has a place in the bucket; else it begins with the next listing.
        self._begun = False
        #: What is new and not stored, in order.
        self._found: deque[Object] = deque()
        #: The listing that is under way, or was last: its objects, and where it goes on.
        self._listed: list[Object] = []
        self._goes_on: str | None = None
        self._marks: list[tuple[int, bytes]] | None = None
        self.next_at: float = 0.0 if before is None else before.next_at
        self.why: str | None = None if before is None else before.why

    async def open(self) -> None:
        """Connect, see that the bucket can be listed, and read what is remembered.

        Raises:
            SourceError: the API or the server does not answer.
        """
        if self.why is not None and self._monotonic() < self.next_at:
            raise SourceError(self.why)
        if await self._kept.load(self._subscription.fingerprint):
            self._begun = True
        else:
            self._kept.state = State(fingerprint=self._subscription.fingerprint)
            self._begun = self._subscription.start == "beginning"
        try:
            self._s3 = await self._stack.enter_async_context(await self._connect())
            await self._page(most=1)
        except FAILURES as error:
            raise self._error(error) from error

    async def read(self) -> Sequence[Message]:
        """What was found and is not stored; else what is found when it is time.

        Raises:
            SourceError: the bucket cannot be listed.
        """
        if self._found:
            return self._batch()
        await self._settled()
        wait = self.next_at - self._monotonic()
        if wait > 0:
            await asyncio.sleep(min(wait, _WAITS))
            return []
        try:
            ended = await (self._list_by_name() if self._subscription.order == "name" else self._list_by_time())
        except FAILURES as error:
            raise self._error(error) from error
        if ended:
            self.why = None
            self.next_at = self._monotonic() + self._subscription.every
        return self._batch()

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Remember that these are stored.

        Raises:
            SourceError: another pod serves the rule, too.
        """
        for message in messages:
            found: Object = message.content
            if self._subscription.order == "name":
                self._kept.current.marker = found.key
            else:
                self._kept.current.known.add(mark_of(found, changes=self._subscription.changes))
            self._found.popleft()
        self._kept.dirty = True
        if self._kept.due:
            await self._kept.keep()

    async def hold(self, messages: Sequence[Message]) -> None:
        """Nothing: no one else waits for these."""

    async def close(self) -> None:
        """Keep what is known, if the API takes it, and disconnect."""
        try:
            with contextlib.suppress(SourceError):
                await self._kept.keep()
        finally:
            await self._stack.aclose()

    # -- listing -----------------------------------------------------------------------------------------------------------

    async def _list_by_name(self) -> bool:
        """List what is behind the marker; returns whether that was all."""
        for _ in range(_PAGES):
            listed, goes_on = await self._page(after=self._kept.current.marker)
            if listed and self._begun:
                self._found.extend(listed)
                return not goes_on
            if listed:
                self._kept.current.marker = listed[-1].key
            if not goes_on:
                if not self._begun:
                    await self._begin()
                return True
        return False

    async def _list_by_time(self) -> bool:
        """List some pages more of everything; returns whether that was the last."""
        for _ in range(_PAGES):
            listed, self._goes_on = await self._page(token=self._goes_on)
            self._listed += listed
            if len(self._listed) > MOST_OBJECTS:
                self.why = (
                    f"more than {MOST_OBJECTS} objects begin with {self._subscription.prefix!r}; use a longer prefix, "
                    "order: name if names grow, or notifications of the bucket through SQS"
                )
                self.next_at = self._monotonic() + self._subscription.every
                raise SourceError(self.why)
            if self._goes_on is None:
                break
        else:
            return False
        changes = self._subscription.changes
        everything, self._listed = self._listed, []
        self._marks = [(each.at, mark_of(each, changes=changes)) for each in everything]
        if self._begun:
            self._found.extend(new_in(self._kept.current, everything, changes=changes))
        else:
            settle(self._kept.current, self._marks)
            await self._begin()
        return True

    async def _page(
        self, *, after: str = "", token: str | None = None, most: int = _PAGE
    ) -> tuple[list[Object], str | None]:
        """Objects, and where the listing goes on."""
        asked: dict[str, Any] = {
            "Bucket": self._subscription.bucket,
            "Prefix": self._subscription.prefix,
            "MaxKeys": most,
        }
        if token is not None:
            asked["ContinuationToken"] = token
        elif after:
            asked["StartAfter"] = after
        answer = await self._s3.list_objects_v2(**asked)
        listed = [object_of(each) for each in answer.get("Contents", [])]
        return listed, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None

    async def _begin(self) -> None:
        """What is there now is known; that is kept before anything counts as new.

        Raises:
            SourceError: the API does not answer.
        """
        await self._kept.begin()
        self._begun = True

    # -- reporting and remembering -----------------------------------------------------------------------------------------

    def _batch(self) -> list[Message]:
        return [message_of(self._subscription, each) for each in list(self._found)[:_BATCH]]

    async def _settled(self) -> None:
        """All that was listed is stored: remember it in as little as possible, and keep that."""
        if self._marks is not None and not self._found:
            marks, self._marks = self._marks, None
            state = self._kept.current
            before = (state.before, state.known)
            settle(state, marks)
            self._kept.dirty = self._kept.dirty or before != (state.before, state.known)
        self._kept.refresh()
        if self._kept.due:
            await self._kept.keep()

    def _error(self, error: Exception) -> SourceError:
        if code_of(error) == "NoSuchBucket":
            return SourceError(f"{self._server.where} has no bucket {self._subscription.bucket}")
        return source_error(self._server.where, error)
