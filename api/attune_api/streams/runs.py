"""Takes what the runner says about runs from ``ATTUNE_RUNS``: stored first, acknowledged then.

The stream is a work queue with one durable consumer, which all replicas of the API share. A batch that was stored and not
acknowledged comes again, and changes nothing: its revisions are known.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError
from sqlalchemy.exc import SQLAlchemyError

from attune_api.metrics import Metrics
from attune_api.runs.sql import store_runs
from attune_api.storage.database import Database
from attune_api.storage.faults import is_about_a_row
from attune_api.streams.outbox import OUTAGES
from attune_contract.actions import ALL_RUNS, REPORTS_CONSUMER, RUNS_STREAM, Run, decode_run
from attune_contract.messages import InvalidMessageError
from attune_kit.backoff import Backoff
from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.connector import NatsConnector

log = structlog.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.2, maximum=5.0)
#: Reports of one batch. Events wait for the same writer on SQLite, so a batch must not take long.
_BATCH: Final = 200
#: Seconds for which the server holds a request that it has nothing for.
_PATIENCE: Final = 5.0
#: Seconds after which a batch that nobody acknowledged is given to another replica.
_ACK_WAIT: Final = 60.0
_MOST_PENDING: Final = 4000


class RunConsumer:
    """Stores what runners report. :meth:`run` does it until cancelled.

    Args:
        database: where runs are.
        connector: the connection to NATS.
        metrics: what is counted.
        stored: called after something was stored.
        now: the time.
    """

    def __init__(
        self,
        *,
        database: Database,
        connector: NatsConnector,
        metrics: Metrics,
        stored: Callable[[], object],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._connector = connector
        self._metrics = metrics
        self._stored = stored
        self._now = now

    async def run(self) -> None:
        """Take reports until cancelled; wait out whatever NATS or the database do, and for the stream to be made."""
        retries = _RETRY.start()
        while True:
            connection = await self._connector.wait_connected()
            try:
                await self._follow(connection, on_progress=retries.reset)
            except NotFoundError:
                # No runner was ever here; it makes the stream.
                await asyncio.sleep(retries.next_delay())
            except OUTAGES as error:
                if retries.failures == 0:
                    log.warning("runs_wait", error=type(error).__name__, reason=str(error)[:300])
                await asyncio.sleep(retries.next_delay())

    async def _follow(self, connection: NatsConnection, *, on_progress: Callable[[], None]) -> None:
        """Take reports while the connection lives.

        Raises:
            nats.errors.Error, sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: NATS or the database is away.
        """
        jetstream: JetStreamContext = connection.jetstream
        await self._ensure_consumer(jetstream)
        subscription = await jetstream.pull_subscribe_bind(REPORTS_CONSUMER, stream=RUNS_STREAM)
        try:
            while not connection.closed:
                try:
                    messages = await subscription.fetch(_BATCH, timeout=_PATIENCE)
                except TimeoutError:
                    if connection.closed:
                        return
                    # An idle stream, or one that is gone: then this raises NotFoundError.
                    await jetstream.consumer_info(RUNS_STREAM, REPORTS_CONSUMER)
                    on_progress()
                    continue
                try:
                    await self._take(messages)
                except OUTAGES:
                    for message in messages:
                        with contextlib.suppress(nats.errors.Error, OSError):  # also one that is acknowledged already
                            await message.nak()
                    raise
                on_progress()
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def _ensure_consumer(self, jetstream: JetStreamContext) -> None:
        try:
            await jetstream.consumer_info(RUNS_STREAM, REPORTS_CONSUMER)
        except NotFoundError:
            await jetstream.stream_info(RUNS_STREAM)  # raises NotFoundError when it is the stream that is missing
            config = ConsumerConfig(
                durable_name=REPORTS_CONSUMER,
                filter_subject=ALL_RUNS,
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=_ACK_WAIT,
                max_deliver=-1,
                max_ack_pending=_MOST_PENDING,
            )
            with contextlib.suppress(APIError):  # another replica was quicker
                await jetstream.add_consumer(RUNS_STREAM, config)
            await jetstream.consumer_info(RUNS_STREAM, REPORTS_CONSUMER)

    async def _take(self, messages: Sequence[Msg]) -> None:
        runs: list[tuple[Msg, Run]] = []
        for message in messages:
            try:
                runs.append((message, decode_run(message.data)))
            except InvalidMessageError as error:
                await self._refuse(message, str(error))
        if not runs:
            return
        try:
            await self._store([run for _, run in runs])
        except SQLAlchemyError as error:
            if not is_about_a_row(error):
                raise
            # One of them is what the database does not take; the others must not wait for it.
            await self._one_by_one(runs)
            return
        for message, _ in runs:
            await message.ack()

    async def _one_by_one(self, runs: Sequence[tuple[Msg, Run]]) -> None:
        for message, run in runs:
            try:
                await self._store([run])
            except SQLAlchemyError as error:
                if not is_about_a_row(error):
                    raise
                await self._refuse(message, f"the database does not take it ({type(error).__name__})")
            else:
                await message.ack()

    async def _store(self, runs: Sequence[Run]) -> None:
        now = self._now()
        stored = await self._database.write(lambda connection: store_runs(connection, runs=runs, now=now))
        self._metrics.runs["stored"].inc(stored.changed)
        self._metrics.runs["stale"].inc(stored.stale)
        if stored.changed:
            self._stored()

    async def _refuse(self, message: Msg, reason: str) -> None:
        log.error("run_message_invalid", subject=message.subject, reason=reason[:300])
        self._metrics.runs["refused"].inc()
        await message.term()
