"""Asks all parts for their metrics, again and again."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from attune_cli.errors import CliError
from attune_cli.looked import Lister
from attune_cli.metrics import Sample, samples
from attune_cli.session import Session
from attune_cli.targets.pages import Pages, Part, find_parts
from attune_cli.top.view import Reading, rules_by_reason
from attune_contract.names import RULES, SENSORS, ActiveReason
from attune_contract.telling import AT_REST, Object, rule_problem

#: Pages at once.
_WORKERS: Final = 8
#: Seconds between two looks at which pods there are, and at the Rules: there may be many thousand.
_PARTS_EVERY: Final = 10.0
_RULES_EVERY: Final = 30.0
#: Seconds at least between two looks at the Rules, however often the operator counts others.
_RULES_PAUSE: Final = 5.0
#: What is wrong with more Rules than these is not shown.
_RULES: Final = 100
_METRICS: Final = "/metrics"
_NO_PROBLEM: Final = frozenset({ActiveReason.ACTIVE, *AT_REST})


class Reader:
    """Reads one system.

    Args:
        session: the system.
        namespace: whose Sensors and Rules; None for all that the caller may see.
        everywhere: insist on all.
    """

    def __init__(self, session: Session, *, namespace: str | None, everywhere: bool) -> None:
        self._session = session
        self._namespace = namespace
        self._lister = Lister(session, namespace, everywhere)
        self._pages = Pages(session.target)
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="top")
        self._parts: list[Part] = []
        self._unseen: list[str] = []
        self._parts_at = float("-inf")
        self._rules = WrongRules(lambda: self._lister.list(RULES))

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pages.close()

    def read(self) -> Reading:
        """Ask everybody once.

        Raises:
            CliError: the system cannot be asked at all.
        """
        sensors = self._lister.list(SENSORS)
        if time.monotonic() - self._parts_at > _PARTS_EVERY:
            self._find_parts()
        metrics: dict[Part, list[Sample]] = {}
        silent: dict[Part, str] = {}
        asked = [part for part in self._parts if _METRICS in part.ports]
        for part, answer in zip(asked, self._pool.map(self._ask, asked), strict=True):
            if isinstance(answer, str):
                silent[part] = answer
                self._parts_at = float("-inf")  # its pod may have been replaced
            else:
                metrics[part] = answer
        at = datetime.now(UTC)
        rules = self._rules.read(time.monotonic(), metrics)
        return Reading(at=at, metrics=metrics, silent=silent, sensors=sensors, rules=rules, unknown=tuple(self._unseen))

    def _find_parts(self) -> None:
        self._parts, problems = find_parts(
            self._session.target, system_namespace=self._session.options.system_namespace, namespace=self._namespace
        )
        self._pages.keep(self._parts)
        self._unseen = [f"not all parts can be seen: {problem}" for problem in problems]
        self._parts_at = time.monotonic()

    def _ask(self, part: Part) -> list[Sample] | str:
        try:
            page = self._pages.read(part, _METRICS)
        except CliError as error:
            return str(error)
        return samples(page.text) if page.status == 200 else f"HTTP status {page.status}"


class WrongRules:
    """The Rules that have a problem, as of the last look at them.

    The operator counts Rules by the reason of one condition, and of what is wrong other conditions say some. So they are
    read now and then, and at once when its counts change.

    Args:
        find: lists all Rules.
    """

    def __init__(self, find: Callable[[], Iterable[Object]]) -> None:
        self._find = find
        self._wrong: Sequence[Object] = ()
        self._counts: dict[str, int] = {}
        self._at = float("-inf")

    def read(self, now: float, metrics: Mapping[Part, Iterable[Sample]]) -> Sequence[Object]:
        """The Rules with a problem, read again when it is time to.

        Args:
            now: in seconds of a clock that never goes back.
            metrics: of all parts.

        Raises:
            CliError: they cannot be listed.
        """
        counts = {reason: count for reason, count in rules_by_reason(metrics).items() if reason not in _NO_PROBLEM}
        if now - self._at > (_RULES_PAUSE if counts != self._counts else _RULES_EVERY):
            self._wrong = [body for body in self._find() if rule_problem(body) is not None][:_RULES]
            self._counts, self._at = counts, now
        return self._wrong
