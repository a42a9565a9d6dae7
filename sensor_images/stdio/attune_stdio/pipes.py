"""Ends of pipes that are read and written without blocking, and only when somebody asks.

asyncio's own streams read ahead. Here what is not asked for stays in the pipe, whose 64 KiB are all that a program can be
ahead of its supervisor: then it waits.
"""

import asyncio
import os
from typing import Final

CHUNK: Final = 64 * 1024


class _Pipe:
    """One end of a pipe.

    Args:
        fd: its file descriptor; it belongs to this object from now on.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._wake = asyncio.Event()

    async def _turn(self, *, write: bool) -> None:
        """Wait until there is something to read, or room to write, or it was closed."""
        loop, fd = asyncio.get_running_loop(), self._fd
        self._wake = asyncio.Event()
        add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
        add(fd, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if self._fd == fd:
                remove(fd)

    def close(self) -> None:
        """Close it. Readers get nothing more, writers get a broken pipe, and the other end sees the end."""
        if self._fd >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fd)
            loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._wake.set()


class ReadPipe(_Pipe):
    """The reading end of a pipe."""

    async def read(self) -> bytes:
        """Some bytes, at most :data:`CHUNK`; none when the pipe has ended or was closed."""
        while self._fd >= 0:
            try:
                return os.read(self._fd, CHUNK)
            except BlockingIOError:
                await self._turn(write=False)
        return b""


class WritePipe(_Pipe):
    """The writing end of a pipe."""

    async def write(self, data: bytes) -> None:
        """Write all of it, and wait for the reader where need be.

        Raises:
            BrokenPipeError: the reader has closed its end, or this end was closed.
        """
        view = memoryview(data)
        while view:
            if self._fd < 0:
                raise BrokenPipeError
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._turn(write=True)
