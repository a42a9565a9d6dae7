"""A topic of MQTT as something that a sensor reads, and its sensor in trouble."""

from pathlib import Path
from typing import Any, Final

from support import source_chaos
from support.eventually import eventually
from support.mosquitto_server import MosquittoServer
from support.nats_server import NatsServer
from support.source_chaos import Chaos, Outcome, ServerQueue

from attune_contract.identity import SensorRef

REF = SensorRef("attune-system", "core.mqtt")
TYPE = "core.mqtttopic"
TOPIC: Final = "orders"


class MqttTopic(ServerQueue[MosquittoServer]):
    """A topic with one session.

    Attributes:
        repeated: numbers that may have been published twice, since the broker ended before it confirmed.
    """

    def __init__(self, server: MosquittoServer) -> None:
        super().__init__(server)
        self.repeated: set[int] = set()

    def make(self) -> None:
        """Nothing: the sensor makes the session."""

    def send(self, numbers: range) -> None:
        """Publish messages whose user property ``n`` names them, and the field ``n``, too."""
        left = list(numbers)

        def sent() -> bool:
            with self.server.client() as client:
                while left:
                    number = str(left[0])
                    try:
                        self.server.publish(client, TOPIC, f'{{"n": {number}}}'.encode(), UserProperty=("n", number))
                    except OSError:
                        self.repeated.add(left[0])
                        raise
                    left.pop(0)
            return True

        eventually(sent, within=120, what="Mosquitto takes the messages")

    def unacknowledged(self) -> int:
        return self.server.kept()


async def live_through(
    directory: Path, *, nats: NatsServer, chaos: Chaos, version: str, **naming: str
) -> tuple[Outcome, MqttTopic]:
    """Publish messages and let things fail; returns what became of them.

    Args:
        directory: where everything is kept.
        nats: Attune's own.
        chaos: what fails.
        version: of MQTT.
        naming: the rules' parameters that say what names a message.
    """
    server = MosquittoServer(directory / "mosquitto")
    server.place_password(directory / "secrets")
    topic = MqttTopic(server)
    outcome = await source_chaos.live_through(
        directory,
        topic,
        module="attune_mqtt",
        ref=REF,
        trigger_type=TYPE,
        config={"servers": {"default": {**server.access, "version": version}}},
        parameters={"topic": TOPIC, **naming},
        nats=nats,
        chaos=chaos,
        ATTUNE_SECRETS_DIR=str(directory / "secrets"),
    )
    return outcome, topic


def judge_unnamed(outcome: Outcome, topic: MqttTopic, *, restarts: int, prefetch: int) -> int:
    """Each message is an event of each rule at least; returns how many are two events or more.

    A second event is a redelivery, and says so, or its message was published twice. After each kill there are at most as many
    as may be under way, and after each end of the broker, too: it may not have got the acknowledgements.
    """
    seen: dict[str, set[int]] = {}
    doubled = 0
    for event in outcome.events:
        payload: dict[str, Any] = event["payload"]
        numbers = seen.setdefault(event["rule_name"], set())
        number = source_chaos.number_of(payload)
        if number in numbers:
            doubled += 1
            assert payload["redelivered"] or number in topic.repeated, payload
        numbers.add(number)
    wanted = set(range(outcome.sent))
    assert [sorted(wanted - numbers)[:20] for numbers in seen.values()] == [[]] * source_chaos.RULES
    assert doubled <= source_chaos.RULES * ((outcome.kills + restarts) * prefetch + len(topic.repeated))
    return doubled
