"""NATS subjects and streams (docs/architecture.md)."""

import re
from typing import Final

from attune_contract.identity import SensorRef

RULES_STREAM: Final = "ATTUNE_RULES"
ACKS_STREAM: Final = "ATTUNE_ACKS"
IDENTITIES_STREAM: Final = "ATTUNE_IDENTITIES"
EVENTS_STREAM: Final = "ATTUNE_EVENTS"
HISTORY_STREAM: Final = "ATTUNE_RULE_HISTORY"

ALL_RULES: Final = "attune.rules.>"
ALL_ACKS: Final = "attune.acks.>"
ALL_IDENTITIES: Final = "attune.identities.>"
ALL_EVENTS: Final = "attune.events.>"
ALL_HISTORY: Final = "attune.history.>"

#: Prefix of the JetStream API through which sensors reach the consumers of the rule stream, and nothing else.
SENSOR_API: Final = "attune.js"
#: Prefix of the JetStream API of the account that holds the rule stream, for operator and API.
RULES_API: Final = "attune.rulesjs"
#: Prefix of the JetStream API where the NATS server has no accounts of ours.
PLAIN_API: Final = "$JS.API"

_HEALTH: Final = "health"
#: Consumers that a Sensor with few replicas may have: a pod has one, and a rollout has more pods for a while.
#: For 16 pods, the most that a Sensor has, and those that end or were killed a moment ago.
_CONSUMERS: Final = 24
_NOT_A_TOKEN: Final = re.compile(r"[^A-Za-z0-9_-]")
_MAX_INSTANCE: Final = 253


def rule_subject(sensor: SensorRef, rule_uid: str) -> str:
    """Where the state of one rule bound to ``sensor`` is kept (last message per subject)."""
    return f"attune.rules.{sensor.token}.{rule_uid}"


def rules_filter(sensor: SensorRef) -> str:
    """The one filter that a sensor may read, and all that it needs (``ATTUNE_RULES_SUBJECT``)."""
    return f"attune.rules.{sensor.token}.>"


def consumer_names(sensor_uid: str) -> tuple[str, ...]:
    """The names that a Sensor's consumers may have (``ATTUNE_RULES_CONSUMERS``), however many pods it has: pods and credentials
    must not change when somebody scales it.
    """
    return tuple(f"{sensor_uid}-{number}" for number in range(_CONSUMERS))


def stream_advisories(api: str) -> str:
    """Where the server announces streams that were deleted, created or changed, in the account that ``api`` reaches."""
    prefix = "$" if api == PLAIN_API else f"{api}."
    return f"{prefix}JS.EVENT.ADVISORY.STREAM.*.*"


def acks_prefix(sensor: SensorRef) -> str:
    """What a sensor's acks begin with (``ATTUNE_ACKS_SUBJECT``); a dot and the rule's uid follow."""
    return f"attune.acks.{sensor.token}"


def ack_subject(sensor: SensorRef, rule_uid: str) -> str:
    """Where ``sensor`` acks a rule."""
    return f"{acks_prefix(sensor)}.{rule_uid}"


def health_subject(acks_prefix: str, instance: str) -> str:
    """Where one instance of a sensor reports its health (``<ATTUNE_ACKS_SUBJECT>.health.<instance>``)."""
    return f"{acks_prefix}.{_HEALTH}.{_NOT_A_TOKEN.sub('_', instance)[:_MAX_INSTANCE]}"


def split_health(subject: str) -> tuple[str, str] | None:
    """Split the subject of a health report into the binding, as in :func:`split_binding`, and the instance, as the subject has
    it. None for any other subject.
    """
    parts = subject.split(".")
    if len(parts) != 6 or parts[:2] != ["attune", "acks"] or parts[4] != _HEALTH:
        return None
    return f"{parts[2]}.{parts[3]}", parts[5]


def identity_subject(sensor: SensorRef) -> str:
    """Where the operator says which tokens of ``sensor`` are still accepted."""
    return f"attune.identities.{sensor.token}"


def event_subject(rule_namespace: str, rule_uid: str) -> str:
    """Where the API publishes the stored events of a rule."""
    return f"attune.events.{rule_namespace}.{rule_uid}"


def history_subject(namespace: str, name: str, rule_uid: str) -> str:
    """Where the lifecycle events of a rule are kept for people to read.

    It has the Rule's name, so that the history is found by name when the Rule itself is gone, and its uid, so that a Rule that
    was deleted and created again has two histories. As in :attr:`SensorRef.token`, dots of the name become
    underscores.
    """
    return f"attune.history.{namespace}.{name.replace('.', '_')}.{rule_uid}"


def history_filter(*, namespace: str = "*", name: str = "*", rule_uid: str = "*") -> str:
    """A filter for the histories of the rules with these names."""
    return history_subject(namespace, name, rule_uid)


def split_binding(subject: str) -> tuple[str, str]:
    """Split a rule's or an ack's subject into the binding's two tokens and the rule's uid.

    Returns:
        (``<namespace>.<name with underscores>``, rule uid); compare the first with :attr:`SensorRef.token`.

    Raises:
        ValueError: the subject has another form.
    """
    parts = subject.split(".")
    if len(parts) != 5 or parts[0] != "attune" or parts[1] not in ("rules", "acks"):
        raise ValueError(f"{subject!r} is not attune.rules.<namespace>.<sensor>.<uid> (nor attune.acks.…)")
    return f"{parts[2]}.{parts[3]}", parts[4]
