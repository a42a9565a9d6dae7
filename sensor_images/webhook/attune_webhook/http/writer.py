"""Answers as bytes (RFC 9112)."""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from attune_webhook.http.answers import Answer


def written(answer: Answer, *, head_only: bool, keep_alive: bool) -> bytes:
    """An answer as it is sent.

    Args:
        answer: the answer.
        head_only: whether the request was HEAD.
        keep_alive: whether the connection is used again.
    """
    body = answer.body
    head = _head(answer.status, answer.content_type if body else "", len(body), keep_alive, int(time.time()))
    if answer.headers:
        head += b"".join(f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in answer.headers)
    return head + b"\r\n" + (b"" if head_only else body)


@lru_cache(maxsize=64)
def _head(status: int, content_type: str, length: int, keep_alive: bool, second: int) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {formatdate(second, usegmt=True)}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    if status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {length}")
    lines.append("Connection: keep-alive" if keep_alive else "Connection: close")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
