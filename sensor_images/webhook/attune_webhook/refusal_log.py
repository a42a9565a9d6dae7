"""Logs refusals: the same one of the same rule once a minute."""

import time
from collections.abc import Callable
from typing import Any, Final

from attune_sensor import Rule
from attune_webhook.http.answers import RefusalError

_LOG_EVERY: Final = 60.0


class RefusalLog:
    """Refusals as log lines.

    Args:
        log: a structlog logger.
        clock: seconds, monotonic.
    """

    def __init__(self, log: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._logged: dict[tuple[str, str], float] = {}  # by the rule's uid and the kind

    def note(self, refusal: RefusalError, rule: Rule | None, *, trace_id: str = "") -> None:
        """Log a refusal, unless that was done lately. ``trace_id``: the trace that the request belongs to."""
        key = ("" if rule is None else rule.uid, refusal.kind)
        now = self._clock()
        if now - self._logged.get(key, now - 2 * _LOG_EVERY) <= _LOG_EVERY:
            return
        self._logged[key] = now
        named = {} if rule is None else {"rule": rule.ref, "rule_uid": rule.uid}
        if trace_id:
            named["trace_id"] = trace_id
        self._log.warning(
            "webhook_refused", kind=refusal.kind, status=int(refusal.status), error=refusal.reason, **named
        )

    def forget(self, uid: str) -> None:
        """Drop what is known of a rule that is gone."""
        for key in [key for key in self._logged if key[0] == uid]:
            del self._logged[key]
