"""A topic of Kafka as something that a sensor reads, and its sensor in trouble."""

from pathlib import Path
from typing import Any

from support import source_chaos
from support.kafka_server import KafkaServer
from support.nats_server import NatsServer
from support.source_chaos import Chaos, Outcome, ServerQueue

from attune_contract.identity import SensorRef
from attune_kafka.parameters import own_group

REF = SensorRef("attune-system", "core.kafka")
TYPE = "core.kafkatopic"
TOPIC = "orders"
GROUP = own_group(str(REF), TOPIC, "latest")


class KafkaQueue(ServerQueue[KafkaServer]):
    """A topic that the sensor's group reads.

    Args:
        server: the broker.
        partitions: of the topic; the message with the number n is sent to the partition n modulo their number.
    """

    def __init__(self, server: KafkaServer, *, partitions: int) -> None:
        super().__init__(server)
        self.partitions = partitions

    def make(self) -> None:
        self.server.make(TOPIC, partitions=self.partitions)

    def send(self, numbers: range) -> None:
        """Send records. The producer is idempotent, so one whose answer was lost is not stored twice."""
        records: list[dict[str, Any]] = [
            {"value": f'{{"n": {number}}}', "partition": number % self.partitions} for number in numbers
        ]
        self.server.send_each(TOPIC, records, timeout=300)

    def unacknowledged(self) -> int:
        return self.server.behind(TOPIC, GROUP)


def config(server: KafkaServer) -> dict[str, Any]:
    """The sensor's, with the shortest session that the broker allows here: what a killed one read is read again sooner."""
    return {"servers": {"default": {"bootstrapServers": server.address, "sessionSeconds": 2}}}


async def live_through(directory: Path, *, nats: NatsServer, chaos: Chaos, partitions: int = 1) -> Outcome:
    """Send messages and let things fail; returns what became of them. ``nats`` is Attune's own."""
    server = KafkaServer(directory / "kafka")
    return await source_chaos.live_through(
        directory,
        KafkaQueue(server, partitions=partitions),
        module="attune_kafka",
        ref=REF,
        trigger_type=TYPE,
        config=config(server),
        parameters={"topic": TOPIC},
        nats=nats,
        chaos=chaos,
    )
