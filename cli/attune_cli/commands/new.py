"""``attune new``: the manifest of a new Rule, the files of a new sensor."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attune_cli.errors import UsageError
from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, show
from attune_contract.names import TRIGGER_TYPE_PATTERN

if TYPE_CHECKING:
    from attune_cli.trigger_types import TriggerType

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


@app.command()
def rule(
    name: Annotated[str | None, typer.Argument(help="The Rule's name, like nightly-report.")] = None,
    trigger_type: Annotated[
        str | None, typer.Option("--type", help="Its trigger type, like core.crontimer; `attune explain` lists them.")
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter; the value is read as YAML. Repeatable."),
    ] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="The Rule's namespace.")] = None,
    sensors: Annotated[
        list[Path] | None,
        typer.Option("--sensors", metavar="FILE|DIR", help="Manifests of more Sensors to choose from. Repeatable."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", help="Where to write it; - for standard output. Default: NAME.yaml.", dir_okay=False
        ),
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Write a Rule's manifest. At a terminal it asks for what is not given; elsewhere it begins with the type's example."""
    from attune_cli.lint import check_rule, offered_types
    from attune_cli.output import as_yaml, printable, say
    from attune_cli.trigger_types import named
    from attune_cli.trigger_types import rule as manifest

    asks = _asks()
    types = offered_types(sensors or ())
    if trigger_type is None:
        listed = "\n".join(
            f"  {each.name:24} {' '.join(sorted(each.parameters.get('properties') or ()))}" for each in types
        )
        if not asks:
            raise UsageError(f"Which trigger type? Give --type, one of:\n{listed}")
        say(f"Trigger types, with their parameters (`attune explain TYPE` says more):\n{listed}")
        trigger_type = str(typer.prompt("Trigger type", err=True))
    found = named(types, trigger_type)
    if found is None:
        known = ", ".join(each.name for each in types)
        raise UsageError(f"There is no trigger type {trigger_type}. There are {known}. Others: --sensors FILE|DIR.")
    if name is None:
        name = str(typer.prompt("Name of the Rule", default=found.name.replace(".", "-"), err=True)) if asks else None
    if not name:
        raise UsageError("Which name? Write it last: attune new rule --type core.crontimer nightly-report.")
    given = dict(_parameter(text) for text in parameters or ())
    if not given:
        given = _asked(found) if asks else found.example
    body = manifest(name=name, trigger_type=found.name, parameters=given, namespace=namespace)
    problems = check_rule(body, sensors or ())
    for problem in problems:
        say(printable(problem))
    if problems:
        raise UsageError("Nothing was written.")
    text = as_yaml(body)
    if file == Path("-"):
        typer.echo(text, nl=False)
        return
    path = file or Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists; nothing was written. Give another --file.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
    show(
        {"rule": name, "trigger_type": found.name, "parameters": given, "file": str(path)},
        output,
        title=f"The rule {name} of {found.name} is in {path}. Try it: attune up {path}, with the Sensor's manifest beside it.",
    )


def _asks() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _parameter(text: str) -> tuple[str, Any]:
    """One ``NAME=VALUE``; the value is read as YAML.

    Raises:
        UsageError: it is not that.
    """
    import yaml

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"{text!r} is not NAME=VALUE.")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        return name, value


def _asked(found: "TriggerType") -> dict[str, Any]:
    """The required parameters, asked for one by one; the type's example is what Enter takes."""
    from attune_cli.output import as_yaml, say
    from attune_cli.trigger_types import required

    example, given = found.example, {}
    for name in required(found.parameters) or list(example):
        declared = (found.parameters.get("properties") or {}).get(name) or {}
        if text := " ".join(str(declared.get("description", "")).split()):
            say(f"{name}: {text}")
        shown = as_yaml(example.get(name)).strip().removesuffix("...").strip() if name in example else None
        answer = str(typer.prompt(name, default=shown, err=True))
        given[name] = example[name] if answer == shown else _parameter(f"{name}={answer}")[1]
    return given
