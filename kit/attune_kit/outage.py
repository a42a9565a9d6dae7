"""Logs once that a dependency is away and once that it is back."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any


class Outage:
    """The state of one dependency (the API, NATS, the rule stream), as the log shows it.

    Args:
        log: a structlog logger.
        name: the dependency, the first part of the log events: ``<name>_unavailable`` and ``<name>_recovered``.
        clock: seconds, monotonic.
        wall: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        log: Any,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._name = name
        self._clock = clock
        self._wall = wall
        self._began = ""
        self._since: float | None = None
        self._logged: set[str] = set()
        self._latest = ""

    @property
    def problem(self) -> str | None:
        """What is wrong now, and for how long it has been wrong; None while all is well."""
        if self._since is None:
            return None
        return f"{self._latest} (for {self._clock() - self._since:.0f} s)"

    @property
    def fault(self) -> str | None:
        """What is wrong now and since when, as a text that stays the same during the outage; None while all is well."""
        return None if self._since is None else f"{self._latest} (since {self._began})"

    @property
    def ongoing(self) -> bool:
        """Whether the dependency is away."""
        return self._since is not None

    def failed(self, kind: str, message: str, **fields: Any) -> None:
        """Note a failure. It is logged when it begins an outage, or is the first of its kind in this outage."""
        if self._since is None:
            self._since = self._clock()
            self._began = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._latest = message
        if kind not in self._logged:
            self._logged.add(kind)
            self._log.warning(f"{self._name}_unavailable", kind=kind, error=message, **fields)

    def recovered(self, **fields: Any) -> None:
        """Note a success, which ends the outage if there was one."""
        if self._since is None:
            return
        self._log.info(f"{self._name}_recovered", after_seconds=round(self._clock() - self._since, 3), **fields)
        self._since = None
        self._logged.clear()
