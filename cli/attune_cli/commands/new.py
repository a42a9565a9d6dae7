"""``attune new``: the files of a new sensor."""

import re
from pathlib import Path
from typing import Annotated

import typer

from attune_cli.errors import UsageError
from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, show
from attune_contract.names import TRIGGER_TYPE_PATTERN

app = command_app(help="Create something new.")


@app.command()
def sensor(
    name: Annotated[str, typer.Argument(help="The Sensor's name, like acme.files.")],
    trigger_type: Annotated[
        str | None,
        typer.Option("--type", help="Its trigger type, pack.name. Default: NAME, or NAME.file if NAME has no dot."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", help="Where to write it. Default: a folder NAME here.", file_okay=False),
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Write a small working sensor in Python, with its test, its manifest, a sample Rule and a Dockerfile."""
    from attune_cli.scaffold import Names, sensor_files

    if trigger_type is not None and not re.fullmatch(TRIGGER_TYPE_PATTERN, trigger_type):
        raise UsageError(f"{trigger_type!r} is not a trigger type; write pack.name, like acme.file.")
    names = Names.of(name, trigger_type)
    folder = directory or Path(name)
    texts = sensor_files(names)
    if there := [path for path in texts if (folder / path).exists()]:
        raise UsageError(f"{folder} already has {', '.join(there)}; nothing was written. Give another --directory.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error}.") from None
    written = "\n".join(f"  {folder / path}" for path in texts)
    show(
        {"sensor": name, "trigger_type": names.trigger_type, "files": [str(folder / path) for path in texts]},
        output,
        title=f"The sensor {name} of {names.trigger_type}:\n{written}\n\nTry it: cd {folder} && pytest && attune up .",
    )
