"""Tells the API which tokens are still accepted: the stream ``ATTUNE_IDENTITIES``, one message a Sensor (design, "Credentials").

Level-triggered like everything else: what should be there is kept here, what is there is read at each connection and again and
again, and the difference is published. With NATS away nothing waits for it; on return the difference heals by itself.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Final

import nats.errors
import nats.js.errors
import structlog
from nats.js import api

from attune_contract import messages, subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import IdentityState, InvalidMessage
from attune_kit.backoff import Backoff
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, NatsUnavailableError, describe, open_connection
from attune_kit.nats.last_per_subject import ReaderLostError, StreamMessage, read_snapshot
from attune_operator.credentials.keys import RETAIN
from attune_operator.resources.limits import MAX_PAYLOAD_SCHEMAS
from attune_operator.runtime import metrics
from attune_operator.streams.definitions import StreamUnusableError, ensure_stream, last_words

_log = structlog.stdlib.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.25, maximum=5.0)
#: Seconds for which a renewal waits for its identity to be published before it goes on without.
_PATIENCE: Final = 2.0
#: Seconds after which what is published is read again, against a stream that was wiped or restored meanwhile.
_REREAD: Final = 60.0
_SNAPSHOT: Final = 60.0
#: A deleted Sensor's word is kept until the last token that it may have been given is over.
_DELETED_TTL: Final = str(int(RETAIN.total_seconds()))


def identities_stream(*, replicas: int) -> api.StreamConfig:
    """``ATTUNE_IDENTITIES``: the last word on each Sensor's tokens; that a Sensor is gone ends by its own TTL."""
    return last_words(
        name=subjects.IDENTITIES_STREAM,
        subject=subjects.ALL_IDENTITIES,
        description="Which tokens of each Sensor are accepted. Written by attune-operator only.",
        replicas=replicas,
        largest=MAX_PAYLOAD_SCHEMAS + 64 * 1024,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
    )


class IdentityPublisher:
    """Keeps ``ATTUNE_IDENTITIES`` as it should be. ``namespaces`` are those that are watched; empty means all."""

    def __init__(self, *, endpoint: NatsEndpoint, replicas: int, namespaces: Sequence[str] = ()) -> None:
        self._endpoint = endpoint
        self._replicas = replicas
        self._namespaces = frozenset(namespaces)
        self._wanted: dict[str, IdentityState] = {}
        self._published: dict[str, tuple[int, IdentityState | None]] = {}
        self._living: dict[SensorRef, str] | None = None
        self._connected = False
        self._dirty = asyncio.Event()
        self._settled: asyncio.Condition = asyncio.Condition()

    # -- what should be there ------------------------------------------------------------------------------------------

    def accepted_from(self, ref: SensorRef, *, uid: str) -> int | None:
        """The earliest ``iat`` that was published for this Sensor; None for none."""
        subject = subjects.identity_subject(ref)
        known = (self._wanted.get(subject), self._published.get(subject, (0, None))[1])
        return max(
            (state.not_before for state in known if state and state.uid == uid and state.not_before is not None),
            default=None,
        )

    async def publish(self, ref: SensorRef, state: IdentityState) -> None:
        """Publish what is accepted from now on; returns when it is, or when waiting for NATS is no use."""
        subject = subjects.identity_subject(ref)
        self._wanted[subject] = state
        if self._stands(subject):
            return
        self._dirty.set()
        if not self._connected:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE), self._settled:
                await self._settled.wait_for(lambda: self._stands(subject) or not self._connected)

    def on_deleted(self, ref: SensorRef, *, uid: str) -> None:
        """The Sensor was deleted: none of its tokens is accepted any more."""
        subject = subjects.identity_subject(ref)
        wanted = self._wanted.get(subject)
        if wanted is not None and wanted.uid != uid:
            return  # one of the same name has taken its place, and its uid is published
        self._wanted[subject] = IdentityState(sensor_ref=str(ref), uid=uid, deleted=True)
        self._dirty.set()

    def on_resync(self, living: dict[SensorRef, str]) -> None:
        """A complete list of Sensors came, by uid: others on the stream were deleted without an event."""
        self._living = living
        self._dirty.set()

    def _stands(self, subject: str) -> bool:
        return self._published.get(subject, (0, None))[1] == self._wanted.get(subject)

    def _bury_strangers(self) -> None:
        if self._living is None:
            return
        for subject, (_, state) in self._published.items():
            if state is None or state.deleted or subject in self._wanted:
                continue
            try:
                ref = SensorRef.parse(state.sensor_ref)
            except ValueError:
                continue
            if ref not in self._living and (not self._namespaces or ref.namespace in self._namespaces):
                self.on_deleted(ref, uid=state.uid)

    def _forget(self) -> None:
        """Deleted Sensors whose word has been published need no more care."""
        for subject in [s for s, state in self._wanted.items() if state.deleted and self._stands(s)]:
            del self._wanted[subject]

    # -- what is there -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish until cancelled."""
        retries = _RETRY.start()
        while True:
            try:
                async with open_connection(self._endpoint) as connection:
                    await self._serve(connection)
                    retries.reset()
            except (NatsUnavailableError, StreamUnusableError, ReaderLostError) as error:
                _log.warning("identities_not_published", error=str(error))
            except (nats.errors.Error, TimeoutError, OSError) as error:
                _log.warning("identities_not_published", error=describe(error))
            finally:
                await self._disconnected()
            await asyncio.sleep(retries.next_delay())

    async def _disconnected(self) -> None:
        self._connected = False
        async with self._settled:
            self._settled.notify_all()

    async def _serve(self, connection: NatsConnection) -> None:
        closed = asyncio.create_task(connection.wait_closed(), name="identities: connection")
        try:
            while not closed.done():
                await self._read(connection)
                self._connected = True
                until = asyncio.get_running_loop().time() + _REREAD * (0.9 + 0.2 * random.random())  # noqa: S311 - jitter
                await self._publish_until(connection, closed, until)
        finally:
            closed.cancel()
        _log.warning("identities_not_published", error=connection.reason)

    async def _read(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, identities_stream(replicas=self._replicas))
        found: dict[str, tuple[int, IdentityState | None]] = {}

        def take(message: StreamMessage) -> None:
            try:
                state: IdentityState | None = messages.decode_identity(message.data)
            except InvalidMessage:
                state = None  # it will be written over
            found[message.subject] = (message.sequence, state)

        await read_snapshot(
            connection=connection,
            stream=subjects.IDENTITIES_STREAM,
            subject=subjects.ALL_IDENTITIES,
            on_message=take,
            timeout=_SNAPSHOT,
        )
        self._published = found

    async def _publish_until(self, connection: NatsConnection, closed: "asyncio.Task[None]", until: float) -> None:
        loop = asyncio.get_running_loop()
        while not closed.done():
            self._dirty.clear()
            self._bury_strangers()
            for subject in list(self._wanted):
                if not self._stands(subject):
                    await self._write(connection, subject)
            self._forget()
            async with self._settled:
                self._settled.notify_all()
            if (left := until - loop.time()) <= 0:
                return
            woken = asyncio.create_task(self._dirty.wait())
            try:
                await asyncio.wait({woken, closed}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()

    async def _write(self, connection: NatsConnection, subject: str) -> None:
        state = self._wanted[subject]
        sequence = self._published.get(subject, (0, None))[0]
        # A writer that does not know the latest word loses, instead of bringing a revoked token back.
        headers = {"Nats-Expected-Last-Subject-Sequence": str(sequence)}
        if state.deleted:
            headers |= {"Nats-TTL": f"{_DELETED_TTL}s", "Nats-Rollup": "sub"}
        answer = await connection.jetstream.publish(subject, messages.encode(state), headers=headers)
        self._published[subject] = (answer.seq, state)
        metrics.IDENTITIES_PUBLISHED.inc()
        _log.info(
            "identity_published", sensor=state.sensor_ref, uid=state.uid, not_before=state.not_before,
            deleted=state.deleted,
        )  # fmt: skip
