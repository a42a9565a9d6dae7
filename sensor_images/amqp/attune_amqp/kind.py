"""Queues as a kind of source: servers and secrets of the Sensor, parameters of its rules."""

import ssl
from typing import Any

from attune_amqp.config import Server, servers_of
from attune_amqp.lenient import use_lenient_decoders
from attune_amqp.parameters import Subscription, subscription_of
from attune_amqp.payload import content_of, payload_of
from attune_amqp.source import AmqpQueue
from attune_kit.server_secrets import ServerSecrets
from attune_kit.tls import TlsError
from attune_sensor import Message, Rule, SensorContext, SourceError


class AmqpQueues:
    """A :class:`attune_sensor.SourceKind`.

    Args:
        context: the sensor's configuration, and where its secrets are.

    Raises:
        SettingsError: the configuration cannot be used.
    """

    def __init__(self, context: SensorContext) -> None:
        use_lenient_decoders()
        self._servers = servers_of(context.config)
        self._secrets = ServerSecrets(context.settings.secrets_dir)
        self._sensor = str(context.settings.sensor)

    def subscription(self, rule: Rule) -> Subscription:
        """What the rule wants to read.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        return subscription_of(rule, servers=self._servers)

    def describe(self, subscription: Subscription) -> str:
        """The subscription in a few words."""
        return f"queue {subscription.queue} of the server {subscription.server}"

    def connect(self, subscription: Subscription) -> AmqpQueue:
        """A new source.

        Raises:
            MissingSecretError: a secret is missing.
            SourceError: the file with the authority's certificate holds none.
        """
        server = self._servers[subscription.server]
        return AmqpQueue(
            server,
            subscription.queue,
            password=self._secrets.text(server.name, "password", server.password),
            tls=self._tls(server) if server.tls else None,
            name=f"attune {self._sensor}",
        )

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries."""
        return payload_of(rule.ref, content_of(message), whole=whole)

    def _tls(self, server: Server) -> ssl.SSLContext:
        try:
            return self._secrets.tls(server.name, server.ca)
        except TlsError as error:
            raise SourceError(str(error)) from None
