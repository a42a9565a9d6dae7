"""``attune lint``: mistakes in manifests, before they are applied."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attune_cli.errors import CliError, ExitCode
from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, printable, say, show

if TYPE_CHECKING:
    from attune_cli.lint import BoundRule
    from attune_cli.next_times import NextTimes

app = command_app()


@app.command()
def lint(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|DIR...",
            help="Manifests, folders with manifests (*.yaml, *.yml, *.json) or a kustomization, - for standard input.",
        ),
    ],
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="Read the folders inside folders, too.")] = False,
    sensors: Annotated[
        list[Path] | None,
        typer.Option(
            "--sensors", metavar="FILE|DIR", help="More Sensors that Rules may refer to; not checked. Repeatable."
        ),
    ] = None,
    core: Annotated[bool, typer.Option("--core/--no-core", help="Let Rules refer to the core pack's Sensors.")] = True,
    allow_unknown_types: Annotated[
        bool,
        typer.Option("--allow-unknown-types", help="Accept Rules with a trigger type that no known Sensor offers."),
    ] = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace of objects that do not name one.")
    ] = "default",
    following: Annotated[
        int,
        typer.Option("--next", metavar="N", min=0, max=1000, help="Say when each timer Rule fires the next N times."),
    ] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Check manifests offline: schemas, CEL rules, trigger types and parameters. The exit status is 1 if something is wrong.

    Each mistake is a line FILE:LINE: FIELD: what is wrong. Warnings are marked, and do not change the exit status.
    Rules are checked against the Sensors in the same files and those of the core pack.
    """
    from attune_cli.lint import core_pack, read  # here, so that `attune lint --help` is fast
    from attune_cli.lint import lint as judge

    _say_what_is_not_read(paths, recursive=recursive)
    beside = [*(sensors or ()), *(core_pack() if core else ())]
    known = [checked for _, result in read(beside, namespace=namespace) for checked in result.objects]
    report = judge(
        read(paths, namespace=namespace, recursive=recursive), known=known, allow_unknown_types=allow_unknown_types
    )
    times = _next_times(report.bound, number=following) if following else []
    if output is Format.TABLE:
        for finding in report.findings:
            typer.echo(printable(str(finding)))
        for each in times:
            for text in each.lines():
                typer.echo(printable(text))
        many = sum(finding.severity == "error" for finding in report.findings)
        say(
            f"{report.objects} objects in {report.files} files: "
            f"{'no mistake' if not many else 'one mistake' if many == 1 else f'{many} mistakes'}."
        )
    else:
        data = {
            "files": report.files,
            "objects": report.objects,
            "findings": [finding.plain() for finding in report.findings],
            **({"next": [each.plain() for each in times]} if following else {}),
        }
        show(data, output)
    if any(finding.severity == "error" for finding in report.findings):
        raise typer.Exit(ExitCode.PROBLEM)


def _next_times(rules: "Sequence[BoundRule]", *, number: int) -> "list[NextTimes]":
    """When each timer Rule fires next.

    Raises:
        CliError: the timer is not installed.
    """
    try:
        from attune_cli.next_times import TIMERS, next_times
    except ModuleNotFoundError as error:
        raise CliError(
            f"--next needs the timer itself ({error.name} is missing): pip install 'attune-cli[local]'.",
            code=ExitCode.USAGE,
        ) from None
    now = datetime.now(UTC)
    return [
        next_times(rule.object, trigger_type=rule.trigger_type, file=rule.file, line=rule.line, number=number, now=now)
        for rule in rules
        if rule.trigger_type in TIMERS
    ]


def _say_what_is_not_read(paths: list[Path], *, recursive: bool) -> None:
    """Name what is passed over. A folder without manifests is not a folder without mistakes.

    Raises:
        CliError: there is nothing to judge in some folder; the text says where something may be.
    """
    from attune_local.admission import STDIN, find

    for path in paths:
        if path == STDIN or not path.is_dir():
            continue
        found = find([path], recursive=recursive)
        for note in found.notes:
            say(f"{note.path}: {note.message}.")
        if not found.files and not found.kustomizations:
            raise CliError(f"There is no manifest in {path}.", code=ExitCode.USAGE)
