"""Puts the operator together and runs it: dependencies, order of start, and shutdown."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from attune_contract import subjects
from attune_kit.nats.connection import NatsEndpoint
from attune_kit.supervisor import Supervisor, TaskDiedError
from attune_operator.backend import Backend, Connect
from attune_operator.credentials.account_publisher import AccountPublisher
from attune_operator.credentials.certificate_reload import CertificateReload
from attune_operator.credentials.certificate_store import CertificateStore
from attune_operator.credentials.identities import IdentityPublisher
from attune_operator.credentials.issuer import Issuer
from attune_operator.credentials.keys import KeyPolicy
from attune_operator.credentials.keystore import JWKS_CONFIG_MAP, KEYS_SECRET, KeyStore
from attune_operator.credentials.nats_auth import ACTIONS_SECRET, API_SECRET, AUTH_SECRET, CONFIG_SECRET, NatsAuth
from attune_operator.observers import Observers
from attune_operator.resources.kinds import RULE, SENSOR, Kind
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.run_counts import RunCountsReader
from attune_operator.rules.side import RuleSide
from attune_operator.runtime.client import Body, Client, ClusterError, WatchEventType
from attune_operator.runtime.cluster import KubeCluster
from attune_operator.runtime.events import EventRecorder
from attune_operator.runtime.ownership import Ownership
from attune_operator.runtime.probes import Heartbeat, Probes, ProbeServer
from attune_operator.runtime.queue import RETRY
from attune_operator.sensor_environment import SensorEnvironment
from attune_operator.sensors.cache import SensorCache
from attune_operator.sensors.controller import SensorController, sensor_queue
from attune_operator.sensors.reconcile import Reconciler
from attune_operator.settings import Settings

_log = structlog.stdlib.get_logger(__name__)

#: Seconds in which the parts must end.
_STOP_TIMEOUT: Final = 10.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


async def _persist(what: str, step: Callable[[], Awaitable[object]]) -> None:
    """Repeat ``step`` until it succeeds."""
    retries = RETRY.start()
    while True:
        try:
            await step()
            return
        except ClusterError as error:
            delay = retries.next_delay()
            _log.warning("waiting", what=what, error=str(error), retry_in=round(delay, 2))
            await asyncio.sleep(delay)


async def _kubernetes(settings: Settings) -> Backend:
    from attune_operator import kubernetes_backend  # here, because its libraries take a second to load

    return await kubernetes_backend.connect(settings)


async def _admit(client: Client, kind: Kind, show: Callable[[WatchEventType, Body], None], namespace: str) -> None:
    """Show what of this kind is in a namespace that is ours from now on."""
    for body in await client.list_objects(kind, namespace):
        show("ADDED", body)


class Operator:
    """The operator in one event loop. :meth:`run` returns after :meth:`stop`, and raises if a part of it died.

    Args:
        settings: its settings.
        connect: finds the backend.
        rules: times and rates of the Rule side that are not in the settings.
    """

    def __init__(
        self, settings: Settings, *, connect: Connect = _kubernetes, rules: RulesOptions | None = None
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._rules = rules or RulesOptions()
        self._stopping = asyncio.Event()
        self._signals = False
        self._closing: list[Callable[[], None]] = []
        self.probes = Probes(heartbeat=(heartbeat := Heartbeat()))
        self._heartbeat = heartbeat
        self.server = ProbeServer(
            probes=self.probes,
            address=settings.bind_address,
            liveness_port=settings.liveness_port,
            metrics_port=settings.metrics_port,
        )
        self.ready = asyncio.Event()
        """Set when everything was listed once, and is reconciled from then on."""

    def stop(self) -> None:
        """Shut down."""
        self._stopping.set()

    def stop_on_signals(self) -> None:
        """Shut down on SIGTERM and SIGINT."""
        self._signals = True
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)

    def _restore_signals(self) -> None:
        """Install our handlers again: kopf has replaced them, and we end its tasks ourselves."""
        if self._signals:
            self.stop_on_signals()

    def _signalled(self, number: signal.Signals) -> None:
        _log.info("signal_received", signal=number.name)
        self.stop()

    async def run(self) -> None:
        """Work until :meth:`stop`.

        Raises:
            TaskDiedError: a part ended by itself. The process should end, to be restarted.
            ClusterError: no connection to Kubernetes is configured.
        """
        self.probes.wait_for("signing keys")
        self.probes.wait_for("the first complete list")
        backend = await self._connect(self._settings)
        supervisor = Supervisor(on_died=self.probes.died)
        try:
            await self.server.start()
            supervisor.start("heartbeat", self._heartbeat.run())
            work = asyncio.create_task(self._work(backend, supervisor), name="operator")
            stop = asyncio.create_task(self._stopping.wait())
            died = asyncio.create_task(supervisor.failed())
            done, pending = await asyncio.wait({work, stop, died}, return_when=asyncio.FIRST_COMPLETED)
            _log.info("stopping")
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            if work in done:  # first: it ends the supervised tasks, so their end says less
                work.result()
                raise TaskDiedError("the operator's main task ended by itself")
            if died in done:
                raise died.result()
        finally:
            await supervisor.stop_all(within=_STOP_TIMEOUT)
            for close in self._closing:
                close()
            await backend.close()
            await self.server.stop()
            _log.info("stopped")

    async def _work(self, backend: Backend, supervisor: Supervisor) -> None:
        settings, client = self._settings, backend.client
        await _persist("the CustomResourceDefinitions", backend.serves_our_kinds)
        sensors = SensorCache()
        queue = sensor_queue()

        def enqueue_all() -> None:
            queue.enqueue_all(sensors.sensors(), urgent=True)

        keys = KeyStore(
            client,
            namespace=settings.namespace,
            policy=KeyPolicy(period=settings.signing_key_period, lead=settings.signing_key_lead),
            interval=settings.key_check_interval,
            on_change=enqueue_all,
        )
        # Before anything else: the API's pod waits for the ConfigMap, and no token can be issued without a key.
        await _persist("the signing keys", keys.ensure)
        self.probes.completed("signing keys")

        certificate = await self._certificate(client) if settings.tls_secret else None
        if certificate is not None:
            settings = settings.model_copy(update=certificate.files(settings.nats_url))

        recorder = EventRecorder(client, instance=settings.instance)
        ownership = Ownership(
            client, installation=settings.namespace, events=recorder, namespaces=settings.watch_namespaces
        )
        cluster = KubeCluster(
            client,
            recorder=recorder,
            namespaces=settings.watch_namespaces,
            sensor_namespaces=settings.sensor_namespaces,
            ownership=ownership,
        )
        nats_auth = await self._nats_auth(client, enqueue_all) if settings.nats_auth == "managed" else None
        creds_file = settings.nats_creds_file if nats_auth is None else nats_auth.operator_creds_file
        identities = IdentityPublisher(
            endpoint=NatsEndpoint(
                url=settings.nats_url,
                creds_file=creds_file,
                ca_file=settings.nats_ca_file,
                name="attune-operator identities",
            ),
            replicas=settings.nats_replicas,
            namespaces=settings.watch_namespaces,
            revoke=(lambda _uid, _not_before: None) if nats_auth is None else nats_auth.revoke,
        )
        rules = RuleSide(
            cluster=cluster,
            nats_url=settings.nats_url,
            nats_creds_file=creds_file,
            nats_ca_file=settings.nats_ca_file,
            on_summary_changed=queue.enqueue,
            options=replace(
                self._rules,
                sweep_interval=settings.sweep_interval.total_seconds(),
                stream_replicas=settings.nats_replicas,
                trusted_namespaces=settings.trusted_namespaces,
                quotas=settings.quotas,
                sensor_namespaces=frozenset(settings.sensor_namespaces),
                rules_api=subjects.PLAIN_API if nats_auth is None else subjects.RULES_API,
            ),
        )
        run_counts = RunCountsReader(
            url=settings.api_url,
            token_file=settings.api_token_file,
            ca_file=settings.sensor_ca_file,
            namespaces=settings.watch_namespaces,
            on_counts=rules.observe_runs,
            interval=settings.run_counts_interval.total_seconds(),
        )
        environment = SensorEnvironment(settings, on_change=enqueue_all)
        await environment.read()
        controller = SensorController(
            queue=queue,
            cache=sensors,
            cluster=cluster,
            reconciler=Reconciler(
                client,
                cache=sensors,
                issuer=Issuer(
                    issuer=settings.token_issuer,
                    shortest_ttl=settings.token_min_ttl,
                    keys=lambda: keys.keys,
                    nats=nats_auth,
                ),
                events=recorder,
                environment=environment.current,
                identities=identities,
                rules=rules,
                sensor_namespaces=settings.sensor_namespaces,
            ),
            identities=identities,
            sweep_interval=settings.sweep_interval.total_seconds(),
            workers=settings.workers,
            ownership=ownership,
            on_swept=self._swept,
        )
        own = dict.fromkeys((KEYS_SECRET, JWKS_CONFIG_MAP), keys.nudge)
        if nats_auth is not None:
            own |= dict.fromkeys((AUTH_SECRET, CONFIG_SECRET, API_SECRET, ACTIONS_SECRET), nats_auth.nudge)
            supervisor.start("nats auth", nats_auth.run(interval=settings.sweep_interval.total_seconds()))
            system = NatsEndpoint(
                url=settings.nats_url,
                creds_file=nats_auth.system_creds_file,
                ca_file=settings.nats_ca_file,
                name="attune-operator accounts",
            )
            accounts = AccountPublisher(endpoint=system, auth=nats_auth)
            supervisor.start("nats accounts", accounts.run())
            if settings.nats_certificate_file is not None:
                reload = CertificateReload(endpoint=system, certificate_file=settings.nats_certificate_file)
                supervisor.start("nats certificate", reload.run())
        if certificate is not None:
            own |= dict.fromkeys(certificate.secrets, certificate.nudge)
            supervisor.start("certificate", certificate.run(interval=settings.sweep_interval.total_seconds()))
        observers = Observers(
            sensors=controller, rules=rules, ownership=ownership, namespace=settings.namespace, own=own
        )
        ownership.admit = (
            partial(_admit, client, SENSOR, observers.admit_sensor),
            partial(_admit, client, RULE, observers.admit_rule),
        )
        ownership.on_lost = observers.forget_namespace
        watches = backend.watches(observers)
        supervisor.start("events", recorder.run())
        supervisor.start("ownership", ownership.run())
        supervisor.start("keys", keys.run())
        supervisor.start("environment", environment.run())
        supervisor.start("identities", identities.run())
        supervisor.start("rules", rules.run())
        supervisor.start("sensors", controller.run())
        if settings.api_url:
            supervisor.start("run counts", run_counts.run())
        watching = asyncio.create_task(watches.run(on_started=self._restore_signals), name="watches")
        try:
            await asyncio.shield(watching)
            raise TaskDiedError("the watches ended by themselves")
        finally:
            await supervisor.stop_all(within=_STOP_TIMEOUT)
            watches.stop()
            await asyncio.wait({watching})

    async def _certificate(self, client: Client) -> CertificateStore:
        """Write the certificate before anything connects: the pods of NATS and API wait for it."""
        settings = self._settings
        store = CertificateStore(
            client, namespace=settings.namespace, secret=settings.tls_secret, hosts=settings.tls_hosts
        )
        self._closing.append(store.close)
        await _persist("the certificate", store.ensure)
        return store

    async def _nats_auth(self, client: Client, on_change: Callable[[], None]) -> NatsAuth:
        """Write NATS's authorisation before anything connects: the server waits for it."""
        settings = self._settings
        auth = NatsAuth(client, namespace=settings.namespace, routes=settings.nats_routes, on_change=on_change)
        self._closing.append(auth.close)
        await _persist("NATS's authorisation", auth.ensure)
        return auth

    def _swept(self) -> None:
        self.probes.completed("the first complete list")
        self.ready.set()
