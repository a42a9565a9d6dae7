"""The Kubernetes sensor's program."""

from attune_kubernetes.handler import KubernetesHandler
from attune_sensor import WhenFull, run_sensor


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    # With no room for events the watches wait: the API server can tell later what happened meanwhile.
    return run_sensor(KubernetesHandler, when_full=WhenFull.BLOCK)


if __name__ == "__main__":
    raise SystemExit(main())
