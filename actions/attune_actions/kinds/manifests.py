"""The objects of actions, and what their state means. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from attune_actions.settling import object_name
from attune_contract.actions import Run, RunReason
from attune_contract.names import GROUP

RUN_LABEL: Final = f"{GROUP}/run"
RULE_LABEL: Final = f"{GROUP}/rule-uid"
ACTION_LABEL: Final = f"{GROUP}/action"

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_KIND: Final = re.compile(r"[A-Za-z]([A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_API_VERSION: Final = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?v[a-z0-9]{1,30}")


class ManifestError(ValueError):
    """What an action asks for is no object that it may make."""

    def __init__(self, message: str, *, reason: RunReason = RunReason.INVALID_EXPRESSION) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Where the API server has the objects of a kind."""

    prefix: str
    plural: str
    namespaced: bool


def collection(resource: Resource, namespace: str) -> str:
    """The path of a kind's objects in a namespace."""
    return f"{resource.prefix}/namespaces/{named(namespace)}/{named(resource.plural)}"


def named(name: Any) -> str:
    """A name that may stand in a path.

    Raises:
        ManifestError: it is none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ManifestError(f"{str(name)[:80]!r} is no name of an object")
    return name


def labels_of(run: Run) -> dict[str, str]:
    """The labels of what a run makes."""
    return {RUN_LABEL: str(run.id), RULE_LABEL: run.rule_uid, ACTION_LABEL: run.action}


def selector_of(run: Run) -> str:
    """What selects the objects that runs of this action made."""
    return f"{RULE_LABEL}={run.rule_uid},{ACTION_LABEL}={run.action}"


def ours(body: Mapping[str, Any], run: Run) -> bool:
    """Whether this run made the object."""
    return bool(((body.get("metadata") or {}).get("labels") or {}).get(RUN_LABEL) == str(run.id))


def _with_metadata(metadata: Any, run: Run, *, name: str) -> dict[str, Any]:
    if not isinstance(metadata, Mapping):
        raise ManifestError("metadata is no object")
    namespace = metadata.get("namespace")
    if namespace not in (None, run.rule_namespace):
        raise ManifestError(
            f"metadata.namespace is {str(namespace)[:80]!r}: actions make objects of the Rule's namespace only",
            reason=RunReason.FORBIDDEN,
        )
    if metadata.get("ownerReferences") or metadata.get("finalizers"):
        raise ManifestError(
            "metadata.ownerReferences and metadata.finalizers are not allowed", reason=RunReason.FORBIDDEN
        )
    labels = metadata.get("labels") or {}
    if not isinstance(labels, Mapping):
        raise ManifestError("metadata.labels is no object")
    kept = {key: value for key, value in metadata.items() if key not in ("generateName", "uid", "resourceVersion")}
    return {**kept, "name": name, "namespace": run.rule_namespace, "labels": {**labels, **labels_of(run)}}


def job_manifest(template: Any, run: Run) -> dict[str, Any]:
    """The Job of a run.

    Raises:
        ManifestError: the template is none.
    """
    if not isinstance(template, Mapping) or not isinstance(template.get("spec"), Mapping):
        raise ManifestError("job.template has no spec")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _with_metadata(template.get("metadata") or {}, run, name=object_name(run)),
        "spec": template["spec"],
    }


def body_of(manifest: Any, run: Run, *, create: bool) -> dict[str, Any]:
    """The object of an action ``object``. One that is created and has no name gets one from its run.

    Raises:
        ManifestError: it is none, or one that the action may not make.
    """
    if not isinstance(manifest, Mapping):
        raise ManifestError("manifest is no object")
    api_version, kind = manifest.get("apiVersion"), manifest.get("kind")
    if not isinstance(api_version, str) or not _API_VERSION.fullmatch(api_version):
        raise ManifestError(f"{str(api_version)[:80]!r} is no apiVersion")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise ManifestError(f"{str(kind)[:80]!r} is no kind")
    metadata = manifest.get("metadata") or {}
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not name:
        if not create:
            raise ManifestError("metadata.name is missing")
        prefix = str(metadata.get("generateName") or "") if isinstance(metadata, Mapping) else ""
        name = f"{prefix[:40]}{run.id.hex[:20]}" if prefix else object_name(run)
    return {
        **manifest,
        "apiVersion": api_version,
        "kind": kind,
        "metadata": _with_metadata(metadata, run, name=named(name)),
    }


def _condition(body: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    for each in (body.get("status") or {}).get("conditions") or ():
        if each.get("type") == kind and each.get("status") == "True":
            return dict(each)
    return None


def completed(job: Mapping[str, Any]) -> tuple[bool | None, str]:
    """Whether a Job has completed (None: it is under way), and why it failed."""
    if _condition(job, "Complete") is not None:
        return True, ""
    failed = _condition(job, "Failed")
    if failed is None:
        return None, ""
    return False, f"{failed.get('reason', '')}: {failed.get('message', '')}".strip(": ")


def is_over(job: Mapping[str, Any]) -> bool:
    """Whether a Job has ended, or is being deleted."""
    return completed(job)[0] is not None or bool((job.get("metadata") or {}).get("deletionTimestamp"))
