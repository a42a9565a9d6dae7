"""Folders as a kind of source: folders of the Sensor, parameters of its rules."""

from typing import Any

from attune_files.config import folders_of
from attune_files.parameters import Subscription, subscription_of
from attune_files.payload import payload_of
from attune_files.source import Looking
from attune_files.watching import Watch
from attune_sensor import Message, Rule, RuleStore, SensorContext


class Folders:
    """A :class:`attune_sensor.SourceKind`.

    Args:
        context: the sensor's configuration.

    Raises:
        SettingsError: the configuration cannot be used.
    """

    def __init__(self, context: SensorContext) -> None:
        self._folders = folders_of(context.config)
        self._context = context
        self._rules: dict[str, tuple[Rule, Subscription]] = {}

    def subscription(self, rule: Rule) -> Subscription:
        """What the rule wants to know of.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        subscription = subscription_of(rule, self._folders)
        self._rules[rule.uid] = rule, subscription
        return subscription

    def forget(self, rule: Rule) -> None:
        """The rule is gone."""
        self._rules.pop(rule.uid, None)

    def describe(self, subscription: Subscription) -> str:
        """The subscription in a few words."""
        return f"the folder {self._folders[subscription.folder].path}"

    def connect(self, subscription: Subscription) -> Looking:
        """A new source."""
        rule, _ = self._rules[subscription.rule]
        folder = self._folders[subscription.folder]
        watch = None
        if folder.notified:
            watch = Watch(folder.path, deep=subscription.depth != 0, log=self._context.log)
        return Looking(folder, subscription, store=RuleStore(self._context.source_events, rule), watch=watch)

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries."""
        return payload_of(rule.ref, self._rules[rule.uid][1], message.content, whole=whole)
