"""Follows the stream of identities: which tokens are still accepted, and enforces it."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog

from attune_api.identity.revocation import IdentityStates, forget_deleted, save_states
from attune_api.metrics import Metrics
from attune_api.storage.database import Database
from attune_api.streams.outbox import OUTAGES
from attune_contract.messages import IdentityState, InvalidMessageError, decode_identity
from attune_contract.subjects import ALL_IDENTITIES, IDENTITIES_STREAM
from attune_kit.backoff import Backoff, spread
from attune_kit.nats.connector import NatsConnector
from attune_kit.nats.last_per_subject import LastPerSubjectReader, ReaderLostError, StreamMessage

log = structlog.get_logger(__name__)

#: Seconds after which the whole stream is read again.
_RESYNC: Final = 300.0
#: Seconds within which what was heard is written to the table.
_TICK: Final = 0.25
_HEARTBEAT: Final = 1.0
_RETRY: Final = Backoff(initial=0.2, maximum=2.0)


class IdentityReader:
    """Follows ``ATTUNE_IDENTITIES``. :meth:`run` does it until cancelled.

    A state is in force in memory before it is kept in the table: a revocation must not wait for a database. A sensor that
    is absent from the stream keeps its last state: a wiped stream revokes nothing and gives nothing back.
    """

    def __init__(
        self, *, database: Database, connector: NatsConnector, states: IdentityStates, metrics: Metrics
    ) -> None:
        self._database = database
        self._connector = connector
        self._states = states
        self._metrics = metrics
        self._not_kept: dict[str, IdentityState] = {}
        self._changed = asyncio.Event()
        self._heard = 0

    async def run(self) -> None:
        """Follow until cancelled; wait out whatever NATS or the database do."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_changes(), name="identities: keep")
            await self._follow_forever()

    async def _keep_changes(self) -> None:
        """Keep each change at once: a revocation must outlive a crash. What fails is left to the next tick."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            with contextlib.suppress(*OUTAGES):
                await self._keep()

    async def _follow_forever(self) -> None:
        retries = _RETRY.start()
        while True:
            heard = self._heard
            try:
                await self._keep()
                await self._follow()
                log.debug("identities_resync")
            except (ReaderLostError, *OUTAGES) as error:
                if self._heard != heard:
                    retries.reset()
                if retries.failures == 0:
                    log.warning("identities_wait", error=type(error).__name__, reason=str(error)[:300])
                if isinstance(error, ReaderLostError):
                    await self._forget()
                await asyncio.sleep(retries.next_delay())
            else:
                await self._forget()

    async def _follow(self) -> None:
        """Read the stream until it is time to read all of it again.

        Raises:
            ReaderLostError: there is another reason to do so.
            nats.errors.Error, sqlalchemy.exc.SQLAlchemyError, OSError: NATS or the database is away.
        """
        reader = LastPerSubjectReader(
            connection=await self._connector.wait_connected(),
            stream=IDENTITIES_STREAM,
            subject=ALL_IDENTITIES,
            on_message=self._take,
            on_caught_up=self._caught_up,
            heartbeat=_HEARTBEAT,
        )
        due = time.monotonic() + spread(_RESYNC)
        try:
            await reader.start()
            while time.monotonic() < due:
                await reader.wait(_TICK)
                self._metrics.identities_known.set(len(self._states))
                await self._keep()
        finally:
            await reader.stop()

    def _take(self, message: StreamMessage) -> None:
        try:
            state = decode_identity(message.data)
        except InvalidMessageError as error:
            log.error("identity_message_invalid", subject=message.subject, reason=str(error))
            return
        if self._states.apply(state):
            self._not_kept[state.sensor_ref] = state
            self._changed.set()
            log.info(
                "identity_state",
                **(msgspec.structs.asdict(state) | {"payload_schemas": sorted(state.payload_schemas)}),
            )

    def _caught_up(self) -> None:
        self._heard += 1
        self._states.heard = True

    async def _keep(self) -> None:
        """Write to the table what is in force and not there yet; what fails stays for the next time."""
        if not self._not_kept:
            return
        states = list(self._not_kept.values())
        now = datetime.now(UTC)
        await self._database.write(lambda connection: save_states(connection, states=states, now=now))
        for state in states:
            if self._not_kept.get(state.sensor_ref) is state:
                del self._not_kept[state.sensor_ref]

    async def _forget(self) -> None:
        try:
            gone = await self._database.write(lambda connection: forget_deleted(connection, now=datetime.now(UTC)))
        except OUTAGES as error:
            log.warning("identities_not_tidied", error=type(error).__name__)
            return
        self._states.forget(gone)
        self._metrics.identities_known.set(len(self._states))
