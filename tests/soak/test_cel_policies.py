"""CEL of public policies, compiled and evaluated by Kubernetes' own library and by ours. Figures: docs/soak.md.

``ATTUNE_POLICIES`` names folders with policies, such as clones of github.com/kyverno/policies and
github.com/kubescape/cel-admission-library, separated by colons. Needs Go.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from attune_kit.cel.library import EvaluationError, Expression, ExpressionError

ORACLE = Path(__file__).parents[1] / "oracles" / "cel"
POLICIES = [Path(each) for each in os.environ.get("ATTUNE_POLICIES", "").split(":") if each]
GO = "/usr/local/go/bin:/usr/bin:/usr/local/bin"


def _meta(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "shop", "labels": {"app": "web", "team": "a"}, **more}


def _container(**more: Any) -> dict[str, Any]:
    return {"name": "web", "image": "registry.example/web:1.2", **more}


_STRICT: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "ports": [{"containerPort": 80, "hostPort": 8080}],
    "env": [{"name": "A", "value": "b"}],
    "readinessProbe": {"periodSeconds": 3},
}
_POD: dict[str, Any] = {
    "serviceAccountName": "web",
    "hostNetwork": False,
    "containers": [_container(**_STRICT), _container(name="side", image="side:latest")],
    "initContainers": [_container(name="first", image="first@sha256:" + "0" * 64)],
    "volumes": [{"name": "v", "hostPath": {"path": "/var/run/docker.sock"}}, {"name": "w", "emptyDir": {}}],
    "tolerations": [{"key": "a", "operator": "Exists"}],
}
OBJECTS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Pod", "metadata": _meta("pod", annotations={"a": "b"}), "spec": _POD},
    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": {"containers": [_container()]}},
    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _meta("deployment"),
     "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
              "strategy": {"rollingUpdate": {"maxSurge": "25%"}}, "template": {"metadata": _meta("t"), "spec": _POD}}},
    {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": _meta("cronjob"),
     "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"metadata": {}, "spec": _POD}}}}},
    {"apiVersion": "v1", "kind": "Service", "metadata": _meta("service"),
     "spec": {"type": "NodePort", "externalIPs": ["1.2.3.4"], "ports": [{"port": 80, "name": "http"}]}},
    {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": _meta("ingress"),
     "spec": {"ingressClassName": "nginx", "rules": [{"host": "*.example.org", "http": {"paths": [{"path": "/"}]}}]}},
    {"apiVersion": "example.org/v1", "kind": "Custom", "metadata": _meta("custom"),
     "spec": {"n": 3, "ratio": 0.5, "list": ["a", "b"], "none": None}, "status": {"conditions": []}},
    {"apiVersion": "v1", "kind": "Namespace",
     "metadata": {"name": "shop", "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}},
]  # fmt: skip


def expressions(folders: list[Path]) -> list[str]:
    """All CEL expressions of the policies, with their variables put in, each once."""
    found: dict[str, None] = {}
    for file in sorted(file for folder in folders for file in folder.rglob("*.y*ml")):
        try:
            documents = list(yaml.safe_load_all(file.read_text()))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        for document in documents:
            for text in _in(document, {}):
                found.setdefault(text.strip())
    return list(found)


def _in(value: Any, variables: dict[str, str]) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _in(each, variables)
        return
    if not isinstance(value, dict):
        return
    named = value.get("variables")
    if isinstance(named, list):
        variables = dict(variables)
        for each in named:
            if isinstance(each, dict) and isinstance(each.get("expression"), str):
                variables[str(each.get("name"))] = _with(each["expression"], variables)
    for key, each in value.items():
        if key in {"expression", "messageExpression"} and isinstance(each, str):
            yield _with(each, variables)
        else:
            yield from _in(each, variables)


def _with(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\bvariables\.(\w+)", lambda match: f"({variables.get(match[1], match[0])})", text)


def kubernetes(texts: list[str]) -> list[dict[str, Any]]:
    """What Kubernetes' library makes of them."""
    questions = "".join(json.dumps({"expression": text, "objects": OBJECTS}) + "\n" for text in texts)
    done = subprocess.run(
        ["go", "run", "."],
        cwd=ORACLE,
        input=questions,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:{GO}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values are one; they write a number above 2**53 as text."""
    return bool(ours == theirs or str(ours) == theirs)


@pytest.mark.timeout(1800)
def test_public_policies_mean_the_same() -> None:
    if not POLICIES or shutil.which("go", path=GO) is None:
        pytest.skip("set ATTUNE_POLICIES to folders with policies, and install Go")
    texts = expressions(POLICIES)
    answers = kubernetes(texts)
    refused: list[str] = []
    other: list[str] = []
    compiled = both = neither = only_theirs = only_ours = 0
    for text, theirs in zip(texts, answers, strict=True):
        if theirs.get("refused"):
            continue
        compiled += 1
        try:
            expression = Expression(text, variables=("object", "oldObject"))
        except ExpressionError as error:
            refused.append(f"{text}: {error}")
            continue
        for each, value in zip(OBJECTS, theirs["values"], strict=True):
            try:
                ours = expression.evaluate({"object": each, "oldObject": None})
            except EvaluationError:
                neither, only_theirs = neither + (value is None), only_theirs + (value is not None)
                continue
            if value is None:
                only_ours += 1
                continue
            both += 1
            if not same(ours, json.loads(value)):
                other.append(f"{text} on {each['kind']}: {ours!r}, and there {value}")
    print(
        f"\n{len(texts)} expressions, {compiled} compile in Kubernetes, {len(refused)} of them are refused; "
        f"{both} pairs gave a value in both, {len(other)} another one; {neither} failed in both, {only_theirs} only "
        f"there, {only_ours} only here",
        *refused,
        *other,
        sep="\n",
    )
    assert compiled > 300
    assert len(refused) <= compiled / 100
    assert not other
