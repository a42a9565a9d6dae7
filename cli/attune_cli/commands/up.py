"""``attune up``: a thin command over :mod:`attune_local`."""

import re
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from attune_cli.errors import CliError, UsageError
from attune_cli.lazy import command_app
from attune_contract.local import DATA_DIR_NAME

app = command_app()

_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class LogFormat(StrEnum):
    """How logs are written."""

    TEXT = "text"
    JSON = "json"


class Shown(StrEnum):
    """Output formats."""

    AUTO = "auto"
    LIVE = "live"
    PLAIN = "plain"
    JSON = "json"


def seconds(text: str) -> float:
    """A duration like 20s, 1.5m or 500ms; a bare number is seconds.

    Raises:
        UsageError: the text is not a duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a duration; write it like 20s, 5m or 1h.")
    return float(match["number"]) * _UNITS[match["unit"] or "s"]


@app.command()
def up(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR|FILE...",
            help="Files and folders with manifests, as for kubectl apply -f; a kustomization; - for standard input.",
        ),
    ],
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="Read the folders inside folders, too.")] = False,
    output: Annotated[
        Shown,
        typer.Option(
            "--output",
            "-o",
            help="live: a view for terminals; plain: a line per event; json: a JSON line per event on stdout; "
            "auto: live on a terminal, otherwise plain.",
        ),
    ] = Shown.AUTO,
    exit_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after this time, like 20s, counted from the start.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="First delete everything that earlier runs left.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help=f"Folder that keeps state between runs.  [default: {DATA_DIR_NAME}]"),
    ] = None,
    api_port: Annotated[
        int, typer.Option(min=0, max=65535, help="The API's port; 0: the port of the last run, or a free one.")
    ] = 0,
    nats_port: Annotated[int, typer.Option(min=0, max=65535, help="NATS's port; 0 as above.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not show what sensors print.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also print attune up's own log.")] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(envvar="ATTUNE_LOG_FORMAT", help="How that log is printed; its file has JSON in any case."),
    ] = LogFormat.TEXT,
) -> None:
    """Run manifests on this machine, without a cluster: NATS, the API, the operator, and each Sensor as processes.

    Changes take effect at once: edited, new and removed files. Ctrl-C stops everything.
    """
    try:
        import_module("attune_api")  # runs as a program of its own
        from attune_local.datadir import default_path
        from attune_local.errors import UpError
        from attune_local.up import Options, run
    except ImportError as error:
        raise CliError(
            f"attune up needs more than the command line ({error.name} is missing): pip install 'attune-cli[local]'."
        ) from None
    options = Options(
        paths=paths,
        recursive=recursive,
        data_dir=data_dir or default_path(),
        fresh=fresh,
        output=output.value,
        exit_after=None if exit_after is None else seconds(exit_after),
        api_port=api_port,
        nats_port=nats_port,
        verbose=verbose,
        log_format=log_format.value,
        quiet=quiet,
    )
    try:
        run(options)
    except UpError as error:
        raise CliError(str(error)) from None
