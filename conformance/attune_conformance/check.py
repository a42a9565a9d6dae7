"""What a check is, and how it says what it found."""

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from attune_conformance.world import World


class Level(StrEnum):
    """How binding a check is (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Failed(Exception):  # noqa: N818 - what happened to the check
    """The sensor does not keep to the protocol. The text says what was seen and what should have been."""


class NotApplicable(Exception):  # noqa: N818 - what happened to the check
    """The check says nothing about this sensor. The text says why."""


Examine = Callable[["World"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        name: its name, for the command line.
        level: how binding it is.
        title: what a sensor that passes it does.
        examine: looks, and raises :class:`Failed` or :class:`NotApplicable`.
        nats: whether the NATS server runs before the sensor does.
    """

    name: str
    level: Level
    title: str
    examine: Examine
    nats: bool = True


#: Modules of checks in the order of the protocol's text; importing one registers its checks.
_MODULES: Final = ("rules", "stream", "credentials", "events", "delivery", "process")
_CHECKS: Final[dict[str, Check]] = {}


def check(name: str, title: str, *, level: Level = Level.MUST, nats: bool = True) -> Callable[[Examine], Examine]:
    """Register the decorated function as a check."""

    def register(examine: Examine) -> Examine:
        if name in _CHECKS:
            raise ValueError(f"there are two checks {name}")
        _CHECKS[name] = Check(name=name, level=level, title=title, examine=examine, nats=nats)
        return examine

    return register


def all_checks() -> dict[str, Check]:
    """Every check, by its name, in the order of the protocol's text."""
    for module in _MODULES:
        importlib.import_module(f"attune_conformance.checks.{module}")
    return dict(_CHECKS)
