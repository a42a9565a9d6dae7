"""The custom resources as typed models. ``kubectl explain`` prints their docstrings.

Only the operator, the command line and the CRD generator import this package: a sensor needs no pydantic for its messages.
"""

from attune_contract.resources.common import Condition
from attune_contract.resources.rule import Rule, RuleSpec, RuleStatus, Trigger
from attune_contract.resources.sensor import Sensor, SensorSpec, SensorStatus, TriggerType

__all__ = [
    "Condition",
    "Rule",
    "RuleSpec",
    "RuleStatus",
    "Sensor",
    "SensorSpec",
    "SensorStatus",
    "Trigger",
    "TriggerType",
]
