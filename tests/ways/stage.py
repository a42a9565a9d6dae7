"""Where a way happens: a namespace of its own in the cluster, and the means to break things there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from support.eventually import eventually
from support.kubectl import Kubectl
from ways.way import Manifest, Way

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEM = "attune-system"
API_VERSION = "attune.dev/v1alpha1"


@dataclass
class Stage:
    """A way's namespace."""

    kube: Kubectl
    namespace: str
    began: float = 0.0
    #: What a way keeps from breaking to mending.
    kept: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> None:
        """It happens now."""
        self.began = time.monotonic()

    def apply(self, *manifests: Manifest) -> None:
        """Apply manifests; those without a namespace into the way's own."""
        self.kube.apply(*[self._placed(manifest) for manifest in manifests])

    def patch(self, kind: str, name: str, patch: Manifest, *, namespace: str = "") -> None:
        self.kube.patch(kind, name, namespace or self.namespace, self._own(patch))

    def delete(self, kind: str, name: str, *, namespace: str = "", flags: tuple[str, ...] = ("--wait=false",)) -> None:
        self.kube.delete(kind, name, namespace or self.namespace, *flags)

    def until(self, met: Callable[[], bool], what: str) -> None:
        """Wait for something that has to be there before the way begins."""
        eventually(met, within=60, every=0.3, what=what)

    def _placed(self, manifest: Manifest) -> Manifest:
        placed = self._own(manifest)
        if placed["kind"] not in _CLUSTER_WIDE:
            placed["metadata"].setdefault("namespace", self.namespace)
        return placed

    def _own(self, manifest: Manifest) -> Manifest:
        """With trigger types that no other way has: ``way.x`` becomes ``way-<name>.x``."""
        own: Manifest = json.loads(json.dumps(manifest).replace('"way.', f'"{self.namespace}.'))
        return own

    def open(self, way: Way) -> None:
        """Make the namespace, and what is there before; returns when it works."""
        labels = way.labels or {"pod-security.kubernetes.io/enforce": "restricted"}
        labels = {**labels, "attune-ways": "yes"}
        self.kube.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}
        )
        if way.before is None:
            return
        before = way.before(self)
        self.apply(*before)
        for kind, waited in (("Sensor", "Ready"), ("Rule", "Active")):
            for manifest in before:
                if manifest["kind"] == kind:
                    namespace = manifest["metadata"].get("namespace", self.namespace)
                    name = f"{kind.lower()}/{manifest['metadata']['name']}"
                    self.kube("wait", f"--for=condition={waited}", name, "-n", namespace, "--timeout=90s")

    def close(self, way: Way) -> None:
        """End it, and undo what it did elsewhere."""
        if way.mends is not None:
            way.mends(self)
        self.kube("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")


_CLUSTER_WIDE = {
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
}


# -- manifests ---------------------------------------------------------------------------------------------------------


def rule(type_: str, parameters: Manifest | None = None, *, name: str = "r", **spec: Any) -> Manifest:
    """A Rule."""
    trigger = {"type": type_, **({"parameters": parameters} if parameters is not None else {})}
    return {"apiVersion": API_VERSION, "kind": "Rule", "metadata": {"name": name}, "spec": {"trigger": trigger, **spec}}


def every_second(**spec: Any) -> Manifest:
    """A Rule that fires each second."""
    return rule("core.intervaltimer", {"interval": 1}, **spec)


@cache
def _packs() -> dict[str, Manifest]:
    found = {}
    for path in sorted((REPOSITORY / "packs").glob("*/*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document["kind"] == "Sensor":
                found[document["metadata"]["name"]] = document
    return found


def pack(name: str) -> Manifest:
    """The spec of a pack's Sensor."""
    return deepcopy(_packs()[name]["spec"])


def timer(*, name: str = "timer", **spec: Any) -> Manifest:
    """A timer Sensor of the way's namespace: it wins Rules there over that of the core pack."""
    core = pack("core.timer")
    own = {"image": core["image"], "triggerTypes": core["triggerTypes"], **spec}
    return {"apiVersion": API_VERSION, "kind": "Sensor", "metadata": {"name": name}, "spec": own}


def program(
    script: str, *, name: str = "program", type_: str = "", stdio: Manifest | None = None, **spec: Any
) -> Manifest:
    """A Stdio Sensor that runs a shell script; its trigger type is ``way.<name>`` unless given."""
    own = {
        "runner": "Stdio",
        "command": ["run.sh"],
        "scripts": {"run.sh": "#!/bin/sh\n" + script},
        "triggerTypes": [{"name": type_ or f"way.{name}"}],
        **({"stdio": stdio} if stdio else {}),
        **spec,
    }
    return {"apiVersion": API_VERSION, "kind": "Sensor", "metadata": {"name": name}, "spec": own}


def python(code: str, *, name: str = "python", type_: str = "way.python", **spec: Any) -> Manifest:
    """A Sensor of its own: Python code on the SDK, in the timer's image."""
    own = {
        "image": pack("core.timer")["image"],
        "command": ["python3", "-c", code],
        "triggerTypes": [{"name": type_}],
        **spec,
    }
    return {"apiVersion": API_VERSION, "kind": "Sensor", "metadata": {"name": name}, "spec": own}
