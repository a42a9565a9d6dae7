"""Follows the rule stream: which rules there are, and which sensor serves each."""

import asyncio
import contextlib
import time
from typing import Final

import nats.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from attune_api.metrics import Metrics
from attune_api.rules.bindings import Binding, PastEntry, binding_in_history
from attune_api.rules.cache import KnownRule, RuleCache
from attune_api.rules.check import NotKnownYetError
from attune_contract.messages import InvalidMessageError, RuleHead, decode_rule_head, is_tombstone
from attune_contract.subjects import (
    ALL_RULES,
    HISTORY_STREAM,
    PLAIN_API,
    RULES_STREAM,
    history_filter,
    split_binding,
)
from attune_kit.backoff import Backoff, spread
from attune_kit.nats.connector import NatsConnector
from attune_kit.nats.last_per_subject import LastPerSubjectReader, ReaderLostError, StreamMessage

log = structlog.get_logger(__name__)

#: Seconds after which the whole stream is read again.
_RESYNC: Final = 900.0
#: Seconds between two looks for rules that have been absent for too long.
_TICK: Final = 0.25
_HEARTBEAT: Final = 1.0
_RETRY: Final = Backoff(initial=0.2, maximum=2.0)
#: Seconds that a question may take.
_QUESTION: Final = 2.0
#: JetStream's "no message found"; a missing stream has another code.
_NO_MESSAGE: Final = 10037
_RULES_PREFIX: Final = ALL_RULES.removesuffix(">")


class RuleReader:
    """Keeps a :class:`RuleCache` equal to ``ATTUNE_RULES``. :meth:`run` does it until cancelled.

    Args:
        connector: the connection to NATS.
        rules: what is kept.
        metrics: where rules are counted.
        api: prefix of the JetStream API that reaches the stream.
        grace: seconds after the connection or the stream was created again in which what is missing may still arrive: the
            operator compares the stream with Kubernetes at its own reconnection.
    """

    def __init__(
        self, *, connector: NatsConnector, rules: RuleCache, metrics: Metrics, grace: float, api: str = PLAIN_API
    ) -> None:
        self._connector = connector
        self._api = api
        self._rules = rules
        self._metrics = metrics
        self._complete = asyncio.Event()
        self._following = False
        self._since = time.monotonic()
        self._grace = grace

    @property
    def absence_is_known(self) -> bool:
        """Whether a rule that the cache lacks can be believed not to exist: the cache is current, and has been for a while."""
        return self._following and time.monotonic() - self._since > self._grace

    async def wait_complete(self, seconds: float) -> bool:
        """See :class:`attune_api.rules.check.RuleLookup`. Without a connection it waits for the very first attempt only."""
        try:
            async with asyncio.timeout(seconds):
                if not await self._connector.wait_attempted():
                    return False
                await self._complete.wait()
        except TimeoutError:
            return False
        return True

    # -- following -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow until cancelled; wait out whatever NATS does."""
        retries = _RETRY.start()
        while True:
            connection = await self._connector.wait_connected()
            self._rules.begin_snapshot()
            reader = LastPerSubjectReader(
                connection=connection,
                stream=RULES_STREAM,
                subject=ALL_RULES,
                on_message=self._take,
                on_caught_up=self._caught_up,
                heartbeat=_HEARTBEAT,
                api=self._api,
            )
            try:
                await reader.start()
                await self._until_due(reader)
                log.debug("rules_resync")  # what is known stays as good as it was
            except (ReaderLostError, nats.errors.Error, OSError, TimeoutError) as error:
                if self._complete.is_set():
                    retries.reset()
                self._complete.clear()
                self._following = False
                if retries.failures == 0:
                    log.warning("rules_wait", error=type(error).__name__, reason=str(error)[:300])
                await asyncio.sleep(retries.next_delay())
            finally:
                await reader.stop()

    async def _until_due(self, reader: LastPerSubjectReader) -> None:
        """Return when it is time to read the whole stream again.

        Raises:
            ReaderLostError: there is another reason to do so.
        """
        due = time.monotonic() + spread(_RESYNC)
        while time.monotonic() < due:
            await reader.wait(_TICK)
            self._rules.expire(now=time.time())
            self._metrics.rules_known.set(len(self._rules))

    # -- rules.check.RuleLookup --------------------------------------------------------------------------------------------

    async def find_binding(self, uid: str, *, sensor_key: str) -> Binding | None:
        """What the streams say now: the rule's subject, then its history. See :class:`attune_api.rules.check.RuleLookup`."""
        try:
            async with asyncio.timeout(_QUESTION):
                connection = await self._connector.wait_connected()
                try:
                    rules = connection.jetstream_at(self._api)
                    message = await rules.get_last_msg(RULES_STREAM, f"{_RULES_PREFIX}{sensor_key}.{uid}")
                except NotFoundError as error:
                    if error.err_code != _NO_MESSAGE:
                        raise
                else:
                    return _binding_now(message, uid)
                return await _binding_before(connection.jetstream, uid, sensor_key=sensor_key)
        except (nats.errors.Error, OSError, TimeoutError, InvalidMessageError) as error:
            raise NotKnownYetError(f"{type(error).__name__}: {error}") from None

    # -- what the reader delivers --------------------------------------------------------------------------------------

    def _take(self, message: StreamMessage) -> None:
        try:
            sensor_key, uid = split_binding(message.subject)
        except ValueError as error:
            log.error("rule_message_invalid", subject=message.subject, reason=str(error))
            return
        headers = message.headers
        try:
            state = _state(message.data, uid)
        except InvalidMessageError as error:
            if not is_tombstone(headers):
                log.error("rule_message_invalid", subject=message.subject, reason=str(error))
                return
            state = None  # a tombstone is understood without its body
        if is_tombstone(headers):
            where = {} if state is None else {"namespace": state.namespace, "name": state.name}
            self._rules.end_binding(uid, sensor_key=sensor_key, at=message.stored_ns / 1e9, **where)
        elif state is not None:
            self._rules.put(KnownRule.of(state, sensor_key=sensor_key))

    def _caught_up(self) -> None:
        absent = self._rules.complete_snapshot(now=time.time())
        if not self._following:
            self._following = True
            self._since = time.monotonic()
            log.info("rules_heard", rules=len(self._rules), kept_though_absent=absent)
        self._complete.set()


def _state(body: bytes, uid: str) -> RuleHead:
    state = decode_rule_head(body)
    if state.uid != uid:
        raise InvalidMessageError(f"the body is about rule {state.uid!r}")
    return state


def _binding_now(message: RawStreamMsg, uid: str) -> Binding:
    """What the last message of the rule's subject says."""
    headers = message.headers or {}
    ended_at = message.time.timestamp() if is_tombstone(headers) and message.time else None
    try:
        state = _state(message.data or b"", uid)
    except InvalidMessageError:
        if ended_at is None:
            raise
        return Binding("", "", ended_at)
    return Binding(state.namespace, state.name, ended_at)


async def _binding_before(jetstream: JetStreamContext, uid: str, *, sensor_key: str) -> Binding | None:
    """The last word of the rule's history on this sensor."""
    found, sequence = None, 1
    with contextlib.suppress(NotFoundError):
        while True:
            message = await jetstream.get_msg(HISTORY_STREAM, sequence, subject=history_filter(rule_uid=uid), next=True)
            sequence = (message.seq or 0) + 1
            with contextlib.suppress(InvalidMessageError):
                entry = PastEntry(_state(message.data or b"", uid), message.headers or {})
                found = binding_in_history(entry, sensor_key=sensor_key) or found
    return found
