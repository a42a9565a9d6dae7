"""What each user may do at NATS. Pure.

A sensor may use a few consumer names, which carry its Sensor's uid: so it can have only as many consumers, and touch no
other's. What JetStream answers goes to the asker's account, under a subject that the server makes up: no answer can
be sent into a stream (docs/threat-model.md).
"""

from typing import Final

from attune_contract import actions, subjects
from attune_contract.identity import SensorRef
from attune_operator.credentials.nats_jwt import Permissions

#: Subscriptions of one connection of a sensor: one for answers and one for each consumer are needed. And its largest message,
#: in bytes; acks and health reports are smaller still.
SENSOR_SUBSCRIPTIONS: Final = 64
SENSOR_PAYLOAD: Final = 64 * 1024

EVERYTHING: Final = Permissions(publish=(">",), subscribe=(">",))

#: What the operator does as a user of the system account: reads and replaces the JWTs of accounts.
ACCOUNT_ADMINISTRATION: Final = Permissions(
    publish=(
        "$SYS.REQ.CLAIMS.UPDATE",
        "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",
        "$SYS.REQ.ACCOUNT.*.INFO",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.SERVER.*.RELOAD",
    ),
    subscribe=("_INBOX.>",),
)


def sensor_permissions(ref: SensorRef, *, uid: str) -> Permissions:
    """A sensor reads its own rules through consumers of its own names, writes its own acks, and nothing else.

    Args:
        ref: the Sensor.
        uid: its uid.
    """
    api, stream = subjects.SENSOR_API, subjects.RULES_STREAM
    names = subjects.consumer_names(uid)
    return Permissions(
        publish=(
            *(f"{api}.CONSUMER.CREATE.{stream}.{name}.{subjects.rules_filter(ref)}" for name in names),
            *(f"{api}.CONSUMER.MSG.NEXT.{stream}.{name}" for name in names),
            *(f"{api}.CONSUMER.DELETE.{stream}.{name}" for name in names),
            f"{subjects.acks_prefix(ref)}.>",
        ),
        subscribe=(f"{ref.inbox_prefix}.>",),
        subscriptions=SENSOR_SUBSCRIPTIONS,
        payload=SENSOR_PAYLOAD,
    )


def _reading(stream: str, *, api: str = "$JS.API") -> tuple[str, ...]:
    """Reading a stream, by consumers of any name."""
    calls = (
        f"STREAM.INFO.{stream}",
        f"STREAM.MSG.GET.{stream}",
        f"DIRECT.GET.{stream}",
        f"DIRECT.GET.{stream}.>",
        f"CONSUMER.CREATE.{stream}",
        f"CONSUMER.CREATE.{stream}.>",
        f"CONSUMER.INFO.{stream}.*",
        f"CONSUMER.MSG.NEXT.{stream}.*",
        f"CONSUMER.DELETE.{stream}.*",
    )
    return tuple(f"{api}.{call}" for call in calls)


def _working(stream: str, consumer: str) -> tuple[str, ...]:
    """Taking messages from a stream by one durable consumer, and acknowledging them. Nobody else's consumer can be touched."""
    return (
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}",
        f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}.>",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer}",
        f"$JS.API.CONSUMER.INFO.{stream}.{consumer}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
    )


def api_permissions() -> Permissions:
    """The API keeps the stream of events, reads what operator, sensors and the runner of actions publish, and has runs tried
    again; it writes nothing else of theirs.
    """
    events = subjects.EVENTS_STREAM
    here = (events, subjects.ACKS_STREAM, subjects.IDENTITIES_STREAM, subjects.HISTORY_STREAM, actions.ACTIONS_STREAM)
    return Permissions(
        publish=(
            subjects.ALL_EVENTS,
            actions.ALL_QUEUED_RUNS,
            "$JS.API.INFO",
            f"$JS.API.STREAM.CREATE.{events}",
            f"$JS.API.STREAM.UPDATE.{events}",
            *(call for stream in here for call in _reading(stream)),
            *_reading(subjects.RULES_STREAM, api=subjects.RULES_API),
            *_working(actions.RUNS_STREAM, actions.REPORTS_CONSUMER),
        ),
        subscribe=("_INBOX.>",),
    )


def actions_permissions() -> Permissions:
    """The runner of actions takes events, reads what is to be done for them, and keeps runs in its own streams."""
    own = (actions.RUNS_STREAM, actions.RUN_QUEUE_STREAM)
    return Permissions(
        publish=(
            actions.ALL_RUNS,
            actions.ALL_QUEUED_RUNS,
            "$JS.API.INFO",
            *_working(subjects.EVENTS_STREAM, actions.EVENTS_CONSUMER),
            f"$JS.API.DIRECT.GET.{subjects.EVENTS_STREAM}",
            *_working(actions.RUN_QUEUE_STREAM, actions.QUEUE_CONSUMER),
            *_reading(actions.ACTIONS_STREAM),
            *(f"$JS.API.STREAM.{call}.{stream}" for stream in own for call in ("INFO", "CREATE", "UPDATE", "MSG.GET")),
            f"$JS.API.STREAM.MSG.DELETE.{actions.RUN_QUEUE_STREAM}",
        ),
        subscribe=("_INBOX.>",),
    )
