"""The conformance kit's checks of the MQTT sensor, beside a real Mosquitto. It needs no cluster, and takes a minute or two."""

import asyncio
import sys
from pathlib import Path

import pytest
from support.mosquitto_server import MosquittoServer

from attune_conformance.checks import all_checks
from attune_conformance.profile import Profile
from attune_conformance.runner import Outcome, run_checks

pytestmark = pytest.mark.nats

#: Publishes to the topic of each rule, again and again, each time with a new name.
SENDER = """
import json, os, subprocess, time
while True:
    time.sleep(0.2)
    try:
        rules = json.load(open(os.environ["ATTUNE_CONFORMANCE_RULES_FILE"]))
    except (OSError, ValueError):
        continue
    for rule in rules:
        if topic := rule["parameters"].get("topic"):
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
        profile = Profile(
            command=(sys.executable, "-m", "attune_mqtt"),
            trigger_type="core.mqtttopic",
            parameters={"topic": "$rule", "idProperty": "id"},
            bad_parameters={"topic": "t", "server": "unknown"},
            every=0.5,
            repeatable=False,  # two instances take the session from each other
            occurrence="id",
            config={"servers": {"default": broker.access}},
            environment={
                "MQTT_URL": broker.url_with_credentials,
                "ATTUNE_SECRETS_DIR": str(tmp_path / "secrets"),
            },
            slack=40.0,  # a message that is published before the rule's session is there comes to nobody
            stimulus=(sys.executable, "-I", "-c", SENDER),
        )
        results = await run_checks(list(all_checks().values()), profile=profile, folder=tmp_path, parallel=10)
    finally:
        await asyncio.to_thread(broker.stop)
    good = {Outcome.PASSED, Outcome.NOT_APPLICABLE}
    assert {each.check.name: each.message for each in results if each.outcome not in good} == {}
    assert any(each.outcome is Outcome.PASSED for each in results)
