"""PostgreSQL as a kind of source: servers and secrets of the Sensor, parameters of its rules."""

import collections
from collections.abc import Callable
from functools import partial
from typing import Any

from prometheus_client import Counter

from attune_kit.server_secrets import ServerSecrets
from attune_postgres.channel import Channel, Waiting, lock_of
from attune_postgres.config import connect_url, servers_of
from attune_postgres.parameters import (
    ChannelSubscription,
    Subscription,
    TableParameters,
    TableSubscription,
    parameters_of,
    subscription_of,
)
from attune_postgres.payload import notification_payload, row_payload
from attune_postgres.table import OutboxTable
from attune_sensor import Message, Rule, SensorContext, Source


class PostgresSources:
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
        self._waiting: dict[ChannelSubscription, Waiting] = {}
        self._dropped = Counter(
            "attune_postgres_dropped_notifications",
            "Notifications that were heard and dropped, because too many waited for the API",
            registry=context.metrics.registry,
        )

    def subscription(self, rule: Rule) -> Subscription:
        """What the rule wants to read.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        return subscription_of(rule, servers=self._servers)

    def describe(self, subscription: Subscription) -> str:
        """The subscription in a few words."""
        if isinstance(subscription, ChannelSubscription):
            return f"channel {subscription.channel} of the server {subscription.server}"
        return f"table {subscription.schema}.{subscription.table} of the server {subscription.server}"

    def connect(self, subscription: Subscription) -> Source:
        """A new source.

        Raises:
            MissingSecretError: a secret is missing.
        """
        server = self._servers[subscription.server]
        url = connect_url(
            server,
            password=self._secrets.text(server.name, "password", server.password),
            ca_file=self._secrets.file(server.name, "ca", server.ca),
        )
        name = f"attune {self._sensor}"
        if isinstance(subscription, TableSubscription):
            return OutboxTable(url, subscription, where=server.where, name=name)
        before = self._waiting.get(subscription)
        waiting: Waiting = collections.deque() if before is None else before
        self._waiting[subscription] = waiting
        return Channel(
            url,
            subscription,
            where=server.where,
            name=name,
            lock=lock_of(self._sensor, subscription.channel),
            waiting=waiting,
            on_loss=partial(self._lost, subscription),
            gap=before is not None,
        )

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries."""
        parameters = parameters_of(rule)
        if isinstance(parameters, TableParameters):
            return row_payload(rule.ref, parameters, message.content, whole=whole)
        return notification_payload(rule.ref, parameters, message.content, whole=whole)

    def _lost(self, subscription: ChannelSubscription, why: str, dropped: int) -> None:
        self._dropped.inc(dropped)
        self._log.warning("notifications_lost", source=self.describe(subscription), why=why)
        self.remark(subscription, why)
