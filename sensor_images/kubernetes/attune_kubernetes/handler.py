"""Serves rules on Kubernetes objects: one watch per kind, namespace and selector, and one event per matching change."""

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from prometheus_client import Counter, Gauge

from attune_kit.cel.evaluator import Evaluator
from attune_kit.cel.library import EvaluationError
from attune_kit.kubernetes.access import Access, AccessError, find_access
from attune_kubernetes.changes import Change, Verdict, as_requested, event_of, values_of, verdict_of
from attune_kubernetes.client import KubernetesApi, Resource
from attune_kubernetes.parameters import Selection, selection_of
from attune_kubernetes.state import Progress, State
from attune_kubernetes.watch import Key, Subscription, Watch
from attune_sensor import Disposition, EventReport, InvalidRuleError, Rule, SensorContext, SettingsError

#: Minimum interval between saves of the watches' progress (seconds). Events reported again after a restart have the same id.
_SAVE_EVERY: Final = 0.5
#: Seconds. The API server's times are whole seconds, and changes reported together may be stored a moment apart.
_MARGIN: Final = 2
#: How long an answer about the path of a kind is kept (seconds).
_DISCOVERED: Final = 60.0
_PATIENCE: Final = 5.0
_FILTER_LOGGED_EVERY: Final = 60.0


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The Sensor's own configuration (``spec.config``)."""

    other_namespaces: bool = False  #: whether rules may watch namespaces that are not theirs, and kinds that have none
    max_objects: Annotated[int, Meta(ge=1)] = 50_000  #: of one watch


class _Serving:
    """One running rule: what it selects, and its subscriptions to watches."""

    __slots__ = ("catch_up", "filter_logged", "problems", "rule", "selection", "subscriptions")

    def __init__(self, rule: Rule, selection: Selection) -> None:
        self.rule = rule
        self.selection = selection
        self.subscriptions: list[tuple[Watch, Subscription]] = []
        self.problems: dict[Key, str] = {}
        self.catch_up: asyncio.Task[None] | None = None
        self.filter_logged = 0.0


class KubernetesHandler:
    """A :class:`attune_sensor.RuleHandler` for Kubernetes objects.

    Args:
        context: how events are reported.
        api: the API server. By default, the one that the environment names.
        evaluator: evaluates filters and fields.
    """

    def __init__(
        self, context: SensorContext, *, api: KubernetesApi | None = None, evaluator: Evaluator | None = None
    ) -> None:
        try:
            self._config = msgspec.convert(context.config, type=Config)
        except msgspec.ValidationError as error:
            raise SettingsError(f"spec.config of the Sensor cannot be used: {error}") from None
        self._context = context
        self._api = api
        self._evaluator = evaluator or Evaluator(log=context.log)
        self._state = State(context.settings.spool_dir)
        self._saved = self._state.load()
        self._resumed: set[tuple[str, str]] = set()
        self._watches: dict[Key, Watch] = {}
        self._serving: dict[str, _Serving] = {}
        self._resources: dict[tuple[str, str], tuple[float, Resource]] = {}
        self._dirty = asyncio.Event()
        self._saving: asyncio.Task[None] | None = None
        context.add_live_check("watches", self._watch_problem)
        registry = context.metrics.registry
        Gauge("attune_kubernetes_watches", "Watches of the API server", registry=registry).set_function(
            lambda: len(self._watches)
        )
        Gauge("attune_kubernetes_objects", "Objects that are kept in memory", registry=registry).set_function(
            lambda: sum(watch.objects for watch in self._watches.values())
        )
        self._failed_filters = Counter(
            "attune_kubernetes_failed_filters", "Changes of which a filter could not be evaluated", registry=registry
        )

    async def start(self, rule: Rule) -> None:
        """Start the rule's watches. When this returns, either no later change is missed, or the rule is reported as failing.

        Raises:
            InvalidRuleError: its parameters cannot be used.
            KubernetesError: the kind is not served, or the API server does not answer.
        """
        selection = selection_of(rule)
        await self._check(selection)
        resource = await self._discover(selection.api_version, selection.kind)
        self._allowed(rule, selection, resource)
        if self._saving is None:
            self._saving = asyncio.create_task(self._save(), name="save watches")
        serving = _Serving(rule, selection)
        namespaces = selection.namespaces if resource.namespaced else ()
        for namespace in namespaces or ("",):
            key = Key(
                selection.api_version, selection.kind, namespace, selection.label_selector, selection.field_selector
            )
            self._join(serving, key, resource)
        before = self._serving.get(rule.uid)
        self._serving[rule.uid] = serving
        if before is not None:
            await self._leave(before)
        try:
            for _, subscription in serving.subscriptions:
                # A rule that resumes misses nothing, so it need not delay others.
                if subscription.resumed_at is None:
                    await subscription.ready.wait()
        except BaseException:
            # A rule that did not start is never stopped by the caller.
            await self.stop(rule)
            raise
        if any(subscription.uncertain for _, subscription in serving.subscriptions):
            serving.catch_up = asyncio.create_task(self._catch_up(serving), name=f"catch up {rule.ref}")

    async def update(self, old: Rule, new: Rule) -> None:
        """Replace the rule's watches; no change in between is missed.

        Raises:
            InvalidRuleError: the new parameters cannot be used.
            KubernetesError: as :meth:`start`.
        """
        await self.start(new)

    async def stop(self, rule: Rule) -> None:
        """Stop the rule's watches."""
        serving = self._serving.pop(rule.uid, None)
        if serving is not None:
            await self._leave(serving)
            self._dirty.set()

    async def close(self) -> None:
        """End all watches and save their progress."""
        catching_up = [each.catch_up for each in self._serving.values() if each.catch_up is not None]
        tasks = [task for task in (*catching_up, self._saving) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(watch.close(patience=_PATIENCE) for watch in self._watches.values()))
        if self._watches:
            await self._save_now()
        await self._evaluator.close()
        if self._api is not None:
            await self._api.close()

    # -- watches -------------------------------------------------------------------------------------------------------

    async def _discover(self, api_version: str, kind: str) -> Resource:
        if self._api is None:
            self._api = KubernetesApi(_access(), user_agent=f"attune-sensor/{self._context.settings.sensor}")
        found = self._resources.get((api_version, kind))
        if found is not None and time.monotonic() - found[0] < _DISCOVERED:
            return found[1]
        resource = await self._api.discover(api_version, kind)
        self._resources[api_version, kind] = (time.monotonic(), resource)
        return resource

    def _allowed(self, rule: Rule, selection: Selection, resource: Resource) -> None:
        own = rule.state.namespace
        if self._config.other_namespaces or own == self._context.settings.sensor.namespace:
            return
        what = "a rule may watch other namespaces only where otherNamespaces is true in the Sensor's spec.config"
        if not resource.namespaced:
            raise InvalidRuleError(f"parameters.kind {selection.kind} belongs to no namespace; {what}")
        if selection.namespaces != (own,):
            raise InvalidRuleError(f"parameters.namespaces: this rule may watch its own namespace, {own}; {what}")

    def _join(self, serving: _Serving, key: Key, resource: Resource) -> None:
        rule, progress = serving.rule, self._saved.get(key.text)
        watch = self._watches.get(key)
        if watch is None:
            assert self._api is not None  # noqa: S101 - _discover made it
            watch = self._watches[key] = Watch(
                key,
                resource=resource,
                api=self._api,
                log=self._context.log,
                resume_at=None if progress is None else progress.version,
                most_objects=self._config.max_objects,
                on_commit=self._dirty.set,
            )
        subscription = Subscription(
            uid=rule.uid,
            generation=rule.generation,
            since=rule.since_us / 1e6,
            report=lambda change: self._report(serving, change),
            failing=lambda problem: self._failing(serving, key, problem),
        )
        resumed = (key.text, rule.uid)
        if (
            progress is not None
            and progress.rules.get(rule.uid) == rule.generation
            and resumed not in self._resumed  # a rule that is stopped and started again begins now
        ):
            self._resumed.add(resumed)
            subscription.resumed_at, subscription.resumed_time = progress.version, progress.time
        serving.subscriptions.append((watch, subscription))
        watch.join(subscription)

    async def _leave(self, serving: _Serving) -> None:
        if serving.catch_up is not None:
            serving.catch_up.cancel()
            await asyncio.wait({serving.catch_up})
        for watch, subscription in serving.subscriptions:
            watch.leave(subscription)
            if len(watch) == 0 and self._watches.get(watch.key) is watch:
                del self._watches[watch.key]
                await watch.close(patience=0)

    async def _catch_up(self, serving: _Serving) -> None:
        """Report what changed since the rule's last event, for subscriptions that have no saved progress."""
        last = (await self._context.last_events([serving.rule.uid])).get(serving.rule.uid)
        since = serving.rule.since_us / 1e6
        last_reported = since if last is None else max(since, last.occurred_at.timestamp())
        for watch, subscription in serving.subscriptions:
            if subscription.uncertain:
                watch.catch_up(subscription, after=max(since, last_reported - _MARGIN), last_reported=last_reported)

    def _watch_problem(self) -> str | None:
        problems = (watch.problem() for watch in self._watches.values())
        return next((problem for problem in problems if problem is not None), None)

    # -- reports -------------------------------------------------------------------------------------------------------

    async def _check(self, selection: Selection) -> None:
        """Compile the expressions.

        Raises:
            InvalidRuleError: one cannot be used.
        """
        for number, problem in enumerate(await self._evaluator.check(selection.program)):
            if problem is not None:
                raise InvalidRuleError(
                    f"{selection.where(number)} is not a CEL expression that can be used here: {problem}"
                )

    def _report(self, serving: _Serving, change: Change) -> "asyncio.Task[bool] | None":
        change = as_requested(serving.selection, change)
        if change.kind not in serving.selection.changes:
            return None
        judged = self._judge(serving, change, observed_at=datetime.now(UTC))
        return asyncio.create_task(judged, name=f"report {serving.rule.ref}")

    async def _judge(self, serving: _Serving, change: Change, *, observed_at: datetime) -> bool:
        """Report a change that passes the filter. Returns whether the change is dealt with."""
        selection = serving.selection
        verdict = Verdict(wanted=True)
        if selection.program.expressions:
            verdict = verdict_of(selection, change, await self._evaluate(serving, change))
            if verdict.failure is not None:
                self._filter_failed(serving, verdict.failure)
        if not verdict.wanted:
            if verdict.failure is None:
                self._context.left_out(serving.rule, "parameters.filter was not true", what="changes")
            return True
        event = event_of(serving.rule, selection, change, observed_at=observed_at, fields=verdict.fields)
        return await self._send(event)

    async def _evaluate(self, serving: _Serving, change: Change) -> list[Any] | EvaluationError:
        selection = serving.selection
        try:
            return await self._evaluator.evaluate(serving.rule.uid, selection.program, values_of(selection, change))
        except EvaluationError as error:
            return error

    async def _send(self, event: EventReport) -> bool:
        """Report an event. Returns whether it is kept, or refused for good: both need no retry."""
        confirmation = await self._context.emit_confirmed(event)
        return confirmation.kept or confirmation.disposition is Disposition.REFUSED

    def _filter_failed(self, serving: _Serving, failure: str) -> None:
        self._failed_filters.inc()
        now = time.monotonic()
        self._context.refused(serving.rule, f"the filter could not be evaluated: {failure}", what="changes")
        if not serving.filter_logged or now - serving.filter_logged > _FILTER_LOGGED_EVERY:
            serving.filter_logged = now
            self._context.log.warning("filter_failed", rule=serving.rule.ref, error=failure)

    def _failing(self, serving: _Serving, key: Key, problem: str | None) -> None:
        if problem is None:
            serving.problems.pop(key, None)
        else:
            serving.problems[key] = problem
        if serving.problems:
            self._context.failing(serving.rule, next(iter(serving.problems.values())))
        else:
            self._context.recovered(serving.rule)

    # -- progress ------------------------------------------------------------------------------------------------------

    async def _save(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._save_now()
            await asyncio.sleep(_SAVE_EVERY)

    async def _save_now(self) -> None:
        progress = {
            key.text: Progress(version=watch.committed, time=watch.committed_time, rules=watch.caught_up())
            for key, watch in self._watches.items()
            if watch.committed
        }
        # Progress of watches that have not been resumed yet is kept.
        for text, before in self._saved.items():
            now = progress.setdefault(text, before)
            if now.version == before.version:
                now.rules = before.rules | now.rules
        try:
            await asyncio.to_thread(self._state.save, progress)
        except OSError as error:
            self._context.log.warning("watches_not_saved", error=error.strerror or str(error))


def _access() -> Access:
    try:
        return find_access(os.environ)
    except (AccessError, OSError) as error:
        raise SettingsError(
            f"{error} A pod needs a ServiceAccount (spec.serviceAccountName of the Sensor) that may list and watch what its "
            "rules ask for"
        ) from error
