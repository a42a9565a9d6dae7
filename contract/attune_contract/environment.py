"""What a sensor is given: environment variables, files and where they are (design, "What a sensor is given")."""

from typing import Final

SENSOR_REF: Final = "ATTUNE_SENSOR_REF"
SENSOR_INSTANCE: Final = "ATTUNE_SENSOR_INSTANCE"
TRIGGER_TYPES: Final = "ATTUNE_TRIGGER_TYPES"
API_URL: Final = "ATTUNE_API_URL"
API_TOKEN_FILE: Final = "ATTUNE_API_TOKEN_FILE"  # noqa: S105 - a variable's name
NATS_URL: Final = "ATTUNE_NATS_URL"
NATS_CREDS_FILE: Final = "ATTUNE_NATS_CREDS_FILE"
NATS_INBOX_PREFIX: Final = "ATTUNE_NATS_INBOX_PREFIX"
RULES_SUBJECT: Final = "ATTUNE_RULES_SUBJECT"
ACKS_SUBJECT: Final = "ATTUNE_ACKS_SUBJECT"
#: Certificates (PEM) that the API's and NATS's own are checked against, besides the system's; absent when there are none.
CA_FILE: Final = "ATTUNE_CA_FILE"
CONFIG_FILE: Final = "ATTUNE_CONFIG_FILE"
SPOOL_DIR: Final = "ATTUNE_SPOOL_DIR"
SCRIPTS_DIR: Final = "ATTUNE_SCRIPTS_DIR"  #: where ``spec.scripts`` are; absent when there are none
LOG_LEVEL: Final = "ATTUNE_LOG_LEVEL"
#: Directory with the Secrets that the Sensor lists (``spec.secrets``), one directory each; absent when it lists none.
SECRETS_DIR: Final = "ATTUNE_SECRETS_DIR"  # a variable's name
#: Before the name of a port of ``spec.ports``, in capitals and with "_" for "-": the number on which to listen.
PORT_PREFIX: Final = "ATTUNE_PORT_"
METRICS_PORT: Final = "ATTUNE_METRICS_PORT"

# Optional, with defaults that suit a pod.
LISTEN_HOST: Final = "ATTUNE_LISTEN_HOST"  #: address to listen on for what ``spec.ports`` names; every one unless given
METRICS_HOST: Final = "ATTUNE_METRICS_HOST"  #: address to serve on; every one unless given
GRACE_SECONDS: Final = "ATTUNE_GRACE_SECONDS"  #: time for delivering what is held after SIGTERM
RESYNC_SECONDS: Final = "ATTUNE_RESYNC_SECONDS"  #: how often the whole rule state is read again
HEALTH_SECONDS: Final = "ATTUNE_HEALTH_SECONDS"  #: how often the sensor says how it fares
SPOOL_MAX_BYTES: Final = "ATTUNE_SPOOL_MAX_BYTES"  #: bound of the spool
SPOOL_FULL: Final = "ATTUNE_SPOOL_FULL"  #: what happens at the bound: drop-oldest, drop-newest or block

# What the supervisor of ``runner: Stdio`` is told besides (``spec.stdio``).
STDIO_MODE: Final = "ATTUNE_STDIO_MODE"
STDIO_ON_EXIT: Final = "ATTUNE_STDIO_ON_EXIT"
STDIO_LINES_PER_SECOND: Final = "ATTUNE_STDIO_LINES_PER_SECOND"
STDIO_STOP_SECONDS: Final = "ATTUNE_STDIO_STOP_SECONDS"

#: Directory where the Secret is mounted. A whole volume: a subPath would never be refreshed.
CREDENTIALS_DIR: Final = "/var/run/attune/credentials"
TOKEN_KEY: Final = "token"  # noqa: S105 - a file's name
NATS_CREDS_KEY: Final = "nats.creds"

#: Where the Secrets of ``spec.secrets`` are mounted, each whole, so that kubelet brings what changes.
SECRETS_MOUNT: Final = "/var/run/attune/secrets"

CONFIG_DIR: Final = "/etc/attune"
CONFIG_KEY: Final = "config.json"
SPOOL_MOUNT: Final = "/var/spool/attune"
SCRIPTS_MOUNT: Final = "/var/lib/attune/scripts"
#: Where the supervisor of ``runner: Stdio`` is copied to when the image is not ours, and what it is called in ours.
STDIO_MOUNT: Final = "/var/lib/attune/stdio"
STDIO_ZIPAPP: Final = "attune-stdio.pyz"
STDIO_PROGRAM: Final = "attune-stdio"

#: Port on which a sensor serves ``/live``, ``/ready`` and ``/metrics``.
DEFAULT_METRICS_PORT: Final = 8080


def port_variable(name: str) -> str:
    """The variable that tells a sensor on which port to listen for what ``spec.ports`` calls ``name``."""
    return PORT_PREFIX + name.upper().replace("-", "_")
