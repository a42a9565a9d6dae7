"""Runs of kind nats: to a real server, with JetStream and without."""

from typing import Any

import pytest
from nats.js.api import StreamConfig
from support.actions_stage import Stage, event, rule_actions

from attune_contract.actions import RunReason, RunState

pytestmark = pytest.mark.nats


def publish(url: str, *, name: str = "tell", **more: Any) -> dict[str, Any]:
    return {"name": name, "nats": {"connection": {"url": url}, "subject": "out.${event.payload.where}", **more}}


async def test_messages_arrive_with_the_run_s_id(stage: Stage) -> None:
    await stage.jetstream.add_stream(StreamConfig(name="OUT", subjects=["out.>"]))
    url = stage.server.url
    kept = publish(
        url, name="kept", jetStream=True, body={"k": "${event.payload.k}"}, headers={"X": "<${event.payload.k}>"}
    )
    plain = publish(url, name="plain")
    await stage.tell(rule_actions("r", kept, plain))
    stage.start()
    await stage.store(event(1, payload={"k": 5, "where": "here"}))
    runs = {run.action: run for run in await stage.ended(2)}
    assert {run.state for run in runs.values()} == {RunState.SUCCEEDED}
    assert runs["kept"].result == {"stream": "OUT", "sequence": runs["kept"].result["sequence"]}  # type: ignore[index]
    subscription = await stage.jetstream.pull_subscribe("out.>", durable="reader", stream="OUT")
    found = {message.headers["Nats-Msg-Id"]: message for message in await subscription.fetch(2, timeout=60)}
    message = found[str(runs["kept"].id)]
    assert (message.subject, message.data, message.headers["X"]) == ("out.here", b'{"k":5}', "<5>")
    assert b'"payload":{"k":5,"where":"here"}' in found[str(runs["plain"].id)].data


async def test_what_is_no_subject_and_what_is_no_allowed_server_is_refused(stage: Stage) -> None:
    await stage.tell(rule_actions("r", publish(stage.server.url)))
    stage.start()
    for k, where in enumerate(("a b", "*", "x.>", "", "x\r\nPUB y 0\r\n")):
        await stage.store(event(k, payload={"where": where}))
    for run in await stage.ended(5):
        assert (run.state, run.reason) == (RunState.FAILED, RunReason.INVALID_EXPRESSION), run


async def test_loopback_is_refused_unless_it_is_allowed(stage: Stage) -> None:
    stage.settings["allowed_networks"] = ""
    await stage.tell(rule_actions("r", publish(stage.server.url)))
    stage.start()
    await stage.store(event(1, payload={"where": "x"}))
    (run,) = await stage.ended(1)
    assert (run.state, run.reason) == (RunState.FAILED, RunReason.ADDRESS_NOT_ALLOWED)
