"""Ends of pipes that are read and written without blocking, and only when somebody asks.

asyncio's own streams read ahead. Here what is not asked for stays in the pipe, whose 64 KiB are all that a program can be
ahead of its supervisor: then it waits.
"""

import asyncio
import os
from typing import Final

CHUNK: Final = 64 * 1024


class ReadPipe:
    """The reading end of a pipe.

    Args:
        fd: its file descriptor; it belongs to this object from now on.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._wake = asyncio.Event()

    async def read(self) -> bytes:
        """Some bytes, at most :data:`CHUNK`; none when the pipe has ended or was closed."""
        while self._fd >= 0:
            try:
                return os.read(self._fd, CHUNK)
            except BlockingIOError:
                await self._readable()
        return b""

    async def _readable(self) -> None:
        loop, fd = asyncio.get_running_loop(), self._fd
        self._wake = asyncio.Event()
        loop.add_reader(fd, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if self._fd == fd:
                loop.remove_reader(fd)

    def close(self) -> None:
        """Close it. Who reads gets nothing more."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._wake.set()


class WritePipe:
    """The writing end of a pipe.

    Args:
        fd: its file descriptor; it belongs to this object from now on.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._wake = asyncio.Event()

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
                await self._writable()

    async def _writable(self) -> None:
        loop, fd = asyncio.get_running_loop(), self._fd
        self._wake = asyncio.Event()
        loop.add_writer(fd, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if self._fd == fd:
                loop.remove_writer(fd)

    def close(self) -> None:
        """Close it, which tells the reader that nothing more comes. Who writes is told that it is broken."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._wake.set()
