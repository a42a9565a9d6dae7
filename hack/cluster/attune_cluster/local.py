"""`CLUSTER=local`: one node with the real Kubernetes programs, started, repaired and removed."""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from collections.abc import Callable
from typing import Any

from . import archives, bootstrap, network, node, packages
from .api import Api, ApiError
from .certificates import Pair
from .console import ClusterError, say, step, wait_until
from .layout import NODE, Layout, node_folder, spec_file
from .locks import exclusive
from .settings import KUBERNETES, Settings
from .tools import PROGRAMS, tools

PATIENCE = 180.0
"""Seconds a start may take before it counts as failed."""


def refusal(*, system: str, root: bool) -> str | None:
    """Why this machine or user can't run a local cluster, with the alternative; None when nothing speaks against it."""
    alternative = "use CLUSTER=kind (needs Docker) or CLUSTER=current (a cluster you have already)"
    if system != "Linux":
        return f"CLUSTER=local runs Kubernetes' own programs and so needs Linux, which this is not ({system}): {alternative}."
    if not root:
        return f"CLUSTER=local makes namespaces and mounts and so needs root: run it with sudo, or {alternative}."
    return None


def check(settings: Settings) -> None:
    """Raise with one clear sentence where a local cluster is out of the question."""
    del settings
    reason = refusal(system=platform.system(), root=os.geteuid() == 0)
    if reason is not None:
        raise ClusterError(reason)


def recorded(settings: Settings) -> dict[str, Any] | None:
    """What the last node was started with."""
    try:
        spec: dict[str, Any] = json.loads(spec_file(settings).read_text())
        int(spec["network"]["number"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return spec


def api(layout: Layout) -> Api:
    """A client with all rights."""
    return Api(layout.server, authority=layout.pki / "ca.crt", client=Pair.named(layout.pki, "admin"))


def troubles(layout: Layout) -> list[str]:
    """What keeps the cluster from being usable, in words; empty when it is."""
    if node.supervisor(layout.settings) is None:
        return ["the node's first process does not run"]
    try:
        status: dict[str, Any] = json.loads((layout.folder / "components.json").read_text())
    except (OSError, ValueError):
        return ["the node is being prepared"]
    waiting = [name for name, child in status.items() if not child["running"]]
    if waiting:
        return [f"waiting for {', '.join(waiting)}"]
    try:
        client = api(layout)
        if not client.ready():
            return ["the API server is not ready"]
        conditions = client.request("GET", f"/api/v1/nodes/{NODE}")["status"].get("conditions", [])
        client.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
    except ApiError as problem:
        return (
            ["the node or the default ServiceAccount does not exist yet"] if problem.status == 404 else [str(problem)]
        )
    except OSError as problem:
        return [f"the API server can't be reached: {problem}"]
    ready = next((c for c in conditions if c["type"] == "Ready"), {"status": "Unknown", "message": "no report yet"})
    if ready["status"] != "True":
        return [f"the node is not Ready: {ready.get('message', '')}"]
    return [] if _resolver_answers(layout) else ["CoreDNS is not ready"]


def _resolver_answers(layout: Layout) -> bool:
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(layout.network.gateway, 8181, timeout=2)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _await(layout: Layout) -> list[str]:
    """Wait until the cluster is usable or its node has ended; returns the troubles that remained."""
    client = api(layout)

    def over(reached: Callable[[], bool]) -> Callable[[], bool]:
        return lambda: reached() or node.supervisor(layout.settings) is None

    with step("waiting for the API server, the node and DNS", detail=lambda: ", ".join(troubles(layout)) or "ready"):
        if wait_until(over(client.ready), seconds=PATIENCE) and client.ready():
            _bootstrap(client)
            wait_until(over(lambda: not troubles(layout)), seconds=PATIENCE)
    return troubles(layout)


def _bootstrap(client: Api) -> None:
    for attempt in range(10):
        try:
            client.apply(bootstrap.objects())
        except (OSError, ApiError):
            if attempt == 9:
                raise
            time.sleep(0.5)
        else:
            return


def _launch(layout: Layout, spec: dict[str, Any]) -> list[str]:
    with step("starting the node"):
        node.prepare(layout, spec)
        node.start(layout, spec)
    return _await(layout)


def up(settings: Settings) -> Layout:
    """Make the cluster run: nothing to do when it does, a restart when parts died, from scratch otherwise."""
    check(settings)
    settings.state.mkdir(parents=True, exist_ok=True)
    with exclusive(settings.state / "lock", what="this cluster"):
        packages.install([*packages.NODE, *packages.BUILD], log=settings.logs / "packages.log")
        found = tools(settings, [name for names in PROGRAMS.values() for name in names])
        before = recorded(settings)
        if before is not None:
            plan = network.Network(number=before["network"]["number"])
        else:
            node.stop(settings)
            plan = network.choose(network.used_networks())
        layout = Layout(settings=settings, network=plan)
        spec = node.specification(layout, found)
        same = before is not None and before["fingerprint"] == spec["fingerprint"]
        if same and not _settled(layout):
            say(f"• the local cluster runs already (Kubernetes {KUBERNETES})")
        else:
            if before is not None and not same:
                say("• the cluster was started with other versions or settings: starting an empty one")
            _start_or_restart(layout, spec, keep=same)
        archives.load_pause(settings, found["pause"], into=node.inside(settings))
        node.write_admin_kubeconfig(layout)
    return layout


def _settled(layout: Layout) -> list[str]:
    """The troubles of a node that was started earlier, giving it a moment if it is only restarting a component."""
    if node.supervisor(layout.settings) is None:
        return troubles(layout)
    wait_until(lambda: not troubles(layout), seconds=20)
    return troubles(layout)


def _start_or_restart(layout: Layout, spec: dict[str, Any], *, keep: bool) -> None:
    settings = layout.settings
    with step("ending what an earlier run left"):
        node.stop(settings)
    if keep and (layout.folder / "etcd").exists():
        say("• the node had stopped: starting it again with what it held")
        remaining = _launch(layout, spec)
        if not remaining:
            return
        say(f"• that did not work ({'; '.join(remaining)}): starting an empty one")
        node.stop(settings)
    node.discard(settings)
    remaining = _launch(layout, spec)
    if remaining:
        raise ClusterError(
            f"The cluster did not become usable: {'; '.join(remaining)}. The logs are in {settings.logs}."
        )


def down(settings: Settings) -> None:
    """End and remove the cluster; logs stay."""
    if not (spec_file(settings).exists() or node_folder(settings).exists()) and platform.system() != "Linux":
        return
    check(settings)
    with exclusive(settings.state / "lock", what="this cluster"):
        if packages.missing(packages.NODE):
            return  # it can't have been started
        with step("ending the local cluster"):
            node.stop(settings)
            node.discard(settings)


def status(settings: Settings) -> dict[str, Any]:
    """What there is, for people and scripts."""
    before = recorded(settings)
    if before is None:
        return {"cluster": "local", "running": False}
    layout = Layout(settings=settings, network=network.Network(number=before["network"]["number"]))
    remaining = troubles(layout)
    identity = node.supervisor(settings)
    result: dict[str, Any] = {
        "cluster": "local",
        "running": identity is not None,
        "usable": not remaining,
        "troubles": remaining,
        "server": layout.server,
        "kubeconfig": str(settings.kubeconfig),
        "machine as seen from pods": layout.network.machine,
        "logs": str(settings.logs),
    }
    if identity is not None:
        result["a shell inside the node"] = shlex.join([*node.inside(settings), "bash"])
        result["components"] = json.loads((layout.folder / "components.json").read_text())
    return result
