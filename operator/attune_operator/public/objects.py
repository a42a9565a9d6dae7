"""Kinds of Kubernetes objects, as plain values."""

from attune_operator.resources.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    NAMESPACE,
    POD,
    RULE,
    SECRET,
    SENSOR,
    WATCHED,
    Kind,
    Object,
)
from attune_operator.resources.stdio import COPIER as STDIO_COPIER

__all__ = [
    "CONFIG_MAP",
    "DEPLOYMENT",
    "EVENT",
    "NAMESPACE",
    "POD",
    "RULE",
    "SECRET",
    "SENSOR",
    "STDIO_COPIER",
    "WATCHED",
    "Kind",
    "Object",
]
