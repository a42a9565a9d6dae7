"""What is sent back: answers, and refusals as problem documents (RFC 9457)."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
#: Seconds after which a sender may try again what failed here.
RETRY_AFTER: Final = "5"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request.

    Attributes:
        status: the HTTP status.
        body: the body; empty for none.
        content_type: of the body.
        headers: further headers.
        close: whether the connection is closed after it.
    """

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False


class RefusalError(Exception):
    """A request is not accepted.

    Attributes:
        status: the answer's status.
        kind: one word for metrics and the log.
        detail: a sentence for the sender.
        reason: a sentence for the log, where it may say more.
        headers: further headers of the answer.
        close: whether the connection must be closed.
    """

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        reason: str = "",
        headers: dict[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.reason = reason or detail
        self.headers = headers or {}
        self.close = close

    @classmethod
    def unavailable(
        cls, kind: str, detail: str, *, reason: str = "", retry_after: str = RETRY_AFTER, close: bool = False
    ) -> "RefusalError":
        """A refusal for now: 503 with ``Retry-After``."""
        headers = {"Retry-After": retry_after}
        return cls(HTTPStatus.SERVICE_UNAVAILABLE, kind, detail, reason=reason, headers=headers, close=close)

    def answer(self) -> Answer:
        """The problem document."""
        document = {"title": self.status.phrase, "status": int(self.status), "detail": self.detail}
        return Answer(
            int(self.status),
            msgspec.json.encode(document),
            "application/problem+json",
            tuple(self.headers.items()),
            self.close,
        )


def json_answer(status: int, body: Any) -> Answer:
    """An answer in JSON."""
    return Answer(status, msgspec.json.encode(body))


def text_answer(status: int, text: str) -> Answer:
    """An answer in plain text. Browsers must not take it for HTML, since a stranger may choose the text."""
    return Answer(status, text.encode("utf-8", "replace"), TEXT, (("X-Content-Type-Options", "nosniff"),))
