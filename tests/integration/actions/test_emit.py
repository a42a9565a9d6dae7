"""Actions of kind ``emit``: the real runner, the real Sensor ``core.event``, the real API and NATS server."""

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from support.actions_stage import NAMESPACE, Stage, Target, event, http, rule_actions
from support.api_process import ApiProcess
from support.eventually import until
from support.sensor_process import SensorProcess, serve, stored_events

from attune_contract import emitted
from attune_contract.actions import RuleActions, run_id
from attune_contract.events import event_id
from attune_contract.identity import SensorRef
from attune_contract.messages import RuleState
from attune_local.ports import free_port
from attune_sensor import AckState, SensorContext
from attune_sensor.testing import SensorHarness
from attune_webhook.emitted.handler import EmittedHandler
from attune_webhook.emitted.server import OVERLAP

pytestmark = [pytest.mark.nats, pytest.mark.timeout(400)]

TYPE = "core.event"


def emit(name: str, payload: Any = None, *, attempts: int = 5) -> dict[str, Any]:
    """An action that emits an event."""
    return {
        "name": "emit",
        "emit": {"name": name} if payload is None else {"name": name, "payload": payload},
        "retry": {"attempts": attempts, "backoff": "100ms"},
    }


class Emitting:
    """The stage with the API and the Sensor."""

    def __init__(self, stage: Stage, directory: Path) -> None:
        self.stage = stage
        self.api = ApiProcess(directory / "api", nats_url=stage.server.url)
        self.port = free_port()
        self.sensor = SensorProcess(
            "attune_webhook",
            arguments=["emitted"],
            directory=directory,
            ref=SensorRef("attune-system", emitted.SENSOR_NAME),
            trigger_type=TYPE,
            api=self.api,
            nats=stage.server,
            ATTUNE_PORT_EMIT=str(self.port),
        )
        self.stream: Any = None

    async def start(self) -> None:
        """Start API and Sensor. From here on the API takes the reports about runs."""
        await self.stage.stop_collecting()
        self.stream = await self.sensor.stream()
        await asyncio.to_thread(self.api.start)
        await self.sensor.start()
        await self.sensor.ready(within=60)
        self.stage.settings |= {
            "emit_url": f"http://127.0.0.1:{self.port}",
            "emit_token_file": str(self.sensor.token_file),
        }

    async def close(self) -> None:
        """End them."""
        await self.sensor.kill()
        await self.stream.close()
        await asyncio.to_thread(self.api.stop)

    async def taker(self, number: int, name: str, *actions: dict[str, Any], namespace: str = NAMESPACE) -> RuleState:
        """A Rule that takes events of this name, and is Active."""
        state = self.sensor.rule(number, {"name": name}, namespace=namespace)
        await self.stage.tell(
            RuleActions(uid=state.uid, namespace=namespace, name=state.name, generation=1, actions=actions)
        )
        await serve(self.stream, [state], within=60)
        return state

    async def runs(self, **query: str) -> list[dict[str, Any]]:
        """The runs that the API knows."""
        async with self.api.reader() as reader:
            answer = await reader.get("/api/v1/runs", params={"limit": "500", **query})
            assert answer.status_code == 200, answer.text
            listed = answer.json()["data"]
            return [(await reader.get(f"/api/v1/runs/{run['id']}")).json()["data"] for run in listed]

    async def ended(self, number: int) -> list[dict[str, Any]]:
        """The runs, when so many have ended."""

        async def over() -> list[dict[str, Any]]:
            found = [run for run in await self.runs() if run["state"] in ("Succeeded", "Failed", "Skipped")]
            return found if len(found) >= number else []

        return await until(over, within=120, what=f"{number} runs have ended")


@pytest.fixture
async def emitting(stage: Stage, tmp_path: Path) -> AsyncIterator[Emitting]:
    found = Emitting(stage, tmp_path)
    await found.start()
    yield found
    await found.close()


async def test_an_emitted_event_stays_in_its_namespace(emitting: Emitting, target: Target) -> None:
    stage = emitting.stage
    taking = await emitting.taker(1, "done", http(target.url, body={"n": "${event.payload.n}"}))
    other_name = await emitting.taker(2, "else", http(target.url))
    elsewhere = await emitting.taker(3, "done", http(target.url), namespace="other")
    await stage.tell(rule_actions("r", emit("done", {"n": "${event.payload.k}", "emitted": "forged"})))
    stage.start()
    await stage.store(event(7))
    await until(lambda: target.keys.total() == 1, within=60)
    runs = {run["kind"]: run for run in await emitting.ended(2)}
    assert msgspec.json.decode(target.requests[0][1]) == {"n": 7}

    run = run_id("uid-r", event(7).id, "emit")
    assert (runs["emit"]["id"], runs["emit"]["state"]) == (str(run), "Succeeded")
    assert runs["emit"]["result"] == {"name": "done", "events": 1, "rules": [f"{NAMESPACE}/{taking.name}"]}
    (stored,) = await stored_events(emitting.api)
    assert (stored["rule_uid"], stored["trigger_type"]) == (taking.uid, TYPE)
    assert stored["id"] == str(event_id(taking.uid, f"run:{run}"))
    assert stored["payload"] == {
        "n": 7,
        "emitted": {
            "name": "done",
            "rule": f"{NAMESPACE}/r",
            "action": "emit",
            "event": str(event(7).id),
            "run": str(run),
            "hops": 1,
        },
    }
    assert stored["rule_uid"] not in (other_name.uid, elsewhere.uid)


async def test_a_kill_between_attempt_and_record_stores_the_event_once(emitting: Emitting) -> None:
    stage = emitting.stage
    taking = await emitting.taker(1, "done")
    answers: list[dict[str, Any]] = []
    kept_back = asyncio.Event()

    async def pass_on(request: web.BaseRequest) -> web.StreamResponse:
        """Between runner and Sensor: the first answer never arrives."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{emitting.port}{request.path}", data=await request.read(), headers=request.headers
            ) as answer,
        ):
            body = await answer.read()
            answers.append(msgspec.json.decode(body))
            if len(answers) == 1:
                kept_back.set()
                await asyncio.Event().wait()
            return web.Response(status=answer.status, body=body)

    runner = web.ServerRunner(web.Server(pass_on, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    stage.settings["emit_url"] = f"http://127.0.0.1:{port}"
    try:
        await stage.tell(rule_actions("r", emit("done")))
        process = stage.start()
        await stage.store(event(1))
        await asyncio.wait_for(kept_back.wait(), 60)
        process.kill()
        process.wait(120)
        assert await emitting.runs(state="Succeeded") == []
        stage.start()
        (run,) = await emitting.ended(1)
    finally:
        await runner.cleanup()
    assert run["state"] == "Succeeded"
    assert [answer["events"][0]["status"] for answer in answers] == ["stored", "duplicate"]
    (stored,) = await stored_events(emitting.api, rule_uid=taking.uid)
    assert stored["payload"]["k"] == 1  # without a payload of its own, that of the event at hand


async def test_a_loop_of_emits_ends_with_a_sentence(emitting: Emitting) -> None:
    stage = emitting.stage
    ping = await emitting.taker(1, "ping", emit("pong"))
    pong = await emitting.taker(2, "pong", emit("ping"))
    await stage.tell(rule_actions("r", emit("ping")))
    stage.start()
    await stage.store(event(1))
    runs = await emitting.ended(emitted.MOST_HOPS + 1)
    failed = [run for run in runs if run["state"] == "Failed"]
    assert len(runs) == emitted.MOST_HOPS + 1
    assert [(run["rule_uid"], run["reason"], run["attempts_made"]) for run in failed] == [(pong.uid, "TooManyHops", 0)]
    assert "make a loop" in failed[0]["message"]
    stored = await stored_events(emitting.api)
    assert [each["payload"]["emitted"]["hops"] for each in stored] == list(range(1, emitted.MOST_HOPS + 1))
    assert [each["rule_uid"] for each in stored] == [ping.uid, pong.uid] * (emitted.MOST_HOPS // 2)


async def test_a_restart_of_the_sensor_loses_nothing(emitting: Emitting) -> None:
    stage = emitting.stage
    # Others, so that it takes the Sensor a moment to start them all.
    others = [emitting.sensor.rule(number, {"name": "else"}, namespace=NAMESPACE) for number in range(100, 300)]
    await serve(emitting.stream, others, within=60)
    taking = await emitting.taker(1, "done")
    action = {**emit("done"), "retry": {"attempts": 100, "backoff": "50ms", "maxBackoff": "500ms"}}
    await stage.tell(rule_actions("r", action))
    stage.start()
    await stage.store(*(event(k) for k in range(100)))

    async def stored() -> list[dict[str, Any]]:
        return await stored_events(emitting.api, rule_uid=taking.uid)

    await until(stored, within=60)
    await emitting.sensor.kill()
    await stage.store(*(event(k) for k in range(100, 200)))
    await emitting.sensor.start()

    async def all_stored() -> bool:
        return len(await stored()) >= 200

    await until(all_stored, within=120)
    assert sorted(each["payload"]["k"] for each in await stored()) == list(range(200))


async def test_while_the_api_is_away_a_run_waits_for_its_event_to_be_stored(emitting: Emitting) -> None:
    stage = emitting.stage
    taking = await emitting.taker(1, "done")
    await stage.tell(rule_actions("r", emit("done", attempts=1)))
    stage.start()
    await asyncio.to_thread(emitting.api.kill)
    await stage.store(event(1))
    await until(lambda: emitting.sensor.spooled() > 0, within=60)
    await asyncio.to_thread(emitting.api.start)
    (run,) = await emitting.ended(1)
    assert (run["state"], run["attempts_made"]) == ("Succeeded", 1)
    (stored,) = await stored_events(emitting.api, rule_uid=taking.uid)
    assert stored["payload"]["emitted"]["run"] == run["id"]


async def test_an_event_that_no_rule_takes_is_no_failure(emitting: Emitting) -> None:
    await emitting.stage.tell(rule_actions("r", emit("nobody")))
    emitting.stage.start()
    await emitting.stage.store(event(1))
    (run,) = await emitting.ended(1)
    assert (run["state"], run["message"]) == ("Succeeded", "no Rule of the namespace takes nobody")
    assert run["result"] == {"name": "nobody", "events": 0, "rules": []}


async def test_without_the_sensor_a_run_fails_with_a_sentence(stage: Stage) -> None:
    await stage.tell(rule_actions("r", emit("done", attempts=2)))
    stage.start()
    await stage.store(event(1))
    (run,) = await stage.ended(1)
    assert (run.state.value, run.reason.value, run.attempts_made) == ("Failed", "TargetUnreachable", 2)
    assert run.message.startswith("there is no Sensor core.event beside this runner")


# -- the Sensor by itself


@contextlib.asynccontextmanager
async def sensor(tmp_path: Path) -> AsyncIterator[tuple[SensorHarness, EmittedHandler, Path]]:
    """The Sensor in this process, with its token's file."""
    token = tmp_path / "token"
    token.write_text("the-token")
    made: list[EmittedHandler] = []

    def handler(context: SensorContext) -> EmittedHandler:
        made.append(EmittedHandler(context))
        return made[0]

    harness = SensorHarness(
        handler,
        trigger_types=[TYPE],
        config={"drainSeconds": 0},
        settings={"token_file": token, "listen_host": "127.0.0.1", "ports": {"emit": 0}},
    )
    async with harness:
        await until(lambda: made[0].listener.port)
        yield harness, made[0], token


def emission(name: str = "done", namespace: str = "default", **payload: Any) -> bytes:
    """A request's body."""
    origin = emitted.Origin(
        name=name, rule=f"{namespace}/r", action="a", event=uuid.UUID(int=1), run=uuid.UUID(int=2), hops=1
    )
    return msgspec.json.encode(emitted.Emission(namespace=namespace, origin=origin, payload=payload))


async def test_only_the_runner_can_have_an_event_stored(tmp_path: Path) -> None:
    async with sensor(tmp_path) as (harness, handler, token), aiohttp.ClientSession() as session:
        rule = harness.apply(TYPE, {"name": "done"})
        await harness.wait_for(rule, AckState.ACTIVE)
        url = f"http://127.0.0.1:{handler.listener.port}"

        async def post(body: bytes, *, signed: bytes | None = None, by: str = "the-token", age: int = 0) -> int:
            at = int(time.time()) - age
            headers = {
                emitted.TIME_HEADER: str(at),
                emitted.SIGNATURE_HEADER: emitted.signature(by, time=at, body=signed or body),
            }
            async with session.post(url + emitted.PATH, data=body, headers=headers) as answer:
                return answer.status

        async with session.post(url + emitted.PATH, data=emission()) as answer:
            assert answer.status == 401
        async with session.post(url + "/", data=emission()) as answer:
            assert answer.status == 404
        async with session.get(url + emitted.PATH) as answer:
            assert answer.status == 405
        assert await post(emission(), by="another token") == 401
        assert await post(emission(a=2), signed=emission(a=1)) == 401
        assert await post(emission(), age=emitted.TOLERANCE + 60) == 401
        assert await post(b'{"namespace": "default"}') == 422
        assert await post(emission(a="x" * emitted.MOST_REQUEST_BYTES)) == 413
        assert harness.api.events == []

        assert await post(emission()) == 200
        # The token is renewed; the runner reads the new one a little earlier or later.
        token.write_text("the-next-token")
        assert await post(emission(), by="the-next-token") == 200
        assert await post(emission()) == 200
        token.write_text("the-last-token")
        assert await post(emission(), by="the-last-token") == 200
        assert await post(emission()) == 401
        # After a while the one before counts no longer.
        assert await post(emission(), by="the-next-token") == 200
        os.utime(token, (time.time() - OVERLAP - 60,) * 2)
        assert await post(emission(), by="the-next-token") == 401
        assert await post(emission(), by="the-last-token") == 200
        assert len(harness.api.events) == 1


async def test_a_rule_takes_events_as_it_is_now(tmp_path: Path) -> None:
    async with sensor(tmp_path) as (harness, handler, _), aiohttp.ClientSession() as session:

        async def takers(name: str, namespace: str = "default") -> list[str]:
            body, at = emission(name, namespace), int(time.time())
            headers = {
                emitted.TIME_HEADER: str(at),
                emitted.SIGNATURE_HEADER: emitted.signature("the-token", time=at, body=body),
            }
            url = f"http://127.0.0.1:{handler.listener.port}{emitted.PATH}"
            async with session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 200
                return [each["rule"] for each in (await answer.json())["events"]]

        for name, parameters, namespace in (("b", "one", "default"), ("a", "one", "default"), ("c", "one", "other")):
            rule = harness.apply(TYPE, {"name": parameters}, name=name, namespace=namespace)
            await harness.wait_for(rule, AckState.ACTIVE)
        assert await takers("one") == ["default/a", "default/b"]
        assert await takers("one", "other") == ["other/c"]
        assert await takers("on") == []
        changed = harness.apply(TYPE, {"name": "two"}, name="b")
        await harness.wait_for(changed, AckState.ACTIVE)
        assert (await takers("one"), await takers("two")) == (["default/a"], ["default/b"])
        wrong = harness.apply(TYPE, {"name": "a b"}, name="b")
        await harness.wait_for(wrong, AckState.REJECTED)
        off = harness.apply(TYPE, {"name": "one"}, name="a", enabled=False)
        await harness.wait_for(off, AckState.STOPPED)
        assert (await takers("one"), await takers("two")) == ([], [])
