"""The streams of actions and runs on a real NATS server, and what operator and runner say on them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StreamConfig
from support.nats_client import connect
from support.nats_server import NatsServer

from attune_contract import subjects
from attune_contract.actions import (
    ACTIONS_STREAM,
    ALL_ACTIONS,
    ALL_QUEUED_RUNS,
    ALL_RUNS,
    RUN_QUEUE_STREAM,
    RUNS_STREAM,
    QueuedRun,
    RuleActions,
    Run,
    actions_subject,
    decode_queued_run,
    encode,
    run_subject,
)
from attune_contract.identity import SensorRef
from attune_contract.messages import RuleEventType, RuleState, rule_event_headers
from attune_contract.messages import encode as encode_message
from attune_operator.streams.definitions import rules_stream


class RunStreams:
    """Operator and runner in one."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self.jetstream = jetstream

    async def report(self, *runs: Run) -> None:
        """As the runner reports."""
        await asyncio.gather(*(self.jetstream.publish(run_subject(each), encode(each)) for each in runs))

    async def publish_rule(self, actions: RuleActions) -> None:
        """As the operator publishes a Rule: on the stream of sensors, and its actions on the runner's."""
        now = datetime.now(UTC)
        state = RuleState(
            uid=actions.uid,
            namespace=actions.namespace,
            name=actions.name,
            generation=actions.generation,
            enabled=actions.enabled,
            trigger_type="core.intervaltimer",
            parameters={},
            created_at=now,
        )
        headers = rule_event_headers(RuleEventType.CREATED, state, time=now, event_id=_ANY_ID)
        sensor = SensorRef("attune-system", "core.timer")
        await self.jetstream.publish(subjects.rule_subject(sensor, state.uid), encode_message(state), headers=headers)
        await self.jetstream.publish(actions_subject(actions.namespace, actions.uid), encode(actions))

    async def queued(self) -> list[QueuedRun]:
        """What is on the queue, in its order."""
        state = (await self.jetstream.stream_info(RUN_QUEUE_STREAM)).state
        found: list[QueuedRun] = []
        if not state.messages:
            return found
        for sequence in range(state.first_seq, state.last_seq + 1):
            message: Any = await self.jetstream.get_msg(RUN_QUEUE_STREAM, sequence)
            found.append(decode_queued_run(message.data))
        return found


_ANY_ID = uuid.UUID(int=7)


@asynccontextmanager
async def run_streams(server: NatsServer, *, queue: bool = True) -> AsyncIterator[RunStreams]:
    """The streams, made as operator and runner make them."""
    client = await connect(server.url)
    jetstream = client.jetstream(timeout=60)
    await jetstream.add_stream(rules_stream(replicas=1))
    await jetstream.add_stream(
        StreamConfig(name=ACTIONS_STREAM, subjects=[ALL_ACTIONS], max_msgs_per_subject=1, allow_direct=True)
    )
    names = [(RUNS_STREAM, ALL_RUNS), *([(RUN_QUEUE_STREAM, ALL_QUEUED_RUNS)] if queue else [])]
    for name, subject in names:
        await jetstream.add_stream(
            StreamConfig(
                name=name,
                subjects=[subject],
                retention=RetentionPolicy.WORK_QUEUE,
                discard=DiscardPolicy.NEW,
            )
        )
    try:
        yield RunStreams(jetstream)
    finally:
        await client.close()
