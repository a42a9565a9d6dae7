"""Hears from the operator which rules there are, and which sensor serves each."""

import asyncio
import contextlib
import random
import time
from typing import Final

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from attune_api import backoff
from attune_api.metrics import Metrics
from attune_api.rules.bonds import Bond, PastEntry, bond_in_history
from attune_api.rules.book import KnownRule, RuleBook
from attune_api.rules.check import NotKnownYet
from attune_api.streams.latest import Interrupted, follow
from attune_api.streams.link import NatsLink
from attune_contract.messages import InvalidMessage, RuleHead, decode_rule_head, is_tombstone
from attune_contract.subjects import ALL_RULES, HISTORY_STREAM, RULES_STREAM, history_filter, split_binding

log = structlog.get_logger(__name__)

#: Seconds after which the whole stream is read again.
_RESYNC: Final = 900.0
#: Seconds that a question may take.
_QUESTION: Final = 2.0
#: JetStream's "no message found"; a missing stream has another code.
_NO_MESSAGE: Final = 10037
_RULES_PREFIX: Final = ALL_RULES.removesuffix(">")


class RuleReader:
    """Keeps a :class:`RuleBook` equal to ``ATTUNE_RULES``. :meth:`run` does it until cancelled.

    Args:
        link: the connection to NATS.
        book: what is kept.
        metrics: where rules are counted.
        settle: seconds after the connection or the stream was made anew in which what is missing may be on its way: the
            operator compares the stream with Kubernetes at its own reconnection.
    """

    def __init__(self, *, link: NatsLink, book: RuleBook, metrics: Metrics, settle: float) -> None:
        self._link = link
        self._book = book
        self._metrics = metrics
        self._complete = asyncio.Event()
        self._following = False
        self._since = time.monotonic()
        self._settle = settle

    @property
    def settled(self) -> bool:
        """Whether what the book lacks can be believed not to exist: it is current, and has been for a while."""
        return self._following and time.monotonic() - self._since > self._settle

    async def wait_complete(self, seconds: float) -> bool:
        """See :class:`attune_api.rules.check.Oracle`. Without a connection nobody waits, but for the very first attempt."""
        try:
            async with asyncio.timeout(seconds):
                if not await self._link.tried():
                    return False
                await self._complete.wait()
        except TimeoutError:
            return False
        return True

    # -- following -----------------------------------------------------------------------------------------------------

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

    # -- rules.check.Oracle --------------------------------------------------------------------------------------------

    async def find_bond(self, uid: str, *, binding: str) -> Bond | None:
        """What the streams say now: the rule's subject, then its history. See :class:`attune_api.rules.check.Oracle`."""
        try:
            async with asyncio.timeout(_QUESTION):
                client = await self._link.client()
                jetstream = client.jetstream(timeout=_QUESTION)
                try:
                    message = await jetstream.get_last_msg(RULES_STREAM, f"{_RULES_PREFIX}{binding}.{uid}")
                except NotFoundError as error:
                    if error.err_code != _NO_MESSAGE:
                        raise
                else:
                    return _bond_now(message, uid)
                return await _bond_before(jetstream, uid, binding=binding)
        except (nats.errors.Error, OSError, TimeoutError, InvalidMessage) as error:
            raise NotKnownYet(f"{type(error).__name__}: {error}") from None

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
        try:
            state = _state(message.data, uid)
        except InvalidMessage as error:
            if not is_tombstone(headers):
                log.error("rule_message_invalid", subject=message.subject, reason=str(error))
                return
            state = None  # a tombstone is understood without its body
        if is_tombstone(headers):
            where = {} if state is None else {"namespace": state.namespace, "name": state.name}
            self._book.bury(uid, binding=binding, at=message.metadata.timestamp.timestamp(), **where)
        elif state is not None:
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


def _state(body: bytes, uid: str) -> RuleHead:
    state = decode_rule_head(body)
    if state.uid != uid:
        raise InvalidMessage(f"the body is about rule {state.uid!r}")
    return state


def _bond_now(message: RawStreamMsg, uid: str) -> Bond:
    """What the last message of the rule's subject says."""
    headers = message.headers or {}
    ended_at = message.time.timestamp() if is_tombstone(headers) and message.time else None
    try:
        state = _state(message.data or b"", uid)
    except InvalidMessage:
        if ended_at is None:
            raise
        return Bond("", "", ended_at)
    return Bond(state.namespace, state.name, ended_at)


async def _bond_before(jetstream: JetStreamContext, uid: str, *, binding: str) -> Bond | None:
    """The last word of the rule's history on this sensor."""
    found, sequence = None, 1
    with contextlib.suppress(NotFoundError):
        while True:
            message = await jetstream.get_msg(HISTORY_STREAM, sequence, subject=history_filter(rule_uid=uid), next=True)
            sequence = (message.seq or 0) + 1
            with contextlib.suppress(InvalidMessage):
                entry = PastEntry(_state(message.data or b"", uid), message.headers or {})
                found = bond_in_history(entry, binding=binding) or found
    return found
