"""The operator's public face: the only modules that ``attune_local``, ``attune_cli`` and ``attune_conformance`` import.

- ``objects``: kinds of Kubernetes objects. Loads nothing heavy.
- ``backend``: what another backend than Kubernetes implements.
- ``program``: the operator itself and its settings.
- ``checks``: the decisions that ``attune lint`` repeats without a cluster. Loads neither NATS nor Kubernetes.
- ``nats``: streams, keys and permissions as the operator defines them.
"""
