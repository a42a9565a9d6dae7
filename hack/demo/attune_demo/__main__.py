"""`make demo`, `make up`, `make down` and the lower half of `make status`."""

from __future__ import annotations

import argparse
import sys

from attune_cluster.console import ClusterError, say
from attune_cluster.settings import Settings
from attune_demo import follow, system
from attune_demo.kube import Kube

LOOK_AROUND = """
Look around in another terminal:

  export KUBECONFIG={kubeconfig}
  kubectl get sensors,rules -A
  kubectl describe rule echo-every-second
  kubectl -n attune-system logs deployment/sensor-core.timer
  kubectl patch rule echo-every-second --type=merge -p '{{"spec":{{"enabled":false}}}}'    # and true again

`make down` uninstalls the chart, `make cluster-down` ends the cluster. Ctrl-C stops watching only.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m attune_demo", description=__doc__)
    parser.add_argument("--only", choices=["install", "uninstall", "status"], help="do just this")
    parser.add_argument("--count", type=int, help="end after so many events (default: go on until Ctrl-C)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value for the chart")
    options = parser.parse_args(arguments)
    settings = Settings.from_environment()
    values = [argument for value in options.set for argument in ("--set", value)]
    try:
        kube = Kube.of_checkout(settings)
        match options.only:
            case "install":
                system.install(kube, settings.repository, *values)
                say(
                    "Installed. `kubectl apply -f packs/core/` gives it a sensor and a rule; `make status` shows what runs."
                )
            case "uninstall":
                system.uninstall(kube)
            case "status":
                system.status(kube)
            case _:
                system.install(kube, settings.repository, *values)
                system.sample(kube, settings.repository)
                say(LOOK_AROUND.format(kubeconfig=settings.kubeconfig))
                token = system.reader_token(kube)
                with system.api(kube) as (url, trusted):
                    follow.show(url, token, trusted=trusted, count=options.count)
    except ClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        say("Stopped watching; the system goes on. `make down` uninstalls it.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
