"""``attune up``: the system on one machine without Kubernetes, from the manifests that ``kubectl apply`` takes.

The operator itself runs here, over another backend: :mod:`.objects` keeps objects as an API server does, :mod:`.node` runs
what the operator produces as kubelet would, :mod:`.services` are NATS and the API, :mod:`.manifests` reads files,
:mod:`.control` lets the command line in, and :mod:`.up` puts it all together.
"""
