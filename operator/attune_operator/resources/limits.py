"""Sizes that are bounded because the values travel in one NATS message."""

from typing import Final

#: Largest message on the rule stream, in bytes: a rule's state with its parameters.
MAX_STATE_BYTES: Final = 512 * 1024
#: Bytes that all payload schemas of one Sensor may have together.
MAX_PAYLOAD_SCHEMAS: Final = 512 * 1024
