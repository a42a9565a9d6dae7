"""Reads changed manifests when they are no longer being written."""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from attune_local.admission import Checked, Problem, Result, check_text
from attune_local.admission.files import Found, find
from attune_local.manifests import kustomize
from attune_local.manifests.writers import being_written

_log = structlog.stdlib.get_logger(__name__)

#: Seconds for which a file must not have changed before it is read.
QUIET: Final = 0.25
#: Seconds after which a file is read although somebody still has it open for writing.
PATIENCE: Final = 30.0
_LARGEST: Final = 16 * 1024 * 1024

Key = tuple[str, str, str]
_Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file said when it was like this."""

    signature: tuple[_Signature, ...]
    result: Result


@dataclass(slots=True)
class Scan:
    """What the files say now.

    Attributes:
        objects: by kind, namespace and name.
        problems: what is wrong with files and documents.
        kept: files of which not everything is known, since they hold mistakes or are being written: what came of them stays.
        unsettled: some files are being written; they have to be looked at again soon.
    """

    objects: dict[Key, Checked] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    unsettled: bool = False


class Reader:
    """Files and folders, read again where they have changed.

    Args:
        paths: which.
        recursive: folders inside folders, too.
        stdin: what came from standard input, once.
        writers: which of some files are being written.
        monotonic: seconds, from any beginning.
        now: seconds since the epoch, as files' times are.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        recursive: bool = False,
        stdin: str | None = None,
        writers: Callable[[list[Path]], set[Path]] = being_written,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._paths = list(paths)
        self._recursive = recursive
        self._writers = writers
        self._monotonic = monotonic
        self._now = now
        self._stdin = [] if stdin is None else [check_text(stdin, source="standard input")]
        self._before: dict[Path, _Read] | None = None
        self._changing: dict[Path, tuple[tuple[_Signature, ...], float, float]] = {}
        self.scan = Scan()

    def found(self) -> Found:
        """What there is.

        Raises:
            FileNotFoundError: a path that is named does not exist.
        """
        return find(self._paths, recursive=self._recursive)

    def look(self) -> Scan:
        """What the files say; the same object as before when nothing has changed.

        Raises:
            FileNotFoundError: a path that is named does not exist.
        """
        found = self.found()
        sources: dict[Path, list[Path]] = {path: [path] for path in found.files}
        sources |= {folder: kustomize.inputs(folder) for folder in found.kustomizations}
        before = self._before or {}
        signatures = {path: _signature(files) for path, files in sources.items()}
        changed = [path for path in sources if path not in before or before[path].signature != signatures[path]]
        waiting = self._not_yet(changed, signatures, sources)
        after: dict[Path, _Read] = {}
        for path, signature in signatures.items():
            if path in waiting:
                if path in before:
                    after[path] = before[path]
            elif path in before and before[path].signature == signature:
                after[path] = before[path]
            elif signature:
                after[path] = _Read(signature, _kustomized(path) if path in found.kustomizations else _result(path))
        same = self._before is not None and after.keys() == before.keys()
        settled = not waiting and not self.scan.unsettled
        if same and settled and all(each is before[path] for path, each in after.items()):
            return self.scan
        self._before = after
        self.scan = _collect([*self._stdin, *(each.result for each in after.values())])
        self.scan.kept |= {_absolute(_shown(path)) for path in waiting}
        self.scan.unsettled = bool(waiting)
        return self.scan

    def _not_yet(
        self,
        changed: list[Path],
        signatures: Mapping[Path, tuple[_Signature, ...]],
        sources: Mapping[Path, list[Path]],
    ) -> set[Path]:
        """Which of the files that have changed may not be read yet."""
        now, clock = self._monotonic(), self._now()
        changing = {}
        for path in changed:
            signature, first, since = self._changing.get(path, (None, now, now))
            if signature != signatures[path]:
                since = now
                newest = max((each[0] for each in signatures[path]), default=0) / 1e9
                if signature is None and clock - newest > QUIET:
                    since = now - QUIET  # it has been like this for a while
            changing[path] = (signatures[path], first, since)
        self._changing = changing
        restless = {path for path, (_, _, since) in changing.items() if now - since < QUIET}
        quiet = [path for path in changed if path not in restless]
        held = self._writers([file for path in quiet for file in sources[path]]) if quiet else set()
        return {
            path
            for path in changed
            if now - changing[path][1] < PATIENCE and (path in restless or any(file in held for file in sources[path]))
        }


def _signature(files: Iterable[Path]) -> tuple[_Signature, ...]:
    """What changes when one of the files does; empty when none is there."""
    signature = []
    for path in files:
        with contextlib.suppress(OSError):  # gone between two looks
            status = path.stat()
            signature.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(signature)


def _result(path: Path) -> Result:
    source = _shown(path)
    try:
        if path.stat().st_size > _LARGEST:
            return _problem(source, f"the file has more than {_LARGEST // 1024 // 1024} MiB")
        return check_text(path.read_text(encoding="utf-8"), source=source)
    except (OSError, UnicodeDecodeError) as error:
        return _problem(source, f"it cannot be read: {error}")
    except Exception as error:
        # No document may end the run. A bug of ours is reported and logged.
        _log.exception("manifest_not_judged", file=source)
        return _problem(source, f"it cannot be judged ({type(error).__name__}); please report this")


def _kustomized(folder: Path) -> Result:
    source = _shown(folder)
    built = kustomize.build(folder)
    if built.problem:
        return _problem(source, built.problem)
    return check_text(built.text, source=source)


def _problem(source: str, message: str) -> Result:
    return Result(problems=[Problem(source=source, line=1, field="", message=message)])


def _shown(path: Path) -> str:
    """A path as somebody at a terminal would write it."""
    with contextlib.suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)


def _absolute(source: str) -> str:
    return str(Path(source).absolute())


def _collect(results: Iterable[Result]) -> Scan:
    """All files together; of an object that stands in two files the first holds."""
    scan = Scan()
    for result in results:
        scan.problems += result.problems
        scan.kept |= {_absolute(problem.source) for problem in result.problems}
        for checked in result.objects:
            first = scan.objects.setdefault(checked.key, checked)
            if first is not checked:
                kind, namespace, name = checked.key
                message = f"{kind} {namespace}/{name} stands in {first.source}:{first.line} already, which holds"
                scan.problems.append(Problem(source=checked.source, line=checked.line, field="", message=message))
    return scan
