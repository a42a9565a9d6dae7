"""What the Rules' actions are, as the operator says it on ``ATTUNE_ACTIONS``: snapshot, then live; and asked for where needed."""

import asyncio
from collections import OrderedDict
from typing import Any, Final

import msgspec
import nats.errors
import structlog

from attune_contract.actions import ACTIONS_STREAM, ALL_ACTIONS, RuleActions, actions_subject, decode_actions
from attune_contract.messages import InvalidMessageError
from attune_kit.actions.plan import Plan
from attune_kit.backoff import Backoff
from attune_kit.nats.connector import NatsConnector
from attune_kit.nats.last_per_subject import LastPerSubjectReader, ReaderLostError, StreamMessage
from attune_kit.outage import Outage

_log = structlog.stdlib.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.2, maximum=5.0)
#: Plans that are kept ready.
_PLANS: Final = 5000
_ASK: Final = 5.0


class UnknownRuleError(Exception):
    """Nothing was said about this Rule yet, so it is not known whether there is something to do."""


class _Glance(msgspec.Struct):
    """As much of a message as says whether there is anything to do."""

    deleted: bool = False
    enabled: bool = True
    actions: list[msgspec.Raw] = []


_GLANCES: Final = msgspec.json.Decoder(_Glance)


class RuleBook:
    """What is known of the Rules.

    Args:
        connector: the connection to NATS.
    """

    def __init__(self, connector: NatsConnector) -> None:
        self._connector = connector
        #: The message of each Rule that has something to do, and None for those that have not.
        self._known: dict[str, bytes | None] = {}
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._outage = Outage(log=_log, name="actions_stream")
        self._seen: set[str] | None = None
        self.read = asyncio.Event()
        """Set once there is a complete snapshot."""

    def __len__(self) -> int:
        """How many Rules are known."""
        return len(self._known)

    @property
    def problem(self) -> str | None:
        """Why what is known may be old; None when it is not."""
        return self._outage.problem

    async def run(self) -> None:
        """Read until cancelled."""
        retries = _RETRY.start()
        while True:
            connection = await self._connector.wait_connected()
            self._seen = set()
            reader = LastPerSubjectReader(
                connection=connection,
                stream=ACTIONS_STREAM,
                subject=ALL_ACTIONS,
                on_message=self._take,
                on_caught_up=self._caught_up,
            )
            try:
                await reader.start()
                await reader.wait_caught_up()
                self._outage.recovered()
                retries.reset()
                await reader.run()
            except (ReaderLostError, nats.errors.Error, OSError, TimeoutError) as error:
                self._outage.failed(type(error).__name__, str(error) or type(error).__name__)
            finally:
                await reader.stop()
            await asyncio.sleep(retries.next_delay())

    def _take(self, message: StreamMessage) -> None:
        uid = message.subject.rpartition(".")[2]
        if self._seen is not None:
            self._seen.add(uid)
        self._note(uid, message.data)

    def _note(self, uid: str, body: bytes) -> None:
        self._plans.pop(uid, None)
        try:
            glance = _GLANCES.decode(body)
        except msgspec.MsgspecError as error:
            _log.error("actions_message_damaged", rule_uid=uid, error=str(error))
            self._known.pop(uid, None)
            return
        self._known[uid] = body if glance.actions and not glance.deleted else None

    def _caught_up(self) -> None:
        """What the snapshot does not have is not known any more: it will be asked for."""
        if self._seen is not None:
            for uid in self._known.keys() - self._seen:
                self._known.pop(uid)
                self._plans.pop(uid, None)
            self._seen = None
        self.read.set()

    async def plan(self, namespace: str, uid: str) -> Plan | None:
        """What the Rule does; None when it does nothing.

        Raises:
            UnknownRuleError: the operator has said nothing about it, or cannot be heard now.
        """
        found = self._plans.get(uid)
        if found is not None:
            return found
        if uid not in self._known:
            await self._ask(namespace, uid)
        body = self._known.get(uid)
        if body is None:
            if uid not in self._known:
                raise UnknownRuleError(uid)
            return None
        try:
            plan = Plan(decode_actions(body))
        except (InvalidMessageError, ValueError, KeyError) as error:
            _log.error("actions_message_damaged", rule_uid=uid, error=str(error))
            raise UnknownRuleError(uid) from error
        self._plans[uid] = plan
        if len(self._plans) > _PLANS:
            self._plans.popitem(last=False)
        return plan

    async def _ask(self, namespace: str, uid: str) -> None:
        connection = self._connector.current
        if connection is None:
            raise UnknownRuleError("there is no connection to NATS")
        subject = f"$JS.API.DIRECT.GET.{ACTIONS_STREAM}.{actions_subject(namespace, uid)}"
        try:
            answer: Any = await connection.client.request(subject, b"", timeout=_ASK)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise UnknownRuleError(str(error) or type(error).__name__) from error
        if (answer.headers or {}).get("Status") is not None:
            raise UnknownRuleError(uid)
        self._note(uid, answer.data)

    def rule(self, uid: str) -> RuleActions | None:
        """The Rule as it is ready in memory, for tests and metrics."""
        plan = self._plans.get(uid)
        return plan.rule if plan is not None else None
