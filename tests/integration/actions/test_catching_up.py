"""Events that left the stream before they were handled are taken from the API: a real one, with its outbox."""

from pathlib import Path
from uuid import UUID

import pytest
from support.actions_stage import Stage, Target, http
from support.api_process import ADMIN_TOKEN, ApiProcess, report
from support.eventually import until

from attune_actions.catching_up import POSITION, Position, gap
from attune_contract.actions import RuleActions, run_id
from attune_contract.subjects import EVENTS_STREAM

pytestmark = pytest.mark.nats

KEPT = 50


async def post(api: ApiProcess, numbers: range) -> None:
    """Store events, as a sensor does."""
    async with api.client() as sensor:
        answer = await sensor.post("/api/v1/events/batch", json={"events": [report(k) for k in numbers]})
        assert answer.status_code == 200


@pytest.mark.timeout(400)
async def test_no_event_is_missed_however_long_the_runner_was_away(
    stage: Stage, target: Target, tmp_path: Path
) -> None:
    info = await stage.jetstream.stream_info(EVENTS_STREAM)
    await stage.jetstream.update_stream(info.config.evolve(max_msgs=KEPT))
    rule = report()
    await stage.tell(
        RuleActions(
            uid=rule["rule_uid"],
            namespace=rule["rule_namespace"],
            name=rule["rule_name"],
            generation=1,
            actions=(http(target.url),),
        )
    )
    token = tmp_path / "token"
    token.write_text(ADMIN_TOKEN)
    with ApiProcess(tmp_path / "api", nats_url=stage.server.url, check_rules="false") as api:
        stage.settings |= {"api_url": api.url, "api_token_file": str(token)}
        runner = stage.start()
        await post(api, range(10))
        # By the target, since the API takes the reports.
        await until(lambda: len(target.keys) == 10, within=60, what="ten requests")

        async def position() -> Position | None:
            config = (await stage.jetstream.consumer_info(EVENTS_STREAM, "attune-actions")).config
            return Position.parse((config.metadata or {}).get(POSITION))

        async def noted() -> bool:
            found = await position()
            return found is not None and found.seq == 10

        await until(noted, within=60)

        async def acknowledged() -> bool:
            found = await stage.jetstream.consumer_info(EVENTS_STREAM, "attune-actions")
            return bool(found.num_pending == 0 and found.num_ack_pending == 0)

        await until(acknowledged, within=60)
        runner.kill()
        runner.wait(120)
        await post(api, range(10, 310))

        async def published() -> bool:
            state = (await stage.jetstream.stream_info(EVENTS_STREAM)).state
            return bool(state.last_seq == 310 and state.messages == KEPT)

        await until(published, within=60)
        stage.start()
        await until(lambda: len(target.keys) == 310, within=150, what="a request for each event")

        async def noted_again() -> bool:
            found = await position()
            return found is not None and found.seq == 310

        await until(noted_again, within=60)
    events = [UUID(report(k)["id"]) for k in range(310)]
    assert set(target.keys) == {str(run_id(rule["rule_uid"], each, "post")) for each in events}
    assert target.keys.total() == 310
    assert "caught_up" in stage.log()


def test_gaps() -> None:
    here = Position(100, 1000)
    assert gap(here, first_sequence=101, first_seq=1001) is None
    assert gap(here, first_sequence=50, first_seq=900) is None
    assert gap(here, first_sequence=201, first_seq=1105) == range(1001, 1105)
    assert gap(None, first_sequence=201, first_seq=1105) is None
    assert gap(here, first_sequence=102, first_seq=1001) is None
    assert Position.parse(here.shown()) == here
    assert Position.parse("x") is None
    assert Position.parse(None) is None
