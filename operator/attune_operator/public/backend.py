"""What a backend other than Kubernetes implements: it serves objects, and passes on what its watches see."""

from attune_operator.backend import Backend, Connect, Watching
from attune_operator.observers import Observers
from attune_operator.runtime.client import Body, Client, ClusterError, Known, Listed, Read, WatchEventType

__all__ = [
    "Backend",
    "Body",
    "Client",
    "ClusterError",
    "Connect",
    "Known",
    "Listed",
    "Observers",
    "Read",
    "WatchEventType",
    "Watching",
]
