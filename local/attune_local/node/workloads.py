"""The node: keeps as many pods of each Deployment as it wants, and runs them."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import Any, Final

import structlog

from attune_local.node import rollout
from attune_local.node.pod import Pod, PodContext
from attune_operator.public.backend import WatchEventType
from attune_operator.public.objects import CONFIG_MAP, DEPLOYMENT, POD, SECRET, Kind, Object

_log = structlog.stdlib.get_logger(__name__)

_MANAGER: Final = "attune-up"
_Key = tuple[str, str]


def new_pod(deployment: Object, *, suffix: str) -> Object:
    """A pod of the Deployment's present template."""
    metadata, template = deployment["metadata"], deployment["spec"]["template"]
    digest = rollout.template_hash(deployment)
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name']}-{digest}-{suffix}",
            "namespace": metadata["namespace"],
            "labels": {**template["metadata"].get("labels", {}), rollout.TEMPLATE_HASH: digest},
            "annotations": template["metadata"].get("annotations", {}),
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": {**template["spec"], "nodeName": "local"},
        "status": {"phase": "Pending"},
    }


class Node:
    """Runs the pods of all Deployments. ``new_suffix`` ends the names of pods."""

    def __init__(self, context: PodContext, *, new_suffix: Callable[[], str] = lambda: secrets.token_hex(3)) -> None:
        self._context = context
        self._store = context.store
        self._new_suffix = new_suffix
        self._pods: dict[_Key, tuple[Pod, asyncio.Task[None]]] = {}
        self._dirty = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Work until cancelled; :meth:`stop` then ends the processes."""
        self._forget_last_run()
        unsubscribe = self._store.subscribe(self._on_change)
        self._dirty.set()
        try:
            while True:
                await self._dirty.wait()
                self._dirty.clear()
                self._reconcile()
        finally:
            unsubscribe()

    def _forget_last_run(self) -> None:
        """No process runs yet, whatever statuses say; pods that were to go are gone."""
        for pod in self._store.list_objects(POD):
            metadata = pod["metadata"]
            if "deletionTimestamp" in metadata:
                self._store.remove(POD, pod)
                continue
            status: dict[str, Any] = {**(pod.get("status") or {}), "phase": "Pending", "conditions": []}
            self._store.set_status(POD, metadata["namespace"], metadata["name"], status)

    def _on_change(self, kind: Kind, _: WatchEventType, body: Object) -> None:
        metadata = body["metadata"]
        if kind == DEPLOYMENT:
            self._dirty.set()
        elif kind == POD:
            self._dirty.set()
            running = self._pods.get((metadata["namespace"], metadata["name"]))
            if running is not None and "deletionTimestamp" in metadata:
                running[0].changed()
        elif kind in (SECRET, CONFIG_MAP):
            for (namespace, _name), (pod, _task) in self._pods.items():
                if namespace == metadata["namespace"]:
                    pod.changed()

    def _reconcile(self) -> None:
        """Bring everything a step nearer to what is wanted. What a step changes makes for another look."""
        by_owner: dict[str, list[Object]] = {}
        for pod in self._store.list_objects(POD):
            for owner in pod["metadata"].get("ownerReferences") or ():
                by_owner.setdefault(owner["uid"], []).append(pod)
        for deployment in self._store.list_objects(DEPLOYMENT):
            metadata = deployment["metadata"]
            pods = by_owner.get(metadata["uid"], [])
            step = rollout.plan(deployment, pods)
            for name in step.delete:
                self._store.delete(POD, metadata["namespace"], name)
            for _ in range(step.create):
                self._store.create(POD, new_pod(deployment, suffix=self._new_suffix()), manager=_MANAGER)
            status = rollout.status(deployment, pods)
            if deployment.get("status") != status:
                self._store.set_status(DEPLOYMENT, metadata["namespace"], metadata["name"], status)
        for pod in self._store.list_objects(POD):
            key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
            if key not in self._pods and not self._stopping:
                self._run(key)

    def _run(self, key: _Key) -> None:
        pod = Pod(*key, context=self._context)
        task = asyncio.create_task(pod.run(), name=f"pod {key[0]}/{key[1]}")
        self._pods[key] = (pod, task)
        task.add_done_callback(lambda ended: self._ended(key, ended))

    def _ended(self, key: _Key, task: asyncio.Task[None]) -> None:
        self._pods.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # An unexpected failure with one pod must not keep the others from being reconciled.
            _log.error("pod_failed", pod=f"{key[0]}/{key[1]}", exc_info=error)
            asyncio.get_running_loop().call_later(1.0, self._dirty.set)
        else:
            self._dirty.set()

    async def stop(self, *, grace: float) -> None:
        """End all processes, each within so many seconds. The pods stay, for the next run."""
        self._stopping = True
        tasks = [task for _, task in self._pods.values()]
        for pod, _ in list(self._pods.values()):
            pod.stop(grace=grace)
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=grace + 10)
            for task in pending:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*pending, return_exceptions=True)
