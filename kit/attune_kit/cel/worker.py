"""The process that evaluates expressions for :mod:`attune_kit.cel.evaluator`.

Its address space is limited, and its parent kills it at the deadline. It talks over one socket, in frames of a length (four
bytes) and MessagePack.
"""

import collections
import contextlib
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from attune_kit.cel.library import EvaluationError, Expression, ExpressionError

#: Compiled expressions that are kept.
_COMPILED: Final = 2048
#: An evaluation that outlives its parent ends by itself after so many seconds.
_ALONE: Final = 30
#: The kernel takes this process before others when memory runs out.
_OOM_SCORE: Final = "700"
NO_MEMORY: Final = "it needs more memory than an evaluation may"


class Request(msgspec.Struct, array_like=True):
    """Expressions to evaluate on the same values; with no values they are only compiled.

    Attributes:
        variables: the variables' names.
        expressions: each with whether its result must be true or false.
        values: JSON by variable.
    """

    variables: tuple[str, ...]
    expressions: list[tuple[str, bool]]
    values: dict[str, bytes] | None


class Answer(msgspec.Struct, array_like=True):
    """What became of one expression: JSON, or why there is none."""

    result: bytes | None
    problem: str = ""
    column: int = 0
    fatal: bool = False  #: the process ends after this answer
    seconds: float = 0.0  #: of the processor's time


def serve(connection: socket.socket) -> None:
    """Answer requests until the other side closes the connection."""
    compiled: collections.OrderedDict[tuple[str, bool, tuple[str, ...]], Expression] = collections.OrderedDict()
    decoder = msgspec.msgpack.Decoder(Request)
    send(connection, b"ready")
    while (body := receive(connection)) is not None:
        signal.alarm(_ALONE)
        answers = _answers(decoder.decode(body), compiled)
        signal.alarm(0)
        send(connection, msgspec.msgpack.encode(answers))
        if any(answer.fatal for answer in answers):
            return


def _answers(request: Request, compiled: "collections.OrderedDict[Any, Expression]") -> list[Answer]:
    answers: list[Answer] = []
    try:
        values = {name: msgspec.json.decode(raw) for name, raw in (request.values or {}).items()}
        for text, condition in request.expressions:
            began = time.process_time()
            answer = _answer(request, text, condition=condition, values=values, compiled=compiled)
            answer.seconds = time.process_time() - began
            answers.append(answer)
    except MemoryError:
        return [Answer(None, NO_MEMORY, fatal=True)] * len(request.expressions)
    return answers


def _answer(
    request: Request,
    text: str,
    *,
    condition: bool,
    values: dict[str, Any],
    compiled: "collections.OrderedDict[Any, Expression]",
) -> Answer:
    key = (text, condition, request.variables)
    try:
        expression = compiled.get(key)
        if expression is None:
            expression = Expression(text, variables=request.variables, condition=condition)
            compiled[key] = expression
            if len(compiled) > _COMPILED:
                compiled.popitem(last=False)
        if request.values is None:
            return Answer(b"null")
        return Answer(msgspec.json.encode(expression.evaluate(values)))
    except ExpressionError as error:
        return Answer(None, error.reason, error.column)
    except EvaluationError as error:
        no_memory = "bad_alloc" in str(error)
        return Answer(None, NO_MEMORY if no_memory else str(error), fatal=no_memory)


def send(connection: socket.socket, body: bytes) -> None:
    """Send one frame."""
    connection.sendall(len(body).to_bytes(4, "big") + body)


def receive(connection: socket.socket) -> bytes | None:
    """One frame; None when the other side has closed the connection."""
    header = _exactly(connection, 4)
    return None if header is None else _exactly(connection, int.from_bytes(header, "big"))


def _exactly(connection: socket.socket, number: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < number:
        part = connection.recv(min(number - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def main() -> int:
    """``python -m attune_kit.cel.worker FD BYTES NICENESS``: serve on a socket, with so much memory more than at the start."""
    fd, budget, niceness = (int(argument) for argument in sys.argv[1:4])
    with contextlib.suppress(OSError):
        os.nice(niceness)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    # Loads the runtime, so that it is not counted, and so that nothing is loaded at the first evaluation.
    Expression("''.find('x') == '' && isURL('/')", variables=("object",)).evaluate({})
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + budget
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=fd) as connection:
        serve(connection)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
