"""JetStream streams as a kind of source: servers and secrets of the Sensor, parameters of its rules."""

from typing import Any

from attune_kit.nats.connection import NatsEndpoint
from attune_kit.server_secrets import ServerSecrets
from attune_nats.config import servers_of
from attune_nats.parameters import Subscription, subscription_of
from attune_nats.payload import payload_of
from attune_nats.source import NatsStream
from attune_sensor import Message, Rule, SensorContext


class NatsStreams:
    """A :class:`attune_sensor.SourceKind`.

    Args:
        context: the sensor's configuration, and where its secrets are.

    Raises:
        SettingsError: the configuration cannot be used.
    """

    def __init__(self, context: SensorContext) -> None:
        self._servers = servers_of(context.config)
        self._secrets = ServerSecrets(context.settings.secrets_dir)
        self._sensor = str(context.settings.sensor)
        self._latest: dict[Subscription, NatsStream] = {}

    def subscription(self, rule: Rule) -> Subscription:
        """What the rule wants to read.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        return subscription_of(rule, servers=self._servers, sensor=self._sensor)

    def describe(self, subscription: Subscription) -> str:
        """The subscription in a few words."""
        return f"stream {subscription.stream} of the server {subscription.server}"

    def connect(self, subscription: Subscription) -> NatsStream:
        """A new source.

        Raises:
            MissingSecretError: a secret is missing.
        """
        before = self._latest.get(subscription)
        made = self._latest[subscription] = NatsStream(
            self._endpoint(subscription.server),
            domain=self._servers[subscription.server].domain,
            subscription=subscription,
            # A consumer that was deleted while we read begins where we were.
            after=None if before is None else before.last,
        )
        return made

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries."""
        return payload_of(rule.ref, message, whole=whole)

    def _endpoint(self, name: str) -> NatsEndpoint:
        server = self._servers[name]
        return NatsEndpoint(
            url=server.url,
            username=server.username,
            password=self._secrets.text(name, "password", server.password),
            name=f"sensor {self._sensor}",
            creds_file=self._secrets.file(name, "credentials", server.credentials),
            ca_file=self._secrets.file(name, "ca", server.ca),
            system_ca=True,
        )
