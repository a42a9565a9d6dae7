"""A real Apache Kafka broker of a test's own, in KRaft mode: its jars as Maven resolves them, ended by its pid."""

import asyncio
import functools
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic
from support.certificates import Authority
from support.eventually import eventually
from support.jars import jars
from support.server_process import ServerProcess

from attune_local.ports import free_port

#: What it takes to run it, beside Java 17 or later.
PRESENT: Final = all(shutil.which(program) for program in ("java", "mvn"))
_CLUSTER: Final = "MkU3OEVBNTcwNTJENDM2Qk"
USER: Final = "attune"
PASSWORD: Final = "s3cr@t:/"
#: Where the sensor's configuration says that the password and the authority are: a Secret and its keys.
_PASSWORD_REFERENCE: Final = "attune-kafka/password"
_AUTHORITY_REFERENCE: Final = "attune-kafka/ca.crt"
_JVM: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx192m", "-Xss512k")


class KafkaServer(ServerProcess):
    """A broker.

    It listens twice: in plain text without users, and with TLS, where the user is known by PLAIN and by SCRAM-SHA-512.

    Args:
        directory: where it keeps what it has.
        partitions: how many a topic has that is made by itself.
        settings: more of the broker's settings, or others.
    """

    name = "kafka"
    starts_within = 120
    ends_by = signal.SIGKILL

    def __init__(self, directory: Path, *, partitions: int = 1, **settings: str) -> None:
        super().__init__(directory)
        self.secure_port, controller = free_port(), free_port()
        self._authority = Authority()
        self._formatted = False
        certificate, key = self._authority.issue("localhost")
        store = directory / "server.pem"
        store.write_text(key + certificate)
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
        found = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},SECURE://127.0.0.1:{self.secure_port},"
            f"CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address},SECURE://{self.secure_address}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL",
            "listener.name.secure.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.secure.plain.sasl.jaas.config": f'{plain} required user_{USER}="{PASSWORD}";',
            "listener.name.secure.scram-sha-512.sasl.jaas.config": f"{scram} required;",
            "listener.name.secure.ssl.keystore.type": "PEM",
            "listener.name.secure.ssl.keystore.location": str(store),
            "log.dirs": str(directory / "data"),
            "num.partitions": str(partitions),
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            # A broker that was killed is let in again after its old session.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.dedupe.buffer.size": "2097152",
            "log.initial.task.delay.ms": "500",
            "log.retention.check.interval.ms": "500",
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
        (directory / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in found.items()))

    @property
    def address(self) -> str:
        """Where it listens in plain text."""
        return f"127.0.0.1:{self.port}"

    @property
    def secure_address(self) -> str:
        """Where it listens with TLS and asks who one is."""
        return f"localhost:{self.secure_port}"

    def secure_access(self, mechanism: str) -> dict[str, Any]:
        """What the sensor's configuration says of it; what it refers to is where :meth:`place_secrets` puts it."""
        return {
            "bootstrapServers": self.secure_address,
            "tls": True,
            "username": USER,
            "mechanism": mechanism,
            "password": _PASSWORD_REFERENCE,
            "ca": _AUTHORITY_REFERENCE,
        }

    def place_secrets(self, secrets: Path, *, password: str = PASSWORD) -> None:
        """Write the password and the authority into the folder of mounted Secrets."""
        for reference, text in ((_PASSWORD_REFERENCE, f"{password}\n"), (_AUTHORITY_REFERENCE, self._authority.pem)):
            file = secrets / reference
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def command(self) -> Sequence[str | Path]:
        java = ["java", *_JVM, "-cp", f"{asyncio.run(jars('kafka'))}/*"]
        settings = str(self.directory / "server.properties")
        if not self._formatted:
            user = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
            command = [*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", settings, "--add-scram", user]
            with self.log.open("ab") as log:
                subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120, check=True)
            self._formatted = True
        return [*java, "kafka.Kafka", settings]

    def answers(self) -> bool:
        # It answers a moment before it knows itself, and then as a coordinator of groups.
        return (
            bool(self.admin.list_topics(timeout=2).brokers)
            and not self.admin.list_consumer_groups(request_timeout=2).result().errors
        )

    def _end(self, number: int) -> None:
        super()._end(number)
        self.__dict__.pop("admin", None)  # a client that lost its broker may wait long for what it asked then

    # -- as a client -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def admin(self) -> AdminClient:
        """A client that manages; it connects when it is needed."""
        settings: dict[str, Any] = {"reconnect.backoff.max.ms": 500, "socket.timeout.ms": 10_000, "log_level": 0}
        return AdminClient({"bootstrap.servers": self.address, **settings})

    def make(self, topic: str, *, partitions: int = 1, **settings: str) -> None:
        """Make a topic, and return when it can be used."""
        config = {name.replace("_", "."): value for name, value in settings.items()}
        made = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
        self._do(lambda: self.admin.create_topics([made], request_timeout=30), KafkaError.TOPIC_ALREADY_EXISTS)
        eventually(lambda: len(self.ends(topic)) == partitions, within=30, what=f"{topic} is there")

    def delete(self, topic: str) -> None:
        """Delete a topic, and return when it is gone."""
        self._do(lambda: self.admin.delete_topics([topic], request_timeout=30), KafkaError.UNKNOWN_TOPIC_OR_PART)

        def gone() -> bool:
            return topic not in self.admin.list_topics(timeout=10).topics

        eventually(gone, within=30, what=f"{topic} is gone")

    def widen(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        wanted = NewPartitions(topic, partitions)
        self._do(lambda: self.admin.create_partitions([wanted], request_timeout=30), KafkaError.INVALID_PARTITIONS)
        eventually(lambda: len(self.ends(topic)) == partitions, within=30, what=f"{topic} is wider")

    def forget(self, topic: str, before: int, *, partition: int = 0) -> None:
        """Delete the records before an offset, as retention does."""
        place = TopicPartition(topic, partition, before)
        self._do(lambda: self.admin.delete_records([place], request_timeout=30))

    def send(self, topic: str, *values: bytes | str | None, **given: Any) -> None:
        """Send records, in order, each once, and see that the broker has them.

        ``given`` goes to the client for each of them, like ``key`` or ``partition``; with ``partition=None`` they go to the
        partitions in turns.

        Raises:
            ConnectionError: it does not take them.
        """
        self.send_each(topic, [{"value": value, **given} for value in values])

    def send_each(self, topic: str, records: Sequence[dict[str, Any]], *, timeout: float = 60.0) -> None:
        """The same with other arguments for each."""
        problems: list[str] = []

        def delivered(error: KafkaError | None, _: Any) -> None:
            if error is not None:
                problems.append(error.str())

        settings: dict[str, Any] = {
            "bootstrap.servers": self.address,
            "enable.idempotence": True,
            "linger.ms": 1,
            "log_level": 0,
            "message.max.bytes": 2_000_000,
            "message.timeout.ms": int(timeout * 1000),
        }
        producer = Producer(settings)
        for record in records:
            producer.produce(topic, on_delivery=delivered, **record)
        left = producer.flush(timeout + 10)
        if problems or left:
            raise ConnectionError(f"{len(problems)} and {left} records were not taken: {problems[:1]}")

    def ends(self, topic: str) -> dict[int, int]:
        """Of each partition, the offset that the next record will have."""
        description = self.admin.list_topics(topic, timeout=10).topics[topic]
        if description.error is not None:
            raise KafkaException(description.error)
        asked = [TopicPartition(topic, partition, OFFSET_END) for partition in description.partitions]
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "looks", "log_level": 0})
        try:
            found = consumer.offsets_for_times(asked, timeout=10)
        finally:
            consumer.close()
        return {place.partition: place.offset for place in found}

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """Of each partition, the offset that a group reads next."""
        asked = [ConsumerGroupTopicPartitions(group)]
        [future] = self.admin.list_consumer_group_offsets(asked, request_timeout=10).values()
        return {each.partition: each.offset for each in future.result().topic_partitions if each.topic == topic}

    def behind(self, topic: str, group: str) -> int:
        """Records that the group has not acknowledged; those of a partition of which it has no position, too."""
        committed = self.committed(topic, group)
        return sum(end - max(0, committed.get(partition, 0)) for partition, end in self.ends(topic).items())

    @staticmethod
    def _do(ask: Callable[[], dict[Any, Any]], *done: int) -> None:
        """Ask until it is so: a broker on a busy machine may be out of its cluster for a moment.

        Args:
            ask: the request.
            done: error codes that say that it is so already.
        """

        def is_so() -> bool:
            for future in ask().values():
                try:
                    future.result(60)
                except KafkaException as error:
                    if error.args[0].code() not in done:
                        raise
            return True

        eventually(is_so, within=120, every=0.2, what="Kafka does what it is asked")
