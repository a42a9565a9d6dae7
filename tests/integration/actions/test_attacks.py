"""What a Rule's author, or the other side, may try: each is refused, and the runner lives on."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from support.actions_stage import Stage, Target, event, http, rule_actions
from support.eventually import until
from support.process_memory import peak_mib

from attune_actions.kinds.http import Http
from attune_contract.actions import Run, RunReason, RunState
from attune_kit.addresses import AddressRules

pytestmark = pytest.mark.nats


async def outcome(stage: Stage, *actions: dict[str, Any], k: int = 1, payload: dict[str, Any] | None = None) -> Run:
    """What becomes of an event of a rule with one action."""
    await stage.tell(rule_actions("r", *actions))
    stage.start()
    await stage.store(event(k, payload=payload))
    (run,) = await stage.ended(1)
    return run


async def test_loopback_and_metadata_are_refused_by_default(stage: Stage, target: Target) -> None:
    stage.settings["allowed_networks"] = ""
    addresses = [
        target.url,
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/",
        "http://0.0.0.0/",
    ]
    names = [f"a{number}" for number in range(len(addresses))]
    await stage.tell(rule_actions("r", *(http(url, name=name) for name, url in zip(names, addresses, strict=True))))
    stage.start()
    await stage.store(event(1))
    for run in await stage.ended(len(addresses)):
        assert (run.state, run.reason) == (RunState.FAILED, RunReason.ADDRESS_NOT_ALLOWED), run
    assert target.keys.total() == 0


async def test_a_redirect_to_a_refused_address_is_refused(stage: Stage, target: Target) -> None:
    stage.settings["allowed_networks"] = "127.0.0.1/32"
    port = target.port
    answer = web.Response(status=307, headers={"Location": f"http://127.0.0.2:{port}/"})
    target.answer = lambda key, times: answer
    run = await outcome(stage, http(target.url))
    assert (run.state, run.reason) == (RunState.FAILED, RunReason.ADDRESS_NOT_ALLOWED)
    assert target.keys.total() == 1


async def test_a_name_that_means_another_address_the_second_time_gains_nothing(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is judged where the socket is made: what DNS said to others before does not count."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    asked: list[str] = []

    async def resolve(self: Any, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        address = next(answers)
        asked.append(address)
        return [{"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    sender = Http(addresses=AddressRules(), secrets=None, evaluator=None, circuits=None)  # type: ignore[arg-type]
    resolver = aiohttp.ThreadedResolver()
    assert (await resolver.resolve("rebinding.example"))[0]["host"] == "93.184.216.34"
    try:
        with pytest.raises(aiohttp.ClientConnectorError, match="loopback address"):
            await sender._opened().get(f"http://rebinding.example:{target.port}/")
    finally:
        await sender.close()
    assert asked == ["93.184.216.34", "127.0.0.1"]
    assert target.keys.total() == 0


async def test_headers_cannot_be_injected(stage: Stage, target: Target) -> None:
    header = {"name": "X-Name", "value": "${event.payload.name}"}
    run = await outcome(stage, http(target.url, headers=[header]), payload={"name": "a\r\nX-Admin: yes"})
    assert (run.state, run.reason) == (RunState.FAILED, RunReason.INVALID_EXPRESSION)
    assert "X-Admin" not in run.message
    assert target.keys.total() == 0


async def test_a_url_cannot_be_bent(stage: Stage, target: Target) -> None:
    url = f"{target.url}/${{event.payload.name}}?user=${{event.payload.user}}"
    run = await outcome(stage, http(url), payload={"name": "../../@evil.example/", "user": "a&admin=1#x"})
    assert run.state is RunState.SUCCEEDED
    ((request, _),) = target.requests
    assert request.rel_url.raw_path == "/hook/..%2F..%2F%40evil.example%2F"
    assert dict(request.rel_url.query) == {"user": "a&admin=1#x"}


async def test_an_expression_that_costs_much_is_stopped_and_delays_no_one(stage: Stage, target: Target) -> None:
    costly = "lists.range(9999).all(a, lists.range(9999).all(b, a + b >= 0))"
    await stage.tell(rule_actions("costly", http(target.url, when=costly)))
    await stage.tell(rule_actions("r", http(target.url, when="event.payload.k > 0")))
    stage.start()
    await stage.store(*(event(k, rule="costly") for k in range(3)), event(1))
    runs = {(run.rule_name, run.state) for run in await stage.ended(4, within=100)}
    assert runs == {("costly", RunState.FAILED), ("r", RunState.SUCCEEDED)}


@pytest.fixture
async def endless() -> AsyncIterator[Target]:
    """A target whose answers do not end by themselves before 1 GB."""

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(status=200)
        await answer.prepare(request)
        block = b"x" * 65536
        try:
            for _ in range(16384):
                await answer.write(block)
        except (ConnectionError, asyncio.CancelledError):
            pass
        return answer

    found = Target()
    found._serve = serve  # type: ignore[method-assign]
    async with found:
        yield found


async def test_an_answer_of_a_gigabyte_is_not_read(stage: Stage, endless: Target) -> None:
    run = await outcome(stage, http(endless.url, retry={"attempts": 1}))
    assert run.state is RunState.SUCCEEDED
    assert run.attempts[0].answer.startswith("xxx")
    assert len(run.attempts[0].answer) <= 1024
    assert peak_mib(stage.processes[0].pid) < 200


async def test_what_no_message_is_harms_nothing(stage: Stage, target: Target) -> None:
    await stage.tell(rule_actions("r", http(target.url)))
    stage.start()
    await stage.client.publish("attune.events.demo.uid-r", b"not json")
    await stage.client.publish("attune.events.demo.uid-r", b"{}")
    await stage.store(event(1))
    (run,) = await stage.ended(1)
    assert run.state is RunState.SUCCEEDED
    await until(lambda: stage.log().count("event_damaged") == 2)
