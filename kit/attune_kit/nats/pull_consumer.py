"""A pull consumer of one reader: created under a name that is free, asked for messages batch by batch, deleted at the end.

Pull, because what a pull consumer sends goes to the subject that the asker names and nowhere else. A push consumer names its
subject in the body of a request, which no permission of NATS can bound.

Names matter as well: they stand in the subjects of all requests (NATS ADR-13), so that a client that may use a few names
can have as many consumers and touch no others.
"""

import contextlib
import secrets
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import nats.errors

from attune_kit.nats.connection import NatsConnection

#: The prefix of JetStream's API in an account that has JetStream itself.
JETSTREAM_API: Final = "$JS.API"
#: Messages and bytes of one batch. A server drops a connection that lets 64 MiB wait.
_BATCH: Final = 10_000
_BATCH_BYTES: Final = 8 * 1024 * 1024
#: Seconds after which the server ends a request for messages that is not used up.
_EXPIRES: Final = 60.0
#: Seconds for which a server keeps a consumer that is not asked for messages.
_INACTIVE_THRESHOLD: Final = 10.0
#: JetStream's error: a consumer of this name exists, with another configuration.
_NAME_TAKEN: Final = frozenset({10013, 10148})

_ANSWER: Final = msgspec.json.Decoder(dict[str, Any])


class StreamUnavailableError(nats.errors.Error):  # type: ignore[misc]
    """The stream does not exist yet, or JetStream cannot serve it now."""


class PullConsumer:
    """A consumer without acknowledgements.

    Args:
        connection: where the stream is.
        stream: the stream.
        subject: filter.
        api: prefix of the JetStream API that reaches the stream.
        names: the names that may be used; the first free one is. Unless given, a fresh name.
        config: what else the consumer is configured with, as in the JetStream API.
        heartbeat: seconds between the server's signs of life while there is nothing to deliver.

    Attributes:
        pending: how many messages were to be delivered when it was created.
    """

    def __init__(
        self,
        *,
        connection: NatsConnection,
        stream: str,
        subject: str,
        api: str,
        names: Sequence[str],
        config: dict[str, Any],
        heartbeat: float,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._subject = subject
        self._api = api
        self._names = names or (f"attune-{secrets.token_hex(8)}",)
        self._config = config
        self._name = ""
        self._left = 0
        self._request = msgspec.json.encode(
            {
                "batch": _BATCH,
                "max_bytes": _BATCH_BYTES,
                "expires": int(_EXPIRES * 1e9),
                "idle_heartbeat": int(heartbeat * 1e9),
            }
        )
        self.pending = 0

    async def create(self) -> None:
        """Have the server create it.

        Raises:
            StreamUnavailableError: there is no such stream, no JetStream now, or no name is free.
            nats.errors.Error: the connection was lost, or the request was not answered or not allowed.
        """
        for name in self._names:
            answer = await self._create(name)
            error = answer.get("error")
            if error is None:
                self._name = name
                self.pending = answer.get("num_pending") or 0
                return
            if error.get("err_code") not in _NAME_TAKEN:
                raise StreamUnavailableError(f"{self._stream}: {error.get('description', 'unknown error')}")
        raise StreamUnavailableError(
            f"{self._stream}: all {len(self._names)} consumers that this client may have are in use; those of clients that "
            f"are gone are free after {_INACTIVE_THRESHOLD:.0f} s"
        )

    async def _create(self, name: str) -> dict[str, Any]:
        config = {
            "name": name,
            "filter_subject": self._subject,
            "ack_policy": "none",
            "replay_policy": "instant",
            "inactive_threshold": int(_INACTIVE_THRESHOLD * 1e9),
            "num_replicas": 1,
            "mem_storage": True,
            # Two clients that ask for the same would share one consumer, and each would get half of the messages.
            "metadata": {"attune.dev/reader": secrets.token_hex(8)},
            **self._config,
        }
        body = msgspec.json.encode({"stream_name": self._stream, "config": config, "action": "create"})
        seconds = self._connection.endpoint.request_timeout
        subject = f"{self._api}.CONSUMER.CREATE.{self._stream}.{name}.{self._subject}"
        try:
            reply = await self._connection.client.request(subject, body, timeout=seconds)
        except nats.errors.NoRespondersError as error:
            raise StreamUnavailableError("JetStream does not answer; is it enabled, and are its servers up?") from error
        except nats.errors.TimeoutError as error:
            raise nats.errors.Error(
                f"NATS did not answer the request for a consumer of {self._stream} within {seconds:g} s; it may be "
                "overloaded, or the credentials do not allow this filter"
            ) from error
        return _ANSWER.decode(reply.data)

    async def pull(self, inbox: str) -> None:
        """Ask for the next batch, which arrives at ``inbox``. Call it once after :meth:`create` and whenever a batch is over.

        Raises:
            nats.errors.Error: the connection was lost.
        """
        self._left = _BATCH
        await self._connection.client.publish(
            f"{self._api}.CONSUMER.MSG.NEXT.{self._stream}.{self._name}", self._request, reply=inbox
        )

    def received(self) -> bool:
        """Count a message; returns whether it was the last one of its batch."""
        self._left -= 1
        return self._left == 0

    @staticmethod
    def ends_batch(headers: dict[str, str]) -> bool:
        """Whether a status message says that the batch is over and the consumer still exists (NATS ADR-37)."""
        status, text = headers.get("Status"), headers.get("Description", "").lower()
        return status in ("404", "408") or (status == "409" and ("maxbytes" in text or "batch completed" in text))

    async def delete(self) -> None:
        """Delete it, as far as the connection still allows it. The server does so by itself after 10 s without a request."""
        if self._name and not self._connection.closed:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self._connection.client.request(
                    f"{self._api}.CONSUMER.DELETE.{self._stream}.{self._name}",
                    b"",
                    timeout=self._connection.endpoint.request_timeout,
                )
