"""Brings one Sensor to its desired state, whatever the reason for the reconcile.

Level-triggered: it reads what is there, computes what should be, and writes the difference. Where there is none it writes
nothing. Credentials come first, because a pod without them could only wait, and the status comes last.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import structlog
from pydantic import ValidationError

from attune_contract import names
from attune_contract.identity import SensorRef
from attune_contract.messages import IdentityState
from attune_contract.names import ConditionType
from attune_contract.resources import Sensor
from attune_operator.credentials import policy
from attune_operator.credentials.identities import IdentityPublisher
from attune_operator.credentials.issuer import Assessment, Issued, Issuer
from attune_operator.resources import common, companions
from attune_operator.resources.common import Environment
from attune_operator.resources.deployment import deployment
from attune_operator.resources.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SENSOR,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
    Object,
)
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Client, ClusterError
from attune_operator.runtime.conditions import Verdict, kubernetes_time
from attune_operator.runtime.events import EventSink, ObjectEvent, ObjectReference
from attune_operator.runtime.views import RuleView, SensorRuntime
from attune_operator.sensors import readiness, rights, schemas, status
from attune_operator.sensors.cache import SensorCache
from attune_operator.sensors.objects import NameTakenError, Objects, Outcome
from attune_operator.sensors.status import TokenInfo

_log = structlog.stdlib.get_logger(__name__)

#: On a pod: changed when its credentials were renewed, which makes the kubelet refresh the files at once.
TOUCHED: Final = "attune.dev/credentials-renewed-at"
#: HTTP statuses that are not about the object: try later, not authorised (yet), a conflict.
_PASSING: Final = frozenset({401, 408, 409, 429})
#: Seconds until a Sensor that was refused is reconciled again, even if nothing has changed.
_REFUSED_RETRY: Final = 30.0


@dataclass(slots=True)
class ReconcileContext:
    """One reconcile of one Sensor: what was found so far, and after how many seconds it must be repeated."""

    sensor: Sensor
    body: Object
    requeue_after: list[float] = field(default_factory=list)
    changes: dict[str, list[str]] = field(default_factory=dict)
    contested: list[str] = field(default_factory=list)
    error: ClusterError | None = None


class Reconciler:
    """Reconciles Sensors, one in each call. Calls for different Sensors may run at once, for the same Sensor never.

    ``sensor_namespaces`` are those where Sensors may run; empty means all.
    """

    def __init__(
        self,
        client: Client,
        *,
        cache: SensorCache,
        issuer: Issuer,
        events: EventSink,
        environment: Callable[[], Environment],
        identities: IdentityPublisher,
        rules: RuleView,
        sensor_namespaces: Collection[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._cache = cache
        self._objects = Objects(client, cache=cache, now=now)
        self._issuer = issuer
        self._events = events
        self._environment = environment
        self._identities = identities
        self._rules = rules
        self._sensor_namespaces = frozenset(sensor_namespaces)
        self._now = now
        self._runtimes: dict[SensorRef, SensorRuntime] = {}

    def forget(self, ref: SensorRef) -> None:
        """The Sensor is gone."""
        self._runtimes.pop(ref, None)

    async def reconcile(self, ref: SensorRef) -> float | None:
        """Correct what is wrong with one Sensor. Return the seconds until this must be repeated, or None.

        Raises:
            ClusterError: something could not be written; the Sensor's status says what, as far as it could be written.
        """
        body = self._cache.sensor(ref)
        if body is None or body["metadata"].get("deletionTimestamp"):
            return None
        try:
            sensor = Sensor.from_object(body)
        except ValidationError as error:
            # Only where the CustomResourceDefinition is older than the operator, or was changed by hand.
            await self._refuse_unreadable(body, error)
            return _REFUSED_RETRY
        context = ReconcileContext(sensor=sensor, body=body)
        await schemas.look_at(sensor)
        if (outside := rights.outside(ref.namespace, self._sensor_namespaces)) is not None:
            without = replace(outside, warn=False)
            await self._report(context, ready=self._refused(context, outside), credentials=without, token=None)
            return None
        credentials, token = await self._credentials(context)
        try:
            ready = await self._run(context, token)
        finally:
            self._record_changes(context)
        await self._report(context, ready=ready, credentials=credentials, token=token)
        if context.error is not None:
            raise context.error
        return min(context.requeue_after, default=None)

    # -- credentials ---------------------------------------------------------------------------------------------------

    async def _credentials(self, context: ReconcileContext) -> tuple[Verdict, TokenInfo | None]:
        """Renew the credentials if necessary; return the condition CredentialsValid and what may be published of the token."""
        sensor, issued = context.sensor, None
        try:
            secret = await self._objects.find(SECRET, sensor)
            assessed = self._issuer.assess(sensor, secret)
            floor = self._identities.accepted_from(sensor.ref, uid=sensor.metadata.uid)
            accepted_from = max((v for v in (assessed.accepted_from, floor) if v is not None), default=None)
            await self._identities.publish(sensor.ref, self._identity(sensor, assessed, accepted_from))
            if assessed.renewal is not None:
                issued = await self._renew(context, assessed, accepted_from, exists=secret is not None)
            else:
                await self._keep_secret(context, assessed, accepted_from)
        except (ClusterError, NameTakenError, ValueError) as error:
            return self._not_renewed(context, error), None
        token = issued.token if issued is not None else assessed.input.token
        if token is None:
            return Verdict(status="False", reason="Pending", message="The credentials are being issued."), None
        after = (
            self._issuer.assess(sensor, await self._objects.find(SECRET, sensor)) if issued is not None else assessed
        )
        ahead = policy.recheck_at(after.input)
        if ahead is not None:
            context.requeue_after.append(max(0.05, (ahead - self._now()).total_seconds()))
        info = TokenInfo(
            issued_at=token.claims.issued_at,
            expires_at=token.claims.expires_at,
            rotates_at=ahead or policy.due_at(token),
            key_id=token.kid,
        )
        metrics.TOKEN_EXPIRY.labels(sensor.ref.namespace, sensor.ref.name).set(info.expires_at.timestamp())
        message = " ".join(["The credentials in the Secret are valid.", *assessed.warnings])
        return Verdict(status="True", reason="Valid", message=message), info

    def _identity(self, sensor: Sensor, assessed: Assessment, accepted_from: int | None) -> IdentityState:
        data = assessed.input
        return IdentityState(
            sensor_ref=str(data.ref),
            uid=data.uid,
            not_before=accepted_from,
            trigger_types=data.trigger_types,
            payload_schemas=schemas.payload_schemas(sensor),
        )

    async def _renew(
        self, context: ReconcileContext, assessed: Assessment, accepted_from: int | None, *, exists: bool
    ) -> Issued | None:
        """Issue new credentials and write them; None if it is too early for them (mostly by less than a second)."""
        assert assessed.renewal is not None  # noqa: S101 - for the type checker
        sensor, renewal = context.sensor, assessed.renewal
        wait = 0.0 if accepted_from is None else accepted_from - self._now().timestamp()
        if wait > 0:
            context.requeue_after.append(wait + 0.01)
            return None
        issued = self._issuer.issue(assessed)
        desired = companions.secret(sensor, issued.files, not_before=accepted_from)
        outcome = await self._objects.ensure(SECRET, sensor, desired, renewed=True)
        metrics.TOKENS_ISSUED.labels(renewal.reason).inc()
        first = outcome.change == "Created" and not (context.body.get("status") or {}).get("token")
        _log.info(
            "token_issued", sensor=str(sensor.ref), reason=renewal.reason, message=renewal.message,
            expires_at=issued.token.claims.expires_at.isoformat(), key=issued.token.kid,
        )  # fmt: skip
        expiry = kubernetes_time(issued.token.claims.expires_at)
        self._record(
            context.sensor, "TokenIssued" if first else "TokenRenewed",
            f"Credentials valid until {expiry}" + ("." if first else f", because {renewal.message}."),
            action="Issue" if first else "Renew",
        )  # fmt: skip
        if exists and sensor.spec.token.on_rotate == "Reload":
            await self._touch_pods(sensor)
        return issued

    async def _keep_secret(self, context: ReconcileContext, assessed: Assessment, accepted_from: int | None) -> None:
        """Keep the credentials; labels, owner and manual additions are still corrected."""
        desired = companions.secret(context.sensor, assessed.files, not_before=accepted_from)
        self._record_change(context, SECRET, await self._objects.ensure(SECRET, context.sensor, desired))

    def _not_renewed(self, context: ReconcileContext, error: Exception) -> Verdict:
        sensor = context.sensor
        metrics.TOKEN_FAILURES.inc()
        _log.warning("token_not_renewed", sensor=str(sensor.ref), error=str(error))
        if isinstance(error, ClusterError):
            context.error = error
        else:
            context.requeue_after.append(_REFUSED_RETRY)
        if (missing := rights.missing(error, sensor.ref.namespace)) is not None:
            return missing
        reason = "NameTaken" if isinstance(error, NameTakenError) else "RenewalFailed"
        old = (context.body.get("status") or {}).get("token") or {}
        kept = f" The present token is valid until {old['expiresAt']}." if old.get("expiresAt") else ""
        message = f"The credentials could not be renewed: {error}. The operator retries.{kept}"
        return Verdict(status="False", reason=reason, message=message, warn=True)

    async def _touch_pods(self, sensor: Sensor) -> None:
        """Have the kubelet refresh the Secret now instead of within two minutes. Best effort: failures are logged."""
        patch = {"metadata": {"annotations": {TOUCHED: self._now().isoformat()}}}
        for pod in self._cache.pods(sensor.ref):
            metadata = pod["metadata"]
            if metadata.get("deletionTimestamp"):
                continue
            try:
                await self._client.merge(POD, metadata["namespace"], metadata["name"], patch)
            except ClusterError as error:
                _log.info("pod_not_touched", pod=metadata["name"], sensor=str(sensor.ref), error=str(error))

    # -- what runs -----------------------------------------------------------------------------------------------------

    async def _run(self, context: ReconcileContext, token: TokenInfo | None) -> Verdict:
        """Bring the Sensor's objects to their desired state; return the condition Ready."""
        sensor = context.sensor
        if (found := schemas.problem(sensor)) is not None:
            reason, message = found
            return self._refused(context, Verdict(status="False", reason=reason, message=message, warn=True))
        environment = self._environment()
        issued_at = token.issued_at if token is not None else self._issued_before(context)
        own = names.sensor_object_name(sensor.metadata.name)
        running: Object | None = None
        try:
            named = await self._objects.named(sensor, environment)
            desired: list[tuple[Kind, str, Object | None]] = [
                (SERVICE_ACCOUNT, own, companions.service_account(sensor)),
                (CONFIG_MAP, named.config, companions.config_map(sensor, environment, named.config)),
                (CONFIG_MAP, named.scripts, companions.scripts_config_map(sensor, named.scripts)),
                (NETWORK_POLICY, own, companions.network_policy(sensor, environment)),
                (SERVICE, named.service, companions.service(sensor, named.service)),
                (POD_DISRUPTION_BUDGET, own, companions.disruption_budget(sensor)),
                (DEPLOYMENT, own, deployment(sensor, environment, issued_at=issued_at, named=named)),
            ]
            for kind, _, body in desired:
                if body is not None:
                    outcome = await self._objects.ensure(kind, sensor, body)
                    self._record_change(context, kind, outcome)
                    if outcome.contested:
                        context.contested.append(outcome.contested)
                    if outcome.again_in:
                        context.requeue_after.append(outcome.again_in)
                    running = outcome.object
            # Objects that are no longer needed are deleted last, when no pod mounts them any more.
            for kind, usual in ((kind, name) for kind, name, body in desired if body is None):
                for name in (usual, names.other_object_name(sensor.metadata.name, usual)):
                    self._record_change(context, kind, await self._objects.remove(kind, sensor, name=name))
        except NameTakenError as error:
            return self._refused(context, Verdict(status="False", reason="NameTaken", message=str(error), warn=True))
        except ClusterError as error:
            context.error = error
            if (missing := rights.missing(error, sensor.ref.namespace)) is not None:
                return replace(self._refused(context, missing), warn=False)  # CredentialsValid warns
            if 400 <= error.status < 500 and error.status not in _PASSING:
                message = f"Kubernetes refused an object of the Sensor: {error}"
                return Verdict(status="False", reason="ApplyFailed", message=message, warn=True)
            if "webhook" in str(error):
                # A webhook of somebody else's that is down refuses everything, in the API server's name.
                message = f"Kubernetes could not take an object of the Sensor; the operator retries: {error}"
                return Verdict(status="False", reason="WebhookFailed", message=message, warn=True)
            raise
        verdict, runtime = readiness.judge(sensor, running, self._cache.pods(sensor.ref))
        self._show_runtime(sensor.ref, runtime)
        if sensor.spec.ports and named.service != (usual := names.sensor_service_name(sensor.metadata.name)):
            note = f" Its Service is {named.service}, because another Sensor has the Service {usual}."
            verdict = replace(verdict, message=verdict.message + note)
        return verdict

    def _issued_before(self, context: ReconcileContext) -> datetime | None:
        """When the token was issued, if the Secret could not be read: that must not roll pods."""
        text = ((context.body.get("status") or {}).get("token") or {}).get("issuedAt")
        return datetime.fromisoformat(text) if text else None

    def _refused(self, context: ReconcileContext, verdict: Verdict) -> Verdict:
        """The Sensor cannot be run as specified. Its present pods continue, and are reported."""
        context.requeue_after.append(_REFUSED_RETRY)
        before = self._cache.child(DEPLOYMENT, context.sensor.ref)
        ready = int(((before or {}).get("status") or {}).get("readyReplicas") or 0)
        self._show_runtime(
            context.sensor.ref, SensorRuntime(ready_replicas=ready, message="" if ready else verdict.message)
        )
        return verdict

    def _show_runtime(self, ref: SensorRef, runtime: SensorRuntime) -> None:
        if self._runtimes.get(ref) != runtime:
            self._runtimes[ref] = runtime
            self._rules.observe_runtime(ref, runtime)

    # -- what is reported ----------------------------------------------------------------------------------------------

    async def _report(
        self, context: ReconcileContext, *, ready: Verdict, credentials: Verdict, token: TokenInfo | None
    ) -> None:
        """Write the status if it differs, and an Event if the Sensor became ready or stopped being so."""
        sensor, old = context.sensor, context.body.get("status") or {}
        summary, contested = self._rules.summary(sensor.ref), status.contested(context.contested)
        new = status.compose(
            context.body,
            ready=ready,
            credentials=credentials,
            token=token,
            summary=summary,
            contested=contested,
            now=self._now(),
            replicas=int(((self._cache.child(DEPLOYMENT, sensor.ref) or {}).get("status") or {}).get("replicas") or 0),
            selector=common.selector(sensor),
        )
        if token is None and credentials.status == "False" and "token" in old:
            new["token"] = old["token"]  # it stays valid
        changes = status.patch(old, new)
        if not changes:
            return
        written = await self._client.merge_status(
            SENSOR,
            sensor.metadata.namespace,
            sensor.metadata.name,
            changes,
            uid=context.body["metadata"]["uid"],
            first=not old,
        )
        if written is not None:
            self._cache.put(SENSOR, written)
        before = {found.get("type"): found for found in old.get("conditions") or ()}
        for kind, verdict in (
            (ConditionType.READY, ready),
            (ConditionType.CREDENTIALS_VALID, credentials),
            *([(ConditionType.CONTESTED, contested)] if contested is not None else []),
            *([(ConditionType.HEALTHY, status.healthy(summary))] if summary.health is not None else []),
        ):
            was = before.get(kind) or {}
            if (was.get("status"), was.get("reason")) == (verdict.status, verdict.reason):
                continue
            _log.info(
                "condition_changed", sensor=str(sensor.ref), condition=str(kind), status=verdict.status,
                reason=verdict.reason, message=verdict.message,
            )  # fmt: skip
            if verdict.warn:
                self._record(sensor, verdict.reason, verdict.message, warning=True)
            elif kind is ConditionType.READY and verdict.reason in ("Available", "Paused"):
                self._record(sensor, verdict.reason, verdict.message)

    async def _refuse_unreadable(self, body: Object, error: ValidationError) -> None:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        verdict = Verdict(status="False", reason="InvalidSpec", message=f"{where}: {first['msg']}", warn=True)
        generation = int(body["metadata"].get("generation") or 0)
        old = body.get("status") or {}
        conditions = {found.get("type"): found for found in old.get("conditions") or ()}
        for kind, found in ((ConditionType.READY, verdict), (ConditionType.STALLED, status.stalled(verdict))):
            if found is not None:
                conditions[kind] = status.condition(
                    kind, found, old=conditions.get(kind, {}), now=self._now(), generation=generation
                )
        changes = status.patch(old, {**old, "observedGeneration": generation, "conditions": list(conditions.values())})
        if changes:
            metadata = body["metadata"]
            await self._client.merge_status(
                SENSOR, metadata["namespace"], metadata["name"], changes, uid=metadata["uid"], first=not old
            )

    def _record_change(self, context: ReconcileContext, kind: Kind, outcome: Outcome) -> None:
        if outcome.change is None:
            return
        change, detail = outcome.change, outcome.detail
        seen = int((context.body.get("status") or {}).get("observedGeneration") or -1) > 0
        if change == "Created" and seen and kind is not CONFIG_MAP:
            change, detail = "Repaired", "it was missing"
        context.changes.setdefault(change, []).append(f"{kind.kind} ({detail})" if detail else kind.kind)

    def _record_changes(self, context: ReconcileContext) -> None:
        """Record one Event for each kind of change, not for each object: a new Sensor has five."""
        for change, what in context.changes.items():
            name = f"sensor-{context.sensor.metadata.name}"
            self._record(context.sensor, change, f"{change} {', '.join(what)} {name}.", action=change)

    def _record(
        self, sensor: Sensor, reason: str, message: str, *, action: str = "Reconcile", warning: bool = False
    ) -> None:
        metadata = sensor.metadata
        regarding = ObjectReference(kind="Sensor", namespace=metadata.namespace, name=metadata.name, uid=metadata.uid)
        self._events.record(
            ObjectEvent(
                regarding=regarding,
                reason=reason,
                message=message,
                action=action,
                type="Warning" if warning else "Normal",
            )
        )
