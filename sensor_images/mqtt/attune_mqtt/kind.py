"""Topics as a kind of source: servers and secrets of the Sensor, parameters of its rules."""

import ssl
import uuid
from functools import partial
from typing import Any

from attune_kit.server_secrets import ServerSecrets
from attune_kit.tls import TlsError
from attune_mqtt.config import Server, servers_of
from attune_mqtt.deliveries import Deliveries
from attune_mqtt.lenient import use_lenient_decoder
from attune_mqtt.parameters import Subscription, client_id, subscription_of
from attune_mqtt.payload import content_of, payload_of
from attune_mqtt.source import MqttTopic
from attune_sensor import Message, Rule, SensorContext, SourceError


class MqttTopics:
    """A :class:`attune_sensor.SourceKind`.

    Args:
        context: the sensor's configuration, and where its secrets are.

    Raises:
        SettingsError: the configuration cannot be used.
    """

    def __init__(self, context: SensorContext) -> None:
        use_lenient_decoder()
        self._servers = servers_of(context.config)
        self._secrets = ServerSecrets(context.settings.secrets_dir)
        self._sensor = str(context.settings.sensor)
        self._log = context.log
        self._deliveries: dict[Subscription, Deliveries] = {}  # of each session
        self._read_before: set[Subscription] = set()  # by this process

    def subscription(self, rule: Rule) -> Subscription:
        """What the rule wants to read.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        return subscription_of(rule, servers=self._servers)

    def describe(self, subscription: Subscription) -> str:
        """The subscription in a few words."""
        return f"topic {subscription.topic} of the server {subscription.server}"

    def connect(self, subscription: Subscription) -> MqttTopic:
        """A new source.

        Raises:
            MissingSecretError: a secret is missing.
            SourceError: the file with the authority's certificate holds none.
        """
        server = self._servers[subscription.server]
        session = client_id(self._sensor, subscription)
        return MqttTopic(
            server,
            subscription,
            password=self._secrets.text(server.name, "password", server.password),
            tls=self._tls(server) if server.tls else None,
            client_id=session,
            deliveries=self._deliveries.setdefault(subscription, Deliveries(lambda: uuid.uuid4().hex)),
            opened=partial(self._opened, subscription, session),
        )

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries."""
        return payload_of(rule.ref, content_of(message), whole=whole)

    def _opened(self, subscription: Subscription, session: str, resumed: bool) -> None:
        log = self._log.bind(server=subscription.server, topic=subscription.topic, client_id=session)
        if subscription in self._read_before and not resumed:
            log.warning("session_lost", hint="messages that came while the sensor was not connected are lost")
        else:
            log.info("session_opened", resumed=resumed)
        self._read_before.add(subscription)

    def _tls(self, server: Server) -> ssl.SSLContext:
        try:
            return self._secrets.tls(server.name, server.ca)
        except TlsError as error:
            raise SourceError(str(error)) from None
