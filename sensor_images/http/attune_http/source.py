"""Polls for one rule: what is new, or has changed, since the last time that was stored."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from attune_http.fetching import Answer, FetchError
from attune_http.findings import Item, Items, Part, items_of, part_of
from attune_http.pace import Pace
from attune_http.parameters import Subscription
from attune_http.payload import Changed
from attune_http.state import Change, State, pack, unpack
from attune_kit.secret_files import MissingSecretError
from attune_sensor import KeptState, Message, RuleStore, SourceError

#: Seconds that a read waits for the next time to ask.
_WAITS: Final = 2.0
#: Seconds between two times that is kept what is known, while more is under way.
_KEEPS: Final = 2.0
_MOST: Final = 200
_BATCH_BYTES: Final = 4 * 1024 * 1024
#: Bytes of a change that are kept until it is stored: what an event can hold.
_MOST_KEPT: Final = 716_800
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Client(Protocol):
    """What asks the address (with the rule's turn among others)."""

    async def get(self, known: Answer) -> Answer:
        """What is there now."""
        ...

    async def close(self) -> None:
        """Close the connection."""


class Polling:
    """A :class:`attune_sensor.Source`.

    Args:
        subscription: what the rule wants.
        client: asks the address.
        store: keeps what is remembered.
        pace: when to ask.
        remark: tells the rule's author what cannot be reported.
        monotonic: seconds.
        wall: the time.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        client: Client,
        store: RuleStore,
        pace: Pace,
        remark: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._subscription = subscription
        self._client = client
        self._pace = pace
        self._remark = remark
        self._monotonic = monotonic
        self._wall = wall
        self._kept = KeptState(store, pack=pack, unpack=unpack, pause=lambda _: _KEEPS, monotonic=monotonic)
        self._found: deque[Item] = deque()
        #: The validators of the last answer, all of which was read.
        self._seen = Answer(body=None)
        #: Whether what is known must be kept before it is reported.
        self._urgent = False

    async def open(self) -> None:
        """Read what is remembered. Ask for the first time, unless it is not time yet.

        Raises:
            SourceError: the API or the address does not answer.
        """
        if await self._kept.load(self._subscription.fingerprint):
            state = self._kept.current
            self._seen = Answer(body=None, etag=state.etag, modified=state.modified)
            if self._under_way:
                return
        if self._kept.state is None or self._monotonic() >= self._pace.next_at:
            await self._look()
        elif self._pace.why is not None:
            raise SourceError(self._pace.why)

    async def read(self) -> Sequence[Message]:
        """What was found and is not stored; else what is found when it is time.

        Raises:
            SourceError: the address does not answer, or not with what the rule says.
        """
        if self._urgent and not await self._keep():
            await asyncio.sleep(_WAITS / 2)  # the API is away
            return []
        if self._under_way:
            return self._batch()
        await self._keep()
        wait = self._pace.next_at - self._monotonic()
        if wait > 0:
            await asyncio.sleep(min(wait, _WAITS))
            return []
        await self._look()
        return [] if self._urgent else self._batch()

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Remember that these are stored.

        Raises:
            SourceError: another pod serves the rule, too.
        """
        state = self._kept.current
        for message in messages:
            if isinstance(message.content, Item):
                state.remember([message.content.mark])
                self._found.popleft()
            else:
                state.change = None
        self._kept.dirty = True
        if not self._under_way or self._kept.due:
            await self._keep()

    async def hold(self, messages: Sequence[Message]) -> None:
        """Nothing: nobody else waits for these."""

    async def close(self) -> None:
        """Keep what is known, if the API takes it, and disconnect."""
        with contextlib.suppress(SourceError):
            await self._keep()
        await self._client.close()

    # -- looking -----------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        try:
            answer = await self._client.get(self._seen)
            found = await self._found_in(answer)
        except MissingSecretError as error:
            self._pace.failed(self._monotonic(), str(error))
            raise
        except SourceError as error:
            self._pace.failed(self._monotonic(), str(error), wait=error.wait if isinstance(error, FetchError) else 0.0)
            raise
        self._pace.succeeded(self._monotonic())
        self._kept.refresh()
        if found is None:
            return
        first = self._kept.state is None
        if first:
            self._kept.state = State(fingerprint=self._subscription.fingerprint, began=self._now())
        self._seen = Answer(body=None, etag=answer.etag, modified=answer.modified)
        if isinstance(found, Part):
            self._take_part(found, answer, first=first)
        else:
            self._take_items(found, first=first)
        if first:
            self._kept.dirty = True
            if not await self._keep():
                self._kept.state = None
                raise SourceError("the API does not keep now what is to be remembered of the rule")

    async def _found_in(self, answer: Answer) -> Items | Part | None:
        if answer.body is None:
            if self._kept.state is None:
                raise FetchError("answers 304 to a request without conditions")
            return None
        read: Callable[[bytes, Subscription], Items | Part]
        read = part_of if self._subscription.mode == "changed" else items_of
        return await asyncio.to_thread(read, answer.body, self._subscription)

    def _take_part(self, part: Part, answer: Answer, *, first: bool) -> None:
        state = self._kept.current
        if part.digest == state.digest:
            return
        state.digest = part.digest
        self._kept.dirty = self._urgent = True
        if first and self._subscription.first == "skip":
            return
        # It is kept before it is reported: what was seen is an event even if the pod is killed, and something else is there then.
        state.number += 1
        kept = part.raw if len(part.raw) <= _MOST_KEPT else b""
        state.change = Change(part.encoding, kept, len(part.raw), self._now(), answer.etag)

    def _take_items(self, found: Items, *, first: bool) -> None:
        state = self._kept.current
        if found.nameless:
            self._remark(f"{found.nameless} items of the last answer have no id")
        if first and self._subscription.first == "skip":
            state.remember(item.mark for item in found.items)
            return
        new = [item for item in found.items if item.mark not in state.known]
        state.remember(item.mark for item in found.items if item.mark in state.known)
        self._found.extend(new)

    # -- reporting and remembering -----------------------------------------------------------------------------------------

    @property
    def _under_way(self) -> bool:
        return bool(self._found) or self._kept.current.change is not None

    def _batch(self) -> list[Message]:
        state = self._kept.current
        place = state.fingerprint.hex()
        if (change := state.change) is not None:
            return [
                Message(
                    partition="",
                    occurrence=f"{place}/{state.began}/{state.number}/{state.digest.hex()}",
                    content=Changed(number=state.number, change=change),
                    size=change.size,
                    occurred_at=_EPOCH + timedelta(microseconds=change.at),
                )
            ]
        batch: list[Message] = []
        size = 0
        for item in self._found:
            if len(batch) == _MOST or (batch and size + item.size > _BATCH_BYTES):
                break
            size += item.size
            batch.append(
                Message(
                    partition="", occurrence=f"{place}/{item.name}", content=item, size=item.size, occurred_at=item.at
                )
            )
        return batch

    async def _keep(self) -> bool:
        """Keep what is known at the API, if it is not; returns whether it is kept."""
        state = self._kept.state
        if self._kept.dirty and state is not None and not self._found:
            # All of the last answer is known now.
            state.etag, state.modified = self._seen.etag, self._seen.modified
        kept = await self._kept.keep()
        self._urgent = self._urgent and not kept
        return kept

    def _now(self) -> int:
        return (self._wall() - _EPOCH) // timedelta(microseconds=1)
