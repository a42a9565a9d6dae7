"""Reads one source for the rules that share it: messages in, events out, acknowledgements back."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from prometheus_client import Counter

from attune_contract.events import EventReport
from attune_kit.backoff import Backoff
from attune_kit.outage import Outage
from attune_kit.secret_files import MissingSecretError
from attune_kit.supervisor import end
from attune_sensor._confirmations import Course
from attune_sensor._context import SensorContext
from attune_sensor._errors import StoppingError
from attune_sensor._reports import event_of
from attune_sensor._rules import Rule
from attune_sensor._source_progress import settle
from attune_sensor._source_window import Budget, Window
from attune_sensor._sources import Message, ReadsAhead, Source, SourceError, SourceKind, SplittingSourceKind

#: Bytes of a message's content above which its events refer to it. As base64 it still fits into what the API takes.
LARGEST: Final = 716_800
_RETRY: Final = Backoff(initial=0.5, maximum=30.0)
#: Seconds that a source has for each call.
_OPENS: Final = 15.0
_READS: Final = 60.0
_WRITES: Final = 15.0
_CLOSES: Final = 5.0
#: Seconds that messages are under way before ``hold`` is called, and between two calls.
_HOLD: Final = 2.0
#: How soon (seconds) to look for more messages while some are under way; longer and longer while none come.
_SHORTEST: Final = 0.001
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
        budget: shared with the other sources of the sensor.
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
        budget: Budget,
        retry: Backoff = _RETRY,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.rules: dict[str, Rule] = {}
        self.settled = asyncio.Event()
        self._kind = kind
        self._split = kind.split if isinstance(kind, SplittingSourceKind) else None
        self._subscription = subscription
        self._what = kind.describe(subscription)
        self._context = context
        self._log = context.log.bind(source=self._what)
        self._messages = messages
        self._retries = retry.start(chance=chance)
        self._outage = Outage(log=self._log, name="source")
        self._reason: str | None = None
        self._budget = budget
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
        window = Window(self._budget)
        try:
            pause = _SHORTEST
            while window or not self._stopping:
                self._delivering = bool(window)
                came = await self._read_on(source, window)
                if not window:
                    continue
                # What comes while the API stores is read at once; when nothing comes, less and less often.
                pause = _SHORTEST if came else min(2 * pause, _HOLD)
                full = self._stopping or not _has_room(source, window)
                await self._settle(source, window, seconds=0.0 if came and not full else _HOLD if full else pause)
        finally:
            self._delivering = False
            window.abandon()

    async def _read_on(self, source: Source, window: Window) -> bool:
        """Report the next messages, if there is room for them; returns whether some came."""
        if self._stopping or not _has_room(source, window):
            return False
        reading = source.read_ahead() if window and isinstance(source, ReadsAhead) else source.read()
        messages = await _within(_READS, reading, "read")
        self._retries.reset()
        if messages:
            await self._report(window, messages, count=True)
        return bool(messages)

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

    async def _settle(self, source: Source, window: Window, *, seconds: float) -> None:
        """Acknowledge the messages whose events the API has, after waiting so long for the oldest batch."""
        await self._wait_for([window.oldest], source, window, seconds=seconds)
        await self._acknowledge(source, window.take_settled())
        if window.broken:
            await self._report_again(source, window)

    async def _report_again(self, source: Source, window: Window) -> None:
        """Something has to be reported again, and so has all that was read after it, in order: read nothing meanwhile."""
        while True:
            while unknown := window.unknown:
                await self._wait_for(unknown, source, window, seconds=_HOLD)
            messages, settled, wait = window.take_all()
            done, left = settle(messages, settled)
            await self._acknowledge(source, done)
            if not left:
                return
            await self._worth_trying(source, left, wait)
            window.course = Course()
            await self._report(window, left, count=False)

    async def _wait_for(
        self, answers: "Sequence[asyncio.Future[None]]", source: Source, window: Window, *, seconds: float
    ) -> None:
        """Wait for answers, so long at most; meanwhile tell the server that somebody works on the messages."""
        loop = asyncio.get_running_loop()
        if seconds > 0 and not all(answer.done() for answer in answers):
            await asyncio.wait(answers, timeout=min(seconds, max(0.0, window.since + _HOLD - loop.time())))
        if loop.time() - window.since >= _HOLD and not all(answer.done() for answer in answers):
            await _within(_WRITES, source.hold(window.messages), "hold")
            window.held_at = loop.time()

    async def _acknowledge(self, source: Source, messages: Sequence[Message]) -> None:
        if messages:
            await _within(_WRITES, source.acknowledge(messages), "acknowledge")
            self._messages.labels("acknowledged").inc(len(messages))

    async def _report(self, window: Window, messages: Sequence[Message], *, count: bool) -> None:
        """Report the events of these messages, in order: of each message one for each rule, or what the kind makes of it."""
        rules = tuple(self.rules.values())
        if not rules:
            raise StoppingError("no rule is left that reads these messages")
        if self._split is None:
            bodies = [self._encoded(rule, message, count=count) for message in messages for rule in rules]
            events = [len(rules)] * len(messages)
        else:
            made = [
                [self._encoded(rule, part, count=count) for rule in rules for part in self._split(rule, message)]
                for message in messages
            ]
            bodies = list(itertools.chain.from_iterable(made))
            events = [len(each) for each in made]
        self._delivering = True
        answers = self._context.submit_all(bodies, window.course, at_least=events[0])
        window.add(messages, answers, events=events, now=asyncio.get_running_loop().time())
        await asyncio.sleep(0)  # the first of them may leave for the API while more are read

    def _encoded(self, rule: Rule, message: Message, *, count: bool) -> bytes:
        if message.size <= LARGEST:
            try:
                return self._context.encode(self._event(rule, message, whole=True))
            except StoppingError:
                raise
            except ValueError:  # what JSON makes of it is larger than what the API takes; the SDK counts that
                pass
        elif count:
            self._context.refused(
                rule, f"the content has {message.size} bytes; an event holds at most {LARGEST}", what="contents"
            )
        if count:
            self._messages.labels("by_reference").inc()
        return self._context.encode(self._event(rule, message, whole=False))

    def _event(self, rule: Rule, message: Message, *, whole: bool) -> EventReport:
        return event_of(
            rule,
            self._kind.payload(rule, message, whole=whole),
            occurrence=message.occurrence,
            occurred_at=message.occurred_at,
            traceparent=message.traceparent,
            tracestate=message.tracestate,
        )

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


def _has_room(source: Source, window: Window) -> bool:
    """Whether to read on."""
    return not window or (window.room and isinstance(source, ReadsAhead))


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
