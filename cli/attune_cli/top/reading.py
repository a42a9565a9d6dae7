"""Asks all parts for their metrics, again and again."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from attune_cli.errors import CliError
from attune_cli.looking import objects
from attune_cli.metrics import Sample, samples, total
from attune_cli.session import Session
from attune_cli.targets.pages import Pages, Part, find_parts
from attune_cli.top.view import Reading
from attune_cli.views import Object, rule_problem
from attune_contract.names import RULES, SENSORS

#: Pages at once.
_WORKERS: Final = 8
#: Seconds between two looks at which pods there are, and at the Rules: there may be many thousand.
_PARTS_EVERY: Final = 10.0
_RULES_EVERY: Final = 30.0
#: What is wrong with more Rules than these is not shown.
_RULES: Final = 100
_METRICS: Final = "/metrics"
#: Reasons of a Rule's condition Active that are no problem.
_AT_REST: Final = frozenset({"Active", "Disabled", "Completed", "SensorPaused"})


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
        self._everywhere = everywhere
        self._pages = Pages(session.target)
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="top")
        self._parts: list[Part] = []
        self._unseen: list[str] = []
        self._parts_at = float("-inf")
        self._rules: Sequence[Object] = ()
        self._rules_at = float("-inf")

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pages.close()

    def read(self) -> Reading:
        """Ask everybody once.

        Raises:
            CliError: the system cannot be asked at all.
        """
        sensors = objects(self._session, SENSORS, self._namespace, self._everywhere)
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
        if time.monotonic() - self._rules_at > _RULES_EVERY and _may_have_problems(metrics):
            self._find_rules()
        return Reading(
            at=at, metrics=metrics, silent=silent, sensors=sensors, rules=self._rules, unknown=tuple(self._unseen)
        )

    def _find_parts(self) -> None:
        self._parts, problems = find_parts(
            self._session.target, system_namespace=self._session.options.system_namespace, namespace=self._namespace
        )
        self._unseen = [f"not all parts can be seen: {problem}" for problem in problems]
        self._parts_at = time.monotonic()

    def _find_rules(self) -> None:
        found = objects(self._session, RULES, self._namespace, self._everywhere)
        self._rules = [body for body in found if rule_problem(body) is not None][:_RULES]
        self._rules_at = time.monotonic()

    def _ask(self, part: Part) -> list[Sample] | str:
        try:
            page = self._pages.read(part, _METRICS)
        except CliError as error:
            return str(error)
        return samples(page.text) if page.status == 200 else f"HTTP status {page.status}"


def _may_have_problems(metrics: dict[Part, list[Sample]]) -> bool:
    """Whether the operator counts Rules that do not work, or does not say."""
    counted = [found for part, found in metrics.items() if part.role == "operator"]
    if not any(total(found, "attune_rules") is not None for found in counted):
        return True
    return any(
        sample.name == "attune_rules" and sample.value and sample.labels.get("reason") not in _AT_REST
        for found in counted
        for sample in found
    )
