"""What each user may do at NATS. Pure.

A sensor may use a few consumer names, which carry its Sensor's uid: so it can have only as many consumers, and touch no
other's. What JetStream answers goes to the asker's account, under a subject that the server makes up: no answer can
be sent into a stream (docs/threat-model.md).
"""

from typing import Final

from attune_contract import actions, subjects
from attune_contract.identity import SensorRef
from attune_operator.credentials.nats_jwt import Permissions

EVERYTHING: Final = Permissions(publish=(">",), subscribe=(">",))

#: What the operator does as a user of the system account: reads and replaces the JWTs of accounts.
ACCOUNT_ADMINISTRATION: Final = Permissions(
    publish=("$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP"), subscribe=("_INBOX.>",)
)


def sensor_permissions(ref: SensorRef, *, uid: str, replicas: int) -> Permissions:
    """A sensor reads its own rules through consumers of its own names, writes its own acks, and nothing else.

    Args:
        ref: the Sensor.
        uid: its uid.
        replicas: how many pods it is to have.
    """
    api, stream = subjects.SENSOR_API, subjects.RULES_STREAM
    names = subjects.consumer_names(uid, replicas=replicas)
    return Permissions(
        publish=(
            *(f"{api}.CONSUMER.CREATE.{stream}.{name}.{subjects.rules_filter(ref)}" for name in names),
            *(f"{api}.CONSUMER.MSG.NEXT.{stream}.{name}" for name in names),
            *(f"{api}.CONSUMER.DELETE.{stream}.{name}" for name in names),
            f"{subjects.acks_prefix(ref)}.>",
        ),
        subscribe=(f"{ref.inbox_prefix}.>",),
    )


def api_permissions() -> Permissions:
    """The API keeps the stream of events and reads what operator and sensors publish; it writes nothing of theirs."""
    events = subjects.EVENTS_STREAM
    here = (events, subjects.ACKS_STREAM, subjects.IDENTITIES_STREAM, subjects.HISTORY_STREAM)
    read = (*(("$JS.API", stream) for stream in here), (subjects.RULES_API, subjects.RULES_STREAM))
    return Permissions(
        publish=(
            subjects.ALL_EVENTS,
            "$JS.API.INFO",
            f"$JS.API.STREAM.CREATE.{events}",
            f"$JS.API.STREAM.UPDATE.{events}",
            *(
                f"{api}.{call}"
                for api, stream in read
                for call in (
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
            ),
        ),
        subscribe=("_INBOX.>",),
    )


def actions_permissions() -> Permissions:
    """The runner of actions takes events and the runs that wait, reads what Rules do, and says what became of runs."""
    events, rules, queue = subjects.EVENTS_STREAM, actions.ACTIONS_STREAM, actions.RUN_QUEUE_STREAM
    created = (actions.RUNS_STREAM, queue)
    taken = (events, queue)
    return Permissions(
        publish=(
            actions.ALL_RUNS,
            actions.ALL_QUEUED_RUNS,
            "$JS.API.INFO",
            *(f"$JS.API.STREAM.CREATE.{stream}" for stream in created),
            *(f"$JS.API.STREAM.INFO.{stream}" for stream in (*created, events, rules)),
            f"$JS.API.STREAM.MSG.DELETE.{queue}",
            *(f"$JS.ACK.{stream}.>" for stream in taken),
            *(
                f"$JS.API.{call}"
                for stream in (events, queue, rules)
                for call in (
                    f"DIRECT.GET.{stream}",
                    f"DIRECT.GET.{stream}.>",
                    f"CONSUMER.CREATE.{stream}.>",
                    f"CONSUMER.DURABLE.CREATE.{stream}.*",
                    f"CONSUMER.INFO.{stream}.*",
                    f"CONSUMER.MSG.NEXT.{stream}.*",
                    f"CONSUMER.DELETE.{stream}.*",
                )
            ),
        ),
        subscribe=("_INBOX.>",),
    )
