"""A real ElasticMQ server, which speaks SQS and keeps what it has: its jars as Maven resolves them, ended by its pid."""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError
from support.jars import jars
from support.server_process import ServerProcess

#: What it takes to run it, beside Java 11 or later.
PRESENT: Final = all(shutil.which(program) for program in ("java", "mvn"))
#: The account that it says queues are in.
ACCOUNT: Final = "000000000000"
REGION: Final = "eu-central-1"
_BATCH: Final = 10
_JVM: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-Xss512k")
_CONFIG: Final = """
include classpath("application.conf")
node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = "127.0.0.1", sqs-limits = strict }}
rest-stats {{ enabled = false }}
queues {{}}
queues-storage {{ enabled = true, path = "{directory}/queues.conf" }}
messages-storage {{
  enabled = true
  driver-class = "org.h2.Driver"
  uri = "jdbc:h2:{directory}/messages;WRITE_DELAY=0"
  username = "sa"
  password = ""
  prune-data-on-init = false
}}
"""
T = TypeVar("T")
#: It reads the service's description once.
_SESSION: Final = AioSession()


class ElasticMq(ServerProcess):
    """An ElasticMQ server. It takes any credentials."""

    name = "elasticmq"
    starts_within = 120
    ends_by = signal.SIGKILL

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        (directory / "elasticmq.conf").write_text(_CONFIG.format(port=self.port, directory=directory))

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def access(self) -> dict[str, Any]:
        """What the sensor's configuration says of it; :meth:`place_keys` puts the keys where it refers to them."""
        return {
            "url": self.endpoint,
            "region": REGION,
            "accessKeyId": "attune-aws/access-key-id",
            "secretAccessKey": "attune-aws/secret-access-key",
        }

    @staticmethod
    def place_keys(secrets: Path) -> None:
        """Write keys into the folder of mounted Secrets."""
        (secrets / "attune-aws").mkdir(parents=True, exist_ok=True)
        (secrets / "attune-aws" / "access-key-id").write_text("AKIDEXAMPLE\n")
        (secrets / "attune-aws" / "secret-access-key").write_text("s3cret\n")

    def command(self) -> Sequence[str | Path]:
        java = ["java", *_JVM, f"-Dconfig.file={self.directory / 'elasticmq.conf'}"]
        return [*java, "-cp", f"{asyncio.run(jars('elasticmq'))}/*", "org.elasticmq.server.Main"]

    def answers(self) -> bool:
        with contextlib.suppress(BotoCoreError, ClientError, OSError):
            self.work(lambda sqs: sqs.list_queues())
            return True
        return False

    # -- as a client; all of these block -----------------------------------------------------------------------------------

    def client(self) -> Any:
        """A client, which connects when it is entered."""
        made: Any = _SESSION.create_client(
            "sqs",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
            config=AioConfig(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1}),
        )
        return made

    def work(self, use: Callable[[Any], Awaitable[T]]) -> T:
        """Do something with a client."""

        async def run() -> T:
            async with self.client() as sqs:
                return await use(sqs)

        return asyncio.run(run())

    def make(self, name: str, **attributes: str) -> str:
        """Make a queue; returns its URL."""
        asked = {**({"FifoQueue": "true"} if name.endswith(".fifo") else {}), **attributes}
        answer: Any = self.work(lambda sqs: sqs.create_queue(QueueName=name, Attributes=asked))
        return str(answer["QueueUrl"])

    def url(self, name: str) -> str:
        """A queue's URL."""
        return f"{self.endpoint}/{ACCOUNT}/{name}"

    def send(self, name: str, *bodies: str, **given: Any) -> list[str]:
        """Send messages in order; returns their ids. ``given`` goes to the client for each of them."""

        async def use(sqs: Any) -> list[str]:
            return [
                (await sqs.send_message(QueueUrl=self.url(name), MessageBody=body, **given))["MessageId"]
                for body in bodies
            ]

        return self.work(use)

    def counts(self, name: str) -> tuple[int, int]:
        """Messages that wait, and messages that were received and not deleted."""
        asked = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer: Any = self.work(lambda sqs: sqs.get_queue_attributes(QueueUrl=self.url(name), AttributeNames=["All"]))
        waiting, under_way = (int(answer["Attributes"][each]) for each in asked)
        return waiting, under_way
