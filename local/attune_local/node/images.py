"""Which program stands for an image: ours run from the installed packages, anybody else's from the ``command``."""

import sys
from typing import Final

#: The entrypoints of our sensor images (Dockerfile), by repository.
MODULES: Final = {
    "attune/sensor-timer": "attune_timer",
    "attune/sensor-stdio": "attune_stdio",
    "attune/sensor-webhook": "attune_webhook",
    "attune/sensor-kubernetes": "attune_kubernetes",
    "attune/sensor-nats": "attune_nats",
    "attune/sensor-patterns": "attune_patterns",
    "attune/sensor-redis": "attune_redis",
    "attune/sensor-amqp": "attune_amqp",
    "attune/sensor-mqtt": "attune_mqtt",
    "attune/sensor-aws": "attune_aws",
    "attune/sensor-kafka": "attune_kafka",
    "attune/sensor-postgres": "attune_postgres",
    "attune/sensor-http": "attune_http",
    "attune/sensor-files": "attune_files",
}


def entrypoint(image: str) -> list[str] | None:
    """The command that an image of ours runs; None for an image that is none of ours.

    A registry before the name and the tag or digest after it do not matter: what runs is what is installed here.
    """
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    repository = f"{head}{slash}{last.partition(':')[0]}"
    for known, module in MODULES.items():
        if repository == known or repository.endswith(f"/{known}"):
            return [sys.executable, "-m", module]
    return None
