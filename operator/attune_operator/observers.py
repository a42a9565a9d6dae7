"""Passes what the watches see to the two sides of the operator."""

from collections.abc import Callable, Mapping

from attune_contract import names
from attune_operator.resources.kinds import CONFIG_MAP, Kind
from attune_operator.rules.side import RuleSide
from attune_operator.runtime.client import Body, WatchEventType
from attune_operator.runtime.ownership import Ownership
from attune_operator.sensors.controller import SensorController


class Observers:
    """What the handlers call. Each method is cheap and never blocks.

    Args:
        sensors: the Sensor side.
        rules: the Rule side.
        ownership: whose each namespace is. Sensors and Rules of other installations' namespaces are passed over.
        namespace: the operator's own namespace.
        own: the operator's own objects there, by name, and what to call when one of them was seen.
    """

    def __init__(
        self,
        *,
        sensors: SensorController,
        rules: RuleSide,
        ownership: Ownership,
        namespace: str,
        own: Mapping[str, Callable[[], None]],
    ) -> None:
        self._sensors = sensors
        self._rules = rules
        self._ownership = ownership
        self._namespace = namespace
        self._own = own

    def _admits(self, kind: WatchEventType, body: Body) -> bool:
        """Whether the object is ours to look at. That something is gone is never passed over: no list would say it again."""
        namespace = body["metadata"]["namespace"]
        return self._ownership.ours(namespace) or (kind == "DELETED" and self._ownership.known_ours(namespace))

    def observe_sensor(self, kind: WatchEventType, body: Body) -> None:
        """A Sensor was seen, changed or deleted."""
        if self._admits(kind, body):
            self.admit_sensor(kind, body)

    def admit_sensor(self, kind: WatchEventType, body: Body) -> None:
        """A Sensor of a namespace of ours was seen, changed or deleted."""
        self._sensors.observe_sensor(kind, body)
        self._rules.observe_sensor(kind, body)

    def observe_rule(self, kind: WatchEventType, body: Body) -> None:
        """A Rule was seen, changed or deleted."""
        if self._admits(kind, body):
            self.admit_rule(kind, body)

    def admit_rule(self, kind: WatchEventType, body: Body) -> None:
        """A Rule of a namespace of ours was seen, changed or deleted."""
        self._rules.observe_rule(kind, body)

    def list_rules(self) -> None:
        """Rules may have changed unseen: list them all."""
        self._rules.request_list()

    def observe_namespace(self, kind: WatchEventType, body: Body) -> None:
        """A namespace was seen, changed or deleted."""
        self._rules.observe_namespace(kind, body)

    def forget_namespace(self, namespace: str) -> None:
        """The namespace is another installation's from now on."""
        self._rules.forget_namespace(namespace)
        self._sensors.request_sweep()

    def observe_child(self, what: Kind, kind: WatchEventType, body: Body) -> None:
        """An object that carries the operator's label was seen, changed or deleted."""
        metadata = body["metadata"]
        if what is CONFIG_MAP and metadata["name"] == names.INSTALLATION_MARK:
            self._ownership.observe(kind, body)
            return
        nudge = self._own.get(metadata["name"]) if metadata.get("namespace") == self._namespace else None
        if nudge is not None:
            nudge()
        else:
            self._sensors.observe_child(what, kind, body)
