"""What a sensor is given."""

import dataclasses
from pathlib import Path

import pytest

from attune_contract.identity import SensorRef
from attune_sensor import SensorSettings, SettingsError, WhenFull

COMPLETE = {
    "ATTUNE_SENSOR_REF": "attune-system/core.timer",
    "ATTUNE_SENSOR_INSTANCE": "pod-1",
    "ATTUNE_TRIGGER_TYPES": "core.intervaltimer, core.crontimer",
    "ATTUNE_API_URL": "http://api:8080/",
    "ATTUNE_API_TOKEN_FILE": "/run/token",
    "ATTUNE_NATS_URL": "nats://user:hunter2@nats:4222",
}


def test_reads_what_is_given_and_derives_the_rest() -> None:
    settings = SensorSettings.from_environment(COMPLETE)
    assert settings.sensor == SensorRef("attune-system", "core.timer")
    assert settings.trigger_types == ("core.intervaltimer", "core.crontimer")
    assert settings.api_url == "http://api:8080"
    assert settings.token_file == Path("/run/token")
    assert settings.rules_subject == "attune.rules.attune-system.core_timer.>"
    assert settings.acks_subject == "attune.acks.attune-system.core_timer"
    assert settings.nats_inbox_prefix == "_INBOX_attune-system_core_timer"
    assert settings.when_full is WhenFull.DROP_OLDEST
    assert settings.metrics_port == 8080
    assert settings.spool_dir is None


def test_names_everything_that_is_missing_or_wrong_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        SensorSettings.from_environment(
            {
                "ATTUNE_SENSOR_REF": "nonsense",
                "ATTUNE_API_URL": "api:8080",
                "ATTUNE_METRICS_PORT": "99999",
                "ATTUNE_SPOOL_FULL": "explode",
                "ATTUNE_GRACE_SECONDS": "nan",
                "ATTUNE_LOG_LEVEL": "loud",
                "ATTUNE_TRIGGER_TYPES": " , ",
            }
        )
    text = str(raised.value)
    assert "not set: ATTUNE_API_TOKEN_FILE, ATTUNE_NATS_URL" in text
    for name in ("SENSOR_REF", "API_URL", "METRICS_PORT", "SPOOL_FULL", "GRACE_SECONDS", "LOG_LEVEL", "TRIGGER_TYPES"):
        assert f"ATTUNE_{name}: " in text


def test_password_in_a_wrong_nats_address_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as raised:
        SensorSettings.from_environment({**COMPLETE, "ATTUNE_NATS_URL": "http://user:hunter2@nats"})
    assert "ATTUNE_NATS_URL" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_what_is_shown_holds_no_password() -> None:
    shown = SensorSettings.from_environment(COMPLETE).masked()
    assert shown["nats_url"] == "nats://***@nats:4222"
    assert shown["trigger_types"] == ["core.intervaltimer", "core.crontimer"]
    assert set(shown) == {field.name for field in dataclasses.fields(SensorSettings)}
