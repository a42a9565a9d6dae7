"""Publishes which tokens are still accepted: the stream ``ATTUNE_IDENTITIES``, one message per Sensor (docs/credentials.md).

Level-triggered like everything else: the desired messages are kept here, the published ones are read for each connection
and periodically, and the difference is published. Nothing waits for a NATS that is away; on return the difference is
published.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import nats.errors
import nats.js.errors
import structlog
from nats.js import api

from attune_contract import messages, subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import IdentityState, InvalidMessageError
from attune_kit.backoff import Backoff, spread
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, NatsUnavailableError, describe, open_connection
from attune_kit.nats.last_per_subject import ReaderLostError, StreamMessage, read_snapshot
from attune_operator.credentials.keys import RETAIN
from attune_operator.resources.limits import MAX_PAYLOAD_SCHEMAS
from attune_operator.runtime import metrics
from attune_operator.streams.definitions import StreamUnusableError, ensure_stream, last_per_subject_stream

_log = structlog.stdlib.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.25, maximum=5.0)
#: Seconds for which a renewal waits until its identity is published, before it goes on without.
_PATIENCE: Final = 2.0
#: Seconds after which the published messages are read again, in case the stream was wiped or restored.
_REREAD: Final = 60.0
_SNAPSHOT: Final = 60.0
#: A deleted Sensor's message is kept until the last token that it may have been given has expired.
_DELETED_TTL: Final = str(int(RETAIN.total_seconds()))


def identities_stream(*, replicas: int) -> api.StreamConfig:
    """``ATTUNE_IDENTITIES``: which tokens of each Sensor are accepted. Messages of deleted Sensors end by their own TTL."""
    return last_per_subject_stream(
        name=subjects.IDENTITIES_STREAM,
        subject=subjects.ALL_IDENTITIES,
        description="Which tokens of each Sensor are accepted. Written by attune-operator only.",
        replicas=replicas,
        largest=MAX_PAYLOAD_SCHEMAS + 64 * 1024,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
    )


#: Called when a Sensor uid's credentials from before a moment are refused from now on; None: all, for good.
Revoke = Callable[[str, int | None], None]


class IdentityPublisher:
    """Keeps ``ATTUNE_IDENTITIES`` in its desired state. ``namespaces`` are the watched ones; empty means all."""

    def __init__(
        self,
        *,
        endpoint: NatsEndpoint,
        replicas: int,
        namespaces: Sequence[str] = (),
        revoke: Revoke = lambda _uid, _not_before: None,
    ) -> None:
        self._revoke = revoke
        self._endpoint = endpoint
        self._replicas = replicas
        self._namespaces = frozenset(namespaces)
        self._desired: dict[str, IdentityState] = {}
        self._published: dict[str, tuple[int, IdentityState | None]] = {}
        self._listed: dict[SensorRef, str] | None = None
        self._connected = False
        self._changed = asyncio.Event()
        self._progress: asyncio.Condition = asyncio.Condition()

    # -- what should be there ------------------------------------------------------------------------------------------

    def accepted_from(self, ref: SensorRef, *, uid: str) -> int | None:
        """Return the earliest ``iat`` that was published for this Sensor; None if there is none."""
        subject = subjects.identity_subject(ref)
        known = (self._desired.get(subject), self._published.get(subject, (0, None))[1])
        return max(
            (state.not_before for state in known if state and state.uid == uid and state.not_before is not None),
            default=None,
        )

    async def publish(self, ref: SensorRef, state: IdentityState) -> None:
        """Publish what is accepted from now on. Return when it is published, or when waiting for NATS is pointless."""
        subject = subjects.identity_subject(ref)
        self._desired[subject] = state
        if state.not_before is not None:
            self._revoke(state.uid, state.not_before)
        if self._is_published(subject):
            return
        self._changed.set()
        if not self._connected:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE), self._progress:
                await self._progress.wait_for(lambda: self._is_published(subject) or not self._connected)

    def on_deleted(self, ref: SensorRef, *, uid: str) -> None:
        """The Sensor was deleted: none of its tokens is accepted from now on."""
        subject = subjects.identity_subject(ref)
        desired = self._desired.get(subject)
        if desired is not None and desired.uid != uid:
            return  # another one of the same name exists, and its uid is published
        self._desired[subject] = IdentityState(sensor_ref=str(ref), uid=uid, deleted=True)
        self._revoke(uid, None)
        self._changed.set()

    def on_resync(self, listed: dict[SensorRef, str]) -> None:
        """A complete list of Sensors came, by uid: others on the stream were deleted without an event."""
        self._listed = listed
        self._changed.set()

    def _is_published(self, subject: str) -> bool:
        return self._published.get(subject, (0, None))[1] == self._desired.get(subject)

    def _delete_unlisted(self) -> None:
        if self._listed is None:
            return
        for subject, (_, state) in self._published.items():
            if state is None or state.deleted or subject in self._desired:
                continue
            try:
                ref = SensorRef.parse(state.sensor_ref)
            except ValueError:
                continue
            if ref not in self._listed and (not self._namespaces or ref.namespace in self._namespaces):
                self.on_deleted(ref, uid=state.uid)

    def _forget(self) -> None:
        """Deleted Sensors need no attention once that is published."""
        for subject in [s for s, state in self._desired.items() if state.deleted and self._is_published(s)]:
            del self._desired[subject]

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
        async with self._progress:
            self._progress.notify_all()

    async def _serve(self, connection: NatsConnection) -> None:
        closed = asyncio.create_task(connection.wait_closed(), name="identities: connection")
        try:
            while not closed.done():
                await self._read(connection)
                self._connected = True
                until = asyncio.get_running_loop().time() + spread(_REREAD)
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
            except InvalidMessageError:
                state = None  # it will be overwritten
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
            self._changed.clear()
            self._delete_unlisted()
            for subject in list(self._desired):
                if not self._is_published(subject):
                    await self._write(connection, subject)
            self._forget()
            async with self._progress:
                self._progress.notify_all()
            if (left := until - loop.time()) <= 0:
                return
            woken = asyncio.create_task(self._changed.wait())
            try:
                await asyncio.wait({woken, closed}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()

    async def _write(self, connection: NatsConnection, subject: str) -> None:
        state = self._desired[subject]
        sequence = self._published.get(subject, (0, None))[0]
        # A writer that does not know the latest message fails, instead of bringing a revoked token back.
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
