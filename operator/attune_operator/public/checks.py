"""What the operator decides about Sensors and Rules from their text alone: bindings and schemas."""

from attune_operator.resources.canonical import canonical_json
from attune_operator.rules.binding import Bound, NotAllowed, UnknownTriggerType, bind
from attune_operator.rules.records import SensorRecord, TriggerDeclaration, parse_sensor
from attune_operator.sensors.schemas import problem as schema_problem

__all__ = [
    "Bound",
    "NotAllowed",
    "SensorRecord",
    "TriggerDeclaration",
    "UnknownTriggerType",
    "bind",
    "canonical_json",
    "parse_sensor",
    "schema_problem",
]
