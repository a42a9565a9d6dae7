"""Looks into a folder for one rule: files that are complete and were not reported yet."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from attune_files.config import Folder
from attune_files.parameters import Subscription
from attune_files.payload import Read, modified_at
from attune_files.scanning import MOST_FILES, MOST_NEW, Content, File, Found, GoneError, ScanError, read, scan
from attune_files.settling import Settling
from attune_files.state import State, pack, unpack
from attune_files.watching import Watch
from attune_sensor import KeptState, Message, RuleStore, SourceError

#: Seconds that a read waits for something to happen.
_WAITS: Final = 2.0
#: Seconds between two looks: at least, and for each second that the last one took.
_PAUSE: Final = 0.05
_PAUSE_PER_SECOND: Final = 5.0
#: Seconds between two times that is kept what is known: at least, and for each byte of it.
_KEEPS: Final = 2.0
_KEEPS_PER_BYTE: Final = 1 / 50_000
_MOST: Final = 200
_BATCH_BYTES: Final = 4 * 1024 * 1024
#: Bytes of a file that an event carries.
LARGEST: Final = 716_800


class Looking:
    """A :class:`attune_sensor.Source`.

    Args:
        folder: where to look.
        subscription: what the rule wants.
        store: keeps what is remembered.
        watch: says when to look; None: the kernel does not tell.
        monotonic: seconds.
    """

    def __init__(
        self,
        folder: Folder,
        subscription: Subscription,
        *,
        store: RuleStore,
        watch: Watch | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._subscription = subscription
        self._watch = watch
        self._monotonic = monotonic
        self._kept = KeptState(
            store, pack=pack, unpack=unpack, pause=lambda size: _KEEPS + size * _KEEPS_PER_BYTE, monotonic=monotonic
        )
        self._settling = Settling(subscription.settle)
        self._ready: deque[File] = deque()
        self._seen: list[bytes] = []
        self._next_look = 0.0
        self._next_scan = 0.0

    async def open(self) -> None:
        """Read what is remembered. At the first time, remember what is there.

        Raises:
            SourceError: the API does not answer, or the folder is not there.
        """
        if await self._kept.load(self._subscription.fingerprint):
            await self._scan(self._kept.current)
        else:
            state = State(fingerprint=self._subscription.fingerprint)
            found = await self._scan(state, all_=True)
            if self._subscription.first == "skip":
                for _ in range(MOST_FILES // MOST_NEW + 1):  # a look finds so many at most
                    state.remember([file.mark for file in found.new])
                    if len(found.new) < MOST_NEW:
                        break
                    found = await self._scan(state, all_=True)
            self._kept.state = state
            await self._kept.begin()
        if self._watch is not None:
            await self._watch.start()

    async def read(self) -> Sequence[Message]:
        """Files that are complete, the oldest first.

        Raises:
            SourceError: the folder cannot be looked at.
        """
        if self._kept.refresh() or self._kept.due:
            await self._kept.keep()
        if not self._ready:
            await self._wait()
            if self._monotonic() < self._due():
                return []
            await self._look()
        return await self._batch()

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Remember that these are stored."""
        self._kept.current.remember([message.content.file.mark for message in messages], seen=self._seen)
        for _ in messages:
            self._ready.popleft()
        self._kept.dirty = True

    async def hold(self, messages: Sequence[Message]) -> None:
        """Nothing: nobody else waits for these."""

    async def close(self) -> None:
        """Keep what is known, if the API takes it, and watch no longer."""
        if self._watch is not None:
            await self._watch.stop()
        with contextlib.suppress(SourceError):
            await self._kept.keep()

    # -- looking -----------------------------------------------------------------------------------------------------------

    def _due(self) -> float:
        """When to look next."""
        settled = self._settling.next_at()
        wanted = self._next_scan if settled is None else min(settled, self._next_scan)
        if self._watch is not None and self._watch.changed.is_set():
            wanted = 0.0
        return max(wanted, self._next_look)

    async def _wait(self) -> None:
        wait = min(self._due() - self._monotonic(), _WAITS)
        if wait <= 0:
            return
        if self._watch is None or self._watch.changed.is_set():
            await asyncio.sleep(wait)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._watch.changed.wait()
        if (rest := self._next_look - self._monotonic()) > 0:
            await asyncio.sleep(min(rest, _WAITS))

    async def _look(self) -> None:
        if self._watch is not None:
            self._watch.changed.clear()
        began = self._monotonic()
        found = await self._scan(self._kept.current)
        took = self._monotonic() - began
        self._next_look = began + took + _PAUSE + _PAUSE_PER_SECOND * took
        self._next_scan = began + (0.0 if found.later else self._folder.scan_every)
        self._seen = found.known
        ready = self._settling.complete(found.new, began=began)
        for file in ready:
            self._settling.done(file.mark)
        self._ready.extend(ready)

    async def _scan(self, state: State, *, all_: bool = False) -> Found:
        try:
            return await asyncio.to_thread(scan, self._folder.path, self._subscription, state.known.keys(), all_=all_)
        except ScanError as error:
            raise SourceError(str(error)) from None

    async def _batch(self) -> list[Message]:
        """The next files. One that is gone or changes again is left out: it will be found as it is then."""
        batch: list[Message] = []
        size = 0
        while len(batch) < min(len(self._ready), _MOST) and size < _BATCH_BYTES:
            file = self._ready[len(batch)]
            try:
                content = await self._content(file)
            except GoneError:
                del self._ready[len(batch)]
                continue
            carried = len(content.raw or b"")
            size += carried
            batch.append(
                Message(
                    partition="",
                    occurrence=f"{self._folder.name}/{file.mark.hex()}/{file.modified}/{file.size}/{file.path[-200:]!a}",
                    content=Read(file=file, content=content),
                    size=carried,
                    occurred_at=modified_at(file),
                )
            )
        return batch

    async def _content(self, file: File) -> Content:
        inline = self._subscription.content == "inline" and file.size <= LARGEST
        if not inline and not self._subscription.digest:
            return Content()
        return await asyncio.to_thread(
            read, self._folder.path, file, most=LARGEST if inline else -1, digest=self._subscription.digest
        )
