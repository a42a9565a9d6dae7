"""What a sensor is written with: rules in, events out.

:class:`Sensor` makes one of functions, one call for each rule. :func:`run_sensor` runs a :class:`RuleHandler`, the lower level
on which the timer is built. What both need of the contract is re-exported here.
"""

from attune_contract.events import EventReport, event_id, scheduled
from attune_contract.identity import SensorRef
from attune_contract.messages import AckState, RuleState
from attune_sensor.confirmations import Confirmation, Fate
from attune_sensor.context import SensorContext
from attune_sensor.errors import CredentialsError, InvalidRule, SensorError, SettingsError, SpoolError, Stopping
from attune_sensor.functions import Sensor, Trigger
from attune_sensor.last_events import LastEvent
from attune_sensor.reports import event_of
from attune_sensor.rules import Rule, RuleHandler
from attune_sensor.runtime import SensorRuntime, run_sensor
from attune_sensor.settings import SensorSettings, WhenFull
from attune_sensor.token_client import Health, SensorToken, TokenClient, TokenClientError

__all__ = [
    "AckState",
    "Confirmation",
    "CredentialsError",
    "EventReport",
    "Fate",
    "Health",
    "InvalidRule",
    "LastEvent",
    "Rule",
    "RuleHandler",
    "RuleState",
    "Sensor",
    "SensorContext",
    "SensorError",
    "SensorRef",
    "SensorRuntime",
    "SensorSettings",
    "SensorToken",
    "SettingsError",
    "SpoolError",
    "Stopping",
    "TokenClient",
    "TokenClientError",
    "Trigger",
    "WhenFull",
    "event_id",
    "event_of",
    "run_sensor",
    "scheduled",
]
