"""Where turns are kept and events are looked up: ``ATTUNE_RUN_QUEUE`` and ``ATTUNE_EVENTS``."""

import base64
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from attune_actions.api import Api
from attune_actions.catching_up import POSITION, Position
from attune_actions.journal import NO_MESSAGE, Journal, StoreError
from attune_actions.turns import Next, Turn, decode_turn, encode_turn
from attune_contract.actions import EVENTS_CONSUMER
from attune_contract.subjects import EVENTS_STREAM, event_subject
from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.connector import NatsConnector

_TIMEOUT: Final = 5.0


class _Seq(msgspec.Struct):
    seq: int


_SEQS: Final = msgspec.json.Decoder(_Seq)


def _seq_of(event: bytes | msgspec.Raw) -> int | None:
    """An event's ``seq``; None when it is damaged."""
    try:
        return _SEQS.decode(event).seq
    except msgspec.MsgspecError:
        return None


class TurnStore:
    """Reads and replaces turns, and finds the event that is next.

    Args:
        connector: the connection to NATS.
        journal: what writes.
        api: where events are that have left the stream.
    """

    def __init__(self, *, connector: NatsConnector, journal: Journal, api: Api) -> None:
        self._connector = connector
        self._journal = journal
        self._api = api

    async def read(self, subject: str) -> tuple[Turn | None, int]:
        """A turn and the sequence of its message; None and 0 when there is none. The stream's leader answers.

        Raises:
            StoreError: it cannot be read now.
            InvalidMessageError: it is none.
        """
        found = await self._journal.last(subject)
        return (None, 0) if found is None else (decode_turn(base64.b64decode(found.data)), found.seq)

    async def replace(self, turn: Turn, *, sequence: int) -> bool:
        """Put a turn in the place of the message with this sequence (0: of none); False when it is no longer the last."""
        return await self._journal.exchange(turn.subject, encode_turn(turn), sequence=sequence) is not None

    async def stands(self, namespace: str, rule_uid: str, run: UUID) -> bool:
        """Whether a run stands in the queue: it is not over.

        Raises:
            StoreError: it cannot be read now.
        """
        return await self._journal.last(f"attune.runqueue.{namespace}.{rule_uid}.{run}") is not None

    async def first_turn(self, namespace: str, rule_uid: str, *, seq: int) -> Turn:
        """The turn of a Rule that has none: it begins where the events of all Rules are known to be handled.

        Args:
            namespace: the Rule's.
            rule_uid: the Rule's.
            seq: of an event of the Rule that is not handled yet.

        Raises:
            nats.errors.Error: it cannot be asked now.
        """
        jetstream = self._connection().jetstream
        info = await jetstream.consumer_info(EVENTS_STREAM, EVENTS_CONSUMER)
        at = Position.parse((info.config.metadata or {}).get(POSITION))
        if at is None:
            at = Position(info.ack_floor.stream_seq if info.ack_floor else 0, seq - 1)
        handed_out = info.delivered.stream_seq if info.delivered else 0
        return Turn(namespace=namespace, uid=rule_uid, sequence=at.sequence, seq=at.seq, doubtful=handed_out)

    async def next(self, turn: Turn) -> Next | None:
        """The event of the turn's Rule that comes behind it: out of the stream, or out of the API if it has left that.

        Raises:
            StoreError, ApiError, nats.errors.Error: it cannot be found now.
        """
        found = await self._next_in_stream(turn)
        if found is not None and found.seq == turn.seq + 1:
            return found
        # Looked at afterwards: what the stream still has now, it had before, too.
        first, last = await self._edges()
        if first <= turn.sequence + 1 or not self._api.configured:
            return found
        if found is not None:
            before = found.seq
        else:
            seq = await self._seq_at(first) if first <= last else None
            before = turn.seq if seq is None else seq
        if before > turn.seq + 1:
            for each in await self._api.events(after_seq=turn.seq, rule_uid=turn.uid, limit=1):
                seq = _seq_of(each) or turn.seq
                if seq < before:
                    return Next(sequence=turn.sequence, seq=seq, data=bytes(each))
        return found

    async def end(self) -> tuple[int, int] | None:
        """The last place of the stream, and the ``seq`` of the event there; None when that is not known.

        Raises:
            StoreError, nats.errors.Error: it cannot be found now.
        """
        _, last = await self._edges()
        seq = await self._seq_at(last) if last else None
        return None if seq is None else (last, seq)

    async def _next_in_stream(self, turn: Turn) -> Next | None:
        body = {"seq": turn.sequence + 1, "next_by_subj": event_subject(turn.namespace, turn.uid)}
        answer = await self._get(body)
        if answer is None:
            return None
        headers = answer.headers or {}
        stored = datetime.fromisoformat(headers["Nats-Time-Stamp"]).timestamp()
        return Next(
            sequence=int(headers["Nats-Sequence"]),
            seq=_seq_of(answer.data) or turn.seq,
            data=bytes(answer.data),
            stored=stored,
        )

    async def _seq_at(self, sequence: int) -> int | None:
        answer = await self._get({"seq": sequence})
        return None if answer is None else _seq_of(answer.data)

    async def _get(self, body: dict[str, Any]) -> Any:
        """A message of the stream of events; None when there is none."""
        subject = f"$JS.API.DIRECT.GET.{EVENTS_STREAM}"
        answer = await self._connection().client.request(subject, msgspec.json.encode(body), timeout=_TIMEOUT)
        status = (answer.headers or {}).get("Status")
        if status is None:
            return answer
        if status != str(NO_MESSAGE):
            raise StoreError(f"the stream of events answered {status}")
        return None

    async def _edges(self) -> tuple[int, int]:
        state = (await self._connection().jetstream.stream_info(EVENTS_STREAM)).state
        return state.first_seq, state.last_seq

    def _connection(self) -> NatsConnection:
        connection = self._connector.current
        if connection is None:
            raise StoreError("there is no connection to NATS")
        return connection
