"""All that surrounds the sensor during one check: NATS, API, files, environment; and the means to look at it."""

import asyncio
import itertools
import json
import os
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attune_conformance.api import ScriptedApi, StoredEvent
from attune_conformance.errors import CheckFailedError
from attune_conformance.nats_server import TrustingNatsServer
from attune_conformance.process import SensorProcess
from attune_conformance.profile import Profile
from attune_conformance.rules import RuleWriter
from attune_contract import claims, environment, subjects
from attune_contract.messages import Ack, AckState, RuleState
from attune_local.ports import free_port

_LOOK: Final = 0.02
_DAY: Final = timedelta(days=1)


class Testbed:
    """What a check is given.

    Attributes:
        profile: the sensor under examination.
        api: the API.
        nats: the NATS server.
        rules: writes rules, reads acks.
        sensor: the process; more can be started by :meth:`launch`.
    """

    def __init__(self, *, profile: Profile, folder: Path) -> None:
        self.profile = profile
        self.folder = folder
        self.api = ScriptedApi(trigger_types=(profile.trigger_type,))
        self._sensor_uid = str(uuid.uuid4())
        self.nats = TrustingNatsServer(folder / "nats", sensor_uid=self._sensor_uid)
        folder.mkdir(parents=True)
        operator, observer = folder / "operator.creds", folder / "observer.creds"
        operator.write_text(self.nats.operator_creds())
        observer.write_text(self.nats.observer_creds())
        self.rules = RuleWriter(
            url=self.nats.url,
            creds=operator,
            observer_creds=observer,
            rules_api=subjects.RULES_API,
            sensor=profile.sensor,
        )
        self.sensor: SensorProcess
        self._processes: list[SensorProcess] = []
        # Of this testbed alone: where several share what is outside (a broker), the rules of one are not another's.
        self._rules_prefix = f"rule-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._generations = itertools.count(1)
        self._signing_key = Ed25519PrivateKey.generate()
        self._secrets: set[str] = set()
        self._known: dict[str, RuleState] = {}
        self._ports: dict[tuple[int, str], int] = {}
        self.token = ""
        self.creds = ""

    # -- setting up ----------------------------------------------------------------------------------------------------

    async def prepare(self, *, nats: bool = True) -> None:
        """Bring up what the sensor needs."""
        await self.api.start()
        await self.renew()
        self._note_rules()
        if nats:
            await self.start_nats()

    async def start_nats(self) -> None:
        """Start NATS with empty streams."""
        await asyncio.to_thread(self.nats.start)
        await self.rules.connect()
        await self.rules.make_streams()

    async def close(self) -> None:
        """End everything that was started."""
        for process in self._processes:
            await process.kill()
        await self.rules.close()
        await asyncio.to_thread(self.nats.kill)
        await self.api.stop()

    async def renew(self, *, lifetime: timedelta = _DAY, keep_old: bool = True) -> None:
        """Put new credentials where the sensor reads them, in one step, as kubelet does with a Secret volume.

        Args:
            lifetime: of both.
            keep_old: whether the API goes on accepting the tokens before.
        """
        now = datetime.now(UTC)
        token = claims.SensorClaims(
            issuer=claims.DEFAULT_ISSUER,
            subject=str(uuid.uuid4()),
            sensor=self.profile.sensor,
            trigger_types=(self.profile.trigger_type,),
            issued_at=now,
            expires_at=now + lifetime,
            token_id=str(uuid.uuid4()),
        )
        self.token = jwt.encode(token.to_payload(), self._signing_key, algorithm=claims.ALGORITHM, headers={"kid": "1"})
        # A NATS user's expiry is whole seconds.
        self.creds = self.nats.sensor_creds(self.profile.sensor, lifetime=lifetime)
        self._secrets |= {self.token, self.creds.splitlines()[-2]}
        self._write_credentials()
        self.api.valid_tokens = {self.token} | (self.api.valid_tokens if keep_old else set())

    @property
    def _credentials(self) -> Path:
        return self.folder / "credentials"

    def _write_credentials(self) -> None:
        generation = f"..{next(self._generations)}"
        folder = self._credentials / generation
        folder.mkdir(parents=True)
        files = {environment.TOKEN_KEY: self.token, environment.NATS_CREDS_KEY: self.creds}
        for name, text in files.items():
            (folder / name).write_text(text)
            if not (self._credentials / name).is_symlink():
                (self._credentials / name).symlink_to(f"..data/{name}")
        temporary = self._credentials / "..data_tmp"
        temporary.symlink_to(generation)
        temporary.replace(self._credentials / "..data")

    def _environment(self, instance: int) -> dict[str, str]:
        ref = self.profile.sensor
        place = self.folder / f"instance-{instance}"
        (place / "spool").mkdir(parents=True, exist_ok=True)
        config = place / environment.CONFIG_KEY
        config.write_text(json.dumps(dict(self.profile.config)))
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        listening = {
            f"{environment.PORT_PREFIX}{name.upper().replace('-', '_')}": str(self._port(instance, name))
            for name in self.profile.ports
        }
        return {
            **inherited,
            **self.profile.environment,
            **listening,
            environment.LISTEN_HOST: "127.0.0.1",
            environment.SENSOR_REF: str(ref),
            environment.SENSOR_INSTANCE: f"instance-{instance}",
            environment.TRIGGER_TYPES: self.profile.trigger_type,
            environment.API_URL: self.api.url,
            environment.API_TOKEN_FILE: str(self._credentials / environment.TOKEN_KEY),
            environment.NATS_URL: self.nats.url,
            environment.NATS_CREDS_FILE: str(self._credentials / environment.NATS_CREDS_KEY),
            environment.NATS_INBOX_PREFIX: ref.inbox_prefix,
            environment.NATS_API_PREFIX: subjects.SENSOR_API,
            environment.RULES_SUBJECT: subjects.rules_filter(ref),
            environment.RULES_CONSUMERS: ",".join(subjects.consumer_names(self._sensor_uid)),
            environment.ACKS_SUBJECT: subjects.acks_prefix(ref),
            environment.CONFIG_FILE: str(config),
            environment.SPOOL_DIR: str(place / "spool"),
            environment.LOG_LEVEL: "INFO",
            environment.METRICS_HOST: "127.0.0.1",
            environment.METRICS_PORT: str(self._port(instance)),
            environment.GRACE_SECONDS: f"{self.profile.grace:g}",
        }

    def _port(self, instance: int, name: str = "metrics") -> int:
        """The port of this name, the same one after a restart."""
        if (instance, name) not in self._ports:
            self._ports[instance, name] = free_port()
        return self._ports[instance, name]

    async def start(self) -> None:
        """Start the sensor, or start it again with what it left on its disk."""
        self.sensor = await self.launch()

    async def launch(self, *, instance: int = 1) -> SensorProcess:
        """Start an instance of the sensor, with a disk of its own."""
        variables = self._environment(instance)
        process = SensorProcess(
            command=self.profile.command, environment=variables, log=self.folder / f"sensor-{instance}.log"
        )
        await process.start()
        self._processes.append(process)
        if self.profile.stimulus:
            helper = SensorProcess(
                command=self.profile.stimulus,
                environment={**variables, "ATTUNE_CONFORMANCE_RULES_FILE": str(self._rules_file)},
                log=self.folder / f"stimulus-{instance}.log",
            )
            await helper.start()
            self._processes.append(helper)
        return process

    # -- rules ---------------------------------------------------------------------------------------------------------

    @property
    def _rules_file(self) -> Path:
        return self.folder / "rules.json"

    def _note_rules(self) -> None:
        """Tell the stimulus which rules there are."""
        rules = [
            {"uid": rule.uid, "name": rule.name, "enabled": rule.enabled, "parameters": rule.parameters}
            for rule in self._known.values()
        ]
        temporary = self._rules_file.with_suffix(".new")
        temporary.write_text(json.dumps(rules))
        temporary.replace(self._rules_file)

    def new_rule(self, **changes: Any) -> RuleState:
        """A rule that was not there before; it is not published by this."""
        name = f"{self._rules_prefix}-{next(self._numbers)}"
        fields: dict[str, Any] = {
            "uid": str(uuid.uuid4()),
            "namespace": "conformance",
            "name": name,
            "generation": 1,
            "enabled": True,
            "trigger_type": self.profile.trigger_type,
            "parameters": self.profile.parameters_for(name),
            "created_at": datetime.now(UTC),
        }
        return RuleState(**{**fields, **changes})

    def expect(self, rule: RuleState) -> None:
        """Have the stimulus know of a rule that is published in some other way."""
        self._known[rule.uid] = rule
        self._note_rules()

    async def put(self, rule: RuleState) -> RuleState:
        """Publish a rule."""
        self.expect(rule)
        await self.rules.put(rule)
        return rule

    async def delete(self, rule: RuleState) -> None:
        """Publish a rule's tombstone."""
        self._known.pop(rule.uid, None)
        self._note_rules()
        await self.rules.delete(rule)

    # -- looking -------------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], otherwise: str, *, within: float | None = None) -> None:
        """Wait until ``condition`` holds.

        Raises:
            CheckFailedError: it did not come to hold, with the sentence ``otherwise``; or the sensor ended.
        """
        limit = self.profile.patience if within is None else within
        deadline = time.monotonic() + limit
        while not condition():
            if (status := self.sensor.ended) is not None:
                raise CheckFailedError(
                    f"The sensor ended with status {status}. Its last words: {self.sensor.last_per_subject_stream()}"
                )
            if time.monotonic() >= deadline:
                raise CheckFailedError(f"{otherwise} (waited {limit:g} s)")
            await asyncio.sleep(_LOOK)

    async def tries_nats(self) -> None:
        """Wait until the sensor tries to connect to NATS, which is away: its connection is closed at once.

        Raises:
            CheckFailedError: it does not try, or ends.
        """
        tried = asyncio.Event()

        def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tried.set()
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", self.nats.port)
        try:
            what = "The sensor did not try to connect to NATS"
            await self.until(tried.is_set, what, within=self.profile.recovery)
        finally:
            server.close()
            await server.wait_closed()

    async def passes(self, seconds: float) -> None:
        """Let a length of time pass that itself is what the check is about; the sensor must live through it."""
        end = time.monotonic() + seconds
        await self.until(lambda: time.monotonic() >= end, "", within=seconds + 60)

    async def all_delivered(self, *, of: str) -> None:
        """Wait until every event that arrived until now is stored, whatever was answered first."""
        arrived = set(self.api.arrivals)
        await self.until(
            lambda: arrived <= {event.report.id for event in self.api.stored},
            f"Events that arrived {of} were not sent again, and so were lost",
            within=self.profile.recovery,
        )

    async def fires(self, rule: RuleState, *, more: int = 1, within: float | None = None, when: str = "") -> None:
        """Wait until so many further events of the rule are stored."""
        wanted = len(self.api.of(rule.uid)) + more
        await self.until(
            lambda: len(self.api.of(rule.uid)) >= wanted,
            f"The rule did not fire{f' {when}' if when else ''}: no event of it was stored",
            within=within,
        )

    async def silent(self, rule: RuleState, *, because: str) -> None:
        """Make sure that a rule no longer fires: nothing of it arrives for a while that occurred after this call began.

        The while ends with events of another rule, so that a sensor that is slow to deliver is not taken for a silent one.

        Raises:
            CheckFailedError: it does.
        """
        since = datetime.now(UTC)
        silence = timedelta(seconds=self.profile.silence)

        def late() -> list[StoredEvent]:
            return [event for event in self.api.of(rule.uid) if event.report.occurred_at > since]

        await self.until(lambda: bool(late()) or datetime.now(UTC) - since > silence, "", within=_DAY.total_seconds())
        if not late():
            other = await self.put(self.new_rule())
            await self.runs(other, when="beside one that must not")
            await self.fires(other, more=2, when="beside one that must not")
        if found := late():
            raise CheckFailedError(
                f"The rule fired (occurred at {found[0].report.occurred_at.isoformat()}) although {because}."
            )

    async def acked(self, rule: RuleState, *states: AckState, within: float | None = None) -> Ack:
        """Wait until this generation of the rule was acked with one of these states.

        Raises:
            CheckFailedError: it was not.
        """
        limit = self.profile.patience if within is None else within
        deadline = time.monotonic() + limit
        seen: Ack | None = None
        while True:
            seen = await self.rules.ack(rule.uid)
            if seen is not None and seen.generation == rule.generation and seen.state in states:
                return seen
            if (status := self.sensor.ended) is not None:
                raise CheckFailedError(
                    f"The sensor ended with status {status}. Its last words: {self.sensor.last_per_subject_stream()}"
                )
            if time.monotonic() >= deadline:
                wanted = " or ".join(states)
                found = "none" if seen is None else f"{seen.state} of generation {seen.generation}"
                raise CheckFailedError(
                    f"The rule's generation {rule.generation} was not acked as {wanted}; the last ack was {found} "
                    f"(waited {limit:g} s)"
                )
            await asyncio.sleep(_LOOK * 5)

    async def runs(self, rule: RuleState, *, within: float | None = None, when: str = "") -> None:
        """Wait until the rule is acked Active and fires."""
        await self.acked(rule, AckState.ACTIVE, within=within)
        await self.fires(rule, within=within, when=when)

    async def get(self, path: str, *, instance: int = 1) -> tuple[int, str]:
        """Ask the sensor's own HTTP server; status 0 when there is no answer."""
        url = f"http://127.0.0.1:{self._port(instance)}{path}"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session,
                session.get(url) as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def answers(self, path: str, status: int, *, why: str, within: float | None = None) -> str:
        """Wait until the sensor's own HTTP server answers with this status; returns the body.

        Raises:
            CheckFailedError: it does not; ``why`` says what is expected of it.
        """
        limit = self.profile.patience if within is None else within
        deadline = time.monotonic() + limit
        while True:
            found, body = await self.get(path)
            if found == status:
                return body
            if (ended := self.sensor.ended) is not None:
                raise CheckFailedError(
                    f"The sensor ended with status {ended}. Its last words: {self.sensor.last_per_subject_stream()}"
                )
            if time.monotonic() >= deadline:
                seen = f"status {found}" if found else "no answer"
                raise CheckFailedError(f"{path} gave {seen} instead of {status}: {why} (waited {limit:g} s)")
            await asyncio.sleep(_LOOK * 5)

    def leaked_secrets(self) -> list[str]:
        """Logs in which a secret stands."""
        found = []
        for process in self._processes:
            text = process.log.read_text(encoding="utf-8", errors="replace") if process.log.exists() else ""
            if any(secret in text for secret in self._secrets):
                found.append(process.log.name)
        return found


@asynccontextmanager
async def prepared_testbed(profile: Profile, folder: Path, *, nats: bool = True) -> AsyncIterator[Testbed]:
    """A testbed that is removed afterwards, whatever happened on it."""
    made = Testbed(profile=profile, folder=folder)
    try:
        await made.prepare(nats=nats)
        yield made
    finally:
        await made.close()
