"""Kinds by the plural names of resources."""

from typing import Final

_KINDS: Final = {
    "applications": "Application",
    "clusterroles": "ClusterRole",
    "configmaps": "ConfigMap",
    "cronjobs": "CronJob",
    "daemonsets": "DaemonSet",
    "deployments": "Deployment",
    "endpoints": "Endpoints",
    "events": "Event",
    "eventsources": "EventSource",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "ingresses": "Ingress",
    "jobs": "Job",
    "namespaces": "Namespace",
    "networkpolicies": "NetworkPolicy",
    "nodes": "Node",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "persistentvolumes": "PersistentVolume",
    "pipelineruns": "PipelineRun",
    "pods": "Pod",
    "replicasets": "ReplicaSet",
    "rolebindings": "RoleBinding",
    "roles": "Role",
    "secrets": "Secret",
    "serviceaccounts": "ServiceAccount",
    "services": "Service",
    "statefulsets": "StatefulSet",
    "storageclasses": "StorageClass",
    "taskruns": "TaskRun",
    "workflows": "Workflow",
    "workflowtemplates": "WorkflowTemplate",
}


def kind_of(plural: str) -> tuple[str, bool]:
    """The kind of a resource, and whether that is a guess."""
    if plural in _KINDS:
        return _KINDS[plural], False
    singular = f"{plural[:-3]}y" if plural.endswith("ies") else plural.removesuffix("s")
    return singular[:1].upper() + singular[1:], True
