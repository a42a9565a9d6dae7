"""Actions of kinds ``job``, ``object`` and ``rule``: what they do in Kubernetes, as the Rule's ServiceAccount."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from attune_actions.carrying import Task, expectation
from attune_actions.kinds.manifests import (
    ManifestError,
    Resource,
    body_of,
    collection,
    completed,
    is_over,
    job_manifest,
    named,
    ours,
    selector_of,
)
from attune_actions.secrets import Accounts, SecretError
from attune_actions.settling import Outcome, excerpt
from attune_contract.actions import ActionKind, RunReason
from attune_contract.names import API_VERSION, GROUP, RULES, VERSION
from attune_kit.actions.plan import EVENT, OBJECT
from attune_kit.cel.evaluator import Evaluator, Program
from attune_kit.cel.library import EvaluationError
from attune_kit.kubernetes.client import KubernetesClient, KubernetesError

_MANAGER: Final = "attune-actions"
#: Seconds for which it is believed which kinds the API server has.
_DISCOVERY: Final = 300.0
#: Seconds between two looks at what is awaited.
_LOOK: Final = 2.0
_APPLY: Final = "application/apply-patch+yaml"
_PATCHES: Final = {"Merge": "application/merge-patch+json", "Strategic": "application/strategic-merge-patch+json"}
#: Kinds that `attune up` has, which does not say which there are.
_LOCAL: Final = {
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "Secret"): "secrets",
    (API_VERSION, "Rule"): "rules",
    (API_VERSION, "Sensor"): "sensors",
}


class Objects:
    """Makes and changes objects.

    Args:
        accounts: clients that act as Rules' ServiceAccounts.
        evaluator: for ``await``.
        monotonic: seconds.
    """

    def __init__(
        self, *, accounts: Accounts, evaluator: Evaluator, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._accounts = accounts
        self._evaluator = evaluator
        self._monotonic = monotonic
        self._kinds: dict[str, tuple[float, dict[str, Resource]]] = {}
        self._asking = asyncio.Lock()

    async def __call__(self, task: Task) -> Outcome:
        """Make an attempt."""
        shown = ""
        try:
            client = await self._accounts.client(task.plan.rule)
            if task.look:
                return await self._look(task, client)
            if task.step.kind is ActionKind.RULE:
                return await self._switch(task, client)
            if task.step.kind is ActionKind.JOB:
                return await self._job(task, client)
            return await self._object(task, client)
        except SecretError as error:
            return Outcome(reason=error.reason, again=error.again, message=str(error))
        except ManifestError as error:
            return Outcome(reason=error.reason, message=str(error), request=shown)
        except KubernetesError as error:
            return self._refused(task, error)

    def _refused(self, task: Task, error: KubernetesError) -> Outcome:
        account = task.plan.rule.service_account_name
        if error.status == 401:
            self._accounts.forget(task.plan.rule)
            return Outcome(
                reason=RunReason.FORBIDDEN, again=True, status=401, message=f"the token of {account} was refused"
            )
        if error.status == 403:
            return Outcome(reason=RunReason.FORBIDDEN, status=403, message=f"as {account}: {error}")
        if error.status in (0, 408, 429) or error.status >= 500:
            return Outcome(
                reason=RunReason.TARGET_UNREACHABLE, again=True, status=error.status or None, message=str(error)
            )
        again = error.status == 409
        return Outcome(reason=RunReason.OBJECT_FAILED, again=again, status=error.status, message=str(error))

    # -- kinds

    async def _switch(self, task: Task, client: KubernetesClient) -> Outcome:
        name = named(task.step.request["name"])
        enabled = bool(task.step.request["enabled"])
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{task.run.rule_namespace}/{RULES}/{name}"
        patch = {"spec": {"enabled": enabled}}
        await client.request(
            "PATCH", path, body=patch, query={"fieldManager": _MANAGER}, content_type=_PATCHES["Merge"]
        )
        result = {"apiVersion": API_VERSION, "kind": "Rule", "name": name, "enabled": enabled}
        return Outcome(result=result, request=f"PATCH {path}\n\n{_json(patch)}")

    async def _job(self, task: Task, client: KubernetesClient) -> Outcome:
        namespace = task.run.rule_namespace
        jobs = Resource(prefix="/apis/batch/v1", plural="jobs", namespaced=True)
        kept = await self._others(task, client, collection(jobs, namespace))
        if kept is not None:
            return kept
        manifest = job_manifest(task.step.request["template"], task.run)
        return await self._created(task, client, jobs, manifest)

    async def _others(self, task: Task, client: KubernetesClient, path: str) -> Outcome | None:
        """Other Jobs of this action that are not over: skip this one, or end those, as the action's ``concurrency`` says."""
        concurrency = task.step.action.get("concurrency", "Allow")
        if concurrency == "Allow":
            return None
        body = await client.request("GET", path, query={"labelSelector": selector_of(task.run)})
        items = msgspec.json.decode(body).get("items") or []
        active = [each for each in items if not is_over(each) and not ours(each, task.run)]
        if not active:
            return None
        names = ", ".join(each["metadata"]["name"] for each in active)
        if concurrency == "Forbid":
            return Outcome(
                reason=RunReason.CONCURRENCY_FORBIDDEN, skipped=True, message=f"still under way: {excerpt(names)}"
            )
        for each in active:
            await self._deleted(client, f"{path}/{named(each['metadata']['name'])}")
        return None

    async def _object(self, task: Task, client: KubernetesClient) -> Outcome:
        request, run = task.step.request, task.run
        operation = str(request["operation"])
        if operation in ("Create", "Apply"):
            manifest = body_of(request["manifest"], run, create=operation == "Create")
            resource = await self._resource(client, manifest["apiVersion"], manifest["kind"])
            if operation == "Create":
                return await self._created(task, client, resource, manifest)
            path = f"{collection(resource, run.rule_namespace)}/{manifest['metadata']['name']}"
            query = {"fieldManager": _MANAGER, "force": "true"}
            answer = await client.request("PATCH", path, body=manifest, query=query, content_type=_APPLY)
            return await self._made(task, answer, f"PATCH {path} (apply)", manifest)
        resource = await self._resource(client, str(request["apiVersion"]), str(request["kind"]))
        path = f"{collection(resource, run.rule_namespace)}/{named(request['name'])}"
        if operation == "Delete":
            gone = await self._deleted(client, path)
            text = "it was gone already" if gone else ""
            return Outcome(result=_reference(request, run.rule_namespace), request=f"DELETE {path}", message=text)
        content = _PATCHES[str(request.get("patchType") or "Merge")]
        answer = await client.request(
            "PATCH", path, body=request["patch"], query={"fieldManager": _MANAGER}, content_type=content
        )
        return await self._made(task, answer, f"PATCH {path}", request["patch"])

    async def _created(
        self, task: Task, client: KubernetesClient, resource: Resource, manifest: dict[str, Any]
    ) -> Outcome:
        path = collection(resource, task.run.rule_namespace)
        line = f"POST {path}"
        try:
            answer = await client.request("POST", path, body=manifest, query={"fieldManager": _MANAGER})
        except KubernetesError as error:
            if error.status != 409:
                raise
            answer = await client.request("GET", f"{path}/{manifest['metadata']['name']}")
            if not ours(msgspec.json.decode(answer), task.run):
                return Outcome(
                    reason=RunReason.OBJECT_FAILED,
                    status=409,
                    message=f"{manifest['kind']} {manifest['metadata']['name']} exists, and another made it",
                )
        return await self._made(task, answer, line, manifest)

    @staticmethod
    async def _deleted(client: KubernetesClient, path: str) -> bool:
        """Delete an object; returns whether it was gone already."""
        try:
            await client.request("DELETE", path, query={"propagationPolicy": "Background"})
        except KubernetesError as error:
            if error.status != 404:
                raise
            return True
        return False

    async def _made(self, task: Task, answer: bytes, line: str, sent: Any) -> Outcome:
        body = msgspec.json.decode(answer)
        result = _reference(body, task.run.rule_namespace)
        hidden = body.get("kind") == "Secret"
        shown = f"{line}\n\n{'***' if hidden else _json(sent)}"
        if expectation(task.step.action, "await") is None:
            return Outcome(result=result, request=shown)
        return await self._judged(task, body, result, shown)

    # -- await

    async def _look(self, task: Task, client: KubernetesClient) -> Outcome:
        result = task.run.result or {}
        if task.step.kind is ActionKind.JOB:
            resource = Resource(prefix="/apis/batch/v1", plural="jobs", namespaced=True)
        else:
            resource = await self._resource(client, str(result.get("apiVersion")), str(result.get("kind")))
        path = f"{collection(resource, task.run.rule_namespace)}/{named(result.get('name'))}"
        try:
            body = msgspec.json.decode(await client.request("GET", path))
        except KubernetesError as error:
            if error.status == 404:
                return Outcome(reason=RunReason.OBJECT_FAILED, message=f"{path} was deleted before it was done")
            if error.status in (401, 403):
                raise
            return Outcome(awaiting=_LOOK * 5, message=f"it cannot be looked at now: {error}")
        return await self._judged(task, body, result, task.run.request)

    async def _judged(self, task: Task, body: Mapping[str, Any], result: dict[str, Any], shown: str) -> Outcome:
        if task.step.kind is ActionKind.JOB:
            done, why = completed(body)
            if done is None:
                return Outcome(awaiting=_LOOK, result=result, request=shown, message="the Job is under way")
            if done:
                return Outcome(result=result, request=shown)
            return Outcome(
                reason=RunReason.OBJECT_FAILED, result=result, request=shown, message=f"the Job failed: {why}"
            )
        text = expectation(task.step.action, "await") or "true"
        program = Program((EVENT, OBJECT), ((text, True),))
        values = {EVENT: task.plan.event_variable(task.event), OBJECT: msgspec.json.encode(body)}
        try:
            (found,) = await self._evaluator.evaluate(task.run.rule_uid, program, values)
        except EvaluationError as error:
            found = error
        if found is True:
            return Outcome(result=result, request=shown)
        return Outcome(awaiting=_LOOK, result=result, request=shown, message=excerpt(f"awaited: {text}"))

    # -- which kinds there are

    async def _resource(self, client: KubernetesClient, api_version: str, kind: str) -> Resource:
        if self._accounts.impersonal:
            plural = _LOCAL.get((api_version, kind))
            if plural is None:
                raise ManifestError(
                    f"attune up has no {api_version} {kind}: it keeps Sensors, Rules, ConfigMaps and Secrets only; run it in a "
                    "cluster",
                    reason=RunReason.OBJECT_FAILED,
                )
            return Resource(prefix=_prefix(api_version), plural=plural, namespaced=True)
        prefix = _prefix(api_version)
        known = self._kinds.get(api_version)
        if known is None or known[0] < self._monotonic() or kind not in known[1]:
            async with self._asking:
                known = self._kinds[api_version] = (
                    self._monotonic() + _DISCOVERY,
                    _resources(prefix, await client.request("GET", prefix)),
                )
        found = known[1].get(kind)
        if found is None:
            raise ManifestError(f"the API server has no {api_version} {kind}", reason=RunReason.OBJECT_FAILED)
        if not found.namespaced:
            raise ManifestError(
                f"{kind} is of the whole cluster: actions make and change objects of the Rule's namespace only",
                reason=RunReason.FORBIDDEN,
            )
        return found


def _prefix(api_version: str) -> str:
    group, _, version = api_version.rpartition("/")
    for part in (group, version):
        if part:
            named(part)
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def _resources(prefix: str, body: bytes) -> dict[str, Resource]:
    return {
        each["kind"]: Resource(prefix=prefix, plural=each["name"], namespaced=bool(each["namespaced"]))
        for each in msgspec.json.decode(body).get("resources") or ()
        if "/" not in each["name"]
    }


def _reference(body: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    metadata = body.get("metadata") or {}
    found = {
        "apiVersion": body.get("apiVersion"),
        "kind": body.get("kind"),
        "namespace": namespace,
        "name": metadata.get("name") or body.get("name"),
    }
    if metadata.get("uid"):
        found["uid"] = metadata["uid"]
    return found


def _json(value: Any) -> str:
    return excerpt(msgspec.json.encode(value).decode())
