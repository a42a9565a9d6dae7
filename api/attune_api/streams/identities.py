"""Hears from the operator which tokens are still accepted, and puts it in force."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog
from nats.aio.msg import Msg

from attune_api import backoff
from attune_api.identity.revocation import IdentityStates, forget_deleted, save_states
from attune_api.metrics import Metrics
from attune_api.storage.database import Database
from attune_api.streams.latest import Interrupted, follow
from attune_api.streams.link import NatsLink
from attune_api.streams.outbox import OUTAGES
from attune_contract.messages import IdentityState, InvalidMessage, decode_identity
from attune_contract.subjects import ALL_IDENTITIES, IDENTITIES_STREAM

log = structlog.get_logger(__name__)

#: Seconds after which the whole stream is read again.
_RESYNC: Final = 300.0


class IdentityReader:
    """Follows ``ATTUNE_IDENTITIES``. :meth:`run` does it until cancelled.

    A state is in force in memory before it is kept in the table: a revocation must not wait for a database. A sensor that
    is absent from the stream keeps its last state: a wiped stream revokes nothing and gives nothing back.
    """

    def __init__(self, *, database: Database, link: NatsLink, states: IdentityStates, metrics: Metrics) -> None:
        self._database = database
        self._link = link
        self._states = states
        self._metrics = metrics
        self._not_kept: dict[str, IdentityState] = {}
        self._heard = 0

    async def run(self) -> None:
        """Follow until cancelled; wait out whatever NATS or the database do."""
        attempt = 0
        while True:
            heard = self._heard
            try:
                await self._keep()
                client = await self._link.client()
                await follow(
                    client,
                    self,
                    stream=IDENTITIES_STREAM,
                    subjects=ALL_IDENTITIES,
                    resync=_RESYNC * (0.9 + 0.2 * random.random()),  # noqa: S311 - jitter
                    generation=lambda: self._link.reconnects,
                )
            except OUTAGES as error:
                if self._heard != heard:
                    attempt = 0
                if isinstance(error, Interrupted):
                    log.debug("identities_resync", reason=str(error))
                    await self._forget()
                elif attempt == 0:
                    log.warning("identities_wait", error=type(error).__name__, reason=str(error)[:300])
                await asyncio.sleep(backoff.delay(attempt, random=random.random, most=2.0))
                attempt += 1

    # -- streams.latest.Follower ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """See :class:`attune_api.streams.latest.Follower`."""

    def take(self, message: Msg) -> None:
        """See :class:`attune_api.streams.latest.Follower`."""
        try:
            state = decode_identity(message.data)
        except InvalidMessage as error:
            log.error("identity_message_invalid", subject=message.subject, reason=str(error))
            return
        if self._states.apply(state):
            self._not_kept[state.sensor_ref] = state
            log.info(
                "identity_state",
                **(msgspec.structs.asdict(state) | {"payload_schemas": sorted(state.payload_schemas)}),
            )

    def complete(self) -> None:
        """See :class:`attune_api.streams.latest.Follower`."""
        self._heard += 1
        self._states.heard = True

    async def settle(self) -> None:
        """See :class:`attune_api.streams.latest.Follower`."""
        self._metrics.identities_known.set(len(self._states))
        await self._keep()

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
