"""What a sensor is given: environment variables and files (docs/sensor-protocol.md, "What a sensor is given")."""

from typing import Final

SENSOR_REF: Final = "ATTUNE_SENSOR_REF"
SENSOR_INSTANCE: Final = "ATTUNE_SENSOR_INSTANCE"
TRIGGER_TYPES: Final = "ATTUNE_TRIGGER_TYPES"
API_URL: Final = "ATTUNE_API_URL"
API_TOKEN_FILE: Final = "ATTUNE_API_TOKEN_FILE"  # noqa: S105 - a variable's name
NATS_URL: Final = "ATTUNE_NATS_URL"
NATS_CREDS_FILE: Final = "ATTUNE_NATS_CREDS_FILE"
NATS_INBOX_PREFIX: Final = "ATTUNE_NATS_INBOX_PREFIX"
NATS_API_PREFIX: Final = "ATTUNE_NATS_API_PREFIX"  #: prefix of JetStream's API; ``$JS.API`` unless given
RULES_SUBJECT: Final = "ATTUNE_RULES_SUBJECT"
#: Names that the sensor's consumers may have, comma-separated; any unless given.
RULES_CONSUMERS: Final = "ATTUNE_RULES_CONSUMERS"
ACKS_SUBJECT: Final = "ATTUNE_ACKS_SUBJECT"
#: Certificates (PEM) to trust for the API and NATS in addition to the system's; absent when there are none.
CA_FILE: Final = "ATTUNE_CA_FILE"
CONFIG_FILE: Final = "ATTUNE_CONFIG_FILE"
SPOOL_DIR: Final = "ATTUNE_SPOOL_DIR"
SCRIPTS_DIR: Final = "ATTUNE_SCRIPTS_DIR"  #: where ``spec.scripts`` are; absent when there are none
LOG_LEVEL: Final = "ATTUNE_LOG_LEVEL"
LOG_FORMAT: Final = "ATTUNE_LOG_FORMAT"  #: ``json``, unless given, or ``text``; of our own programs, too
#: Directory with the Secrets that the Sensor lists (``spec.secrets``), one directory each; absent when it lists none.
SECRETS_DIR: Final = "ATTUNE_SECRETS_DIR"  # a variable's name
#: Before the name of a port of ``spec.ports``, in capitals and with "_" for "-": the number on which to listen.
PORT_PREFIX: Final = "ATTUNE_PORT_"
METRICS_PORT: Final = "ATTUNE_METRICS_PORT"

# Optional, with defaults that suit a pod.
LISTEN_HOST: Final = "ATTUNE_LISTEN_HOST"  #: address for the ports in ``spec.ports``; all by default
METRICS_HOST: Final = "ATTUNE_METRICS_HOST"  #: address for health and metrics; all by default
GRACE_SECONDS: Final = "ATTUNE_GRACE_SECONDS"  #: time for delivering the remaining events after SIGTERM
RESYNC_SECONDS: Final = "ATTUNE_RESYNC_SECONDS"  #: how often the sensor takes a new snapshot of its rules
HEALTH_SECONDS: Final = "ATTUNE_HEALTH_SECONDS"  #: how often the sensor reports its health
SPOOL_MAX_BYTES: Final = "ATTUNE_SPOOL_MAX_BYTES"  #: limit of the spool
SPOOL_FULL: Final = "ATTUNE_SPOOL_FULL"  #: what happens at the limit: drop-oldest, drop-newest or block

# Settings of the supervisor of ``runner: Stdio`` (``spec.stdio``).
STDIO_MODE: Final = "ATTUNE_STDIO_MODE"
STDIO_ON_EXIT: Final = "ATTUNE_STDIO_ON_EXIT"
STDIO_LINES_PER_SECOND: Final = "ATTUNE_STDIO_LINES_PER_SECOND"
STDIO_STOP_SECONDS: Final = "ATTUNE_STDIO_STOP_SECONDS"
STDIO_MAX_RESTART_SECONDS: Final = "ATTUNE_STDIO_MAX_RESTART_SECONDS"
STDIO_OUTPUT: Final = "ATTUNE_STDIO_OUTPUT"  #: how output is read, as JSON; absent for events

#: Directory where the Secret is mounted. A whole volume, because a subPath is never refreshed.
CREDENTIALS_DIR: Final = "/var/run/attune/credentials"
TOKEN_KEY: Final = "token"  # noqa: S105 - a file's name
NATS_CREDS_KEY: Final = "nats.creds"

#: Where the Secrets of ``spec.secrets`` are mounted, each as a whole volume, so that the kubelet updates them.
SECRETS_MOUNT: Final = "/var/run/attune/secrets"

CONFIG_DIR: Final = "/etc/attune"
CONFIG_KEY: Final = "config.json"
SPOOL_MOUNT: Final = "/var/spool/attune"
SCRIPTS_MOUNT: Final = "/var/lib/attune/scripts"
#: Where the supervisor of ``runner: Stdio`` is copied to when the image is not ours, and its name in our image.
STDIO_MOUNT: Final = "/var/lib/attune/stdio"
STDIO_ZIPAPP: Final = "attune-stdio.pyz"
STDIO_PROGRAM: Final = "attune-stdio"

#: Port on which a sensor serves ``/live``, ``/ready`` and ``/metrics``.
DEFAULT_METRICS_PORT: Final = 8080


def port_variable(name: str) -> str:
    """The variable with the number of the port that ``spec.ports`` calls ``name``."""
    return PORT_PREFIX + name.upper().replace("-", "_")
