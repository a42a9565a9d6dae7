"""One evaluating process, from the side of its parent."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from attune_kit.cel.worker import Answer, Request

#: Seconds for a process to start.
_START: Final = 30.0
_ANSWERS: Final = msgspec.msgpack.Decoder(list[Answer])
#: Environment variables of the process, in addition to the path of its modules.
_INHERITED: Final = ("PYTHONTZPATH", "LD_LIBRARY_PATH", "PATH")


class ProcessEndedError(Exception):
    """The process ended before it answered."""


class EvaluatingProcess:
    """A process that evaluates. Made by :meth:`start`; :meth:`close` must be called in the end.

    Args:
        popen: the process.
        connection: this side of its socket.
        forget: called with its number when it has ended.
    """

    def __init__(
        self, popen: "subprocess.Popen[bytes]", connection: socket.socket, forget: Callable[[int], None]
    ) -> None:
        self._popen = popen
        self._connection = connection
        self._forget = forget
        self.broken = False
        self._ended = False

    @classmethod
    async def start(
        cls, *, memory: int, niceness: int, adopt: Callable[[int], None], forget: Callable[[int], None]
    ) -> "EvaluatingProcess":
        """Start a process and wait until it is ready.

        Args:
            memory: how many bytes it may take beyond what it has at its start.
            niceness: how far it gives way to other processes.
            adopt: called with its number, before anyone else can take its status.
            forget: called with its number when its status was taken.

        Raises:
            ProcessEndedError: it did not start.
        """
        popen, ours = _spawn(memory, niceness)
        adopt(popen.pid)
        process = cls(popen, ours, forget)
        try:
            async with asyncio.timeout(_START):
                await process._receive()
        except (TimeoutError, ProcessEndedError):
            await process.close()
            raise ProcessEndedError("the process that evaluates expressions did not start") from None
        except BaseException:
            await process.close()
            raise
        return process

    async def ask(self, request: Request) -> list[Answer]:
        """The answers, one for each expression.

        Raises:
            ProcessEndedError: it ended before that; most likely it wanted too much memory.
        """
        body = msgspec.msgpack.encode(request)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._connection, len(body).to_bytes(4, "big") + body)
            answers = _ANSWERS.decode(await self._receive())
        except OSError as error:
            self.broken = True
            raise ProcessEndedError(str(error)) from None
        except BaseException:
            # It was cancelled, or ended: what it says next would be taken for the answer to something else.
            self.broken = True
            raise
        self.broken = any(answer.fatal for answer in answers)
        return answers

    def processor_seconds(self) -> float:
        """The processor's time that it has used; 0 where the system does not say."""
        try:
            with open(f"/proc/{self._popen.pid}/schedstat", "rb") as file:  # noqa: PTH123 - quicker, and it is asked often
                return int(file.read().split(b" ", 1)[0]) / 1e9
        except (OSError, ValueError):
            return 0.0

    async def close(self) -> None:
        """End it, at once."""
        if self._ended:
            return
        self._ended = True
        self.broken = True
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            self._popen.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self._popen.wait)
        self._forget(self._popen.pid)

    async def _receive(self) -> bytes:
        return await self._exactly(int.from_bytes(await self._exactly(4), "big"))

    async def _exactly(self, number: int) -> bytes:
        loop = asyncio.get_running_loop()
        parts = bytearray()
        while len(parts) < number:
            part = await loop.sock_recv(self._connection, min(number - len(parts), 1 << 20))
            if not part:
                raise ProcessEndedError("the process has ended")
            parts += part
        return bytes(parts)


def _spawn(memory: int, niceness: int) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    # Not in a thread: until it is adopted, a reaper of orphans might take its status. It takes a millisecond or two.
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        popen = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-S", "-m", "attune_kit.cel.worker", str(theirs.fileno()), str(memory), str(niceness)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
            | {name: os.environ[name] for name in _INHERITED if name in os.environ},
        )
    return popen, ours
