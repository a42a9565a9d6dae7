"""``attune lint``: mistakes in manifests, before they are applied."""

from pathlib import Path
from typing import Annotated

import typer

from attune_cli.errors import CliError, ExitCode
from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, printable, say, show

app = command_app()


@app.command()
def lint(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|DIR...", help="Manifests, and folders with manifests (*.yaml, *.yml, *.json)."),
    ],
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
    output: OutputOption = Format.TABLE,
) -> None:
    """Check manifests offline: schemas, CEL rules, trigger types and parameters. The exit status is 1 if something is wrong.

    Each mistake is a line FILE:LINE: FIELD: what is wrong. Warnings are marked, and do not change the exit status.
    Rules are checked against the Sensors in the same files and those of the core pack.
    """
    from attune_cli.lint import core_pack, read  # here, so that `attune lint --help` is fast
    from attune_cli.lint import lint as judge

    for path in paths:
        _no_empty_folder(path)
    beside = [*(sensors or ()), *(core_pack() if core else ())]
    known = [checked for _, result in read(beside, namespace=namespace) for checked in result.objects]
    report = judge(read(paths, namespace=namespace), known=known, allow_unknown_types=allow_unknown_types)
    if output is Format.TABLE:
        for finding in report.findings:
            typer.echo(printable(str(finding)))
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
        }
        show(data, output)
    if any(finding.severity == "error" for finding in report.findings):
        raise typer.Exit(ExitCode.PROBLEM)


def _no_empty_folder(path: Path) -> None:
    """Refuse a folder without manifests, which is not a folder without mistakes.

    Raises:
        CliError: the folder has no manifests. The text names subfolders that have some.
    """
    from attune_local.admission.files import manifest_files

    if not path.is_dir() or manifest_files([path]):
        return
    inside = [str(folder) for folder in sorted(path.iterdir()) if folder.is_dir() and manifest_files([folder])]
    advice = f" Name them: {' '.join(inside)}" if inside else ""
    raise CliError(f"There is no manifest in {path}; subfolders are not searched.{advice}", code=ExitCode.USAGE)
