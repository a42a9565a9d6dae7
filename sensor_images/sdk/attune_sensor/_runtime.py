"""Assembles the parts of a sensor and runs them until it is stopped."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from attune_kit.logs import configure_logs, given_style, style_named
from attune_kit.nats.connection import NatsEndpoint
from attune_kit.nats.connector import NatsConnector
from attune_kit.supervisor import Supervisor, TaskDiedError, end
from attune_kit.tracing import OFF, Tracer, open_tracer
from attune_sensor._acks import AckPublisher
from attune_sensor._api_client import EventsApi
from attune_sensor._context import SensorContext
from attune_sensor._credentials import TokenFile
from attune_sensor._delivery import Poster
from attune_sensor._emitter import Emitter
from attune_sensor._errors import CredentialsError, SensorError, SettingsError
from attune_sensor._health import ApiProbe, HealthReporter
from attune_sensor._http_server import HealthServer
from attune_sensor._last_events import LastEvents
from attune_sensor._metrics import Metrics
from attune_sensor._outcomes import Outcomes
from attune_sensor._rule_reader import RuleReader
from attune_sensor._rule_supervisor import RuleSupervisor
from attune_sensor._rule_table import RuleChange, RuleTable
from attune_sensor._rules import RuleHandler
from attune_sensor._settings import SensorSettings, WhenFull
from attune_sensor._source_events import SourceEvents
from attune_sensor._spans import in_span
from attune_sensor._spool import Spool

#: Seconds between pings of the NATS connection; one whose other end has vanished is given up after three.
_PING_INTERVAL: Final = 10.0
#: How long (seconds) a start may take before it counts as a problem that the rules were not read.
_START: Final = 20.0
#: Seconds that the last spans have to be exported when the sensor ends: what is left of the grace that pods get.
_LAST_SPANS: Final = 3.0


class SensorRuntime:
    """One sensor.

    Args:
        settings: what it was given.
        handler: makes what runs the rules.
        api: what posts events; the real API unless given.
        now: Unix time in seconds.
        tracer: makes spans.
    """

    def __init__(
        self,
        *,
        settings: SensorSettings,
        handler: Callable[[SensorContext], RuleHandler],
        api: Poster | None = None,
        now: Callable[[], float] = time.time,
        tracer: Tracer = OFF,
    ) -> None:
        self._tracer = tracer
        self.settings = settings
        self.metrics = Metrics()
        self._now = now
        self._log = structlog.get_logger("attune_sensor").bind(sensor=str(settings.sensor), instance=settings.instance)
        self._token = TokenFile(settings.token_file)
        self._api = EventsApi(
            url=settings.api_url,
            token=self._token,
            user_agent=f"attune-sensor/{settings.sensor}",
            metrics=self.metrics,
            ca_file=settings.ca_file,
        )
        spool = (
            Spool(directory=settings.spool_dir, max_bytes=settings.spool_max_bytes)
            if settings.spool_dir is not None
            else None
        )
        self.outcomes = Outcomes(clock=time.monotonic, now=lambda: datetime.fromtimestamp(now(), UTC))
        self.emitter = Emitter(
            outcomes=self.outcomes,
            api=api or self._api,
            spool=spool,
            metrics=self.metrics,
            log=self._log,
            when_full=settings.when_full,
            log_each=settings.log_level == "DEBUG",
            spans=partial(in_span, tracer, sensor=str(settings.sensor)) if tracer.enabled else None,
        )
        self.context = SensorContext(
            settings=settings,
            config=_read_config(settings),
            log=self._log,
            metrics=self.metrics,
            emitter=self.emitter,
            last_events=LastEvents(api=self._api, log=self._log),
            source_events=SourceEvents(self._api),
            outcomes=self.outcomes,
            tracer=tracer,
        )
        self.rules = RuleTable()
        self._connector = NatsConnector(
            NatsEndpoint(
                url=settings.nats_url,
                name=f"sensor {settings.sensor} {settings.instance}",
                creds_file=settings.nats_creds_file,
                ca_file=settings.ca_file,
                system_ca=True,
                inbox_prefix=settings.nats_inbox_prefix,
                ping_interval=_PING_INTERVAL,
            ),
            on_state=self.metrics.nats_connected.set,
            log=self._log,
        )
        self.acks = AckPublisher(
            connector=self._connector,
            prefix=settings.acks_subject,
            instance=settings.instance,
            metrics=self.metrics,
            log=self._log,
        )
        self.supervisor = RuleSupervisor(
            handler=handler(self.context),
            outcomes=self.outcomes,
            acks=self.acks,
            trigger_types=settings.trigger_types,
            metrics=self.metrics,
            log=self._log,
        )
        self._snapshot = asyncio.Event()
        self.context.attach(self.supervisor, rules_read=self._snapshot.is_set)
        self._reader = RuleReader(
            connector=self._connector,
            filter_subject=settings.rules_subject,
            api_prefix=settings.nats_api_prefix,
            consumer_names=settings.rules_consumers,
            table=self.rules,
            on_changes=self._rules_changed,
            on_snapshot=self._snapshot_taken,
            metrics=self.metrics,
            log=self._log,
            resync_seconds=settings.resync_seconds,
        )
        self._health = HealthReporter(
            connector=self._connector,
            acks_prefix=settings.acks_subject,
            instance=settings.instance,
            rules=lambda: len(self.rules),
            problems=self._problems,
            versions=lambda: self.context.versions,
            every=settings.health_seconds,
        )
        self._probe = (
            ApiProbe(check=self._api.check, emitter=self.emitter, after=2 * settings.health_seconds)
            if api is None
            else None
        )
        self._began = time.monotonic()
        self._idle_logged = False
        self._stop = asyncio.Event()
        self.server = HealthServer(
            host=settings.metrics_host,
            port=settings.metrics_port,
            live=self.context.live_checks,
            ready={"token": self._token_problem, "rules": self._rules_problem, "stopping": self._stopping},
            # A sensor that cannot reach the API or NATS continues with what it knows: it stays ready, and shows a note.
            notes={
                "api": lambda: self.emitter.problem,
                "nats": lambda: self._connector.problem,
                "rules": self._idle_note,
            },
            metrics=self.metrics,
            refresh=self._refresh_metrics,
        )

    def stop(self) -> None:
        """Make :meth:`run` stop the rules, deliver waiting events, and return."""
        self._stop.set()

    async def wait_snapshot(self) -> None:
        """Wait until the rule state was read completely for the first time."""
        await self._snapshot.wait()

    async def run(self) -> None:
        """Run until :meth:`stop`.

        Raises:
            Exception: a part failed for good; the process should end and be restarted.
        """
        self._log.info(
            "sensor_starting", **{k: v for k, v in self.settings.masked().items() if k not in ("sensor", "instance")}
        )
        await self.server.start()
        delivery = asyncio.create_task(self.emitter.run(), name="emitter")
        try:
            await self._run_parts(delivery)
        finally:
            # In this order: no new events, then delivery of those there are.
            deadline = time.monotonic() + self.settings.grace_seconds
            try:
                async with asyncio.timeout(self.settings.grace_seconds / 2):
                    await self.supervisor.close()
            except Exception:
                self._log.exception("rules_stop_failed")
            finally:
                left = max(0.1, deadline - time.monotonic())
                lost = await self.emitter.close(run=delivery, grace_seconds=left)
                await self._api.close()
                await asyncio.to_thread(self._tracer.close, within=_LAST_SPANS)
                await self.server.stop()
                self._log.info("sensor_stopped", events_lost=lost)

    async def _run_parts(self, delivery: "asyncio.Task[None]") -> None:
        """Run everything except the delivery of events, which outlives it, until stopped or until a part dies."""
        parts = Supervisor()
        # The connection goes first and so ends last, because the others say goodbye over it.
        parts.start("nats", self._connector.run())
        parts.start("rule reader", self._reader.run())
        parts.start("acks", self.acks.run())
        parts.start("rule supervisor", self.supervisor.run())
        parts.start("watch", self._watch())
        parts.start("health", self._health.run())
        if self._probe is not None:
            parts.start("API probe", self._probe.run())
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        died = asyncio.create_task(parts.failed(), name="died")
        try:
            done, _ = await asyncio.wait({stop, died, delivery}, return_when=asyncio.FIRST_COMPLETED)
            if delivery in done:
                delivery.result()
                raise TaskDiedError("the emitter ended by itself")
            if died in done:
                error = died.result()
                raise error.__cause__ or error
        finally:
            await end(stop, died)
            await parts.stop_all()

    def _snapshot_taken(self) -> None:
        self._snapshot.set()
        self.acks.repeat()
        self._log_idle()

    def _rules_changed(self, changes: list[RuleChange]) -> None:
        self.supervisor.apply(changes)
        self._log_idle()

    def _log_idle(self) -> None:
        """Log once that no rule is left, and once that there are rules again."""
        idle = len(self.rules) == 0
        if not self._snapshot.is_set() or idle == self._idle_logged:
            return
        self._idle_logged = idle
        if idle:
            self._log.info("sensor_serves_no_rule", rules_subject=self.settings.rules_subject)
        else:
            self._log.info("sensor_serves_rules", rules=len(self.rules))

    def _problems(self) -> dict[str, str]:
        """What is wrong now, by name, for the health report."""
        found = {}
        for name, check in self.context.health_checks.items():
            try:
                problem = check()
            except Exception as error:
                problem = f"the check itself fails: {error!r}"
            if problem is not None:
                found[name] = problem
        found |= self.emitter.faults()
        if (problem := self._token_problem()) is not None:
            found["token"] = problem
        if time.monotonic() - self._began > _START and (problem := self._rules_problem()) is not None:
            found["rules"] = problem
        return found

    async def _watch(self) -> None:
        """Log once that the token is missing or expired, and once that it is valid again."""
        logged: str | None = None
        while True:
            problem = self._token_problem()
            if problem != logged:
                if problem is None:
                    self._log.info("token_good_again")
                else:
                    self._log.warning("token_unusable", error=problem)
                logged = problem
            await asyncio.sleep(5)

    def _token_problem(self) -> str | None:
        try:
            token = self._token.read()
        except CredentialsError as error:
            return str(error)
        if token.expires_at is not None and token.expires_at <= self._now():
            return f"the token in {self._token.path} has expired; the operator should have renewed it"
        return None

    def _rules_problem(self) -> str | None:
        if self._snapshot.is_set():
            return None
        return "the rules were not read yet" if self._connector.connected else "not connected to NATS yet"

    def _idle_note(self) -> str | None:
        return "no rule is bound to this sensor" if self._snapshot.is_set() and len(self.rules) == 0 else None

    def _stopping(self) -> str | None:
        return "the sensor is stopping" if self._stop.is_set() else None

    def _refresh_metrics(self) -> None:
        with contextlib.suppress(CredentialsError):
            self.metrics.token_expiry.set(self._token.read().expires_at or 0)


def _read_config(settings: SensorSettings) -> dict[str, Any]:
    path = settings.config_file
    if path is None or not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the sensor's configuration {path}: {error}") from error


def run_sensor(
    handler: Callable[[SensorContext], RuleHandler],
    *,
    when_full: WhenFull = WhenFull.DROP_OLDEST,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """A sensor's ``main``: settings from the environment, logs to standard output, SIGTERM and SIGINT stop it.

    Args:
        handler: makes what runs the rules.
        when_full: what happens to an event for which there is no room, unless ``ATTUNE_SPOOL_FULL`` is set.
        loop_factory: makes the event loop; asyncio's own unless given.

    Returns:
        The exit status: 0 after a regular stop, 1 after a failure, 2 when the environment is not valid.
    """
    configure_logs(level="INFO", style="text" if style_named(given_style()) == "text" else "json")
    log = structlog.get_logger("attune_sensor")
    try:
        settings = SensorSettings.from_environment(os.environ, when_full=when_full)
        configure_logs(level=settings.log_level, style=settings.log_format)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(_run(settings, handler))
    except SettingsError as error:
        log.error("sensor_misconfigured", error=str(error))
        return 2
    except SensorError as error:
        log.error("sensor_failed", error=str(error))
        return 1
    except Exception:
        log.exception("sensor_failed")
        return 1


async def _run(settings: SensorSettings, handler: Callable[[SensorContext], RuleHandler]) -> int:
    tracer = open_tracer(
        settings.sensor.name,
        attributes={"service.namespace": settings.sensor.namespace, "service.instance.id": settings.instance},
    )
    runtime = SensorRuntime(settings=settings, handler=handler, tracer=tracer)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runtime.stop)
    await runtime.run()
    return 0
