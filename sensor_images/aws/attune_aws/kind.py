"""SQS queues and S3 buckets as a kind of source: servers and secrets of the Sensor, parameters of its rules."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from attune_aws import s3_parameters, s3_payload, sqs_parameters, sqs_payload
from attune_aws.clients import Clients, access_of
from attune_aws.config import servers_of
from attune_aws.s3_parameters import BucketSubscription
from attune_aws.s3_source import Bucket
from attune_aws.sqs_parameters import QueueSubscription
from attune_aws.sqs_source import SqsQueue
from attune_kit.server_secrets import ServerSecrets
from attune_sensor import Message, Rule, RuleStore, SensorContext, SourceError, read_parameters

Subscription = QueueSubscription | BucketSubscription


class Aws:
    """A :class:`attune_sensor.SplittingSourceKind`.

    Args:
        context: the sensor's configuration, and where its secrets are.

    Raises:
        SettingsError: the configuration cannot be used.
    """

    def __init__(self, context: SensorContext) -> None:
        self._context = context
        self._servers = servers_of(context.config)
        self._secrets = ServerSecrets(context.settings.secrets_dir)
        self._clients = Clients()
        self._queues: dict[QueueSubscription, SqsQueue] = {}
        #: Of each rule about a bucket, the rule, and its last source.
        self._listing: dict[str, Rule] = {}
        self._buckets: dict[BucketSubscription, Bucket] = {}

    def subscription(self, rule: Rule) -> Subscription:
        """What the rule wants to read.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        if rule.trigger_type != s3_parameters.TYPE:
            return sqs_parameters.subscription_of(rule, servers=self._servers)
        subscription = s3_parameters.subscription_of(rule, servers=self._servers)
        self.forget(rule, keep=subscription)
        self._listing[rule.uid] = rule
        return subscription

    def forget(self, rule: Rule, *, keep: Subscription | None = None) -> None:
        """The rule is gone, or wants something else now."""
        self._listing.pop(rule.uid, None)
        for each in [each for each in self._buckets if each.rule == rule.uid and each != keep]:
            del self._buckets[each]

    def describe(self, subscription: Subscription) -> str:
        """The subscription in a few words."""
        if isinstance(subscription, QueueSubscription):
            return f"queue {subscription.name} of the server {subscription.server}"
        return f"bucket {subscription.bucket} of the server {subscription.server}"

    def connect(self, subscription: Subscription) -> SqsQueue | Bucket:
        """A new source.

        Raises:
            MissingSecretError: a secret is missing.
        """
        server = self._servers[subscription.server]
        access = access_of(server, self._secrets)
        if isinstance(subscription, BucketSubscription):
            style = (
                {} if server.path_style is None else {"addressing_style": "path" if server.path_style else "virtual"}
            )
            bucket = self._buckets[subscription] = Bucket(
                server,
                subscription,
                connect=partial(self._clients.client, "s3", access, s3=style),
                store=RuleStore(self._context.source_events, self._listing[subscription.rule]),
                before=self._buckets.get(subscription),
            )
            return bucket
        before = self._queues.get(subscription)
        queue = self._queues[subscription] = SqsQueue(
            server,
            subscription,
            connect=partial(self._clients.client, "sqs", access),
            claim=partial(self._claim, subscription),
            doubted=before is not None and before.denied,
        )
        return queue

    def split(self, rule: Rule, message: Message) -> Sequence[Message]:
        """What the rule's events are made of."""
        if rule.trigger_type == s3_parameters.TYPE:
            return (message,)
        subscription = sqs_parameters.subscription_of(rule, servers=self._servers)
        return sqs_payload.parts_of(subscription, read_parameters(rule.parameters, sqs_parameters.Parameters), message)

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries."""
        if rule.trigger_type == s3_parameters.TYPE:
            return s3_payload.payload_of(
                rule.ref, read_parameters(rule.parameters, s3_parameters.Parameters), message.content
            )
        return sqs_payload.payload_of(
            rule.ref,
            read_parameters(rule.parameters, sqs_parameters.Parameters),
            message.content,
            size=message.size,
            whole=whole,
        )

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
