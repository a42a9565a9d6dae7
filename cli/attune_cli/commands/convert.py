"""``attune convert``: Rules out of the manifests of Argo Events, Knative and StackStorm."""

from pathlib import Path
from typing import Annotated

import typer

from attune_cli.errors import ExitCode
from attune_cli.files import read_manifest
from attune_cli.lazy import command_app
from attune_cli.output import Format, as_yaml, printable, say, show

app = command_app()


@app.command()
def convert(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Manifests; - for standard input.")],
    output: Annotated[Format, typer.Option("--output", "-o", help="yaml for kubectl, or json.")] = Format.YAML,
) -> None:
    """Translate EventSources and Sensors of Argo Events, PingSources, ApiServerSources and Triggers of Knative, and rules of
    StackStorm into Rules, on standard output.

    What is not translated, or not exactly, is listed on standard error as FILE:LINE: FIELD: why. Then the exit status is 1.
    Check the result with `attune lint`.
    """
    from attune_cli.convert.files import convert as translate

    done = translate((str(file), read_manifest(file)) for file in files)
    if output is Format.JSON:
        show({"apiVersion": "v1", "kind": "List", "items": done.objects}, Format.JSON)
    else:
        for body in done.objects:
            typer.echo(f"---\n{as_yaml(body)}", nl=False)
    for note in done.notes:
        say(printable(str(note)))
    many = len(done.notes)
    say(f"{len(done.objects)} Rules; {'nothing' if not many else f'{many} things'} to look at.")
    if many:
        raise typer.Exit(ExitCode.PROBLEM)
