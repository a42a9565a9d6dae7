"""Writes the rule stream and reads the ack stream as the operator does."""

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.eventually import until

from attune_conformance.rules import RuleWriter, changed
from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import Ack, AckState, RuleState

__all__ = ["RuleStream", "changed", "rule_state"]

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


class RuleStream(RuleWriter):
    """The operator's side of NATS, with what tests ask besides."""

    def __init__(self, url: str, *, sensor: SensorRef = SENSOR, creds: Path | None = None) -> None:
        super().__init__(url=url, sensor=sensor, creds=creds)

    @property
    def js(self) -> Any:
        """The JetStream client."""
        return self._jetstream

    async def put_many(self, states: list[RuleState]) -> None:
        """Publish the states of many rules."""
        for begin in range(0, len(states), 200):
            await asyncio.gather(*(self.put(state) for state in states[begin : begin + 200]))

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
