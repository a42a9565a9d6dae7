"""A queue of SQS as something that a sensor reads, and its sensor in trouble."""

from pathlib import Path
from typing import Any, Final

from support import source_chaos
from support.elasticmq_server import ElasticMq
from support.eventually import eventually
from support.nats_server import NatsServer
from support.source_chaos import Chaos, Outcome, ServerQueue

from attune_contract.identity import SensorRef

REF = SensorRef("attune-system", "core.aws")
TYPE = "core.sqsqueue"
#: Groups of messages, each with an order of its own; a message's is its number modulo this.
GROUPS: Final = 8
_BATCH: Final = 10


class SqsQueue(ServerQueue[ElasticMq]):
    """A queue that keeps an order in groups, or one that does not.

    Its messages have ids for five minutes by which the server knows those that it has: one whose confirmation was lost is
    not there twice. Only queues with an order have that.
    """

    def __init__(self, server: ElasticMq, *, name: str = "orders.fifo") -> None:
        super().__init__(server)
        self.name = name

    def make(self) -> None:
        self.server.make(self.name)

    def send(self, numbers: range) -> None:
        left = list(numbers)

        def entry(number: int) -> dict[str, str]:
            order = {"MessageGroupId": f"g{number % GROUPS}", "MessageDeduplicationId": f"d{number}"}
            return {"Id": str(number), "MessageBody": f'{{"n": {number}}}', **order}

        async def use(sqs: Any) -> None:
            while left:
                part = left[:_BATCH]
                answer = await sqs.send_message_batch(
                    QueueUrl=self.server.url(self.name), Entries=[entry(number) for number in part]
                )
                if answer.get("Failed"):
                    raise ConnectionError(answer["Failed"][0])
                del left[: len(part)]

        def sent() -> bool:
            self.server.work(use)
            return True

        eventually(sent, within=120, what="ElasticMQ takes the messages")

    def unacknowledged(self) -> int:
        return sum(self.server.counts(self.name))


async def live_through(directory: Path, *, nats: NatsServer, chaos: Chaos) -> Outcome:
    """Send messages and let things fail; returns what became of them."""
    server = ElasticMq(directory / "elasticmq")
    server.place_keys(directory / "secrets")
    return await source_chaos.live_through(
        directory,
        SqsQueue(server),
        module="attune_aws",
        ref=REF,
        trigger_type=TYPE,
        # After a kill the messages under way come again when this time is over.
        config={"servers": {"default": {**server.access, "visibilitySeconds": 10}}},
        parameters={"queue": "orders.fifo"},
        nats=nats,
        chaos=chaos,
        ATTUNE_SECRETS_DIR=str(directory / "secrets"),
    )
