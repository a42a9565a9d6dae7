"""Checks the expressions of Rules' conditions and actions, in processes of their own: nobody's expression holds the operator up.

What is wrong is said in the condition ActionsHealthy. The Rule is accepted all the same: its events go on being stored, and the
runs that an expression keeps from being carried out fail, to be tried again after it was mended.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from attune_kit.actions.check import Problem, check_in
from attune_kit.cel.evaluator import Evaluator
from attune_operator.rules import metrics
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.entry import RuleEntry
from attune_operator.runtime.controller import Controller
from attune_operator.runtime.queue import PriorityQueue

_log = structlog.stdlib.get_logger(__name__)

#: Seconds that all expressions of one Rule may take to compile.
_LIMIT: Final = 20.0
#: Seconds without work after which the processes are ended.
_IDLE: Final = 60.0
_SHOWN: Final = 3
_UNREADABLE: Final = "Its conditions and actions cannot be read; write them again."


class ExpressionChecks(Controller[str]):
    """Checks Rules one after the other.

    Args:
        cache: what is known of each Rule; what was found is kept in its entries.
        on_checked: called with the uid of a Rule of which something else is known now.
        make_evaluator: starts the processes when there is something to check.
    """

    def __init__(
        self,
        *,
        cache: RuleCache,
        on_checked: Callable[[str], None],
        make_evaluator: Callable[[], Evaluator] = lambda: Evaluator(log=_log),
    ) -> None:
        super().__init__("rule expressions", queue=PriorityQueue())
        self._cache = cache
        self._on_checked = on_checked
        self._make = make_evaluator
        self._evaluator: Evaluator | None = None
        self._used = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(super().run(), name="rule-expressions")
                group.create_task(self._rest(), name="rule-expressions-rest")
        finally:
            await self._close()

    def see(self, entry: RuleEntry, *, urgent: bool) -> None:
        """Have a Rule checked if it says something else than when it was checked last."""
        rule = entry.rule
        if rule is None or (entry.actions_problem is not None and entry.actions_checked == rule.actions):
            return
        if not rule.acts:
            entry.actions_checked, entry.actions_problem = rule.actions, ""
            return
        self.queue.enqueue(entry.uid, urgent=urgent)

    async def reconcile(self, key: str, *, urgent: bool) -> float | None:
        """Check one Rule."""
        entry = self._cache.rules.get(key)
        if entry is None or (rule := entry.rule) is None:
            return None
        about = _about(rule.actions)
        problem = _UNREADABLE if about is None else await self._problem(about, rule.namespace)
        if entry.rule is not None:
            changed = entry.actions_problem != problem
            entry.actions_checked, entry.actions_problem = rule.actions, problem
            if changed:
                self._on_checked(key)
            if entry.rule.actions != rule.actions:
                self.queue.enqueue(key, urgent=urgent)
        return None

    async def on_error(self, key: str, error: Exception) -> None:
        """One Rule that cannot be checked must not stop the others."""
        metrics.ERRORS.inc()
        self.queue.failed(key, urgent=False)
        _log.error("rule_expressions_not_checked", rule_uid=key, exc_info=error)

    async def _problem(self, about: dict[str, Any], namespace: str) -> str:
        self._used.set()
        if self._evaluator is None:
            self._evaluator = self._make()
        try:
            async with asyncio.timeout(_LIMIT):
                return sentence(await check_in(self._evaluator, about, namespace=namespace))
        except TimeoutError:
            return f"Its expressions take longer than {_LIMIT:.0f} s to compile; write fewer or shorter ones."

    async def _rest(self) -> None:
        """End the processes when nothing was checked for a while: they take more memory than the rest of the operator."""
        while True:
            await self._used.wait()
            self._used.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE):
                    await self._used.wait()
                    continue
            if not self.queue.outstanding:
                await self._close()

    async def _close(self) -> None:
        evaluator, self._evaluator = self._evaluator, None
        if evaluator is not None:
            await evaluator.close()


def sentence(problems: list[Problem]) -> str:
    """What is wrong, for a condition; empty if nothing is."""
    if not problems:
        return ""
    shown = [str(problem) for problem in problems[:_SHOWN]]
    more = len(problems) - _SHOWN
    return "; ".join([*shown, f"and {more} more"] if more > 0 else shown)


def _about(raw: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        return None
    actions = found.get("actions") or []
    if not isinstance(actions, list) or not all(isinstance(action, dict) for action in actions):
        return None
    return dict(found)
