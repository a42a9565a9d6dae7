"""Two replicas against the real API: the same occurrences, each stored once, and none missing when a pod goes."""

from pathlib import Path

import pytest
from support.api_outage import TimerProcess
from support.api_process import ApiProcess
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_stream import RuleStream, rule_state
from support.sensor_process import stored_events

pytestmark = pytest.mark.nats
pytest_plugins = ["support.api_fixtures"]


async def test_two_replicas_make_one_event_of_each_occurrence(
    nats_server: NatsServer, api: ApiProcess, tmp_path: Path
) -> None:
    stream = RuleStream(nats_server.url)
    await stream.connect()
    await stream.make_streams()
    await stream.put_many([rule_state(number, parameters={"interval": 0.25, "jitter": 0.1}) for number in (1, 2)])
    replicas = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        replicas.append(TimerProcess(tmp_path / name, api=api, nats=nats_server, ATTUNE_SENSOR_INSTANCE=name))
    try:

        async def wait_more(number: int) -> None:
            wanted = len(await stored_events(api)) + number

            async def enough() -> bool:
                return len(await stored_events(api)) >= wanted

            await until(enough, within=30, every=0.1)

        one, two = replicas
        await one.start()
        await wait_more(4)
        await two.start()
        await until(lambda: len(two.logged("rules_snapshot_taken")) == 1, within=30)
        await wait_more(8)
        await one.kill()
        await wait_more(8)
        await one.start()
        await until(lambda: len(one.logged("rules_snapshot_taken")) == 2, within=30)
        await wait_more(8)
        assert await two.stop() == 0
        await wait_more(4)
        events = await stored_events(api)
    finally:
        for replica in replicas:
            await replica.kill()
        await stream.close()
    for name in ("rule-1", "rule-2"):
        ks = sorted(event["payload"]["k"] for event in events if event["rule_name"] == name)
        assert ks == list(range(ks[0], ks[-1] + 1)), "each once, and none missing although pods came and went"
    assert len({event["id"] for event in events}) == len(events)
