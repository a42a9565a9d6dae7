"""``attune doctor``: a list of checks on the terminal, and a bundle of what support needs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from attune_cli.checklist import print_checks
from attune_cli.checks import Check
from attune_cli.doctor import checks
from attune_cli.doctor.bundle import Bundle
from attune_cli.doctor.collect import Collector, secret_names, versions
from attune_cli.doctor.folder import FolderReader, folder_secrets, stored_secrets
from attune_cli.doctor.masking import Masker
from attune_cli.doctor.tasks import Task, run_all
from attune_cli.errors import CliError, ExitCode, NotFoundError, UnreachableError
from attune_cli.lazy import command_app
from attune_cli.looked import Looked
from attune_cli.looking import guarded, look
from attune_cli.metrics import Sample, samples
from attune_cli.output import Format, OutputOption, printable, say, show
from attune_cli.session import AllNamespacesOption, NamespaceOption, Session, asking
from attune_cli.targets.choose import find_data_dir
from attune_cli.targets.pages import Page, Pages, Part, find_pods, parts_of
from attune_contract import __version__
from attune_contract.names import RULES, SENSORS
from attune_contract.telling import Object

app = command_app()


@asking(app)
def doctor(
    session: Session,
    namespace: NamespaceOption = None,
    everywhere: AllNamespacesOption = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="The bundle. Default: attune-doctor-TIME.tar.gz in this folder.")
    ] = None,
    bundle: Annotated[bool, typer.Option("--bundle/--no-bundle", help="Write a bundle, or only check.")] = True,
    log_lines: Annotated[int, typer.Option("--log-lines", min=0, max=20_000, help="Last lines of each log.")] = 500,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds for what goes into the bundle.")] = 60.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Check everything, and write a bundle of what support needs, with secrets masked.

    The bundle has objects, logs, health and metrics, and no Secret. What cannot be read is listed in its file not-read.txt. Look
    through it before you give it away. The exit status is 1 when something is wrong.
    """
    try:
        asked = f"{session.target.name} ({session.target.why})"
    except UnreachableError as error:
        folder = session.options.data_dir or find_data_dir(Path.cwd())
        if folder is None or not folder.is_dir():
            raise
        asked = f"the data folder {folder} (nothing runs with it)"
        found, written = stopped(folder, error, log_lines=log_lines, timeout=timeout)
    else:
        found, written = _Doctor(session, namespace, everywhere, log_lines=log_lines, timeout=timeout).examine()
    now = datetime.now(UTC)
    target = out or Path(f"attune-doctor-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    if bundle:
        plain = [check.plain() for check in found]
        written.add_value("checks.json", plain)
        written.write(target, folder=target.name.partition(".")[0], now=now)
    _report(asked, found, written if bundle else None, target, output)
    if any(check.state == "problem" for check in found):
        raise typer.Exit(ExitCode.PROBLEM)


def stopped(folder: Path, error: CliError, *, log_lines: int, timeout: float) -> tuple[list[Check], Bundle]:
    """What is left of an ``attune up`` that does not run: its logs."""
    bundle = Bundle(Masker(folder_secrets(folder)))
    bundle.add_value("versions.json", versions())
    run_all(FolderReader(bundle, lines=log_lines).tasks(folder), bundle, seconds=timeout)
    log = folder / "logs" / "attune-up.log"
    advice = f"look at the end of {log}, then start it again"
    return [Check(name="attune up", state="problem", message=str(error), advice=advice)], bundle


def _report(asked: str, found: list[Check], written: Bundle | None, target: Path, output: Format) -> None:
    if output is not Format.TABLE:
        data: dict[str, Any] = {
            "asked": asked,
            "ok": not any(check.state == "problem" for check in found),
            "checks": [check.plain() for check in found],
        }
        if written is not None:
            data["bundle"] = {"file": str(target), "files": len(written.files), "notRead": list(written.notes)}
        show(data, output)
        return
    typer.echo(f"Asked: {printable(asked)}\n")
    print_checks(found)
    if written is not None:
        typer.echo(
            f"\nBundle: {target} ({target.stat().st_size // 1024 + 1} KiB, {len(written.files)} files, secrets masked)"
        )
        if written.notes:
            say(f"{len(written.notes)} things could not be read, or not all of them: see not-read.txt in it.")


class _Doctor:
    def __init__(
        self, session: Session, namespace: str | None, everywhere: bool, *, log_lines: int, timeout: float
    ) -> None:
        self._session = session
        self._looked = Looked(session, namespace, everywhere)
        self._timeout = timeout
        self._lines = log_lines
        self._home = session.options.system_namespace
        self._local = session.target.kind == "local"

    def examine(self) -> tuple[list[Check], Bundle]:
        session = self._session
        bundle = Bundle(Masker(self._known()))
        bundle.add_value("versions.json", versions())
        found = list(look(self._looked))
        if any(check.name == "Cluster" and check.state == "problem" for check in found):
            bundle.note("everything else", "not read: the cluster gave no answer")
            return found, bundle
        sensors, rules = self._objects(SENSORS, bundle), self._objects(RULES, bundle)
        pages = Pages(session.target)
        try:
            collector = Collector(session, bundle, pages, log_lines=self._lines)
            collector.of_objects(sensors, rules)
            pods = self._pods(bundle, sensors)
            collector.of_pods(pods)
            parts = parts_of(session.target, pods)
            tasks = [*collector.of_pages(parts), *self._tasks(collector, bundle, [*sensors, *rules], pods)]
            run_all(tasks, bundle, seconds=self._timeout)
        finally:
            pages.close()
        found += self._checks(sensors, parts, dict(collector.read))
        return found, bundle

    def _known(self) -> Iterator[str]:
        """Secrets that the command line itself knows."""
        target = self._session.target
        try:
            if (token := target.kube.access.bearer()) is not None:
                yield token
        except CliError:
            pass
        if target.data_dir is not None:
            yield from folder_secrets(target.data_dir)
            yield from stored_secrets(target.kube)

    def _objects(self, plural: str, bundle: Bundle) -> list[Object]:
        try:
            return [*self._looked.objects(plural)]
        except CliError as error:
            bundle.note(f"{plural}.json", f"not read: {error}")
            return []

    def _pods(self, bundle: Bundle, sensors: list[Object]) -> list[dict[str, Any]]:
        try:
            pods, problems = find_pods(
                self._session.target,
                ours=self._looked.pods,
                namespace=self._looked.namespace,
                instead=_namespaces(sensors),
            )
        except CliError as error:
            pods, problems = [], [str(error)]
        for path, problem in product(("pods.json", "pages"), problems):
            bundle.note(path, f"not read: {problem}")
        return pods

    def _tasks(
        self, collector: Collector, bundle: Bundle, bodies: list[Object], pods: list[dict[str, Any]]
    ) -> Iterator[Task]:
        if (folder := self._session.target.data_dir) is not None:
            yield from collector.of_local_objects()
            yield from FolderReader(bundle, lines=self._lines).tasks(folder)
        else:
            bundle.add_value("cluster/version.json", self._looked.version()[0])
            yield from collector.of_cluster(self._home, _namespaces(bodies))
        if not self._local:  # else the data folder has them
            yield from collector.of_logs(pods)

    # -- checks

    def _checks(self, sensors: list[Object], parts: list[Part], read: dict[tuple[Part, str], Page]) -> Iterator[Check]:
        now = datetime.now(UTC)
        metrics = ((part, samples(page.text)) for (part, path), page in read.items() if path == "/metrics")
        pages: list[tuple[Part, list[Sample]]] = list(metrics)
        if not self._local:
            yield from guarded("Definitions", self._definitions)
            yield from guarded("Versions", self._versions)
        yield from checks.readiness(parts, read)
        yield from checks.connections(pages)
        yield from guarded("Clocks", lambda: checks.clocks(self._clocks(read)))
        yield from checks.tokens(sensors, now)
        yield from checks.secrets(sensors, secret_names(self._session, _namespaces(sensors)))
        if not self._local:
            yield from guarded("Your rights", lambda: checks.rights(self._rights()))

    def _definitions(self) -> Iterator[Check]:
        from attune_contract.crds import definitions

        wanted = {body["metadata"]["name"]: body for body in definitions().values()}
        found: dict[str, Object | None] = {}
        for name in wanted:
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
            try:
                found[name] = self._session.kube.request("GET", path, what=f"definition {name}")
            except NotFoundError:
                found[name] = None
        yield from checks.definitions(found, wanted)

    def _versions(self) -> Iterator[Check]:
        yield from checks.versions(__version__, self._looked.pods())

    def _clocks(self, read: dict[tuple[Part, str], Page]) -> dict[str, timedelta]:
        offsets = checks.offsets(read)
        if not self._local and (ahead := self._looked.version()[1]) is not None:
            offsets["the Kubernetes API server"] = ahead
        return offsets

    def _rights(self) -> Iterator[tuple[str, str, str, str, bool]]:
        own = self._session.scope(self._looked.namespace) or "default"
        asked = [(right, own) for right in checks.RIGHTS] + [(right, self._home) for right in checks.HOME_RIGHTS]
        for (verb, group, resource, purpose), namespace in asked:
            kind, _, sub = resource.partition("/")
            attributes = {"verb": verb, "group": group, "resource": kind, "subresource": sub, "namespace": namespace}
            answer = self._session.kube.request(
                "POST",
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                json={
                    "apiVersion": "authorization.k8s.io/v1",
                    "kind": "SelfSubjectAccessReview",
                    "spec": {"resourceAttributes": attributes},
                },
            )
            yield verb, resource, namespace, purpose, bool(answer["status"]["allowed"])


def _namespaces(bodies: list[Object]) -> list[str]:
    return sorted({body["metadata"]["namespace"] for body in bodies})
