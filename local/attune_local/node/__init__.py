"""Runs what the operator produces on this machine, as Kubernetes' controllers and kubelet would in a cluster.

``rollout`` decides (purely) which pods a Deployment needs, ``workloads`` carries that out; a pod is one process, which ``pod``
runs: ``container`` works out its command and environment, ``volumes`` puts Secrets and ConfigMaps into files, ``probes`` asks
whether it is ready.
"""

from attune_local.node.workloads import Node

__all__ = ["Node"]
