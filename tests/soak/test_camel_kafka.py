"""Apache Camel as a bridge (examples/camel/kafka.yaml) between Apache Kafka and the webhook sensor: Camel, the sensor and the
broker are killed while records come. Each record must be one event. It needs Java, Maven, kcat and no cluster.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from support.api_process import ApiProcess
from support.camel import Camel, jars
from support.eventually import until
from support.known_programs import run
from support.nats_server import NatsServer
from support.sensor_process import drained, serve, stored_events
from support.webhook_outage import webhook_process

from attune_local.ports import free_port

RECORDS = int(os.environ.get("SOAK_MESSAGES", "5000"))
KILLS = 4
TOKEN = "a-token-of-this-test"

pytestmark = pytest.mark.skipif(
    not all(shutil.which(each) for each in ("mvn", "java", "kcat")), reason="needs Java, Maven and kcat"
)


class Kafka:
    """A broker of Apache Kafka in KRaft mode, which keeps what it has."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.port = free_port()
        self._directory = directory
        self._settings = directory / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        controller = free_port()
        self._settings.write_text(
            "process.roles=broker,controller\nnode.id=1\n"
            f"controller.quorum.voters=1@127.0.0.1:{controller}\n"
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}\n"
            "controller.listener.names=CONTROLLER\n"
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n"
            f"log.dirs={directory}/data\noffsets.topic.replication.factor=1\n"
            "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\nnum.partitions=2\n"
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        java = ["java", "-XX:TieredStopAtLevel=1", "-Xmx400m", "-cp", f"{await jars('kafka')}/*"]
        if self._process is None:
            await run(
                *java, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", str(self._settings)
            )
        with (self._directory / "kafka.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it lives longer than this loop needs to watch it
                [*java, "kafka.Kafka", str(self._settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

        async def answers() -> bool:
            await run("kcat", "-L", "-b", self.address, "-m", "2")
            return True

        await until(answers, within=120, every=0.5)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def send(self, numbers: range) -> None:
        """To both partitions in turns, in order, each once."""
        for partition in (0, 1):
            lines = "".join(f'{{"n": {number}}}\n' for number in numbers if number % 2 == partition)
            settings = ["-X", "acks=all", "-X", "enable.idempotence=true"]
            await run("kcat", "-P", "-b", self.address, "-t", "orders", "-p", str(partition), *settings, text=lines)


async def reached(api: ApiProcess, number: int) -> bool:
    """Whether so many events are stored."""
    return len(await stored_events(api)) >= number


async def test_each_record_is_one_event(nats_server: NatsServer, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets" / "hooks"
    secrets.mkdir(parents=True)
    (secrets / "orders").write_text(TOKEN)
    kafka = Kafka(tmp_path / "kafka")
    with ApiProcess(tmp_path / "api") as api:
        sensor, url = webhook_process(tmp_path, api=api, nats=nats_server, ATTUNE_SECRETS_DIR=str(secrets.parent))
        variables = {"BROKERS": kafka.address, "TOPIC": "orders", "GROUP": "attune", "TOKEN": TOKEN}
        camel = Camel("kafka.yaml", {**variables, "WEBHOOK": f"{url}/orders"}, log=tmp_path / "camel.log")
        stream = await sensor.stream()
        try:
            await kafka.start()
            await sensor.start()
            auth = {"type": "bearer", "secrets": ["hooks/orders"]}
            rate = {"perSecond": 10_000, "burst": 20_000}
            await serve(stream, [sensor.rule(1, {"path": "/orders", "auth": auth, "rate": rate})], within=60)
            await camel.start()
            part = RECORDS // (KILLS + 1)
            for kill in range(KILLS):
                await kafka.send(range(kill * part, (kill + 1) * part))
                # Some of them were taken, and some were not.
                await until(partial(reached, api, kill * part + part // 4), within=300, every=0.2)
                if kill % 2:
                    await asyncio.to_thread(kafka.kill)
                    await kafka.start()
                await camel.kill()
                await sensor.kill()
                await camel.start()
                await sensor.start()
            await kafka.send(range(KILLS * part, RECORDS))
            await until(partial(reached, api, RECORDS), within=300, every=1.0)
            await drained(sensor, within=120)
            assert await sensor.stop() == 0
        finally:
            await camel.kill()
            await sensor.kill()
            await asyncio.to_thread(kafka.kill)
            await stream.close()
        numbers = [int(event["payload"]["body"]["n"]) for event in await stored_events(api)]
    times = Counter(numbers)
    in_order = all(one == sorted(one) for one in ([n for n in numbers if n % 2 == p] for p in (0, 1)))
    print("\n" + json.dumps({"records": RECORDS, "kills": KILLS, "events": len(numbers), "in order": in_order,
                             "load": round(os.getloadavg()[0])}))  # fmt: skip
    assert [number for number in range(RECORDS) if times[number] != 1] == []
    assert in_order
