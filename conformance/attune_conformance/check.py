"""What a check is, and how it is defined."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from attune_conformance.testbed import Testbed


class Level(StrEnum):
    """How binding a check is (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"


Examine = Callable[[Testbed], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        name: its name, for the command line.
        level: how binding it is.
        title: what a sensor that passes it does.
        examine: looks, and raises :class:`CheckFailedError` or :class:`NotApplicableError`.
        nats: whether the NATS server runs before the sensor does.
    """

    name: str
    level: Level
    title: str
    examine: Examine
    nats: bool = True


#: Checks by name, in the order in which they were defined.
_CHECKS: Final[dict[str, Check]] = {}


def check(name: str, title: str, *, level: Level = Level.MUST, nats: bool = True) -> Callable[[Examine], Examine]:
    """Register the decorated function as a check."""

    def register(examine: Examine) -> Examine:
        if name in _CHECKS:
            raise ValueError(f"there are two checks {name}")
        _CHECKS[name] = Check(name=name, level=level, title=title, examine=examine, nats=nats)
        return examine

    return register


def registered() -> dict[str, Check]:
    """The checks whose modules have been imported; :func:`attune_conformance.checks.all_checks` imports all of them."""
    return dict(_CHECKS)
