"""SQS queues as a kind of source: servers and secrets of the Sensor, parameters of its rules."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from attune_aws.clients import Clients, access_of
from attune_aws.config import servers_of
from attune_aws.sqs_parameters import QueueSubscription, parameters_of, subscription_of
from attune_aws.sqs_payload import parts_of, payload_of
from attune_aws.sqs_source import SqsQueue
from attune_kit.server_secrets import ServerSecrets
from attune_sensor import Message, Rule, SensorContext, SourceError


class Aws:
    """A :class:`attune_sensor.SplittingSourceKind`.

    Args:
        context: the sensor's configuration, and where its secrets are.

    Raises:
        SettingsError: the configuration cannot be used.
    """

    def __init__(self, context: SensorContext) -> None:
        self._servers = servers_of(context.config)
        self._secrets = ServerSecrets(context.settings.secrets_dir)
        self._clients = Clients()
        self._queues: dict[QueueSubscription, SqsQueue] = {}

    def subscription(self, rule: Rule) -> QueueSubscription:
        """What the rule wants to read.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        return subscription_of(rule, servers=self._servers)

    def describe(self, subscription: QueueSubscription) -> str:
        """The subscription in a few words."""
        return f"queue {subscription.name} of the server {subscription.server}"

    def connect(self, subscription: QueueSubscription) -> SqsQueue:
        """A new source.

        Raises:
            MissingSecretError: a secret is missing.
        """
        server = self._servers[subscription.server]
        access = access_of(server, self._secrets)
        before = self._queues.get(subscription)
        made = self._queues[subscription] = SqsQueue(
            server,
            subscription,
            connect=partial(self._clients.client, "sqs", access),
            claim=partial(self._claim, subscription),
            doubted=before is not None and before.denied,
        )
        return made

    def split(self, rule: Rule, message: Message) -> Sequence[Message]:
        """What the rule's events are made of."""
        return parts_of(self.subscription(rule), parameters_of(rule), message)

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries."""
        return payload_of(rule.ref, parameters_of(rule), message.content, size=message.size, whole=whole)

    def _claim(self, subscription: QueueSubscription, url: str) -> None:
        """A queue has one reader here: of two, each would get a part of the messages, and some rules no event of them.

        Raises:
            SourceError: another subscription is the same queue.
        """
        for other, source in self._queues.items():
            if other != subscription and source.url == url:
                raise SourceError(
                    f"other rules read this queue as {other.place}; write it alike in all rules, since each message goes to "
                    "one reader"
                )
