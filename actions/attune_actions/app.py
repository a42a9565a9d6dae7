"""Puts the runner together and runs it: dependencies, order of start, and the end."""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import nats.errors
import structlog

from attune_actions.api import Api
from attune_actions.book import RuleBook
from attune_actions.carrying import Attempt, Carrier, in_time
from attune_actions.catching_up import CatchingUp
from attune_actions.events import Events
from attune_actions.in_order import InOrder
from attune_actions.journal import Journal
from attune_actions.kinds.emit import Emit
from attune_actions.kinds.http import Http
from attune_actions.kinds.local_jobs import LocalJobs
from attune_actions.kinds.nats import Nats
from attune_actions.kinds.objects import Objects
from attune_actions.limits import Circuits, Slots
from attune_actions.metrics import Metrics
from attune_actions.probes import Probes
from attune_actions.secrets import Accounts
from attune_actions.settings import Settings
from attune_actions.spans import AttemptSpans
from attune_actions.streams import ensure_streams
from attune_actions.turn_store import TurnStore
from attune_actions.waiting import Waiting
from attune_actions.work import Handler, Workers, WorkLostError
from attune_contract.actions import (
    ALL_QUEUED_RUNS,
    EVENTS_CONSUMER,
    QUEUE_CONSUMER,
    RUN_QUEUE_STREAM,
    ActionKind,
)
from attune_contract.subjects import ALL_EVENTS, EVENTS_STREAM
from attune_kit.addresses import AddressRules
from attune_kit.backoff import Backoff
from attune_kit.cel.evaluator import Evaluator
from attune_kit.kubernetes.access import Access, AccessError, find_access
from attune_kit.nats.connection import NatsEndpoint
from attune_kit.nats.connector import NatsConnector
from attune_kit.outage import Outage
from attune_kit.supervisor import Supervisor
from attune_kit.tracing import OFF, Tracer

_log = structlog.stdlib.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.2, maximum=5.0)
#: Messages of the queue and of events that all replicas together may hold, those that wait for their time included.
_EVENTS_PENDING: Final = 20_000
_QUEUE_PENDING: Final = 200_000
_STOP: Final = 10.0


class Runner:
    """The runner in one event loop. :meth:`run` returns after :meth:`stop`, and raises if a part of it died.

    Args:
        settings: its settings.
        tracer: makes spans.
    """

    def __init__(self, settings: Settings, *, tracer: Tracer = OFF) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self.metrics = metrics = Metrics()
        self._connector = NatsConnector(
            NatsEndpoint(
                url=settings.nats_url,
                name="attune-actions",
                creds_file=settings.nats_creds_file,
                ca_file=settings.nats_ca_file,
            ),
            on_state=lambda connected: metrics.connected.set(connected),
        )
        self._evaluator = Evaluator(log=_log)
        self._journal = Journal(self._connector)
        self._book = RuleBook(self._connector)
        self._accounts = Accounts(self._access(), impersonal=settings.local)
        self._addresses = AddressRules(
            denied=(*settings.denied_networks, *_api_server(os.environ)), allowed=settings.allowed_networks
        )
        self._circuits = Circuits()
        self._http = Http(
            addresses=self._addresses, secrets=self._accounts, evaluator=self._evaluator, circuits=self._circuits
        )
        self._nats = Nats(addresses=self._addresses, secrets=self._accounts)
        self._objects = Objects(accounts=self._accounts, evaluator=self._evaluator)
        self._local_jobs = LocalJobs(settings.local_jobs)
        self._emit = Emit(url=settings.emit_url, url_file=settings.emit_url_file, token_file=settings.emit_token_file)
        self._api = Api(url=settings.api_url, token_file=settings.api_token_file, ca_file=settings.api_ca_file)
        self._closing: list[Callable[[], Awaitable[None]]] = [
            self._http.close,
            self._nats.close,
            self._local_jobs.close,
            self._emit.close,
            self._api.close,
            self._accounts.close,
            self._evaluator.close,
        ]
        self._slots = Slots(total=settings.at_once, per_rule=settings.per_rule)
        self._carrier = Carrier(
            journal=self._journal,
            kinds=self._kinds(),
            slots=self._slots,
            metrics=metrics,
            spans=AttemptSpans(tracer) if tracer.enabled else None,
        )
        self._events = Events(
            book=self._book,
            carrier=self._carrier,
            evaluator=self._evaluator,
            metrics=metrics,
            whole=self._api.whole,
            ring=self._ring,
            over=self._api.run_is_over,
            tracer=tracer,
        )
        self._in_order = InOrder(
            store=TurnStore(connector=self._connector, journal=self._journal, api=self._api),
            book=self._book,
            begin=self._events.begin,
            is_done=self._carrier.is_done,
            over=self._api.run_is_over,
        )
        self._catching_up = CatchingUp(
            connector=self._connector,
            api=self._api,
            handle=self._events.catch_up,
            metrics=metrics,
            instance=f"{os.environ.get('HOSTNAME') or socket.gethostname()}-{os.getpid()}",
        )
        self._waiting = Waiting(book=self._book, carrier=self._carrier, events=self._events, in_order=self._in_order)
        self._workers = {
            "events": self._workers_of(
                EVENTS_STREAM, EVENTS_CONSUMER, ALL_EVENTS, self._events.handle, most_pending=_EVENTS_PENDING
            ),
            "queue": self._workers_of(
                RUN_QUEUE_STREAM, QUEUE_CONSUMER, ALL_QUEUED_RUNS, self._waiting.handle, most_pending=_QUEUE_PENDING
            ),
        }
        self._slots.on_waiting = self._workers["events"].look
        self._dead: str | None = None
        self._probes = Probes(
            host=settings.host,
            port=settings.port,
            live={"tasks": lambda: self._dead},
            ready={
                "nats": lambda: self._connector.problem,
                "journal": lambda: self._journal.problem,
                "rules": lambda: None if self._book.read.is_set() else "the Rules' actions were not read yet",
                **{name: self._taking(name) for name in self._workers},
            },
            registry=metrics.registry,
            refresh=self._refresh,
        )

    async def _ring(self, namespace: str, rule_uid: str, *, sequence: int | None, seq: int) -> None:
        await self._in_order.ring(namespace, rule_uid, sequence=sequence, seq=seq)

    def _access(self) -> Access | None:
        if self._settings.kubernetes == "off":
            return None
        try:
            return find_access(os.environ)
        except AccessError as error:
            _log.warning("no_kubernetes", why=str(error), then="only actions that need none are carried out")
            return None

    def _kinds(self) -> dict[ActionKind, Attempt]:
        return {
            ActionKind.EMIT: in_time(self._emit),
            ActionKind.HTTP: self._http,
            ActionKind.JOB: in_time(self._local_jobs if self._settings.local else self._objects),
            ActionKind.NATS: in_time(self._nats),
            ActionKind.OBJECT: in_time(self._objects),
            ActionKind.RULE: in_time(self._objects),
        }

    def _workers_of(self, stream: str, consumer: str, subject: str, handler: Handler, *, most_pending: int) -> Workers:
        return Workers(
            connector=self._connector,
            stream=stream,
            consumer=consumer,
            subject=subject,
            handler=handler,
            at_once=self._settings.at_once,
            most_pending=most_pending,
            # Events that wait for a slot of their rule are not in the way of other rules'.
            idle=(lambda: self._slots.waiting) if stream == EVENTS_STREAM else lambda: 0,
        )

    def _taking(self, name: str) -> Callable[[], str | None]:
        return lambda: None if self._workers[name].taking else f"no work is taken from {name}"

    def _refresh(self) -> None:
        self.metrics.under_way.set(self._carrier.under_way)
        self.metrics.rules.set(len(self._book))
        self.metrics.open_circuits.set(self._circuits.open)
        for name, workers in self._workers.items():
            self.metrics.in_hand.labels(name).set(workers.in_hand)

    def stop(self) -> None:
        """Shut down."""
        self._stopping.set()

    def stop_on_signals(self) -> None:
        """Shut down on SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        _log.info("signal_received", signal=number.name)
        self.stop()

    async def run(self) -> None:
        """Work until :meth:`stop`.

        Raises:
            TaskDiedError: a part ended by itself. The process should end, to be restarted.
            OSError: the port of the probes is taken.
        """
        supervisor = Supervisor(on_died=self._died)
        try:
            await self._probes.start()
            supervisor.start("nats", self._connector.run())
            supervisor.start("rules", self._book.run())
            if self._api.configured:
                supervisor.start("catching up", self._catching_up.run())
            for name, workers in self._workers.items():
                supervisor.start(name, self._keep_working(name, workers))
            stop = asyncio.create_task(self._stopping.wait())
            died = asyncio.create_task(supervisor.failed())
            done, pending = await asyncio.wait({stop, died}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            if died in done:
                raise died.result()
            _log.info("stopping", under_way=self._carrier.under_way)
            await self._finish()
        finally:
            await supervisor.stop_all(within=_STOP)
            for close in self._closing:
                await close()
            await self._probes.stop()
        _log.info("stopped")

    async def _finish(self) -> None:
        """Take nothing more, and end or hand back what is in hand, while there is a connection."""
        grace = self._settings.grace
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace + 3):
                await asyncio.gather(
                    *(workers.stop(grace=grace) for workers in self._workers.values()), self._carrier.stop(grace=grace)
                )
                connection = self._connector.current
                if connection is not None:
                    with contextlib.suppress(nats.errors.Error, OSError):
                        await connection.client.flush()

    def _died(self, name: str) -> None:
        self._dead = f"the task {name} has ended"

    async def _keep_working(self, name: str, workers: Workers) -> None:
        """Take work, on one connection after the other."""
        outage = Outage(log=_log, name=f"work_{name}")
        retries = _RETRY.start()
        await self._book.read.wait()
        while True:
            connection = await self._connector.wait_connected()
            began = asyncio.get_running_loop().time()
            try:
                await ensure_streams(
                    connection.jetstream,
                    replicas=self._settings.nats_replicas,
                    max_bytes=self._settings.streams_max_bytes,
                )
                await workers.run()
                await asyncio.Event().wait()  # stopped; a task that ends by itself counts as dead
            except (WorkLostError, nats.errors.Error, OSError, TimeoutError) as error:
                outage.failed(type(error).__name__, str(error) or type(error).__name__)
                if asyncio.get_running_loop().time() - began > _RETRY.maximum:
                    retries.reset()
            await asyncio.sleep(retries.next_delay())


def _api_server(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The address of the API server's Service, as a pod knows it."""
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        return ()
