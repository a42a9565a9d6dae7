"""``attune explain``: trigger types, their parameters and an example."""

from pathlib import Path
from typing import Annotated

import typer

from attune_cli.errors import CliError, NotFoundError
from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, as_yaml, printable, say, show
from attune_cli.session import Session, asking

app = command_app()


@asking(app)
def explain(
    session: Session,
    trigger_type: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="A trigger type or an alias, like core.crontimer.")
    ] = None,
    sensors: Annotated[
        list[Path] | None,
        typer.Option("--sensors", metavar="FILE|DIR", help="Manifests of more Sensors to look in. Repeatable."),
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a trigger type: who offers it, its parameters, its payload, and a Rule to begin with.

    It looks in the installed packs and in --sensors, then in the system that runs. Without TYPE it lists what the packs
    and --sensors offer.
    """
    from attune_cli.lint import offered_types
    from attune_cli.trigger_types import named, offered, page, rule

    types = offered_types(sensors or ())
    if trigger_type is None:
        rows = [[each.name, ", ".join(each.aliases) or "-", each.sensor] for each in types]
        show([each.plain() for each in types], output, columns=("trigger type", "aliases", "sensor"), rows=rows)
        return
    found = named(types, trigger_type)
    if found is None:
        try:
            running = offered(session.kube.list("sensors", None))
        except CliError as error:
            say(f"Only the packs were looked in: {error}")
            running = []
        found = named(running, trigger_type)
        types += running
    if found is None:
        known = ", ".join(sorted({each.name for each in types}))
        raise NotFoundError(f"There is no trigger type {trigger_type}. There are {known}. Others: --sensors FILE|DIR.")
    example = rule(name="example", trigger_type=found.name, parameters=found.example)
    text = "\n".join(printable(line) for line in page(found))
    show(found.plain(), output, title=f"{text}\n\nA Rule to begin with:\n\n{as_yaml(example)}")
