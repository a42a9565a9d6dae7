"""Which state of a Sensor or Rule each tool that waits takes for done: the table of docs/gitops.md.

The statuses are those that the operator writes; the tools' own code judges them (``health``, in Go: both modules of
kstatus, Argo CD's gitops-engine, its Lua interpreter with our script, Flux's CEL evaluator with our expressions).

    make gitops-table            # builds the Go program (minutes when Go's cache is empty) and writes the table
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from attune_contract.identity import SensorRef
from attune_contract.messages import AckState
from attune_contract.names import API_VERSION, AcceptedReason
from attune_operator.rules.conditions import (
    Acceptance,
    LatestAck,
    RuleContext,
    accepted_verdict,
    active_verdict,
    next_status,
    status_patch,
)
from attune_operator.rules.records import StatusRecord
from attune_operator.runtime.conditions import Verdict
from attune_operator.runtime.views import RuleSummary, SensorRuntime
from attune_operator.sensors import status

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "gitops.md"
GITOPS: Final = ROOT / "deploy" / "gitops"
BEGIN: Final = "<!-- table: made by `make gitops-table` -->\n"
END: Final = "<!-- end of the table -->\n"
#: The judgements that the table has, and their columns.
COLUMNS: Final = {
    "flux": "kstatus (Flux `wait`, `dependsOn`; Helm 4 `--wait`)",
    "flux-exprs": "Flux with our `healthCheckExprs`",
    "argo": "Argo CD alone",
    "argo-lua": "Argo CD with our Lua",
}
_REF: Final = SensorRef("attune-system", "core.timer")
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_GENERATION: Final = 2


def _object(kind: str, found: Mapping[str, Any], *, generation: int = _GENERATION) -> dict[str, Any]:
    metadata = {"name": "x", "namespace": "default", "generation": generation}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": {}, "status": dict(found)}


def _rule(reason: AcceptedReason = AcceptedReason.ACCEPTED, *, enabled: bool = True, **context: Any) -> dict[str, Any]:
    accepted = reason is AcceptedReason.ACCEPTED
    acceptance = Acceptance(reason=reason, message="why", sensor=_REF if accepted else None)
    active = active_verdict(
        acceptance=acceptance,
        enabled=enabled,
        generation=_GENERATION,
        context=RuleContext(runtime=SensorRuntime(ready_replicas=1), **context),
        previous=StatusRecord(),
    )
    found = next_status(
        generation=_GENERATION,
        acceptance=acceptance,
        accepted=accepted_verdict(acceptance),
        active=active,
        previous=StatusRecord(),
        now=_NOW,
    )
    return _object("Rule", status_patch(found))


def _acked(state: AckState) -> dict[str, Any]:
    return _rule(ack=LatestAck(generation=_GENERATION, state=state, message="why"))


def _sensor(ready: Verdict) -> dict[str, Any]:
    composed = status.compose(
        {"metadata": {"generation": _GENERATION}},
        ready=ready,
        credentials=Verdict("True", "Valid", "why"),
        token=None,
        summary=RuleSummary(),
        now=_NOW,
    )
    return _object("Sensor", composed)


def states() -> dict[str, dict[str, Any]]:
    """An object in each state, by a name for people."""
    not_seen = {"observedGeneration": -1}
    running = _acked(AckState.ACTIVE)
    return {
        "Rule: not seen by an operator": _object("Rule", not_seen),
        "Rule: changed, not seen again yet": _object("Rule", running["status"], generation=_GENERATION + 1),
        "Rule: active": running,
        "Rule: disabled": _rule(enabled=False),
        "Rule: its Sensor is paused": _rule(paused=True),
        "Rule: completed": _acked(AckState.COMPLETED),
        "Rule: waits for its sensor": _rule(),
        "Rule: unknown trigger type": _rule(AcceptedReason.UNKNOWN_TRIGGER_TYPE),
        "Rule: not allowed": _rule(AcceptedReason.NOT_ALLOWED),
        "Rule: invalid parameters": _rule(AcceptedReason.INVALID_PARAMETERS),
        "Rule: rejected by its sensor": _acked(AckState.REJECTED),
        "Rule: failing": _acked(AckState.FAILING),
        "Sensor: not seen by an operator": _object("Sensor", not_seen),
        "Sensor: ready": _sensor(Verdict("True", "Available", "why")),
        "Sensor: paused": _sensor(Verdict("True", "Paused", "why")),
        "Sensor: rolling out": _sensor(Verdict("False", "Progressing", "why")),
        "Sensor: its image cannot be pulled": _sensor(Verdict("False", "ImagePullBackOff", "why")),
        "Sensor: crashes": _sensor(Verdict("False", "CrashLoopBackOff", "why")),
        "Sensor: invalid schema": _sensor(Verdict("False", "InvalidParametersSchema", "why")),
        "Sensor: name taken": _sensor(Verdict("False", "NameTaken", "why")),
    }


def said(body: Mapping[str, Any]) -> str:
    """What the object says of itself: Ready with its reason, and Stalled."""
    found = {condition["type"]: condition for condition in body["status"].get("conditions", ())}
    if "Ready" not in found:
        return "-"
    ready = found["Ready"]
    return f"{ready['status']} {ready['reason']}" + (", Stalled" if "Stalled" in found else "")


def judge(program: Path, bodies: list[dict[str, Any]]) -> list[dict[str, dict[str, str]]]:
    """What each tool makes of each object."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        config = yaml.safe_load((GITOPS / "argocd-cm.yaml").read_text())["data"]
        for kind in ("Rule", "Sensor"):
            script = Path(folder, f"{kind}.lua")
            script.write_text(config[f"resource.customizations.health.attune.dev_{kind}"])
            arguments += ["--lua", f"{kind}={script}"]
        # yaml.UnmarshalStrict of the program knows no anchors' merging, so they are resolved here.
        expressions = Path(folder, "exprs.yaml")
        expressions.write_text(json.dumps(yaml.safe_load((GITOPS / "flux-health-checks.yaml").read_text())))
        arguments += ["--exprs", f"all={expressions}"]
        lines = "".join(json.dumps(body) + "\n" for body in bodies)
        answer = subprocess.run([program, *arguments], input=lines, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def table(program: Path) -> str:
    """The table as Markdown."""
    found = states()
    lines = [f"| state | Ready | {' | '.join(COLUMNS.values())} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for (name, body), verdicts in zip(found.items(), judge(program, list(found.values())), strict=True):
        if verdicts["helm"] != verdicts["flux"]:
            raise SystemExit(f"{name}: the two modules of kstatus differ: {verdicts}")
        cells = [verdicts[column]["status"] for column in COLUMNS]
        lines.append(f"| {name} | {said(body)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the table into the page; returns the exit status."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    program = Path(os.environ.get("GITOPS_HEALTH") or sys.argv[1])
    PAGE.write_text(f"{before}{BEGIN}\n{table(program)}\n{END}{after}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
