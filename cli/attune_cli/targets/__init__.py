"""Which system is asked, and how it is reached: a cluster by kubeconfig, or an ``attune up`` on this machine.

Both speak HTTP in the same two ways, so that commands need not know which it is: :class:`~attune_cli.targets.kube.Kube` for
Sensors and Rules, :class:`~attune_cli.targets.api.Api` for events, tokens and histories.
"""
