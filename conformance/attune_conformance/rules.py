"""The operator's side of NATS: writes the rule stream, reads the acks."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import nats.errors
import nats.js.errors

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import (
    Ack,
    InvalidMessageError,
    RuleEventType,
    RuleState,
    decode_ack,
    encode,
    rule_event_headers,
)
from attune_kit.nats.client import NatsClient
from attune_operator.public.nats import acks_stream, rules_stream

_T = TypeVar("_T")

_AGAIN: Final = 60.0


class RuleWriter:
    """Publishes rules for one sensor and reads what it acked.

    Args:
        url: the NATS server.
        creds: credentials of the operator; None where the server asks for none.
        observer_creds: credentials in the account of the rule stream, where requests for consumers arrive; ``creds``
            unless given.
        rules_api: prefix of the JetStream API that reaches the rule stream.
        sensor: whose rules they are.
    """

    def __init__(
        self,
        *,
        url: str,
        creds: Path | None,
        observer_creds: Path | None = None,
        rules_api: str = subjects.PLAIN_API,
        sensor: SensorRef,
    ) -> None:
        self._rules_api = rules_api
        self._url = url
        self._creds = creds
        self._observer_creds = observer_creds or creds
        self._sensor = sensor
        self._client: Any = None
        self._observer: Any = None
        self._jetstream: Any = None
        self._rule_stream: Any = None
        self.unreadable_acks: list[str] = []
        """What is wrong with acks that could not be read."""
        self.requests = 0
        """How often a consumer of the rule stream was asked for."""

    async def connect(self) -> None:
        """Connect; lost connections come back by themselves."""
        self._client = await self._connected(self._creds)
        self._observer = await self._connected(self._observer_creds)
        self._jetstream = self._client.jetstream(timeout=30)
        self._rule_stream = self._client.jetstream(prefix=self._rules_api, timeout=30)

        async def count(_message: Any) -> None:
            self.requests += 1

        await self._observer.subscribe(f"$JS.API.CONSUMER.CREATE.{subjects.RULES_STREAM}.>", cb=count)

    async def _connected(self, creds: Path | None) -> Any:
        async def ignore(_error: Exception) -> None:
            """The server is killed on purpose."""

        client = NatsClient()
        await client.connect(
            self._url,
            user_credentials=None if creds is None else str(creds),
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,
            connect_timeout=30,
            error_cb=ignore,
        )
        return client

    async def close(self) -> None:
        """End the connection."""
        for client in (self._client, self._observer):
            if client is not None:
                await client.close()

    async def make_streams(self) -> None:
        """Make the rule and the ack stream as the operator does."""
        await self._retried(lambda: self._rule_stream.add_stream(rules_stream(replicas=1)))
        await self._retried(lambda: self._jetstream.add_stream(acks_stream(replicas=1)))

    async def delete_rules(self) -> None:
        """Delete the rule stream with all that is in it."""
        await self._retried(lambda: self._rule_stream.delete_stream(subjects.RULES_STREAM))

    async def purge_acks(self) -> None:
        """Empty the ack stream."""
        await self._retried(lambda: self._jetstream.purge_stream(subjects.ACKS_STREAM))

    async def delete_consumers(self) -> int:
        """Delete the sensor's consumers behind its back; returns how many there were."""
        found = await self._retried(lambda: self._rule_stream.consumers_info(subjects.RULES_STREAM))
        for consumer in found:
            await self._retried(partial(self._rule_stream.delete_consumer, subjects.RULES_STREAM, consumer.name))
        return len(found)

    async def put(self, state: RuleState, event: RuleEventType = RuleEventType.UPDATED) -> None:
        """Publish a rule's state."""
        headers = rule_event_headers(event, state, time=datetime.now(UTC), event_id=uuid.uuid4())
        await self._publish(state.uid, encode(state), headers)

    async def delete(self, state: RuleState) -> None:
        """Publish a rule's tombstone."""
        await self.put(state, RuleEventType.DELETED)

    async def put_raw(self, uid: str, body: bytes) -> None:
        """Publish something else than a rule's state."""
        await self._publish(uid, body, None)

    async def _publish(self, uid: str, body: bytes, headers: dict[str, str] | None) -> None:
        subject = subjects.rule_subject(self._sensor, uid)
        await self._retried(lambda: self._rule_stream.publish(subject, body, headers=headers))

    async def ack(self, uid: str) -> Ack | None:
        """The latest ack of a rule; None while there is none that can be read."""
        subject = subjects.ack_subject(self._sensor, uid)
        try:
            message = await self._retried(lambda: self._jetstream.get_last_msg(subjects.ACKS_STREAM, subject))
        except nats.js.errors.NotFoundError:
            return None
        try:
            ack = decode_ack(message.data)
        except InvalidMessageError as error:
            self.unreadable_acks.append(str(error))
            return None
        if ack.rule_uid != uid:
            self.unreadable_acks.append(f"an ack on {subject} is about rule {ack.rule_uid}")
            return None
        return ack

    async def _retried(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat a call while the server comes back."""
        async with asyncio.timeout(_AGAIN):
            while True:
                try:
                    return await call()
                except nats.js.errors.NotFoundError:
                    raise
                except (nats.errors.Error, OSError):
                    await asyncio.sleep(0.05)


def changed(state: RuleState, **changes: Any) -> RuleState:
    """The next generation of a rule."""
    return msgspec.structs.replace(state, **{"generation": state.generation + 1, **changes})
