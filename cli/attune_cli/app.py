"""The command ``attune`` itself, and the list of its commands."""

from typing import Annotated

import typer

from attune_cli.lazy import Lazy, LazyGroup
from attune_contract import __version__

#: All commands, in the order in which ``attune --help`` lists them. A new command is a module with an ``app``, and a line here.
COMMANDS = {
    "up": Lazy("attune_cli.commands.up", "Run manifests on this machine, without a cluster."),
    "status": Lazy("attune_cli.commands.status", "Show what runs, what is wrong, and what to do."),
    "top": Lazy("attune_cli.commands.top", "Show rates, lateness, what waits and what is wrong, live."),
    "ui": Lazy("attune_cli.commands.ui", "Open the console in the browser, signed in."),
    "doctor": Lazy("attune_cli.commands.doctor", "Check everything, and write a bundle for support, secrets masked."),
    "sensors": Lazy("attune_cli.commands.sensors", "List and show Sensors."),
    "rules": Lazy("attune_cli.commands.rules", "List, show, test, enable and disable Rules; show their history."),
    "events": Lazy("attune_cli.commands.events", "List, follow, count, show and replay events."),
    "runs": Lazy("attune_cli.commands.runs", "List, follow, show and retry runs of actions."),
    "token": Lazy("attune_cli.commands.token", "Create and inspect tokens of sensors."),
    "keys": Lazy("attune_cli.commands.keys", "Rotate the signing keys."),
    "lint": Lazy("attune_cli.commands.lint", "Check manifests offline, with file and line."),
    "convert": Lazy("attune_cli.commands.convert", "Translate manifests of Argo Events, Knative and StackStorm."),
    "explain": Lazy("attune_cli.commands.explain", "Show trigger types, their parameters and an example."),
    "new": Lazy(
        "attune_cli.commands.new", "Create a new Rule, or a new sensor with its test, manifest and Dockerfile."
    ),
    "conformance": Lazy(
        "attune_cli.commands.conformance", "Examine a sensor program against the sensor protocol.", extra="conformance"
    ),
    "version": Lazy("attune_cli.commands.version", "Print the version."),
}


class _Attune(LazyGroup):
    lazy = COMMANDS


app = typer.Typer(
    cls=_Attune,
    help="Sensors, Rules and events, in a cluster or under `attune up`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def version() -> str:
    """The installed version."""
    return __version__


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"attune {version()}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""
