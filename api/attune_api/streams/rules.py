"""Hears from the operator which rules there are, and which sensor serves each."""

import asyncio
import random
import time
from typing import Final

import nats.errors
import structlog
from nats.aio.msg import Msg

from attune_api import backoff
from attune_api.metrics import Metrics
from attune_api.rules.book import KnownRule, RuleBook
from attune_api.streams.latest import Interrupted, follow
from attune_api.streams.link import NatsLink
from attune_contract.messages import InvalidMessage, decode_rule_head, is_tombstone
from attune_contract.subjects import ALL_RULES, RULES_STREAM, split_binding

log = structlog.get_logger(__name__)

#: Seconds after which the whole stream is read again.
_RESYNC: Final = 900.0
#: Seconds after the connection or the stream was made anew in which what is missing may be on its way: the operator compares
#: the stream with Kubernetes at its own reconnection.
_SETTLE: Final = 30.0


class RuleReader:
    """Keeps a :class:`RuleBook` equal to ``ATTUNE_RULES``. :meth:`run` does it until cancelled."""

    def __init__(self, *, link: NatsLink, book: RuleBook, metrics: Metrics) -> None:
        self._link = link
        self._book = book
        self._metrics = metrics
        self._complete = asyncio.Event()
        self._following = False
        self._since = time.monotonic()

    @property
    def settled(self) -> bool:
        """Whether what the book lacks can be believed not to exist: it is current, and has been for a while."""
        return self._following and time.monotonic() - self._since > _SETTLE

    async def wait_complete(self, seconds: float) -> bool:
        """Wait until the book is current; whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self._complete.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Follow until cancelled; wait out whatever NATS does."""
        attempt = 0
        while True:
            client = await self._link.client()
            try:
                await follow(
                    client,
                    self,
                    stream=RULES_STREAM,
                    subjects=ALL_RULES,
                    resync=_RESYNC * (0.9 + 0.2 * random.random()),  # noqa: S311 - jitter
                    generation=lambda: self._link.reconnects,
                )
            except (nats.errors.Error, OSError, TimeoutError) as error:
                if self._complete.is_set():
                    attempt = 0
                if isinstance(error, Interrupted) and error.due:
                    log.debug("rules_resync", reason=str(error))
                    continue  # what is known stays as good as it was
                self._complete.clear()
                self._following = False
                if attempt == 0:
                    log.warning("rules_wait", error=type(error).__name__, reason=str(error)[:300])
                await asyncio.sleep(backoff.delay(attempt, random=random.random, most=2.0))
                attempt += 1

    # -- streams.latest.Follower ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """See :class:`attune_api.streams.latest.Follower`."""
        self._book.begin_snapshot()

    def take(self, message: Msg) -> None:
        """See :class:`attune_api.streams.latest.Follower`."""
        try:
            binding, uid = split_binding(message.subject)
        except ValueError as error:
            log.error("rule_message_invalid", subject=message.subject, reason=str(error))
            return
        headers = message.headers
        if is_tombstone(headers):
            self._book.bury(uid, binding=binding, at=message.metadata.timestamp.timestamp())
            return
        try:
            state = decode_rule_head(message.data)
        except InvalidMessage as error:
            log.error("rule_message_invalid", subject=message.subject, reason=str(error))
            return
        if state.uid != uid:
            log.error("rule_message_invalid", subject=message.subject, reason="the body is about another rule")
            return
        self._book.put(KnownRule.of(state, binding=binding))

    def complete(self) -> None:
        """See :class:`attune_api.streams.latest.Follower`."""
        absent = self._book.complete_snapshot(now=time.time())
        if not self._following:
            self._following = True
            self._since = time.monotonic()
            log.info("rules_heard", rules=len(self._book), kept_though_absent=absent)
        self._complete.set()

    async def settle(self) -> None:
        """See :class:`attune_api.streams.latest.Follower`."""
        self._book.expire(now=time.time())
        self._metrics.rules_known.set(len(self._book))
