"""Names of sensors outside Kubernetes: refs, logins, and their tokens in NATS subjects."""

import re
from dataclasses import dataclass

_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

#: Longest name of a Sensor. It is also a label's value, and those have at most 63 characters.
MAX_SENSOR_NAME_LENGTH = 63


@dataclass(frozen=True, slots=True, order=True)
class SensorRef:
    """Which Sensor: its namespace and its name, written ``namespace/name`` (``attune-system/core.timer``)."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "SensorRef":
        """Read ``namespace/name``.

        Raises:
            ValueError: the text is not two Kubernetes names with a slash between them.
        """
        namespace, slash, name = text.partition("/")
        if not slash or not _DNS_LABEL.fullmatch(namespace) or not _DNS_SUBDOMAIN.fullmatch(name):
            raise ValueError(
                f"{text!r} is not a sensor's ref; write it as namespace/name, like attune-system/core.timer"
            )
        if len(name) > MAX_SENSOR_NAME_LENGTH:
            raise ValueError(f"the sensor's name in {text!r} has more than {MAX_SENSOR_NAME_LENGTH} characters")
        return cls(namespace, name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def login(self) -> str:
        """The identity a sensor's token speaks for, ``sensor:<ref>`` (claim ``login``)."""
        return f"sensor:{self}"

    @property
    def token(self) -> str:
        """``<namespace>.<name>`` as two tokens of a NATS subject.

        A dot separates tokens there, so the name's dots become underscores. Kubernetes names have no underscore, so no
        two sensors share a subject.
        """
        return f"{self.namespace}.{self.name.replace('.', '_')}"

    @property
    def inbox_prefix(self) -> str:
        """The only prefix under which this sensor may receive replies and deliveries from NATS."""
        return f"_INBOX_{self.namespace}_{self.name.replace('.', '_')}"
