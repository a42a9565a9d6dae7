"""Events on disk while the API is away: append-only segment files with checksums.

A segment is ``<number>.segment``; a record in it is a header (length and CRC-32 of the body, each 32 bits,
little-endian) and the body. Segments are written once, read in order, and deleted when all of their records were
delivered. The place in a segment up to which records were delivered is not stored: after a restart that segment is
delivered again, which the API recognises by the events' ids.

Everything here blocks; the emitter calls it in a thread of its own.
"""

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from attune_sensor._errors import SpoolError

_HEADER: Final = struct.Struct("<II")
#: No record is longer than what the API takes as one request.
_MAX_RECORD: Final = 1024 * 1024
_DEFAULT_SEGMENT: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place between two records."""

    segment: int
    offset: int
    index: int  #: records of the segment before this place


@dataclass(slots=True)
class _Segment:
    number: int
    path: Path
    size: int
    records: int


@dataclass(frozen=True, slots=True)
class SpoolReport:
    """What was found when the spool was opened."""

    records: int
    size: int
    damaged_bytes: int


class Spool:
    """A bounded queue of records on disk.

    Args:
        directory: where the segments are; created when missing. Only one process may use it.
        max_bytes: bound of all segments together.
        segment_bytes: a segment ends when it is longer than this.
    """

    def __init__(self, *, directory: Path, max_bytes: int, segment_bytes: int = _DEFAULT_SEGMENT) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        # Dropping the oldest drops a whole segment; that should be a small part of the spool.
        self._segment_bytes = max(4096, min(segment_bytes, max_bytes // 8))
        self._segments: list[_Segment] = []
        self._cursor = Position(0, 0, 0)
        self._file: BinaryIO | None = None
        self._lock: BinaryIO | None = None
        self._new_names = False  # new files whose directory entries may not be on disk yet
        self._count = 0
        self._size = 0

    @property
    def directory(self) -> Path:
        """Where the segments are."""
        return self._directory

    @property
    def count(self) -> int:
        """Records that are not delivered yet."""
        return self._count

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._size

    def open(self) -> SpoolReport:
        """Take the directory and look through what an earlier process left.

        A record that a crash cut short is removed. A damaged one ends its segment, because its length is not known.

        Raises:
            SpoolError: the directory cannot be used, or another process uses it.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock = (self._directory / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = sorted(self._directory.glob("*.segment"))
        except BlockingIOError as error:
            self._release()
            raise SpoolError(f"the spool {self._directory} is in use by another sensor; give each its own") from error
        except OSError as error:
            self._release()
            raise SpoolError(f"cannot use the spool {self._directory}: {error.strerror or error}") from error
        damaged = 0
        for path in found:
            if not path.stem.isdigit():
                continue
            records, good, total = _scan(path)
            if good < total:
                damaged += total - good
                os.truncate(path, good)
            if records == 0:
                path.unlink()
            else:
                self._segments.append(_Segment(int(path.stem), path, good, records))
        self._count = sum(segment.records for segment in self._segments)
        self._size = sum(segment.size for segment in self._segments)
        if self._segments:
            self._cursor = Position(self._segments[0].number, 0, 0)
        return SpoolReport(self._count, self._size, damaged)

    def append(self, records: Sequence[bytes]) -> int:
        """Write records at the end; returns how many found room.

        Raises:
            OSError: the disk failed or is full. What was written of this call is taken back, so nothing is corrupted.
        """
        taken = 0
        while taken < len(records):
            segment = self._current()
            chunk = bytearray()
            number = 0
            for record in records[taken:]:
                length = _HEADER.size + len(record)
                if self._size + len(chunk) + length > self._max_bytes:
                    break
                chunk += _HEADER.pack(len(record), zlib.crc32(record))
                chunk += record
                number += 1
                if segment.size + len(chunk) >= self._segment_bytes:
                    break
            if number == 0:
                break
            self._write(segment, bytes(chunk))
            segment.size += len(chunk)
            segment.records += number
            self._size += len(chunk)
            self._count += number
            taken += number
        return taken

    def peek(self, *, max_records: int, max_bytes: int) -> tuple[list[bytes], Position]:
        """The oldest records, and the place behind them for :meth:`advance`. At least one record, if there is any.

        Raises:
            OSError: the oldest record cannot be read, or is not what was written; :meth:`drop_oldest` gets past it.
        """
        records: list[bytes] = []
        size = 0
        position = self._cursor
        for segment in self._segments:
            if segment.number < position.segment:
                continue
            if segment.number > position.segment:
                position = Position(segment.number, 0, 0)
            with segment.path.open("rb") as file:
                file.seek(position.offset)
                while position.index < segment.records:
                    header = file.read(_HEADER.size)
                    length, checksum = _HEADER.unpack(header) if len(header) == _HEADER.size else (0, -1)
                    if records and (len(records) >= max_records or size + length > max_bytes):
                        return records, position
                    body = file.read(length) if length <= _MAX_RECORD else b""
                    if len(body) < length or zlib.crc32(body) != checksum:
                        if records:
                            return records, position
                        raise OSError(errno.EIO, f"record {position.index} is damaged", str(segment.path))
                    records.append(body)
                    size += length
                    position = Position(segment.number, file.tell(), position.index + 1)
            if len(records) >= max_records:
                break
        return records, position

    def advance(self, position: Position) -> None:
        """Everything before ``position`` was delivered. A place that was dropped meanwhile is no error."""
        if position <= self._cursor:
            return
        while self._segments and self._segments[0].number < position.segment:
            self._drop_head()
        if self._segments and self._segments[0].number == position.segment:
            head = self._segments[0]
            before = self._cursor.index if self._cursor.segment == head.number else 0
            self._count -= position.index - before
            self._cursor = position
            if position.index >= head.records:
                self._drop_head()

    def drop_oldest(self) -> int:
        """Make room by dropping the oldest segment; returns how many undelivered records went with it."""
        return self._drop_head() if self._segments else 0

    def sync(self) -> None:
        """Have the disk keep what was written.

        Raises:
            OSError: the disk failed.
        """
        if self._file is not None:
            os.fdatasync(self._file.fileno())
        if self._new_names:
            # A new file's name is in its directory, which is written by itself.
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
            self._new_names = False

    def close(self) -> None:
        """Release the directory; what is in it stays."""
        try:
            self._end_segment()
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _current(self) -> _Segment:
        if self._file is not None and self._segments and self._segments[-1].size < self._segment_bytes:
            return self._segments[-1]
        self._end_segment()
        # A number is never used twice in a process, so that a Position stays unambiguous.
        last = max(self._cursor.segment, self._segments[-1].number if self._segments else 0)
        number = last + 1
        path = self._directory / f"{number:020d}.segment"
        self._file = path.open("xb", buffering=0)
        self._new_names = True
        segment = _Segment(number, path, 0, 0)
        if not self._segments:
            self._cursor = Position(number, 0, 0)
        self._segments.append(segment)
        return segment

    def _write(self, segment: _Segment, chunk: bytes) -> None:
        if self._file is None:
            raise AssertionError("a segment is open")
        try:
            written = 0
            while written < len(chunk):
                written += self._file.write(chunk[written:])
        except OSError:
            # Half a record must not stay.
            os.ftruncate(self._file.fileno(), segment.size)
            self._file.seek(segment.size)
            raise

    def _end_segment(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                os.fdatasync(file.fileno())
            finally:
                file.close()

    def _drop_head(self) -> int:
        head = self._segments.pop(0)
        if not self._segments and self._file is not None:
            self._file.close()
            self._file = None
        read = self._cursor.index if self._cursor.segment == head.number else 0
        lost = head.records - read
        self._count -= lost
        self._size -= head.size
        following = self._segments[0].number if self._segments else head.number + 1
        self._cursor = Position(following, 0, 0)
        head.path.unlink(missing_ok=True)
        return lost


def _scan(path: Path) -> tuple[int, int, int]:
    """Count a segment's good records; returns (records, bytes of them, bytes in the file)."""
    records = good = 0
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        while True:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                break
            length, checksum = _HEADER.unpack(header)
            if length > _MAX_RECORD:
                break
            body = file.read(length)
            if len(body) < length or zlib.crc32(body) != checksum:
                break
            records += 1
            good = file.tell()
    return records, good, total
