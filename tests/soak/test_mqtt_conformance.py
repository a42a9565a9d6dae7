"""The conformance kit's checks of the MQTT sensor, beside a real Mosquitto. It needs no cluster, and takes a minute or two."""

import asyncio
from pathlib import Path

import pytest
from support.mosquitto_server import MosquittoServer
from support.source_conformance import assert_conforms

pytestmark = pytest.mark.nats

#: Publishes to the topic of each rule, each time with a new name.
SEND = """
import subprocess, time
def send(rules):
    for rule in rules:
        if topic := rule.get("topic"):
            name = str(time.time_ns())
            subprocess.run(
                ["mosquitto_pub", "-L", os.environ["MQTT_URL"] + "/" + topic, "-q", "1", "-V", "5", "-m", name,
                 "-D", "publish", "user-property", "id", name],
                timeout=30,
            )
"""


async def test_the_mqtt_sensor_conforms(tmp_path: Path) -> None:
    broker = MosquittoServer(tmp_path / "mosquitto")
    broker.place_password(tmp_path / "secrets")
    await asyncio.to_thread(broker.start)
    try:
        await assert_conforms(
            tmp_path,
            module="attune_mqtt",
            trigger_type="core.mqtttopic",
            parameters={"topic": "$rule", "idProperty": "id"},
            bad_parameters={"topic": "t", "server": "unknown"},
            occurrence="id",
            config={"servers": {"default": broker.access}},
            send=SEND,
            MQTT_URL=broker.url_with_credentials,
            ATTUNE_SECRETS_DIR=str(tmp_path / "secrets"),
        )
    finally:
        await asyncio.to_thread(broker.stop)
