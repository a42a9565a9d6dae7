"""The default StorageClass and what a volume of it looks like: pure functions from API objects to API objects.

A volume is a folder on the node, made for one claim once a pod of it was scheduled and removed with it. It is a `local`
volume rather than a `hostPath` one, as kubelet applies `fsGroup` to those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

Object = dict[str, Any]

CLASS = "standard"
PROVISIONER = "attune.dev/folder"
_SELECTED = "volume.kubernetes.io/selected-node"
_BY = "pv.kubernetes.io/provisioned-by"


def storage_class() -> Object:
    """The class that a claim without a class gets."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": False,
    }


def wanted(claim: Object) -> bool:
    """Whether a claim waits for a volume from here: of our class, not bound, and its pod's node is known."""
    metadata, spec = claim["metadata"], claim["spec"]
    return (
        spec.get("storageClassName") == CLASS
        and not spec.get("volumeName")
        and _SELECTED in metadata.get("annotations", {})
        and not metadata.get("deletionTimestamp")
    )


def folder_name(claim: Object) -> str:
    """The name of a claim's volume and of its folder; its uid makes it unique for ever."""
    return f"pvc-{claim['metadata']['uid']}"


def volume(claim: Object, *, folder: Path) -> Object:
    """The volume for a claim, in the folder `folder` on the node the scheduler chose."""
    metadata, spec = claim["metadata"], claim["spec"]
    node = metadata["annotations"][_SELECTED]
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": folder_name(claim), "annotations": {_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }


def finished(item: Object) -> bool:
    """Whether a volume is one of ours whose claim is gone."""
    return (
        item["metadata"].get("annotations", {}).get(_BY) == PROVISIONER
        and item.get("status", {}).get("phase") in ("Released", "Failed")
        and item["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
    )
