"""The Sensor core.patterns as a process, with the real API and a real NATS server, and Rules whose events are reported."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.api_process import SENSOR as REPORTER
from support.api_process import TYPE, ApiProcess
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_stream import RuleStream, rule_state
from support.sensor_process import SensorProcess, stored_events

from attune_contract.derived import DERIVED_TRIGGER_TYPES
from attune_contract.identity import SensorRef
from attune_contract.messages import RuleState

REF = SensorRef("attune-system", "core.patterns")
TYPES = sorted(DERIVED_TRIGGER_TYPES)
#: A Rule whose events are reported, and one of the same name in a namespace that is nobody's business.
BEAT = rule_state(900, name="beat")
OTHERS = rule_state(901, name="beat", namespace="secret")
_BATCH = 1000


class Stage:
    """The API with NATS, the sensor, and Rules of another sensor that events are reported for."""

    def __init__(self, directory: Path, nats: NatsServer) -> None:
        self.api = ApiProcess(directory / "api", nats_url=nats.url)
        (directory / "sensor").mkdir(parents=True)
        self.sensor = SensorProcess(
            "attune_patterns",
            directory=directory / "sensor",
            ref=REF,
            trigger_type="core.absent",
            api=self.api,
            nats=nats,
            ATTUNE_TRIGGER_TYPES=",".join(TYPES),
        )
        self.token = self.api.minter.token(login=REF.login, metadata={"trigger_types": TYPES})
        self.sensor.token_file.write_text(self.token)
        self.rules = RuleStream(nats.url, sensor=REF)
        self.reported = RuleStream(nats.url, sensor=REPORTER)

    async def start(self) -> None:
        for stream in (self.rules, self.reported):
            await stream.connect()
        await self.rules.make_streams()
        self.api.start(path="/ready")
        await self.reported.put_many([BEAT, OTHERS])
        await self.sensor.start()

    async def end(self) -> None:
        await self.sensor.kill()
        self.api.stop()
        await self.rules.close()
        await self.reported.close()

    async def report(self, *keys: str, rule: RuleState = BEAT, ago: float = 0.0) -> dict[str, datetime]:
        """Report an event of each key; returns when they occurred."""
        at = {key: datetime.now(UTC) - timedelta(seconds=ago) for key in keys}
        events = [
            {
                "id": str(uuid.uuid4()),
                "trigger_type": TYPE,
                "rule_uid": rule.uid,
                "rule_namespace": rule.namespace,
                "rule_name": rule.name,
                "occurred_at": moment.isoformat(),
                "payload": {"key": key},
            }
            for key, moment in at.items()
        ]
        async with self.api.client() as client:
            for begin in range(0, len(events), _BATCH):
                answer = await client.post("/api/v1/events/batch", json={"events": events[begin : begin + _BATCH]})
                assert {each["status"] for each in answer.json()["data"]} == {"stored"}
        return at

    async def events(self, rule: RuleState) -> list[dict[str, Any]]:
        return await stored_events(self.api, rule_uid=rule.uid)

    async def count(self, rule: RuleState, number: int) -> list[dict[str, Any]]:
        """The rule's events, when there are so many."""

        async def enough() -> list[dict[str, Any]] | None:
            found = await self.events(rule)
            return found if len(found) >= number else None

        return await until(enough, within=60, every=0.2, what=f"{number} events of {rule.name}")


def pattern(number: int, kind: str, **parameters: Any) -> RuleState:
    """A Rule about the events of ``beat``."""
    return rule_state(number, trigger_type=kind, parameters={"rules": ["beat"], **parameters})
