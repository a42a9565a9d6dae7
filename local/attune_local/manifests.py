"""Keeps the store what the manifests say: at the start, and within a second of every edit.

A file that cannot be read, or a document that is wrong, changes nothing: what was running of it goes on, and one sentence with
file and line says why. What a file says of an object is applied when that changes, so what was changed elsewhere meanwhile
(`attune rules disable`) holds until the file says something else of it; across runs, too.
"""

import asyncio
import base64
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from attune_contract import names
from attune_local.admission import Checked, Problem, Result, check_text, manifest_files
from attune_local.admission.files import SUFFIXES
from attune_local.objects.store import ObjectStore
from attune_operator.public.objects import CONFIG_MAP, NAMESPACE, RULE, SECRET, SENSOR, Kind, Object

_log = structlog.stdlib.get_logger(__name__)

#: Field manager of what files say; shown as who changed a Rule.
MANAGER: Final = "attune-up"
#: On each object: the file that it is from.
MANIFEST: Final = f"{names.GROUP}/manifest"
#: In the order in which they are made: what others lean on comes first.
_KINDS: Final = {"Namespace": NAMESPACE, "Secret": SECRET, "ConfigMap": CONFIG_MAP, "Sensor": SENSOR, "Rule": RULE}
#: Seconds between looks where the system tells of no change (network folders, containers).
_POLL: Final = 0.8
_LARGEST: Final = 16 * 1024 * 1024

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _File:
    signature: tuple[int, int, int]
    result: Result


@dataclass(slots=True)
class Scan:
    """What the files say now. ``kept`` are files that hold mistakes: what came of them before stays."""

    objects: dict[Key, Checked] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)


class Manifests:
    """Files and folders that are followed.

    Args:
        paths: which.
        store: what is kept up to date.
        on_problem: told each mistake once, when it appears.
    """

    def __init__(self, paths: Sequence[Path], store: ObjectStore, *, on_problem: Callable[[Problem], None]) -> None:
        self._paths = list(paths)
        self._store = store
        self._on_problem = on_problem
        self._files: dict[Path, _File] | None = None
        self._on_change: set[Problem] = set()
        self.scan = Scan()

    def find(self, kind: str, namespace: str, name: str) -> Checked | None:
        """Where an object is written."""
        return self.scan.objects.get((kind, namespace, name))

    def folder_of(self, kind: str, namespace: str, name: str) -> Path | None:
        """The folder of the manifest that an object is from."""
        found = self.find(kind, namespace, name)
        return Path(found.source).absolute().parent if found is not None else None

    async def load(self) -> None:
        """Read everything and apply it.

        Raises:
            FileNotFoundError: a path does not exist.
        """
        self.apply(await asyncio.to_thread(self._read))

    async def run(self) -> None:
        """Follow the files until cancelled."""
        from watchfiles import awatch  # here: nobody needs it before everything runs

        changed = asyncio.Event()

        async def watch() -> None:
            folders = {path if path.is_dir() else path.parent for path in self._paths}
            try:
                async for _ in awatch(*folders, recursive=False, debounce=50, step=20, rust_timeout=1000):
                    changed.set()
            except (OSError, RuntimeError) as error:
                _log.warning("files_not_watched", error=str(error), then=f"they are looked at every {_POLL} s")

        watching = asyncio.create_task(watch(), name="manifests: watch")
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL):
                        await changed.wait()
                changed.clear()
                with contextlib.suppress(FileNotFoundError):  # a file that was named and is away for a moment
                    scan = await asyncio.to_thread(self._read)
                    if scan is not self.scan:
                        self.apply(scan)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    # -- reading (in a thread)

    def _read(self) -> Scan:
        """What the files say; the same object as before when nothing has changed."""
        found: dict[Path, _File] = {}
        for path in manifest_files(self._paths):
            with contextlib.suppress(OSError):  # gone between two looks
                stat = path.stat()
                signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                old = (self._files or {}).get(path)
                if old is not None and old.signature == signature:
                    found[path] = old
                else:
                    found[path] = _File(signature, _result(path, stat.st_size))
        before = self._files
        same = before is not None and found.keys() == before.keys()
        if before is not None and same and all(file is before[path] for path, file in found.items()):
            return self.scan
        self._files = found
        return _collect(file.result for file in found.values())

    # -- applying

    def apply(self, scan: Scan) -> None:
        """Bring the store to what was read."""
        self.scan = scan
        for problem in scan.problems:
            if problem not in self._on_change:
                self._on_problem(problem)
        self._on_change = set(scan.problems)
        wanted: list[tuple[Kind, Object]] = []
        for name, kind in _KINDS.items():
            for checked in (found for found in scan.objects.values() if found.key[0] == name):
                body = _stored(checked)
                if not self._store.is_applied(kind, body, manager=MANAGER):
                    wanted.append((kind, body))
        if wanted:
            self._store.apply_all(wanted, manager=MANAGER)
            _log.info("manifests_applied", objects=len(wanted))
        for name, kind in reversed(_KINDS.items()):
            for body in self._store.list_objects(kind):
                self._remove_if_gone(name, kind, body)

    def _remove_if_gone(self, name: str, kind: Kind, body: Object) -> None:
        metadata = body["metadata"]
        source = (metadata.get("annotations") or {}).get(MANIFEST)
        key = (name, metadata.get("namespace", ""), metadata["name"])
        if source is None or key in self.scan.objects or source in self.scan.kept:
            return
        self._store.remove(kind, body)
        _log.info("manifest_gone", kind=name, name=metadata["name"], namespace=metadata.get("namespace"), file=source)


def _result(path: Path, size: int) -> Result:
    source = _shown(path)
    if size > _LARGEST:
        message = f"the file has more than {_LARGEST // 1024 // 1024} MiB"
        return Result(problems=[Problem(source=source, line=1, field="", message=message)])
    try:
        return check_text(path.read_text(encoding="utf-8"), source=source)
    except (OSError, UnicodeDecodeError) as error:
        return Result(problems=[Problem(source=source, line=1, field="", message=f"it cannot be read: {error}")])


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


def _stored(checked: Checked) -> Object:
    """The object as it is applied: with where it is from, and Secrets as an API server keeps them."""
    body: dict[str, Any] = {**checked.object}
    annotations = {**(body["metadata"].get("annotations") or {}), MANIFEST: _absolute(checked.source)}
    body["metadata"] = {**body["metadata"], "annotations": annotations}
    if checked.key[0] == "Secret" and (texts := body.pop("stringData", None)):
        encoded = {key: base64.b64encode(str(text).encode()).decode("ascii") for key, text in texts.items()}
        body["data"] = {**(body.get("data") or {}), **encoded}
    return body


__all__ = ["MANAGER", "MANIFEST", "SUFFIXES", "Manifests", "Scan"]
