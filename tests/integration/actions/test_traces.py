"""The trace that an event belongs to reaches what its actions talk to."""

import msgspec
import pytest
from nats.js.api import StreamConfig
from support.actions_stage import Stage, Target, event, http, rule_actions

from attune_contract.events import Event

pytestmark = pytest.mark.nats

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def traced(k: int) -> Event:
    return msgspec.structs.replace(event(k), traceparent=TRACEPARENT, tracestate="a=1")


async def test_a_target_is_told_the_trace_of_the_event(stage: Stage, target: Target) -> None:
    own = http(target.url, name="own", headers=[{"name": "Traceparent", "value": OTHER}])
    carried = http(target.url, name="carried", cloudEvent="Binary")
    await stage.tell(rule_actions("r", http(target.url), own, carried))
    stage.start()
    await stage.store(traced(1), event(2))
    runs = {str(run.id): run for run in await stage.ended(6)}
    told = {}
    for request, _ in target.requests:
        run = runs[request.headers["Idempotency-Key"]]
        names = ("traceparent", "tracestate", "ce-traceparent", "ce-tracestate")
        told[run.event_seq, run.action] = [request.headers.get(name) for name in names]
    assert told == {
        (2, "post"): [TRACEPARENT, "a=1", None, None],
        (2, "carried"): [TRACEPARENT, "a=1", TRACEPARENT, "a=1"],
        (2, "own"): [OTHER, None, None, None],
        (3, "post"): [None, None, None, None],
        (3, "carried"): [None, None, None, None],
        (3, "own"): [OTHER, None, None, None],
    }


async def test_a_message_has_the_trace_of_the_event(stage: Stage) -> None:
    await stage.jetstream.add_stream(StreamConfig(name="OUT", subjects=["out"]))
    action = {"name": "tell", "nats": {"connection": {"url": stage.server.url}, "subject": "out", "jetStream": True}}
    await stage.tell(rule_actions("r", action))
    stage.start()
    await stage.store(traced(1), event(2))
    await stage.ended(2)
    subscription = await stage.jetstream.pull_subscribe("out", durable="reader", stream="OUT")
    messages = await subscription.fetch(2, timeout=60)
    told = {message.headers.get("traceparent"): message.headers.get("tracestate") for message in messages}
    assert told == {TRACEPARENT: "a=1", None: None}
