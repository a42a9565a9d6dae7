"""Writes the rule stream and reads the ack stream as the operator does."""

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import nats
import nats.js.errors
from nats.js.api import StreamConfig
from support.eventually import until

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import Ack, AckState, RuleEventType, RuleState, decode_ack, encode, rule_event_headers

SENSOR = SensorRef("attune-system", "core.timer")


def rule_state(number: int = 1, **changes: Any) -> RuleState:
    """A rule; ``number`` tells rules apart."""
    fields: dict[str, Any] = {
        "uid": str(uuid.UUID(int=number)),
        "namespace": "default",
        "name": f"rule-{number}",
        "generation": 1,
        "enabled": True,
        "trigger_type": "core.intervaltimer",
        "parameters": {"interval": 1},
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return RuleState(**{**fields, **changes})


def changed(state: RuleState, **changes: Any) -> RuleState:
    """The next generation of a rule."""
    return msgspec.structs.replace(state, **{"generation": state.generation + 1, **changes})


class RuleStream:
    """The operator's side of NATS."""

    def __init__(self, url: str, *, sensor: SensorRef = SENSOR, creds: Path | None = None) -> None:
        self._url = url
        self._creds = creds
        self._sensor = sensor
        self._client: Any = None
        self.js: Any = None

    async def connect(self) -> None:
        async def ignore(_error: Exception) -> None:
            pass

        self._client = await nats.connect(
            self._url,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,
            error_cb=ignore,
            connect_timeout=5,
            user_credentials=self._creds,
        )
        self.js = self._client.jetstream(timeout=1)

    async def close(self) -> None:
        await self._client.close()

    async def create(self) -> None:
        """Make both streams."""
        for name, subject in ((subjects.RULES_STREAM, subjects.ALL_RULES), (subjects.ACKS_STREAM, subjects.ALL_ACKS)):
            await self._again(
                lambda name=name, subject=subject: self.js.add_stream(
                    StreamConfig(name=name, subjects=[subject], max_msgs_per_subject=1, allow_rollup_hdrs=True)
                )
            )

    async def delete(self) -> None:
        """Delete the rule stream."""
        await self.js.delete_stream(subjects.RULES_STREAM)

    async def put(self, state: RuleState, event: RuleEventType = RuleEventType.UPDATED) -> None:
        """Publish a rule's state."""
        headers = rule_event_headers(event, state, time=datetime.now(UTC), event_id=uuid.uuid4())
        subject = subjects.rule_subject(self._sensor, state.uid)
        await self._again(lambda: self.js.publish(subject, encode(state), headers=headers))

    async def put_many(self, states: list[RuleState]) -> None:
        """Publish the states of many rules."""
        for begin in range(0, len(states), 200):
            await asyncio.gather(*(self.put(state) for state in states[begin : begin + 200]))

    async def bury(self, state: RuleState) -> None:
        """Publish a rule's tombstone."""
        await self.put(state, RuleEventType.DELETED)

    async def put_raw(self, uid: str, body: bytes) -> None:
        """Publish something else than a rule's state."""
        await self.js.publish(subjects.rule_subject(self._sensor, uid), body)

    async def ack(self, uid: str) -> Ack | None:
        """The latest ack of a rule; None when there is none."""
        try:
            message = await self.js.get_last_msg(subjects.ACKS_STREAM, subjects.ack_subject(self._sensor, uid))
        except nats.js.errors.NotFoundError:
            return None
        return decode_ack(message.data)

    async def wait_ack(self, state: RuleState, expected: AckState, *, within: float = 5.0) -> Ack:
        """Wait until this generation of the rule was acked with this state."""

        async def acked() -> Ack:
            seen = await self.ack(state.uid)
            assert seen is not None
            assert (seen.generation, seen.state) == (state.generation, expected)
            return seen

        return await until(acked, within=within, what=f"the ack {expected} of generation {state.generation}")

    async def acks_stored(self) -> int:
        """How many acks the stream holds."""
        info = await self.js.stream_info(subjects.ACKS_STREAM)
        return int(info.state.messages)

    async def _again(self, call: Any) -> Any:
        """Repeat a call while the server comes back."""

        async def answered() -> tuple[Any]:
            return (await call(),)

        return (await until(answered, within=10))[0]
