"""Names in Kubernetes: API group, labels, annotations, condition types and their reasons."""

from enum import StrEnum
from hashlib import sha256
from typing import Final

GROUP: Final = "attune.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
SENSORS: Final = "sensors"
RULES: Final = "rules"

#: Field manager of everything that the operator applies (Kubernetes, server-side apply).
FIELD_MANAGER: Final = "attune-operator"

SENSOR_LABEL: Final = f"{GROUP}/sensor"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "attune-operator"
#: Selects by its label what the chart and the operator have made.
PART_OF_ATTUNE: Final = "app.kubernetes.io/part-of=attune"

#: On a namespace, ``sensors.attune.dev/<other namespace>: allowed`` lets the other's Sensors serve its Rules (docs/tenancy.md).
SENSORS_ALLOWED: Final = "allowed"

#: ``pack.name``, at most 253 characters.
TRIGGER_TYPE_PATTERN: Final = r"^[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-_a-z0-9]*[a-z0-9])?)+$"

_LONGEST_SERVICE_NAME: Final = 63

ROTATE_AT: Final = f"{GROUP}/rotate-at"
REVOKE_BEFORE: Final = f"{GROUP}/revoke-before"
#: On the Secret with the signing keys: a new value, such as the time, starts a rotation of the signing key.
ROTATE_KEYS: Final = f"{GROUP}/rotate-keys"

#: ConfigMap in each namespace with Sensors or Rules that says which installation looks after them: the namespace of its
#: operator, under the key below (docs/decisions/0086).
INSTALLATION_MARK: Final = "attune-installation"
INSTALLATION_KEY: Final = "installation"
#: On that ConfigMap, to list them by.
MARK_LABEL: Final = f"{GROUP}/mark"


def sensor_object_name(sensor_name: str) -> str:
    """Name of the Deployment, ServiceAccount, Secret and ConfigMap that belong to a Sensor."""
    return f"sensor-{sensor_name}"


def scripts_object_name(sensor_name: str) -> str:
    """Name of the ConfigMap with a Sensor's ``spec.scripts``."""
    return f"{sensor_object_name(sensor_name)}-scripts"


def sensor_service_name(sensor_name: str) -> str:
    """Name of the Service of a Sensor that listens (``spec.ports``): a Service's name has no dots and at most 63 characters."""
    name = f"sensor-{sensor_name.replace('.', '-')}"
    if len(name) > _LONGEST_SERVICE_NAME:
        name = f"{name[: _LONGEST_SERVICE_NAME - 9]}-{sha256(sensor_name.encode()).hexdigest()[:8]}"
    return name


def other_object_name(sensor_name: str, object_name: str) -> str:
    """Name of a Sensor's object whose usual name another Sensor has: ``a.b`` and ``a-b`` would both have the Service
    ``sensor-a-b``, and ``x-scripts`` and the scripts of ``x`` the ConfigMap ``sensor-x-scripts``.
    """
    digest = sha256(f"{sensor_name}/{object_name}".encode()).hexdigest()[:8]
    return f"{object_name[: _LONGEST_SERVICE_NAME - 9].rstrip('.-')}-{digest}"


def sensors_label(namespace: str) -> str:
    """The label by which a namespace allows Sensors of ``namespace`` to serve its Rules."""
    return f"sensors.{GROUP}/{namespace}"


class ConditionType(StrEnum):
    """Types of the conditions in ``status.conditions``."""

    READY = "Ready"
    CREDENTIALS_VALID = "CredentialsValid"
    RULES_SYNCED = "RulesSynced"
    HEALTHY = "Healthy"
    ACTIONS_HEALTHY = "ActionsHealthy"
    ACCEPTED = "Accepted"
    ACTIVE = "Active"
    #: Only present while True (kstatus): it does not become ready before somebody changes something.
    STALLED = "Stalled"
    #: Of a Sensor; only present while True: others keep changing its objects.
    CONTESTED = "Contested"


class HealthReason(StrEnum):
    """Why a Sensor is healthy or not, from its own reports."""

    HEALTHY = "Healthy"
    NO_RULES = "NoRules"  #: healthy, and no Rule is bound to it
    API_UNAVAILABLE = "ApiUnavailable"
    NATS_UNAVAILABLE = "NatsUnavailable"
    TOKEN_UNUSABLE = "TokenUnusable"  # noqa: S105 - a reason
    RULES_NOT_SERVED = "RulesNotServed"  #: Rules are bound to it, and it knows none
    EVENTS_DROPPED = "EventsDropped"
    SPOOL_FAILING = "SpoolFailing"
    PROBLEM = "Problem"  #: a problem that the sensor itself named
    NO_POD = "NoPod"
    NOT_REPORTED = "NotReported"  #: it never reported its health, and does not have to


class AcceptedReason(StrEnum):
    """Why a Rule is accepted or not."""

    ACCEPTED = "Accepted"
    UNKNOWN_TRIGGER_TYPE = "UnknownTriggerType"
    INVALID_PARAMETERS = "InvalidParameters"
    NOT_ALLOWED = "NotAllowed"
    ACTIONS_TOO_LARGE = "ActionsTooLarge"
    QUOTA_EXCEEDED = "QuotaExceeded"  #: the Sensor serves as many Rules as it may


class ActionsReason(StrEnum):
    """Why a Rule's actions are healthy or not; where runs fail, also a reason of a run
    (:class:`attune_contract.actions.RunReason`).
    """

    HEALTHY = "Healthy"
    CHECKING = "Checking"  #: its expressions have not been checked yet
    INVALID_EXPRESSION = "InvalidExpression"
    LAST_RUN_FAILED = "LastRunFailed"


class ActiveReason(StrEnum):
    """Why a Rule is active or not."""

    ACTIVE = "Active"
    NOT_ACCEPTED = "NotAccepted"
    DISABLED = "Disabled"
    SENSOR_PAUSED = "SensorPaused"
    AWAITING_SENSOR = "AwaitingSensor"
    REJECTED = "Rejected"
    FAILING = "Failing"
    QUOTA_EXCEEDED = "QuotaExceeded"  #: it fires; its events have to wait, since its namespace reports too many
    COMPLETED = "Completed"
    NEVER_FIRES = "NeverFires"  #: its time was over when it came into force
