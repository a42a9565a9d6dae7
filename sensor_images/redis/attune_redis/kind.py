"""Redis streams as a kind of source: servers and secrets of the Sensor, parameters of its rules."""

from typing import Any

from attune_kit.server_secrets import ServerSecrets
from attune_redis.config import servers_of
from attune_redis.parameters import Parameters, Subscription, subscription_of
from attune_redis.payload import payload_of
from attune_redis.source import RedisStream
from attune_sensor import Message, Rule, SensorContext, read_parameters


class RedisStreams:
    """A :class:`attune_sensor.SourceKind`.

    Args:
        context: the sensor's configuration, and where its secrets are.

    Raises:
        SettingsError: the configuration cannot be used.
    """

    def __init__(self, context: SensorContext) -> None:
        self._servers = servers_of(context.config)
        self._secrets = ServerSecrets(context.settings.secrets_dir)
        self._group = f"attune.{context.settings.sensor.namespace}.{context.settings.sensor.name}"
        self._latest: dict[Subscription, RedisStream] = {}

    def subscription(self, rule: Rule) -> Subscription:
        """What the rule wants to read.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        return subscription_of(rule, servers=self._servers, group=self._group)

    def describe(self, subscription: Subscription) -> str:
        """The subscription in a few words."""
        return f"stream {subscription.stream} of the server {subscription.server}"

    def connect(self, subscription: Subscription) -> RedisStream:
        """A new source.

        Raises:
            MissingSecretError: a secret is missing.
        """
        server = self._servers[subscription.server]
        password = self._secrets.text(server.name, "password", server.password)
        authority = self._secrets.file(server.name, "ca", server.ca)
        before = self._latest.get(subscription)
        made = self._latest[subscription] = RedisStream(
            server,
            subscription,
            password=password,
            ca_file=None if authority is None else str(authority),
            # A group that was deleted while we read begins where we were.
            after=None if before is None else before.last,
        )
        return made

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries."""
        entry, fields = message.content
        return payload_of(
            rule.ref, read_parameters(rule.parameters, Parameters), entry=entry, fields=fields, whole=whole
        )
