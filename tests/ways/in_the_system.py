"""Ways that lie in Attune itself, or in the cluster: no other way runs meanwhile, and what is said of Attune counts too."""

from __future__ import annotations

import json

from ways.stage import SYSTEM, Stage, every_second, timer
from ways.way import Way, add


def _scale(stage: Stage, target: str, to: int) -> None:
    stage.kube("scale", target, "-n", SYSTEM, f"--replicas={to}")


def _back(stage: Stage, target: str) -> None:
    _scale(stage, target, 1)
    stage.kube("rollout", "status", target, "-n", SYSTEM, "--timeout=120s")


def _down(
    name: str,
    what: str,
    cause: str,
    target: str,
    *,
    places: tuple[str, ...] = ("get", "describe", "status"),
    but: str = "",
) -> Way:
    def breaks(stage: Stage) -> None:
        _scale(stage, target, 0)

    return Way(
        name=name,
        what=what,
        cause=cause,
        places=places,
        but=but,
        alone=True,
        before=lambda stage: [every_second()],
        breaks=breaks,
        mends=lambda stage: _back(stage, target),
        within=60,
    )


def _made_while_the_operator_is_away(stage: Stage) -> None:
    _scale(stage, "deployment/attune-operator", 0)
    stage.kube(
        "wait", "--for=delete", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=attune-operator", "--timeout=60s"
    )
    stage.begin()
    stage.apply(every_second())


def _cordoned(stage: Stage) -> None:
    nodes = json.loads(stage.kube("get", "nodes", "-o", "json"))["items"]
    stage.kept["nodes"] = [node["metadata"]["name"] for node in nodes if not node["spec"].get("unschedulable")]
    stage.kube("cordon", *stage.kept["nodes"])
    stage.begin()
    stage.apply(timer(), every_second())


def _uncordon(stage: Stage) -> None:
    if stage.kept.get("nodes"):
        stage.kube("uncordon", *stage.kept["nodes"])


_WATCH = "ATTUNE_OPERATOR_WATCH_NAMESPACES"


def _not_watched(stage: Stage) -> None:
    _watch(stage, f"{_WATCH}={SYSTEM}")
    stage.begin()
    stage.apply(every_second())


def _watch(stage: Stage, setting: str) -> None:
    stage.kube("set", "env", "deployment/attune-operator", "-n", SYSTEM, setting)
    stage.kube("rollout", "status", "deployment/attune-operator", "-n", SYSTEM, "--timeout=120s")


_API = r"(cannot reach|no answer from|no pod).{0,40}(https?://attune-api|API|namespace attune-system)|API +problem"
_NATS = r"NATS.{0,80}(cannot|no pod|not|away|unreachable|closed|refused)|cannot reach.{0,40}nats|No health report"

add(
    _down("api-down", "the API is down", _API, "deployment/attune-api"),
    # A Service of the API or NATS that leads nowhere is no such way: connections that stand go on, and so do the Rules.
    _down("nats-down", "NATS is down", _NATS, "statefulset/attune-nats"),
    Way(
        name="operator-down",
        what="the operator is down, and the Rule was made meanwhile",
        cause=r"is the operator running|operator +problem",
        places=("status",),
        but="no operator writes conditions",
        alone=True,
        breaks=_made_while_the_operator_is_away,
        mends=lambda stage: _back(stage, "deployment/attune-operator"),
    ),
    Way(
        name="namespace-not-watched",
        what="the operator does not watch the namespace",
        cause=r"not watch|watchNamespaces|outside",
        places=("status",),
        but="the operator has no rights there",
        alone=True,
        breaks=_not_watched,
        mends=lambda stage: _watch(stage, f"{_WATCH}="),
    ),
    Way(
        name="node-cordoned",
        what="no node takes pods",
        cause=r"cannot be scheduled.*unschedulable",
        kubelet=r"unschedulable",
        alone=True,
        breaks=_cordoned,
        mends=_uncordon,
    ),
)
