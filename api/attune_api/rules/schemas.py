"""What answers about rules and sensors look like, for the documentation."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from attune_api.web.schemas import Schema, example


class RuleSchema(Schema):
    """A rule that a sensor serves."""

    model_config = example(
        {
            "uid": "7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10",
            "namespace": "default",
            "name": "echo-every-second",
            "generation": 3,
            "enabled": True,
            "trigger_type": "core.intervaltimer",
            "sensor_ref": "attune-system/core.timer",
            "created_at": "2026-11-23T11:59:58Z",
            "state": "Active",
            "message": "",
            "state_at": "2026-11-23T12:00:00.100000Z",
        }
    )

    uid: str = Field(examples=["7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"])
    namespace: str = Field(examples=["default"])
    name: str = Field(examples=["echo-every-second"])
    generation: int
    """Which version of the Rule is published."""
    enabled: bool
    trigger_type: str = Field(examples=["core.intervaltimer"])
    sensor_ref: str = Field(examples=["attune-system/core.timer"])
    """The sensor that serves it."""
    created_at: datetime = Field(examples=["2026-11-23T11:59:58Z"])
    state: Literal["Active", "Rejected", "Failing", "Stopped", "Completed", "Waiting", "Unknown"]
    """The sensor's own word on this generation; Waiting before it has said anything, Unknown while NATS is away."""
    message: str
    """Why it was rejected, or is failing."""
    state_at: datetime | None
    """When the sensor said so."""


class RuleAnswer(Schema):
    """One rule."""

    data: RuleSchema


class RulePage(Schema):
    """A page of rules."""

    data: list[RuleSchema]
    next_cursor: str | None


class PastEventSchema(Schema):
    """What happened to a rule."""

    model_config = example(
        {
            "type": "updated",
            "at": "2026-11-23T12:05:00.120000Z",
            "rule_uid": "7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10",
            "generation": 3,
            "enabled": True,
            "trigger_type": "core.intervaltimer",
            "parameters": {"interval": 1, "unit": "seconds"},
            "sensor_ref": "attune-system/core.timer",
            "changed_by": "kubectl-client-side-apply",
            "changed_at": "2026-11-23T12:05:00Z",
            "reason": "",
        }
    )

    type: str = Field(examples=["updated"])
    """created, enabled, updated, disabled or deleted."""
    at: str = Field(examples=["2026-11-23T12:05:00.120000Z"])
    """When the operator published it."""
    rule_uid: str
    """It distinguishes rules that had this name one after the other."""
    generation: int
    enabled: bool
    trigger_type: str
    parameters: dict[str, Any]
    sensor_ref: str
    """The sensor that it was bound to; empty where unknown."""
    changed_by: str = Field(examples=["kubectl-client-side-apply"])
    """The field manager that last changed the spec, as far as Kubernetes tells."""
    changed_at: str
    reason: str
    """Why it left its sensor, if it did."""


class HistoryAnswer(Schema):
    """What happened to the rules of a name, newest first."""

    data: list[PastEventSchema]


class SensorSchema(Schema):
    """A sensor that the operator gave a token."""

    model_config = example(
        {
            "sensor_ref": "attune-system/core.timer",
            "namespace": "attune-system",
            "name": "core.timer",
            "uid": "9a2f0c1e-1f7b-4b52-9f57-8c3e5f0f7a01",
            "trigger_types": ["core.crontimer", "core.intervaltimer"],
            "rules": 12,
        }
    )

    sensor_ref: str = Field(examples=["attune-system/core.timer"])
    namespace: str
    name: str
    uid: str
    trigger_types: list[str]
    """What it may report now."""
    rules: int
    """How many rules it serves."""


class SensorPage(Schema):
    """A page of sensors."""

    data: list[SensorSchema]
    next_cursor: str | None
