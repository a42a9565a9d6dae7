"""What programs under ``runner: Stdio`` lose when their pod is killed: the manifests of examples/stdio with real servers, the
real API and the supervisor's process. It needs no cluster. What is lost is printed, since it depends on the moment; what must
not be lost is asserted.
"""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import known_programs
from support.api_process import ApiProcess
from support.eventually import until
from support.known_programs import server
from support.nats_server import NatsServer
from support.process_figures import children
from support.sensor_process import SensorProcess, drained, newest_seq, serve, stored_events

from attune_contract.identity import SensorRef
from attune_contract.resources import Sensor
from attune_local.node.container import expanded
from attune_local.ports import free_port
from attune_operator.resources import stdio

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "stdio"
MESSAGES = int(os.environ.get("SOAK_MESSAGES", "5000"))
KILLS = int(os.environ.get("SOAK_KILLS", "5"))
AWAY = 200

#: Publishes texts, in order, and returns when the server has them.
Publish = Callable[[list[str]], Coroutine[Any, Any, None]]


class Pod:
    """The supervisor with its programs. All of them are killed at once, as the kubelet does it."""

    def __init__(
        self, name: str, field: str, directory: Path, *, api: ApiProcess, nats: NatsServer, variables: dict[str, str]
    ) -> None:
        document = next(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))
        document["metadata"]["namespace"] = "default"
        sensor = Sensor.from_object(document)
        environment = {
            name: expanded(value, variables) for name, value in {**stdio.variables(sensor), **variables}.items()
        }
        self.api = api
        self._field = field
        self.sensor = SensorProcess(
            "attune_stdio",
            directory=directory,
            ref=SensorRef("default", name),
            trigger_type=sensor.spec.trigger_types[0].name,
            api=api,
            nats=nats,
            arguments=[expanded(word, variables) for word in stdio.arguments(sensor)],
            **environment,
        )

    async def kill(self) -> None:
        programs = await asyncio.to_thread(children, self.sensor.pid)
        await self.sensor.kill()
        for program in programs:
            with contextlib.suppress(ProcessLookupError):  # its output is gone, so it may have ended by itself
                os.kill(program, signal.SIGKILL)

    async def texts(self) -> list[str]:
        """What the events carry, in the order in which they were stored."""
        return [event["payload"][self._field] for event in await stored_events(self.api)]

    async def count(self) -> int:
        async with self.api.reader() as reader:
            return await newest_seq(reader)


async def live_through(
    pod: Pod, publish: Publish, parameters: dict[str, Any]
) -> tuple[list[str], list[str], list[str]]:
    """Publish while the pod is killed, and while it is away. Returns what was sent to a pod that was killed, what was sent
    while there was none, and what was stored.
    """
    stream = await pod.sensor.stream()
    sent = [f"m{number}" for number in range(MESSAGES)]
    away = [f"a{number}" for number in range(AWAY)]
    try:
        await pod.sensor.start()
        await serve(stream, [pod.sensor.rule(1, parameters)], within=60)

        await _follows(pod, publish, "ready")
        part = MESSAGES // (KILLS + 1)
        for kill in range(KILLS):
            stored = await pod.count()
            publishing = asyncio.create_task(publish(sent[kill * part : (kill + 1) * part]))
            await until(partial(_more, pod, stored + part // 4), within=120, every=0.02)
            await pod.kill()
            await publishing
            await pod.sensor.start()
            await _follows(pod, publish, f"ready again {kill}")
        await publish(sent[KILLS * part :])
        await _told(pod, publish, "before")
        await pod.kill()
        await publish(away)
        await pod.sensor.start()
        await _follows(pod, publish, "ready at last")
        await _told(pod, publish, "last")
        await drained(pod.sensor, within=120)
        assert await pod.sensor.stop() == 0
        return sent, away, await pod.texts()
    finally:
        await pod.sensor.kill()
        await stream.close()


async def _more(pod: Pod, number: int) -> bool:
    return await pod.count() >= number


async def _follows(pod: Pod, publish: Publish, text: str) -> None:
    """Wait until the program hears what is published now."""

    async def heard() -> bool:
        await publish([text])
        return text in await pod.texts()

    await until(heard, within=60, every=1.0)


async def _told(pod: Pod, publish: Publish, text: str) -> None:
    """Wait until all that was published before is stored, as far as it ever will be: messages keep their order."""

    async def there() -> bool:
        return text in await pod.texts()

    await publish([text])
    await until(there, within=300, every=0.5)


def told(sent: list[str], away: list[str], stored: list[str]) -> str:
    """What became of all, in a line."""
    times = Counter(stored)
    lost = sum(text not in times for text in sent)
    doubled = sum(times[text] > 1 for text in [*sent, *away])
    missed = sum(text not in times for text in away)
    return (
        f"{len(sent)} sent, {KILLS} kills: {lost} lost; {len(away)} sent while away: {missed} lost; "
        f"{doubled} were two events or more; load {os.getloadavg()[0]:.0f}"
    )


@pytest.mark.parametrize("name", ["mosquitto-sub", "mosquitto-session"])
async def test_mqtt(name: str, nats_server: NatsServer, tmp_path: Path) -> None:
    port = free_port()
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    variables = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(port)}

    async def publish(texts: list[str]) -> None:
        await known_programs.run(
            "mosquitto_pub", "-p", str(port), "-q", "1", "-t", "plant/a/t", "-l", text="\n".join(texts) + "\n"
        )

    async with server("mosquitto", "-c", str(configuration), port=port, directory=tmp_path):
        with ApiProcess(tmp_path / "api") as api:
            pod = Pod(name, "text", tmp_path, api=api, nats=nats_server, variables=variables)
            sent, away, stored = await live_through(pod, publish, {"topic": "plant/+/t"})
    print(f"\n{name}: {told(sent, away, stored)}")
    if name == "mosquitto-session":
        assert [text for text in away if text not in set(stored)] == []


async def test_kafka(nats_server: NatsServer, tmp_path: Path) -> None:
    """From the beginning of the topic, with offsets as occurrences. The broker is librdkafka's own mock."""
    async with known_programs.kcat(tmp_path) as setup:

        async def publish(texts: list[str]) -> None:
            await known_programs.run(
                "kcat", "-P", "-b", setup.variables["KAFKA_BROKERS"], "-t", "orders", "-p", "0",
                text="\n".join(texts) + "\n",
            )  # fmt: skip

        with ApiProcess(tmp_path / "api") as api:
            pod = Pod("kcat", "value", tmp_path, api=api, nats=nats_server, variables=setup.variables)
            sent, away, stored = await live_through(pod, publish, setup.parameters)
    print(f"\nkcat: {told(sent, away, stored)}")
    times = Counter(stored)
    assert [text for text in [*sent, *away] if times[text] != 1] == []
