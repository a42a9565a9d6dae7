"""Keeps the store what the manifests say: at the start, and within a second of every edit.

A file that cannot be read, or a document that is wrong, changes nothing: what was running of it goes on, and one sentence with
file and line says why. A field that a file sets is applied when the file's text for that field changes. So what was changed
elsewhere (`attune rules disable`) holds until the file says something else about that very field; across runs, too.

An object is deleted when no file has had it for :data:`HOLD` seconds. A folder that is rendered again, a branch that is checked
out, an editor that saves by deleting first: the objects keep their uids, and with them phase, history and event ids.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from attune_contract import names
from attune_local.admission import Checked, Problem
from attune_local.manifests.reading import QUIET, Key, Reader, Scan
from attune_local.objects.store import ObjectStore
from attune_operator.public.backend import ClusterError
from attune_operator.public.objects import CONFIG_MAP, NAMESPACE, RULE, SECRET, SENSOR, Kind, Object

_log = structlog.stdlib.get_logger(__name__)

#: Field manager of what files say; shown as who changed a Rule.
MANAGER: Final = "attune-up"
#: On each object: the file that it is from.
MANIFEST: Final = f"{names.GROUP}/manifest"
#: Seconds for which an object must be missing from all files before it is deleted.
HOLD: Final = 5.0
#: In the order in which they are created: what others need comes first.
_KINDS: Final = {"Namespace": NAMESPACE, "Secret": SECRET, "ConfigMap": CONFIG_MAP, "Sensor": SENSOR, "Rule": RULE}
#: Seconds between looks where the system does not report changes (network folders, containers).
_POLL: Final = 0.8
#: Seconds that the first look waits for files that are being written.
_FIRST_PATIENCE: Final = 2.0


class Manifests:
    """Files and folders that are followed.

    Args:
        paths: which.
        store: what is kept up to date.
        on_problem: called with each mistake once, when it appears.
        reader: reads the paths; one of its own unless given.
        hold: seconds before a missing object is deleted.
        monotonic: seconds, from any beginning.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        store: ObjectStore,
        *,
        on_problem: Callable[[Problem], None],
        reader: Reader | None = None,
        hold: float = HOLD,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = list(paths)
        self._store = store
        self._on_problem = on_problem
        self._reader = reader or Reader(paths)
        self._hold = hold
        self._monotonic = monotonic
        self._missing: dict[Key, float] = {}
        self._reported: set[Problem] = set()
        self._loaded = False
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
        scan = await asyncio.to_thread(self._reader.look)
        deadline = self._monotonic() + _FIRST_PATIENCE
        while scan.unsettled and self._monotonic() < deadline:
            await asyncio.sleep(QUIET / 2)
            scan = await asyncio.to_thread(self._reader.look)
        self.apply(scan)

    async def run(self) -> None:
        """Follow the files until cancelled. Nothing that a file says ends this."""
        from watchfiles import awatch  # here: it is not needed before everything runs

        changed = asyncio.Event()

        async def watch() -> None:
            folders = {path if path.is_dir() else path.parent for path in self._paths if path.exists()}
            try:
                async for _ in awatch(*folders, recursive=False, debounce=50, step=20, rust_timeout=1000):
                    changed.set()
            except (OSError, RuntimeError) as error:
                _log.warning("files_not_watched", error=str(error), then=f"they are polled every {_POLL} s")

        watching = asyncio.create_task(watch(), name="manifests: watch")
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(QUIET if self.scan.unsettled else _POLL):
                        await changed.wait()
                changed.clear()
                await self.refresh()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def refresh(self) -> None:
        """Read what has changed and apply it."""
        try:
            scan = await asyncio.to_thread(self._reader.look)
            if scan is not self.scan or self._missing:
                self.apply(scan)
        except FileNotFoundError as error:
            # A file or folder that was named is away: everything of it stays until it is back.
            self._report(
                [Problem(source=str(error.args[0]), line=0, field="", message="it is away; what came of it stays")]
            )
        except Exception:
            _log.exception("manifests_not_applied")

    # -- applying

    def apply(self, scan: Scan) -> None:
        """Bring the store to what was read."""
        self.scan = scan
        problems = list(scan.problems)
        wanted: list[tuple[Kind, Object]] = []
        moved: list[tuple[Kind, Object]] = []
        for name, kind in _KINDS.items():
            for checked in (found for found in scan.objects.values() if found.key[0] == name):
                body = _stored(checked)
                before = self._store.applied(kind, body, manager=MANAGER)
                if before is None or _content(before) != _content(body):
                    wanted.append((kind, body))
                elif _source(self._store.get(kind, body["metadata"].get("namespace"), body["metadata"]["name"])) != (
                    _source(body)
                ):
                    moved.append((kind, body))
        problems += self._apply_all(wanted)
        for kind, body in moved:
            metadata = body["metadata"]
            place = {"metadata": {"annotations": {MANIFEST: _source(body)}}}
            self._store.merge(kind, metadata.get("namespace"), metadata["name"], place, manager=MANAGER)
        self._remove_missing(all_at_once=not self._loaded)
        self._loaded = True
        self._report(problems)

    def _report(self, problems: Iterable[Problem]) -> None:
        problems = list(problems)
        for problem in problems:
            if problem not in self._reported:
                self._on_problem(problem)
        self._reported = set(problems)

    def _apply_all(self, wanted: list[tuple[Kind, Object]]) -> list[Problem]:
        """Apply all at once; one by one where that fails, so that one object keeps no other from being applied."""
        if not wanted:
            return []
        try:
            self._store.apply_all(wanted, manager=MANAGER, only_changes=True)
        except Exception:
            _log.exception("manifests_applied_one_by_one", objects=len(wanted))
        else:
            _log.info("manifests_applied", objects=len(wanted))
            return []
        problems = []
        for kind, body in wanted:
            try:
                self._store.apply_all([(kind, body)], manager=MANAGER, only_changes=True)
            except Exception as error:
                metadata = body["metadata"]
                checked = self.find(kind.kind, metadata.get("namespace", ""), metadata["name"])
                _log.exception("manifest_not_applied", kind=kind.kind, name=metadata["name"])
                reason = (
                    str(error) if isinstance(error, ClusterError) else f"{type(error).__name__}, please report this"
                )
                if checked is not None:
                    message = f"{kind.kind} {metadata['name']} cannot be stored: {reason}"
                    problems.append(Problem(source=checked.source, line=checked.line, field="", message=message))
        return problems

    def _remove_missing(self, *, all_at_once: bool) -> None:
        """Delete what no file has had for a while; at the start what is missing goes at once."""
        now = self._monotonic()
        missing: dict[Key, float] = {}
        for name, kind in reversed(_KINDS.items()):
            for body in self._store.list_objects(kind):
                metadata = body["metadata"]
                key = (name, metadata.get("namespace", ""), metadata["name"])
                source = _source(body)
                if not source or key in self.scan.objects or source in self.scan.kept:
                    continue
                since = self._missing.get(key, now)
                if all_at_once or now - since >= self._hold:
                    self._store.remove(kind, body)
                    _log.info("manifest_gone", kind=name, name=key[2], namespace=key[1], file=source)
                else:
                    missing[key] = since
        self._missing = missing


def _stored(checked: Checked) -> Object:
    """The object as it is applied: with the file that it is from."""
    metadata = checked.object["metadata"]
    annotations = {**(metadata.get("annotations") or {}), MANIFEST: str(Path(checked.source).absolute())}
    return {**checked.object, "metadata": {**metadata, "annotations": annotations}}


def _source(body: Object | None) -> str:
    """The file that an object is from; empty when it is from none."""
    metadata: dict[str, Any] = (body or {}).get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(MANIFEST) or "")


def _content(body: Object) -> Object:
    """What a file says of an object, without the file's name: a file that is renamed changes nothing."""
    metadata = {**(body.get("metadata") or {})}
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != MANIFEST}
    said = {key: metadata[key] for key in ("labels", "ownerReferences") if metadata.get(key)}
    rest = {key: value for key, value in body.items() if key not in ("metadata", "apiVersion", "kind", "status")}
    return {**rest, "metadata": {**said, "annotations": annotations}}
