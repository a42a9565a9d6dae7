"""The Sensor's desired status, compared with the one that it has. Pure.

A condition that has not changed keeps its time, and a status that has not changed is not written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from attune_contract.names import ConditionType
from attune_operator.runtime.client import Body
from attune_operator.runtime.conditions import ConditionStatus, Verdict, kubernetes_time
from attune_operator.runtime.views import HealthView, RuleSummary
from attune_operator.sensors.rights import MISSING_RIGHTS


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """What may be published about the token in the Secret."""

    issued_at: datetime
    expires_at: datetime
    rotates_at: datetime
    key_id: str


def condition(kind: ConditionType, verdict: Verdict, *, old: Mapping[str, Any], now: datetime, generation: int) -> Body:
    """Build one condition. Its ``lastTransitionTime`` changes with its status, and only with that."""
    same = old.get("status") == verdict.status
    return {
        "type": str(kind),
        "status": verdict.status,
        "reason": verdict.reason,
        "message": verdict.message[:32768],
        "lastTransitionTime": old["lastTransitionTime"]
        if same and "lastTransitionTime" in old
        else kubernetes_time(now),
        "observedGeneration": generation,
    }


def rules_synced(summary: RuleSummary) -> Verdict:
    """Return the condition RulesSynced."""
    status: ConditionStatus = "Unknown" if summary.synced is None else "True" if summary.synced else "False"
    return Verdict(status=status, reason=summary.reason, message=summary.message, warn=summary.synced is False)


def healthy(summary: RuleSummary) -> Verdict:
    """Return the condition Healthy, where nothing was known before."""
    health = summary.health or HealthView()
    status: ConditionStatus = "Unknown" if health.healthy is None else "True" if health.healthy else "False"
    return Verdict(status=status, reason=health.reason, message=health.message, warn=health.healthy is False)


#: Reasons of Ready that do not pass before somebody changes the Sensor, or what is in its way.
_STALLED: Final = frozenset(
    {"InvalidParametersSchema", "InvalidPayloadSchema", "InvalidSpec", "NameTaken", "ApplyFailed", MISSING_RIGHTS}
)


def stalled(ready: Verdict) -> Verdict | None:
    """Return the condition Stalled (kstatus), which is only present while it is True; None if it is not."""
    if ready.status != "False" or ready.reason not in _STALLED:
        return None
    return Verdict(status="True", reason=ready.reason, message=ready.message)


def contested(sentences: Sequence[str]) -> Verdict | None:
    """Return the condition Contested, which is only present while others keep changing the Sensor's objects."""
    return (
        Verdict(status="True", reason="ChangedByOthers", message=" ".join(sentences), warn=True) if sentences else None
    )


def compose(
    body: Body,
    *,
    ready: Verdict,
    credentials: Verdict,
    token: TokenInfo | None,
    summary: RuleSummary,
    now: datetime,
    contested: Verdict | None = None,
    replicas: int = 0,
    selector: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the complete status. Fields that the operator does not know are not in it.

    Args:
        body: the Sensor as it is.
        ready: the condition Ready.
        credentials: the condition CredentialsValid.
        token: about the token in the Secret; None if there is none.
        summary: what the Rule side knows of its Rules.
        now: the present time.
        contested: the condition Contested; None if nobody insists.
        replicas: how many pods there are.
        selector: the labels that they have.
    """
    generation = int(body["metadata"].get("generation") or 0)
    old = body.get("status") or {}
    before = {found.get("type"): found for found in old.get("conditions") or ()}
    verdicts = {
        ConditionType.READY: ready,
        ConditionType.CREDENTIALS_VALID: credentials,
        ConditionType.RULES_SYNCED: rules_synced(summary),
        ConditionType.HEALTHY: healthy(summary),
    }
    if (stuck := stalled(ready)) is not None:
        verdicts[ConditionType.STALLED] = stuck
    if contested is not None:
        verdicts[ConditionType.CONTESTED] = contested
    conditions = {
        kind: condition(kind, verdict, old=before.get(kind, {}), now=now, generation=generation)
        for kind, verdict in verdicts.items()
    }
    if summary.health is None and ConditionType.HEALTHY in before:
        # A lack of knowledge is no reason to take back what was known.
        conditions[ConditionType.HEALTHY] = before[ConditionType.HEALTHY]
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "conditions": list(conditions.values()),
        "rules": {"bound": summary.bound, "active": summary.active, "rejected": summary.rejected},
        "replicas": replicas,
    }
    if selector:
        status["selector"] = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    if token is not None:
        status["token"] = {
            "issuedAt": kubernetes_time(token.issued_at),
            "expiresAt": kubernetes_time(token.expires_at),
            "rotatesAt": kubernetes_time(token.rotates_at),
            "keyId": token.key_id,
        }
    # It only moves forward: a Rule side that has just started has not seen the events yet.
    seen = [time for time in (old.get("lastEventTime"), _optional(summary.last_event_time)) if time]
    if seen:
        status["lastEventTime"] = max(seen, key=_comparable)
    return status


def _optional(time: datetime | None) -> str | None:
    return None if time is None else kubernetes_time(time)


def _comparable(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def patch(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch (RFC 7396) that turns ``old`` into ``new``; empty if there is nothing to write."""
    old = old or {}
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    removed = {key: None for key in old if key not in new}
    return {**changed, **removed}
