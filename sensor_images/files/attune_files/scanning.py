"""Looks at a folder, and reads its files. It blocks, so it is for threads. Symbolic links are not followed."""

import fnmatch
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from hashlib import blake2b, sha256
from heapq import nsmallest
from io import FileIO
from typing import Final

import msgspec

from attune_files.globs import matches
from attune_files.parameters import Subscription

#: Files that are under way at a time, the oldest. The next ones are found when these are done.
MOST_NEW: Final = 10_000
#: Files that are looked at.
MOST_FILES: Final = 150_000
_DEEPEST: Final = 64
#: Nanoseconds by which the time in a file may be behind: kernels write the time of their last tick.
_TICK: Final = 20_000_000
_CHUNK: Final = 1024 * 1024
#: Bytes of a file above which it has no digest: it would take too long.
MOST_DIGESTED: Final = 1024**3


class ScanError(Exception):
    """The folder cannot be looked at. The text says why."""


class GoneError(Exception):
    """The file is not there any more, or is another one."""


class File(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A version of a file. They are ordered by time, then by path.

    Attributes:
        modified: when it was written last, in nanoseconds since 1970.
        path: below the folder.
        size: bytes.
        mark: stands for all three among what is remembered.
    """

    modified: int
    path: str
    size: int
    mark: bytes


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at a folder has found.

    Attributes:
        new: files that are not known, the oldest first, MOST_NEW at most.
        known: marks of those that are.
        later: whether there are others, which were put there during the look. Of two of them, the second might have been found
            and the first one not, so they are left for the next look.
    """

    new: list[File]
    known: list[bytes]
    later: bool


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of a file: the content, if it is wanted and small; the digest, if it is wanted; or why it cannot be read."""

    raw: bytes | None = None
    digest: str = ""
    error: str = ""


def scan(root: str, subscription: Subscription, known: AbstractSet[bytes], *, all_: bool = False) -> Found:
    """Look at a folder.

    Args:
        root: the folder.
        subscription: what the rule wants.
        known: marks of files that are known.
        all_: also what is put there during the look.

    Raises:
        ScanError: it cannot be looked at, as a whole.
    """
    seen: list[bytes] = []
    later = False
    began = time.time_ns() - _TICK

    def unknown() -> Iterator[File]:
        nonlocal later
        for number, (file, changed) in enumerate(_files(root, subscription)):
            if number >= MOST_FILES:
                raise ScanError(f"it has more than {MOST_FILES} such files; move those away that are done with")
            if file.mark in known:
                seen.append(file.mark)
            elif not all_ and began <= changed <= time.time_ns():
                later = True
            else:
                yield file

    try:
        new = nsmallest(MOST_NEW, unknown())
        return Found(new=new, known=seen, later=later)
    except OSError as error:
        raise ScanError(error.strerror or str(error)) from None


def read(root: str, file: File, *, most: int, digest: bool) -> Content:
    """Read a file.

    Args:
        root: the folder.
        file: the version that is wanted.
        most: read its content if it has so many bytes or less; -1: in no case.
        digest: make its SHA-256.

    Raises:
        GoneError: it is not there any more.
    """
    try:
        with FileIO(_open(root, file.path)) as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode) or (status.st_mtime_ns, status.st_size) != (file.modified, file.size):
                raise GoneError
            raw = _whole(opened, file.size) if file.size <= most else None
            made = ""
            if digest and file.size <= MOST_DIGESTED:
                made = sha256(raw).hexdigest() if raw is not None else _digest(opened)
            return Content(raw=raw, digest=made)
    except (FileNotFoundError, NotADirectoryError):
        raise GoneError from None
    except OSError as error:
        # One that may not be read must not be in the way of all others.
        return Content(error=error.strerror or str(error))


def shown(path: str) -> str:
    """A path as text; what is no UTF-8 in it is replaced."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\ufffd")


def mark_of(path: str, modified: int, size: int) -> bytes:
    """What stands for a version of a file."""
    digest = blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8)
    digest.update(b"\0%d\0%d" % (modified, size))
    return digest.digest()


def _files(root: str, subscription: Subscription) -> Iterator[tuple[File, int]]:
    """The files that a rule wants, and when they were put there, in nanoseconds since 1970."""
    ignored = _any_of(subscription.ignore)
    folders: list[tuple[str, ...]] = [()]
    while folders:
        parts = folders.pop()
        here = "/".join((root, *parts))
        try:
            names = {entry.name for entry in _each(os.scandir(here))} if subscription.marker else set()
            entries = os.scandir(here)
        except (FileNotFoundError, NotADirectoryError):
            if not parts:
                raise
            continue  # it was removed meanwhile
        for entry in _each(entries):
            if ignored(entry.name):
                continue
            path = (*parts, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if len(path) <= (_DEEPEST if subscription.depth is None else subscription.depth):
                    folders.append(path)
            elif _wanted(path, names, subscription) and entry.is_file(follow_symlinks=False):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                text = "/".join(path)
                modified, size = status.st_mtime_ns, status.st_size
                yield (
                    File(modified=modified, path=text, size=size, mark=mark_of(text, modified, size)),
                    status.st_ctime_ns,
                )


def _each(entries: "os._ScandirIterator[str]") -> Iterator["os.DirEntry[str]"]:
    """One at a time: an entry keeps what was asked of it, and there may be 100,000."""
    with entries:
        yield from entries


def _any_of(patterns: tuple[str, ...]) -> Callable[[str], object]:
    """Whether a name is of one of these patterns."""
    return re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)").match


def _wanted(path: tuple[str, ...], names: set[str], subscription: Subscription) -> bool:
    marker = subscription.marker
    if marker and (path[-1].endswith(marker) or path[-1] + marker not in names):
        return False
    return any(matches(path, each) for each in subscription.patterns)


def _open(root: str, path: str) -> int:
    """Open a file below a folder, with no symbolic link on the way."""
    *folders, name = path.split("/")
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for each in folders:
            below = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)


def _whole(opened: FileIO, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (chunk := opened.read(size - len(found))):
        found += chunk
    if len(found) < size:
        raise GoneError
    return bytes(found)


def _digest(opened: FileIO) -> str:
    made = sha256()
    while chunk := opened.read(_CHUNK):
        made.update(chunk)
    return made.hexdigest()
