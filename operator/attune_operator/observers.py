"""Passes what the watches see to the two sides of the operator."""

from collections.abc import Callable, Mapping

from attune_operator.resources.kinds import Kind
from attune_operator.rules.side import RuleSide
from attune_operator.runtime.client import Body, WatchEventType
from attune_operator.sensors.controller import SensorController


class Observers:
    """What the handlers call. Each method is cheap and never blocks.

    Args:
        sensors: the Sensor side.
        rules: the Rule side.
        namespace: the operator's own namespace.
        own: the operator's own objects there, by name, and what to call when one of them was seen.
    """

    def __init__(
        self,
        *,
        sensors: SensorController,
        rules: RuleSide,
        namespace: str,
        own: Mapping[str, Callable[[], None]],
    ) -> None:
        self._sensors = sensors
        self._rules = rules
        self._namespace = namespace
        self._own = own

    def observe_sensor(self, kind: WatchEventType, body: Body) -> None:
        """A Sensor was seen, changed or deleted."""
        self._sensors.observe_sensor(kind, body)
        self._rules.observe_sensor(kind, body)

    def observe_rule(self, kind: WatchEventType, body: Body) -> None:
        """A Rule was seen, changed or deleted."""
        self._rules.observe_rule(kind, body)

    def observe_namespace(self, kind: WatchEventType, body: Body) -> None:
        """A namespace was seen, changed or deleted."""
        self._rules.observe_namespace(kind, body)

    def observe_child(self, what: Kind, kind: WatchEventType, body: Body) -> None:
        """An object that carries the operator's label was seen, changed or deleted."""
        metadata = body["metadata"]
        nudge = self._own.get(metadata["name"]) if metadata.get("namespace") == self._namespace else None
        if nudge is not None:
            nudge()
        else:
            self._sensors.observe_child(what, kind, body)
