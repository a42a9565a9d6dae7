"""Reads one source for the rules that share it: messages in, events out, acknowledgements back."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from prometheus_client import Counter

from attune_contract.events import EventReport
from attune_kit.backoff import Backoff
from attune_kit.outage import Outage
from attune_kit.secret_files import MissingSecretError
from attune_kit.supervisor import end
from attune_sensor._confirmations import Confirmation
from attune_sensor._context import SensorContext
from attune_sensor._errors import StoppingError
from attune_sensor._reports import event_of
from attune_sensor._rules import Rule
from attune_sensor._source_progress import is_settled, settle
from attune_sensor._sources import Message, Source, SourceError, SourceKind

#: Bytes of a message's content above which its events refer to it. As base64 it still fits into what the API takes.
LARGEST: Final = 716_800
_RETRY: Final = Backoff(initial=0.5, maximum=30.0)
#: Seconds that a source has for each call.
_OPENS: Final = 15.0
_READS: Final = 60.0
_WRITES: Final = 15.0
_CLOSES: Final = 5.0
#: Seconds between two calls of ``hold``.
_HOLD: Final = 2.0
#: How often (seconds) to see whether the rules were read, and whether the spool is empty.
_LOOK: Final = 0.1
#: Seconds that messages on their way have at the end, to be stored and acknowledged.
_PATIENCE: Final = 3.0


class SourceConsumer:
    """One source and its rules.

    Args:
        kind: the kind of source.
        subscription: what is read.
        context: how events are reported.
        messages: where messages are counted by what became of them.
        retry: how long to wait before the source is opened again.
        chance: random numbers in [0, 1), for jitter.

    Attributes:
        rules: the rules that read it now, by uid.
        settled: set when the source was opened, or could not be, for the first time.
    """

    def __init__(
        self,
        kind: SourceKind,
        subscription: Any,
        *,
        context: SensorContext,
        messages: Counter,
        retry: Backoff = _RETRY,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.rules: dict[str, Rule] = {}
        self.settled = asyncio.Event()
        self._kind = kind
        self._subscription = subscription
        self._what = kind.describe(subscription)
        self._context = context
        self._log = context.log.bind(source=self._what)
        self._messages = messages
        self._retries = retry.start(chance=chance)
        self._outage = Outage(log=self._log, name="source")
        self._reason: str | None = None
        self._delivering = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._run(), name=f"source {self._what}")

    async def stop(self) -> None:
        """Stop reading. Messages on their way get a moment to be stored; the rest is not acknowledged."""
        self._stopping = True
        if self._task is None:
            return
        if self._delivering:
            await asyncio.wait({self._task}, timeout=_PATIENCE)
        await end(self._task)

    @property
    def failure(self) -> str | None:
        """Why the source cannot be read now, for the rules' authors; None while it can."""
        return self._reason

    @property
    def fault(self) -> str | None:
        """The same with the time since when, for the sensor's health."""
        return self._outage.fault

    def died(self) -> str | None:
        """What ended the consumer, which should never end by itself; None while it runs."""
        task = self._task
        if self._stopping or task is None or not task.done() or task.cancelled():
            return None
        return f"{self._what} is no longer read: {task.exception()!r}"

    # -- the source --------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            source: Source | None = None
            try:
                source = self._kind.connect(self._subscription)
                await _within(_OPENS, source.open(), "open")
                self._works()
                await self._read(source)
            except StoppingError:
                return
            except (SourceError, MissingSecretError) as error:
                self._fails(str(error))
            except Exception as error:
                self._log.exception("source_failed")
                self._fails(f"{type(error).__name__}: {error}")
            finally:
                if source is not None:
                    await self._close(source)
            if not self._stopping:
                await asyncio.sleep(self._retries.next_delay())

    async def _read(self, source: Source) -> None:
        # Until every rule is known, a message might be acknowledged before one of its rules has its event.
        while not self._context.rules_started:  # noqa: ASYNC110 - nobody tells, and it is short
            await asyncio.sleep(_LOOK)
        while not self._stopping:
            messages = await _within(_READS, source.read(), "read")
            self._retries.reset()
            if messages:
                self._delivering = True
                try:
                    await self._deliver(source, messages)
                finally:
                    self._delivering = False

    async def _close(self, source: Source) -> None:
        try:
            await _within(_CLOSES, source.close(), "close")
        except Exception as error:
            self._log.info("source_not_closed", error=str(error) or type(error).__name__)

    def _works(self) -> None:
        self._outage.recovered()
        recovered, self._reason = self._reason is not None, None
        self.settled.set()
        if recovered:
            for rule in self.rules.values():
                self._context.recovered(rule)

    def _fails(self, why: str) -> None:
        reason = f"{self._what}: {why}"
        self._outage.failed(why, reason)
        changed, self._reason = reason != self._reason, reason
        self.settled.set()
        if changed:
            for rule in self.rules.values():
                self._context.failing(rule, reason)

    # -- messages ----------------------------------------------------------------------------------------------------------

    async def _deliver(self, source: Source, messages: Sequence[Message]) -> None:
        """Report the events of messages until the API has all of them; acknowledge each message when it has its."""
        left = list(messages)
        first = True
        pause = 0.0
        while left:
            if not self.rules:
                raise StoppingError("no rule is left that reads these messages")
            if not first:
                await self._worth_trying(source, left, pause)
            confirmations = await self._report(left, count=first)
            await self._hold_until(source, left, confirmations)
            first = False
            pause = max((future.result().wait for of_message in confirmations for future in of_message), default=0.0)
            settled = [is_settled(future.result() for future in of_message) for of_message in confirmations]
            done, left = settle(left, settled)
            if done:
                await _within(_WRITES, source.acknowledge(done), "acknowledge")
                self._messages.labels("acknowledged").inc(len(done))

    async def _report(self, messages: Sequence[Message], *, count: bool) -> "list[list[asyncio.Future[Confirmation]]]":
        """Report the events of these messages, in order; returns what each message waits for."""
        rules = tuple(self.rules.values())
        return [[await self._submit(rule, message, count=count) for rule in rules] for message in messages]

    async def _submit(self, rule: Rule, message: Message, *, count: bool) -> "asyncio.Future[Confirmation]":
        if message.size <= LARGEST:
            with contextlib.suppress(_TooLargeError):
                return await self._offer(self._event(rule, message, whole=True))
        elif count:
            self._context.refused(
                rule, f"the content has {message.size} bytes; an event holds at most {LARGEST}", what="contents"
            )
        if count:
            self._messages.labels("by_reference").inc()
        return await self._offer(self._event(rule, message, whole=False))

    async def _offer(self, event: EventReport) -> "asyncio.Future[Confirmation]":
        try:
            return await self._context.submit(event)
        except StoppingError:
            raise
        except ValueError as error:  # what JSON makes of it is larger than what the API takes; the SDK counts that
            raise _TooLargeError from error

    def _event(self, rule: Rule, message: Message, *, whole: bool) -> EventReport:
        return event_of(
            rule,
            self._kind.payload(rule, message, whole=whole),
            occurrence=message.occurrence,
            occurred_at=message.occurred_at,
            traceparent=message.traceparent,
            tracestate=message.tracestate,
        )

    async def _hold_until(
        self,
        source: Source,
        messages: Sequence[Message],
        confirmations: "list[list[asyncio.Future[Confirmation]]]",
    ) -> None:
        """Wait for the confirmations; meanwhile tell the server that somebody works on the messages."""
        pending = {future for of_message in confirmations for future in of_message if not future.done()}
        while pending:
            _, pending = await asyncio.wait(pending, timeout=_HOLD)
            if pending:
                await _within(_WRITES, source.hold(messages), "hold")

    async def _worth_trying(self, source: Source, messages: Sequence[Message], pause: float) -> None:
        """Wait until the API has taken what is in the spool: then it knows these events, if they are not lost. And wait as long
        as a namespace has to that is over its quota (``pause`` seconds).
        """
        self._messages.labels("reported_again").inc(len(messages))
        loop = asyncio.get_running_loop()
        held = loop.time()
        pause += held
        while True:
            await asyncio.sleep(_LOOK)
            if not self._context.spooled and loop.time() >= pause:
                return
            if loop.time() - held > _HOLD:
                await _within(_WRITES, source.hold(messages), "hold")
                held = loop.time()


class _TooLargeError(Exception):
    """The event is larger than what the API takes."""


async def _within(seconds: float, call: Any, name: str) -> Any:
    """What the call returns.

    Raises:
        SourceError: it took too long, or ended itself.
    """
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise SourceError(f"it does not answer ({name}: {seconds:g} s)") from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Nothing has cancelled us: a client ends calls like this when one of its own tasks is cancelled. Taken for ours, it
        # would end the reading without a word.
        raise SourceError(f"it gave up ({name})") from None
