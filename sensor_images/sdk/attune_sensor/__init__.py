"""What a sensor is written with: rules in, events out.

:class:`Sensor` makes one of functions, one call for each rule. :class:`SourceHandler` reads queues and streams.
:func:`run_sensor` runs a :class:`RuleHandler`, the lower level on which the timer is built. What they need of the contract
is re-exported here.
"""

from attune_contract.events import EventReport, event_id, scheduled
from attune_contract.identity import SensorRef
from attune_contract.messages import AckState, RuleState
from attune_contract.tracing import Trace, read_trace
from attune_sensor._confirmations import Confirmation, Disposition
from attune_sensor._context import SensorContext
from attune_sensor._errors import (
    CredentialsError,
    InvalidRuleError,
    SensorError,
    SettingsError,
    SpoolError,
    StoppingError,
)
from attune_sensor._functions import Sensor, Trigger
from attune_sensor._last_events import LastEvent
from attune_sensor._parameters import read_duration, read_parameters
from attune_sensor._reports import event_of
from attune_sensor._rule_store import KeptState, RuleStore
from attune_sensor._rules import Rule, RuleHandler
from attune_sensor._runtime import SensorRuntime, run_sensor
from attune_sensor._servers import build_named, read_server_parameters, read_servers
from attune_sensor._settings import SensorSettings, WhenFull
from attune_sensor._source_events import (
    DERIVED_TRIGGER_TYPES,
    MOST_RULES,
    MOST_STATE_BYTES,
    ApiRefusedError,
    ApiUnavailableError,
    EventPage,
    RuleMemory,
    SourceEvents,
    StoredEvent,
)
from attune_sensor._source_handler import SourceHandler
from attune_sensor._sources import (
    ForgettingSourceKind,
    Message,
    ReadsAhead,
    RemarkingSourceKind,
    Source,
    SourceError,
    SourceKind,
    SplittingSourceKind,
)
from attune_sensor._token_client import ApiHealth, SensorToken, TokenClient, TokenClientError

__all__ = [
    "DERIVED_TRIGGER_TYPES",
    "MOST_RULES",
    "MOST_STATE_BYTES",
    "AckState",
    "ApiHealth",
    "ApiRefusedError",
    "ApiUnavailableError",
    "Confirmation",
    "CredentialsError",
    "Disposition",
    "EventPage",
    "EventReport",
    "ForgettingSourceKind",
    "InvalidRuleError",
    "KeptState",
    "LastEvent",
    "Message",
    "ReadsAhead",
    "RemarkingSourceKind",
    "Rule",
    "RuleHandler",
    "RuleMemory",
    "RuleState",
    "RuleStore",
    "Sensor",
    "SensorContext",
    "SensorError",
    "SensorRef",
    "SensorRuntime",
    "SensorSettings",
    "SensorToken",
    "SettingsError",
    "Source",
    "SourceError",
    "SourceEvents",
    "SourceHandler",
    "SourceKind",
    "SplittingSourceKind",
    "SpoolError",
    "StoppingError",
    "StoredEvent",
    "TokenClient",
    "TokenClientError",
    "Trace",
    "Trigger",
    "WhenFull",
    "build_named",
    "event_id",
    "event_of",
    "read_duration",
    "read_parameters",
    "read_server_parameters",
    "read_servers",
    "read_trace",
    "run_sensor",
    "scheduled",
]
