"""The parts of the running program, and how they are started and stopped."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from attune_api.console.cluster import connect
from attune_api.console.state import Console
from attune_api.events.fresh import FreshEvents
from attune_api.events.ingest.payloads import PayloadChecks
from attune_api.events.ingest.quotas import EventQuotas
from attune_api.events.ingest.writer import EventWriter
from attune_api.events.retention.service import Retention
from attune_api.events.stream.feed import Feed
from attune_api.identity.access import Access
from attune_api.identity.cluster import Cluster, cluster_client
from attune_api.identity.keys import SigningKeys, VerificationKeys
from attune_api.identity.revocation import IdentityStates, load_states
from attune_api.identity.tokens import TokenVerifier
from attune_api.metrics import Metrics
from attune_api.rules.cache import RuleCache
from attune_api.rules.check import RuleCheck
from attune_api.rules.observer import StoredEventObserver
from attune_api.runs.feed import RunSource
from attune_api.runs.retention import RunRetention
from attune_api.runs.trials import Trials
from attune_api.settings import Settings
from attune_api.storage.database import Database
from attune_api.storage.leases import Leases
from attune_api.storage.opening import open_database
from attune_api.storage.revision import create_tables, current_revision, migrate_apart, newest_revision
from attune_api.storage.writable import Writable
from attune_api.streams.identities import IdentityReader
from attune_api.streams.lag import measure_for_ever
from attune_api.streams.outbox import NAME as OUTBOX_NAME
from attune_api.streams.outbox import Outbox
from attune_api.streams.rules import RuleReader
from attune_api.streams.runs import RunConsumer
from attune_api.web.bodies import BodyMemory
from attune_kit.nats.connection import NatsEndpoint
from attune_kit.nats.connector import NatsConnector
from attune_kit.supervisor import Supervisor
from attune_kit.tracing import OFF, Tracer, open_tracer

log = structlog.get_logger(__name__)

#: Seconds between looks at how far the outbox is behind.
_LAG_EVERY: Final = 5.0
#: Seconds that the last spans have to be exported when the program ends.
_LAST_SPANS: Final = 3.0


class TablesOutdatedError(RuntimeError):
    """The database is at another revision than this program needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What routes work with; there is one per app, and it reaches them through ``attune_api.dependencies``."""

    settings: Settings
    metrics: Metrics
    database: Database
    writer: EventWriter
    quotas: EventQuotas
    writable: Writable
    feed: Feed
    run_feed: Feed
    trials: Trials
    nats: NatsConnector | None
    bodies: BodyMemory
    keys: VerificationKeys
    signing_keys: SigningKeys | None
    states: IdentityStates
    rules: RuleCache
    rule_check: RuleCheck | None
    payloads: PayloadChecks
    access: Access
    supervisor: Supervisor
    console: Console | None
    tracer: Tracer = OFF


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Services]:
    """Start everything; stop it in the reverse order, with every event that was taken answered first.

    Raises:
        TablesOutdatedError: the tables must be migrated, and the settings say not to.
        MigrationError: they could not be migrated.
        ValueError: settings contradict each other.
        sqlalchemy.exc.SQLAlchemyError, OSError: there is no database.
    """
    metrics = Metrics()
    stored, fresh = asyncio.Event(), FreshEvents()
    async with AsyncExitStack() as stack:
        tracer = open_tracer("attune-api")
        stack.push_async_callback(asyncio.to_thread, tracer.close, within=_LAST_SPANS)
        database = open_database(settings.database_url)
        stack.push_async_callback(database.close)
        await _prepare_tables(database, settings)
        leases = Leases(database, length=settings.lease)
        states = IdentityStates(await database.read(load_states))
        metrics.identities_known.set(len(states))
        payloads = PayloadChecks(states=states, metrics=metrics)
        rules = RuleCache()
        rule_check: RuleCheck | None = None
        keys = VerificationKeys(settings.jwks_file)
        server = settings.kubernetes_server()
        cluster = None
        if server is not None:
            cluster = Cluster(
                client=cluster_client(
                    url=server, token_file=settings.kubernetes_token_file, ca_file=settings.kubernetes_ca_file
                ),
                clock=time.monotonic,
            )
            stack.push_async_callback(cluster.close)
        console: Console | None = None
        if (console_server := settings.console_server()) is not None:
            console = Console(
                connect(
                    url=console_server,
                    ca_file=settings.kubernetes_ca_file,
                    admin_token_file=settings.console_kubernetes_token_file,
                ),
                proxied=settings.console_proxy,
            )
            stack.push_async_callback(console.close)
        trials = Trials()
        stack.push_async_callback(trials.close)
        supervisor = Supervisor()
        stack.push_async_callback(supervisor.stop_all)
        feed = Feed(
            database=database,
            metrics=metrics,
            max_clients=settings.max_stream_clients,
            heartbeat=settings.stream_heartbeat,
        )
        supervisor.start("feed", feed.run())
        run_feed = Feed(
            database=database,
            metrics=metrics,
            max_clients=settings.max_stream_clients,
            heartbeat=settings.stream_heartbeat,
            source=RunSource(),
            readers=metrics.run_stream_readers,
            catch_ups=metrics.run_stream_catch_ups,
        )
        supervisor.start("run feed", run_feed.run())
        writable = Writable(database=database, gauge=metrics.storage_writable)
        await writable.look()  # a restored copy may be read-only; the log says so before the first event comes
        writer = EventWriter(
            database=database,
            metrics=metrics,
            most_waiting=settings.queue_events,
            writable=writable,
            stored=(stored, feed.stored),
            fresh=fresh,
        )
        connector = None
        if settings.nats_url:
            connector = NatsConnector(
                NatsEndpoint(
                    url=settings.nats_url,
                    name="attune-api",
                    creds_file=settings.nats_creds_file,
                    ca_file=settings.nats_ca_file,
                ),
                on_state=metrics.nats_connected.set,
            )
            supervisor.start("nats", connector.run())
            outbox = Outbox(
                database=database,
                leases=leases,
                connector=connector,
                stored=stored,
                fresh=fresh,
                metrics=metrics,
                max_age=settings.events_stream_max_age,
                max_bytes=settings.events_stream_max_bytes,
                replicas=settings.nats_replicas,
            )
            supervisor.start("outbox", outbox.run())
            supervisor.start("lag", measure_for_ever(database, metrics, every=_LAG_EVERY))
            reader = IdentityReader(database=database, connector=connector, states=states, metrics=metrics)
            supervisor.start("identities", reader.run())
            rule_reader = RuleReader(
                connector=connector,
                rules=rules,
                metrics=metrics,
                grace=settings.rules_grace,
                api=settings.nats_rules_api,
            )
            supervisor.start("rules", rule_reader.run())
            runs = RunConsumer(database=database, connector=connector, metrics=metrics, stored=run_feed.stored.set)
            supervisor.start("runs", runs.run())
            if settings.check_rules:
                rule_check = RuleCheck(
                    rules=rules, lookup=rule_reader, observer=StoredEventObserver(database), states=states
                )
        if settings.events_max_age or settings.events_per_rule or settings.quotas.limits_stored_events:
            retention = Retention(
                database=database,
                leases=leases,
                metrics=metrics,
                max_age=timedelta(seconds=settings.events_max_age) if settings.events_max_age else None,
                most_per_rule=settings.events_per_rule or None,
                quotas=settings.quotas,
                outbox=OUTBOX_NAME if settings.nats_url else None,
                interval=settings.retention_interval,
            )
            supervisor.start("retention", retention.run())
        if settings.runs_max_age or settings.runs_per_rule:
            run_retention = RunRetention(
                database=database,
                leases=leases,
                metrics=metrics,
                max_age=timedelta(seconds=settings.runs_max_age) if settings.runs_max_age else None,
                most_per_rule=settings.runs_per_rule or None,
                interval=settings.retention_interval,
            )
            supervisor.start("run retention", run_retention.run())
        supervisor.start("writer", writer.run())
        stack.push_async_callback(writer.close)
        yield Services(
            settings=settings,
            metrics=metrics,
            database=database,
            writer=writer,
            quotas=EventQuotas(settings.quotas, clock=time.monotonic),
            writable=writable,
            feed=feed,
            run_feed=run_feed,
            trials=trials,
            nats=connector,
            bodies=BodyMemory(most=settings.body_memory),
            keys=keys,
            signing_keys=SigningKeys(settings.signing_keys_file) if settings.signing_keys_file else None,
            states=states,
            rules=rules,
            rule_check=rule_check,
            payloads=payloads,
            access=Access(
                verifier=TokenVerifier(keys=keys, issuer=settings.token_issuer, clock=time.time),
                states=states,
                issuer=settings.token_issuer,
                cluster=cluster,
                admin_token_file=settings.admin_token_file,
                metrics=metrics,
            ),
            supervisor=supervisor,
            console=console,
            tracer=tracer,
        )


async def _prepare_tables(database: Database, settings: Settings) -> None:
    current, newest = await current_revision(database), newest_revision()
    if current == newest:
        return
    if not settings.migrates_at_start:
        raise TablesOutdatedError(
            f"the database is at revision {current or 'none'}, and this program needs {newest}; run `attune-api migrate`"
        )
    if current is None and await create_tables(database):
        return
    await migrate_apart(settings.database_url, log_level=settings.log_level, log_format=settings.log_format)
