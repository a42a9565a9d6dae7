"""What a sensor's author may use: these names, and no others. Every other module is private."""

import pkgutil

import attune_sensor
from attune_sensor import testing

NAMES = [
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
    "read_servers",
    "read_server_parameters",
    "read_trace",
    "run_sensor",
    "scheduled",
]


def test_the_public_names_are_these() -> None:
    assert sorted(attune_sensor.__all__) == sorted(NAMES)
    assert all(hasattr(attune_sensor, name) for name in NAMES)


def test_the_names_for_tests_are_these() -> None:
    assert sorted(testing.__all__) == ["FakeApi", "FakeClock", "SensorHarness"]
    assert all(hasattr(testing, name) for name in testing.__all__)


def test_every_other_module_is_private() -> None:
    public = {module.name for module in pkgutil.iter_modules(attune_sensor.__path__) if not module.name.startswith("_")}
    assert public == {"testing"}


def test_every_error_says_so() -> None:
    errors = [
        value for value in vars(attune_sensor).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert errors
    assert all(error.__name__.endswith("Error") and issubclass(error, attune_sensor.SensorError) for error in errors)
