"""Sensors that are wrong in one thing each: the timer, with one part of the SDK replaced by what a careless author would write.

``python -m support.wrong_sensors CHECK`` runs the one that the check of that name must fail.
"""

import os
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import msgspec
from aiohttp import web

from attune_contract.messages import AckState, InvalidMessageError, RuleState, decode_rule
from attune_kit.nats.last_per_subject import LastPerSubjectReader
from attune_kit.nats.pull_consumer import StreamUnavailableError
from attune_kit.outage import Outage
from attune_kit.watched_file import WatchedFile
from attune_sensor import _api_client, _rule_reader, _rule_table, _runtime
from attune_sensor._acks import AckPublisher
from attune_sensor._api_client import Accepted, EventResult, EventsApi, Outcome, RequestRefused, Unavailable
from attune_sensor._http_server import HealthServer
from attune_sensor._outcomes import Outcomes
from attune_sensor._rule_reader import RuleReader
from attune_sensor._rule_table import RuleTable
from attune_sensor._rules import Rule
from attune_timer.handler import TimerHandler
from attune_timer.missed import MissedPolicy

WRONGS: Final[dict[str, Callable[[], None]]] = {}


def wrong(*checks: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register what makes the timer fail these checks."""

    def register(patch: Callable[[], None]) -> Callable[[], None]:
        for check in checks:
            WRONGS[check] = patch
        return patch

    return register


def replace(owner: Any, name: str, new: Any) -> Any:
    """Replace an attribute; returns the old one."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    return old


def nothing(*_args: Any, **_kwargs: Any) -> None:
    """What should have been done is not."""


def give_up(*_args: Any, **_kwargs: Any) -> None:
    os._exit(1)


# -- rules -------------------------------------------------------------------------------------------------------------


def _swap_with(change: Callable[[dict[str, Rule]], dict[str, Rule]]) -> None:
    original = RuleReader._swap

    def swap(self: RuleReader, rules: dict[str, Rule], **rest: Any) -> None:
        original(self, change(rules), **rest)

    replace(RuleReader, "_swap", swap)


@wrong("rules-there-first")
def listens_for_new_messages_only() -> None:
    _swap_with(lambda _rules: {})


@wrong("rule-created")
def reads_its_rules_once() -> None:
    replace(RuleReader, "_live", nothing)


@wrong("rule-updated")
def takes_a_rule_that_it_knows_for_unchanged() -> None:
    original = RuleTable.put
    replace(RuleTable, "put", lambda self, rule: None if self.get(rule.uid) is not None else original(self, rule))


@wrong("rule-disabled")
def acks_stopped_and_goes_on() -> None:
    async def stop(self: TimerHandler, rule: Rule) -> None:
        pass

    replace(TimerHandler, "stop", stop)


def _decode_with(change: Callable[[RuleState, bytes], RuleState]) -> None:
    replace(_rule_reader, "decode_rule", lambda body: change(decode_rule(body), body))


@wrong("rule-disabled-first")
def overlooks_that_a_rule_is_disabled() -> None:
    _decode_with(lambda rule, _body: msgspec.structs.replace(rule, enabled=True))


@wrong("rule-deleted")
def overlooks_tombstones() -> None:
    replace(RuleTable, "remove", lambda _self, _uid, _last: None)


@wrong("older-generation")
def believes_the_last_message() -> None:
    replace(_rule_table, "_supersedes", lambda _new, _old: True)


@wrong("unreadable-message")
def dies_of_a_message() -> None:
    replace(RuleReader, "_malformed", give_up)


@wrong("unknown-fields")
def refuses_fields_that_it_does_not_know() -> None:
    def strict(rule: RuleState, body: bytes) -> RuleState:
        if set(msgspec.json.decode(body)) - set(RuleState.__struct_fields__):
            raise InvalidMessageError("unknown fields")
        return rule

    _decode_with(strict)


@wrong("foreign-trigger-type")
def runs_whatever_it_is_sent() -> None:
    _decode_with(lambda rule, _body: msgspec.structs.replace(rule, trigger_type=os.environ["ATTUNE_TRIGGER_TYPES"]))


def _say_with(change: Callable[[AckState], AckState]) -> None:
    original = AckPublisher.publish

    def say(self: AckPublisher, rule: Rule, state: AckState, message: str = "") -> None:
        original(self, rule, change(state), message)

    replace(AckPublisher, "publish", say)


@wrong("bad-parameters")
def says_active_of_everything() -> None:
    _say_with(lambda _state: AckState.ACTIVE)


@wrong("acks-well-formed")
def makes_a_name_for_itself() -> None:
    os.environ["ATTUNE_SENSOR_INSTANCE"] = "me"


# -- the stream --------------------------------------------------------------------------------------------------------


@wrong("nats-lost")
def ends_with_its_connection() -> None:
    original = Outage.failed

    def failed(self: Outage, kind: str, message: str, **fields: Any) -> None:
        original(self, kind, message, **fields)
        if self._name == "nats":
            give_up()

    replace(Outage, "failed", failed)


WRONGS["nats-away-at-start"] = ends_with_its_connection


@wrong("stream-missing-at-start")
def ends_without_a_stream() -> None:
    original = LastPerSubjectReader.start

    async def open_or_end(self: Any) -> None:
        try:
            await original(self)
        except StreamUnavailableError:
            give_up()

    replace(LastPerSubjectReader, "start", open_or_end)


@wrong("stream-made-again", "consumer-lost")
def trusts_its_consumer_for_ever() -> None:
    async def ignore(_self: Any, _message: Any, _headers: Any) -> None:
        pass

    original = RuleReader.__init__

    def initialise(self: RuleReader, **arguments: Any) -> None:
        original(self, **{**arguments, "heartbeat_seconds": 3600.0, "resync_seconds": 3600.0})

    replace(RuleReader, "__init__", initialise)
    replace(LastPerSubjectReader, "_control", ignore)
    replace(LastPerSubjectReader, "_fail", nothing)


@wrong("deleted-while-away")
def remembers_rules_better_than_the_stream() -> None:
    file = Path(os.environ["ATTUNE_SPOOL_DIR"]) / "rules.json"

    def remember(rules: dict[str, Rule]) -> dict[str, Rule]:
        known = msgspec.json.decode(file.read_bytes(), type=list[RuleState]) if file.exists() else []
        both = {state.uid: Rule(state=state, since_us=0) for state in known} | rules
        file.write_bytes(msgspec.json.encode([rule.state for rule in both.values()]))
        return both

    _swap_with(remember)


@wrong("acks-again")
def says_everything_once() -> None:
    replace(AckPublisher, "repeat", nothing)


@wrong("many-rules")
def reads_the_first_thousand() -> None:
    _swap_with(lambda rules: dict(list(rules.items())[:1000]))


# -- credentials -------------------------------------------------------------------------------------------------------


@wrong("token-renewed", "nats-creds-renewed", "nats-creds-expired")
def reads_its_credentials_once() -> None:
    original = WatchedFile.read

    def read(self: Any, *, fresh: bool = False) -> Any:
        return self._value if self._value is not None else original(self, fresh=fresh)

    replace(WatchedFile, "read", read)


@wrong("unauthorised")
def drops_what_is_refused_with_401() -> None:
    replace(_api_client, "_RETRIED_STATUS", _api_client._RETRIED_STATUS - {401})


@wrong("no-secrets-told")
def logs_its_token() -> None:
    print(Path(os.environ["ATTUNE_API_TOKEN_FILE"]).read_text(), flush=True)


# -- events ------------------------------------------------------------------------------------------------------------

Post = Callable[[EventsApi, Sequence[bytes]], Any]


def _post_with(wrap: Callable[[Post, EventsApi, Sequence[bytes]], Any]) -> None:
    original = EventsApi.post

    async def post(self: EventsApi, events: Sequence[bytes]) -> Outcome:
        return cast("Outcome", await wrap(original, self, events))

    replace(EventsApi, "post", post)


def _events_with(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    async def wrap(post: Post, api: EventsApi, events: Sequence[bytes]) -> Outcome:
        changed = [msgspec.json.encode(change(msgspec.json.decode(event))) for event in events]
        return cast("Outcome", await post(api, changed))

    _post_with(wrap)


@wrong("events-well-formed")
def reports_what_is_not_its_own() -> None:
    _events_with(lambda event: {**event, "trigger_type": "core.somebodyelses"})


@wrong("ids-by-occurrence")
def makes_up_ids() -> None:
    mine = uuid.uuid4()
    _events_with(lambda event: {**event, "id": str(uuid.uuid5(mine, event["id"]))})


@wrong("ids-over-restarts")
def reports_its_last_occurrence_again_under_another_id() -> None:
    file = Path(os.environ["ATTUNE_SPOOL_DIR"]) / "last.json"
    before = [file.read_bytes()] if file.exists() else []

    async def again(post: Post, api: EventsApi, events: Sequence[bytes]) -> Outcome:
        if before:
            event = msgspec.json.decode(before.pop())
            await post(api, [msgspec.json.encode({**event, "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, event["id"]))})])
        file.write_bytes(events[-1])
        return cast("Outcome", await post(api, events))

    _post_with(again)


@wrong("one-event-once")
def reports_twice_to_be_sure() -> None:
    async def twice(post: Post, api: EventsApi, events: Sequence[bytes]) -> Outcome:
        await post(api, events)
        return cast("Outcome", await post(api, events))

    _post_with(twice)


# -- delivery ----------------------------------------------------------------------------------------------------------


def _judge_with(change: Callable[[int, Outcome], Outcome]) -> None:
    original = _api_client.judge
    replace(_api_client, "judge", lambda **answer: change(answer["status"], original(**answer)))


@wrong("api-5xx")
def drops_what_is_answered_with_503() -> None:
    _judge_with(lambda status, outcome: RequestRefused("503") if status == 503 else outcome)


@wrong("api-429")
def comes_back_when_it_likes() -> None:
    replace(_api_client, "parse_retry_after", lambda _value, **_rest: None)


@wrong("api-away", "answer-lost")
def sends_and_forgets() -> None:
    async def forget(post: Post, api: EventsApi, events: Sequence[bytes]) -> Outcome:
        outcome = await post(api, events)
        return Accepted([EventResult("stored")] * len(events)) if isinstance(outcome, Unavailable) else outcome

    async def once(self: EventsApi, method: str, url: str, body: bytes | None, token: Any) -> Any:
        try:
            return await self._try(method, url, body, token)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Unavailable("connection", str(error))

    replace(EventsApi, "_request", once)
    _post_with(forget)


@wrong("answer-never")
def waits_for_ever() -> None:
    replace(_api_client, "_TIMEOUT", aiohttp.ClientTimeout(total=None))


@wrong("event-refused")
def insists() -> None:
    async def insist(post: Post, api: EventsApi, events: Sequence[bytes]) -> Outcome:
        outcome = cast("Outcome", await post(api, events))
        if isinstance(outcome, Accepted) and any(result.status == "refused" for result in outcome.results):
            return Unavailable("refused", "let us see")
        return outcome

    _post_with(insist)


@wrong("refused-told")
def keeps_refusals_to_itself() -> None:
    replace(Outcomes, "refused", nothing)


@wrong("request-refused")
def insists_on_the_whole() -> None:
    _judge_with(lambda status, outcome: Unavailable("422", "let us see") if status == 422 else outcome)


@wrong("kept-on-disk")
def keeps_nothing_on_its_disk() -> None:
    del os.environ["ATTUNE_SPOOL_DIR"]
    # Nor does it ask what it has missed: that would make up for the disk.
    replace(MissedPolicy, "first_at_start", lambda _self, schedule, *, since, **_: schedule.next(since))


# -- the process -------------------------------------------------------------------------------------------------------


@wrong("health")
def serves_somewhere_else() -> None:
    os.environ["ATTUNE_METRICS_PORT"] = "0"


@wrong("metrics")
def has_no_metrics() -> None:
    async def none(_self: HealthServer, _request: web.Request) -> web.Response:
        return web.Response(status=404)

    replace(HealthServer, "_serve_metrics", none)


@wrong("sigterm-flush")
def drops_what_it_holds() -> None:
    replace(_runtime.SensorRuntime, "stop", lambda _self: os._exit(0))
    # What it holds stays in memory.
    keeps_nothing_on_its_disk()


@wrong("sigterm-api-away")
def does_not_listen_to_kubelet() -> None:
    replace(_runtime.SensorRuntime, "stop", nothing)


@wrong("sigterm-idle")
def ends_as_if_it_had_failed() -> None:
    replace(_runtime.SensorRuntime, "stop", give_up)


def main(arguments: Sequence[str]) -> int:
    WRONGS[arguments[0]]()
    return _runtime.run_sensor(TimerHandler)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
