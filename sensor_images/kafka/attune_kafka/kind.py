"""Kafka topics as a kind of source: servers and secrets of the Sensor, parameters of its rules."""

from collections.abc import Callable
from typing import Any

from prometheus_client import Counter

from attune_kafka.config import connection_settings, consumer_settings, servers_of
from attune_kafka.parameters import Subscription, subscription_of
from attune_kafka.payload import payload_of
from attune_kafka.positions import Gap
from attune_kafka.source import KafkaTopic
from attune_kit.server_secrets import ServerSecrets
from attune_sensor import Message, Rule, SensorContext


class KafkaTopics:
    """A :class:`attune_sensor.SourceKind`.

    Args:
        context: the sensor's configuration, and where its secrets are.

    Attributes:
        remark: says something in the conditions of the rules that read a subscription.

    Raises:
        SettingsError: the configuration cannot be used.
    """

    def __init__(self, context: SensorContext) -> None:
        self.remark: Callable[..., None] = lambda subscription, why: None
        self._servers = servers_of(context.config)
        self._secrets = ServerSecrets(context.settings.secrets_dir)
        self._sensor = str(context.settings.sensor)
        self._log = context.log
        self._seen: dict[Subscription, str] = {}
        self._lost = Counter(
            "attune_kafka_lost_records",
            "Records that Kafka deleted before they were read",
            registry=context.metrics.registry,
        )

    def subscription(self, rule: Rule) -> Subscription:
        """What the rule wants to read.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        return subscription_of(rule, servers=self._servers, sensor=self._sensor)

    def describe(self, subscription: Subscription) -> str:
        """The subscription in a few words."""
        return f"topic {subscription.topic} of the server {subscription.server}"

    def connect(self, subscription: Subscription) -> KafkaTopic:
        """A new source.

        Raises:
            MissingSecretError: a secret is missing.
        """
        server = self._servers[subscription.server]
        password = self._secrets.text(subscription.server, "password", server.password)
        authority = self._secrets.file(subscription.server, "ca", server.ca)
        connection = connection_settings(
            server,
            name=f"attune/{self._sensor}",
            password=password,
            ca_file=None if authority is None else str(authority),
        )
        return KafkaTopic(
            subscription,
            connection=connection,
            consumer=consumer_settings(server, group=subscription.group),
            seen=self._seen,
            on_gap=lambda gap: self._gap(subscription, gap),
        )

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries."""
        return payload_of(rule.ref, message.content, size=message.size, whole=whole)

    def _gap(self, subscription: Subscription, gap: Gap) -> None:
        self._lost.inc(gap.lost)
        self._log.warning(
            "records_lost",
            source=self.describe(subscription),
            partition=gap.partition,
            expected=gap.expected,
            found=gap.found,
        )
        self.remark(subscription, gap.text)
