"""Killing a container from outside, as the kernel's out-of-memory killer or a fault of the node would."""

import json

from support.attune_up import LocalKube, kill_pod_process
from support.eventually import eventually
from support.kubectl import Kubectl, Manifest

_PROGRAM = """
import os, pathlib, signal, sys
wanted = sys.argv[1]
killed = []
for process in pathlib.Path("/proc").iterdir():
    if process.name.isdigit():
        try:
            if wanted in (process / "cgroup").read_text():
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(process.name)
        except (FileNotFoundError, ProcessLookupError):
            pass
print("killed", *killed)
sys.exit(not killed)
"""


def kill_container(kube: Kubectl, pod: Manifest) -> None:
    """SIGKILL every process of the pod's only container, by a pod that sees the node's processes.

    From inside a container nobody can kill its first process: the kernel ignores signals to it that it does not handle.
    """
    if isinstance(kube, LocalKube):
        kill_pod_process(kube.kubeconfig, pod["metadata"]["name"])
        return
    # What the pod's status says may be the container before this one, which ended a moment ago.
    eventually(lambda: _killed(kube, pod), within=60, what="the killer found the container")


def _killed(kube: Kubectl, pod: Manifest) -> bool:
    [status] = kube.get("pod", pod["metadata"]["name"], pod["metadata"]["namespace"])["status"]["containerStatuses"]
    container = status["containerID"].split("://")[1]
    killer = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "killer", "namespace": "kube-system"},
        "spec": {
            "hostPID": True,
            "nodeName": pod["spec"]["nodeName"],
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "killer",
                    "image": pod["spec"]["containers"][0]["image"],
                    "command": ["python3", "-c", _PROGRAM, container],
                    "securityContext": {"privileged": True, "runAsUser": 0},
                }
            ],
        },
    }
    kube.delete("pod", "killer", "kube-system", "--now")
    kube("create", "-f", "-", stdin=json.dumps(killer))

    def ended() -> str | None:
        phase: str = kube.get("pod", "killer", "kube-system")["status"]["phase"]
        return phase if phase in ("Succeeded", "Failed") else None

    phase = eventually(ended, within=30, what="the killer did its work")
    kube.delete("pod", "killer", "kube-system", "--now")
    return phase == "Succeeded"
