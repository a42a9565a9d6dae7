"""An event is taken only for a rule that its sensor serves, or served when it occurred; and no race loses one."""

import asyncio
import os
import signal
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.js.api import StreamConfig
from support.api_process import SENSOR, TYPE, ApiProcess, report
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer
from support.rule_stream import RuleStream, rule_state

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import (
    HISTORY_SENSOR,
    IdentityState,
    RuleEventType,
    RuleState,
    encode,
    rule_event_headers,
)

pytest_plugins = ["support.api_fixtures"]
pytestmark = pytest.mark.nats

OTHER = SensorRef("default", "my.timer")


class Operator:
    """What the operator is to the API: its streams, and what it writes to them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.rules = RuleStream(url)
        self.others = RuleStream(url, sensor=OTHER)

    async def start(self) -> None:
        for stream in (self.rules, self.others):
            await stream.connect()
        await self.rules.make_streams()
        for name, subject in (
            (subjects.IDENTITIES_STREAM, subjects.ALL_IDENTITIES),
            (subjects.HISTORY_STREAM, subjects.ALL_HISTORY),
        ):
            await self.rules.js.add_stream(StreamConfig(name=name, subjects=[subject]))
        for sensor in (SENSOR, OTHER):
            state = IdentityState(
                sensor_ref=str(sensor), uid="9a2f0c1e-1f7b-4b52-9f57-8c3e5f0f7a01", trigger_types=(TYPE,)
            )
            await self.rules.js.publish(subjects.identity_subject(sensor), encode(state))

    async def close(self) -> None:
        await self.rules.close()
        await self.others.close()

    async def note(self, state: RuleState, event: RuleEventType, *, sensor: SensorRef, time: datetime) -> None:
        """Write an entry of the rule's history."""
        headers = rule_event_headers(event, state, time=time, event_id=uuid.uuid4()) | {HISTORY_SENSOR: sensor.token}
        await self.rules.js.publish(
            subjects.history_subject(state.namespace, state.name, state.uid), encode(state), headers=headers
        )


@pytest.fixture
async def operator(nats_server: NatsServer) -> AsyncIterator[Operator]:
    operator = Operator(nats_server.url)
    await operator.start()
    yield operator
    await operator.close()


@asynccontextmanager
async def checking(tmp_path: Path, server: NatsServer, *, grace: float = 0.0) -> AsyncIterator[ApiProcess]:
    api = ApiProcess(tmp_path / "api", nats_url=server.url, rules_grace=str(grace))
    try:
        await asyncio.to_thread(api.start)
        yield api
    finally:
        await asyncio.to_thread(api.stop)


def event(state: RuleState, *, at: datetime | None = None, **changes: Any) -> dict[str, Any]:
    said = {
        "rule_namespace": state.namespace,
        "rule_name": state.name,
        "id": str(uuid.uuid4()),
        "occurred_at": (at or datetime.now(UTC)).isoformat(),
    }
    return report(rule_uid=state.uid, **{**said, **changes})


async def post(api: ApiProcess, *events: dict[str, Any], token: str | None = None) -> httpx.Response:
    async with api.client(token) as sensor:
        return await sensor.post("/api/v1/events/batch", json={"events": list(events)})


async def results(api: ApiProcess, *events: dict[str, Any]) -> list[tuple[str, str | None]]:
    answer = await post(api, *events)
    assert answer.status_code == 200, answer.text
    return [(each["status"], each.get("reason")) for each in answer.json()["data"]]


async def heard(api: ApiProcess, rules: int) -> None:
    """Wait until the API knows so many rules."""
    async with api.client() as client:

        async def known() -> bool:
            return f"attune_api_rules {rules}.0" in (await client.get("/metrics")).text

        await until(known, within=30)


async def test_only_for_rules_that_are_bound_to_the_sensor(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    mine, others, nobodys = rule_state(1), rule_state(2), rule_state(3)
    await operator.rules.put(mine)
    await operator.others.put(others)
    async with checking(tmp_path, nats_server) as api:
        await heard(api, 2)
        answers = await results(
            api, event(mine), event(others), event(nobodys), event(mine, rule_namespace="kube-system")
        )
        assert [status for status, _ in answers] == ["stored", "refused", "refused", "refused"]
        assert "is not bound to the sensor attune-system/core.timer" in str(answers[1][1])
        assert "is not bound" in str(answers[2][1])
        assert "is default/rule-1, and the event says kube-system/" in str(answers[3][1])
        async with api.client() as sensor, api.reader() as reader:
            for body, status, kind in (
                (event(others), 403, "rule-not-bound"),
                (event(mine, rule_name="another"), 422, "rule-mismatch"),
            ):
                answer = await sensor.post("/api/v1/events", json=body)
                assert (answer.status_code, answer.json()["type"]) == (status, f"urn:attune:problem:{kind}")
            assert len((await reader.get("/api/v1/events")).json()["data"]) == 1


async def test_a_sensor_may_be_told_of_a_rule_before_the_api_is(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    async with checking(tmp_path, nats_server) as api:
        await heard(api, 0)
        for number in range(50):
            state = rule_state(number)
            await operator.rules.put(state)  # acknowledged by NATS, which is when a sensor may hear of it
            assert await results(api, event(state)) == [("stored", None)]


async def test_an_event_that_comes_before_nats_has_answered_waits_for_it(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    state = rule_state(1)
    await operator.rules.put(state)
    os.kill(nats_server.pid, signal.SIGSTOP)  # it takes connections and says nothing
    try:
        async with checking(tmp_path, nats_server) as api:
            first = asyncio.create_task(results(api, event(state)))

            async def came() -> bool:
                return bool(api.events_logged("verification_keys_loaded"))  # for the first token

            await until(came, within=30)
            os.kill(nats_server.pid, signal.SIGCONT)
            assert await first == [("stored", None)]
    finally:
        os.kill(nats_server.pid, signal.SIGCONT)


@pytest.mark.alone
async def test_an_event_that_comes_while_nats_is_away_is_soon_sent_back(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    nats_server.kill()
    async with checking(tmp_path, nats_server) as api:

        async def sent_back() -> float:
            began = time.monotonic()
            assert (await post(api, event(rule_state(1)))).status_code == 503
            return time.monotonic() - began

        assert min([await sent_back() for _ in range(3)]) < 2.5, "not the whole patience"
    nats_server.restart()  # for the streams' connections, which say good-bye


async def test_what_occurred_before_the_end_is_taken_after_it(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    deleted, moved = rule_state(1), rule_state(2)
    for state in (deleted, moved):
        await operator.rules.put(state)
    async with checking(tmp_path, nats_server) as api:
        await heard(api, 2)
        await operator.rules.delete(deleted)
        await operator.others.put(moved)
        await operator.rules.delete(moved)
        await heard(api, 1)
        await _judged_by_the_end(api, deleted, moved)
        # And the same when it was started after all that, from what the stream still says.
        api.kill()
        await asyncio.to_thread(api.start)
        await heard(api, 1)
        await _judged_by_the_end(api, deleted, moved)


async def _judged_by_the_end(api: ApiProcess, deleted: RuleState, moved: RuleState) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    answers = await results(
        api,
        event(deleted, at=datetime.now(UTC) - timedelta(hours=5)),
        event(moved, at=datetime.now(UTC) - timedelta(hours=5)),
        event(deleted, at=later),
        event(moved, at=later),
        event(deleted, at=datetime.now(UTC) - timedelta(hours=5), rule_namespace="kube-system"),
    )
    assert [status for status, _ in answers] == ["stored", "stored", "refused", "refused", "refused"]
    assert "no longer serves" in str(answers[2][1])


async def test_a_rule_whose_tombstone_is_gone_is_found_in_its_history(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    state = rule_state(1)
    ended = datetime.now(UTC) - timedelta(days=2)
    await operator.note(state, RuleEventType.CREATED, sensor=SENSOR, time=ended - timedelta(days=1))
    await operator.note(state, RuleEventType.DELETED, sensor=SENSOR, time=ended)
    await operator.note(state, RuleEventType.CREATED, sensor=OTHER, time=ended)
    await operator.note(state, RuleEventType.DELETED, sensor=OTHER, time=ended + timedelta(hours=1))
    async with checking(tmp_path, nats_server) as api:
        await heard(api, 0)
        answers = await results(api, event(state, at=ended - timedelta(hours=1)), event(state))
        assert [status for status, _ in answers] == ["stored", "refused"]


async def test_what_cannot_be_known_is_asked_for_again_and_never_refused(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    fired, silent = rule_state(1), rule_state(2)
    for state in (fired, silent):
        await operator.rules.put(state)
    async with checking(tmp_path, nats_server, grace=3600) as api:
        await heard(api, 2)
        assert await results(api, event(fired)) == [("stored", None)]
        # Within the grace: a rule that is missing may be on its way.
        answer = await post(api, event(rule_state(3)))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:attune:problem:rules-not-known")
        assert answer.headers["retry-after"]
        # NATS away: it goes on with what it heard.
        nats_server.kill()
        assert await results(api, event(fired), event(silent)) == [("stored", None)] * 2
        # Restarted without NATS: stored events prove the bindings of rules that fired; of others, nothing is known.
        api.kill()
        await asyncio.to_thread(api.start)
        assert await results(api, event(fired), event(silent)) == [("stored", None)] * 2
        unknown = rule_state(4)
        began = time.monotonic()
        assert (await post(api, event(unknown))).status_code == 503
        assert time.monotonic() - began < 60
        # The check of an event of another namespace holds all the same.
        assert [s for s, _ in await results(api, event(fired, rule_namespace="kube-system"))] == ["refused"]
        nats_server.start()
        await operator.rules.put(unknown)

        async def taken() -> bool:
            return (await post(api, event(unknown))).status_code == 200

        await until(taken, within=30)


async def test_a_wiped_stream_takes_no_rule_away_at_once(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    state = rule_state(1)
    await operator.rules.put(state)
    async with checking(tmp_path, nats_server, grace=3600) as api:
        await heard(api, 1)
        await operator.rules.delete_rules()
        assert await results(api, event(state)) == [("stored", None)]
        await operator.rules.make_streams()
        second = rule_state(2)
        await operator.rules.put(second)
        await heard(api, 2)
        assert await results(api, event(state), event(second)) == [("stored", None)] * 2


async def test_a_sensor_outside_the_cluster_speaks_for_its_own_namespace(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    bound = rule_state(1, namespace="edge")
    await operator.rules.put(bound)
    async with checking(tmp_path, nats_server) as api:
        await heard(api, 1)
        token = api.minter.token(login="sensor:edge/heat", sub=str(uuid.uuid4()))
        free = rule_state(2, namespace="edge")
        answer = await post(api, event(free), event(rule_state(3)), event(bound), token=token)
        told = [(each["status"], each.get("reason", "")) for each in answer.json()["data"]]
        assert [status for status, _ in told] == ["stored", "refused", "refused"]
        assert "in the namespace edge only" in told[1][1]
        assert "is bound to the sensor attune-system/core.timer" in told[2][1]


async def test_without_nats_the_token_alone_counts(api: ApiProcess) -> None:
    assert await results(api, event(rule_state(7))) == [("stored", None)]


@pytest.mark.alone
async def test_many_unknown_rules_hold_up_nobody_else(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    state = rule_state(1)
    await operator.rules.put(state)
    async with checking(tmp_path, nats_server) as api:
        await heard(api, 1)
        made_up = asyncio.create_task(post(api, *(event(rule_state(number)) for number in range(10, 1010))))
        seconds = []
        while not made_up.done():
            began = time.monotonic()
            assert await results(api, event(state)) == [("stored", None)]
            seconds.append(time.monotonic() - began)
        assert {each["status"] for each in (await made_up).json()["data"]} == {"refused"}
        assert statistics.median(seconds) < 5


async def test_nonsense_in_the_stream_is_passed_over(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    await operator.rules.put_raw(str(uuid.uuid4()), b"nonsense")
    await operator.rules.put_raw(str(uuid.uuid4()), encode(rule_state(9)))
    client = await connect(nats_server.url)
    await client.jetstream(timeout=60).publish("attune.rules.too.many.tokens.here", b"{}")
    await client.close()
    await operator.rules.put(rule_state(1))
    async with checking(tmp_path, nats_server) as api:
        await heard(api, 1)
        assert len(api.events_logged("rule_message_invalid")) == 3
