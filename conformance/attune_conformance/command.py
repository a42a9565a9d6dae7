"""``attune conformance -- COMMAND…``: options and output."""

import asyncio
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from attune_conformance import report
from attune_conformance.check import Check
from attune_conformance.checks import all_checks
from attune_conformance.nats_server import ServerNotFoundError, program
from attune_conformance.profile import Profile, ProfileError, parse_object, read_manifest
from attune_conformance.runner import run_checks
from attune_contract.identity import SensorRef

_USAGE: Final = 2


def conformance(
    command: Annotated[list[str] | None, typer.Argument(help="The sensor program and its arguments, after --.")] = None,
    trigger_type: Annotated[
        str | None, typer.Option(help="The trigger type to examine. Default: the manifest's first one.")
    ] = None,
    parameters: Annotated[
        str,
        typer.Option(help="Parameters (JSON) with which a rule fires repeatedly; $rule in them is the rule's name."),
    ] = "{}",
    bad_parameters: Annotated[
        str | None,
        typer.Option(help="Parameters (JSON) that the sensor must reject. Default: rejection is not examined."),
    ] = None,
    every: Annotated[float, typer.Option(help="A rule fires at least once in this many seconds.", min=0.05)] = 1.0,
    repeatable: Annotated[
        bool, typer.Option(help="Whether two instances report the same occurrences, as clocks do.")
    ] = True,
    occurrence: Annotated[
        str | None,
        typer.Option(help="The payload field that distinguishes occurrences of a rule, where occurred_at does not."),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="A Sensor's manifest, with its trigger types, configuration and name.")
    ] = None,
    environment: Annotated[
        list[str] | None, typer.Option("--env", help="An additional environment variable for the sensor, NAME=VALUE.")
    ] = None,
    port: Annotated[
        list[str] | None,
        typer.Option(help="Name of a port that it listens on; ATTUNE_PORT_<NAME> gets a free number."),
    ] = None,
    stimulus: Annotated[
        str | None,
        typer.Option(
            help="A program that causes occurrences; it runs next to the sensor, with the sensor's environment."
        ),
    ] = None,
    grace: Annotated[float, typer.Option(help="How many seconds the sensor has after SIGTERM.", min=1)] = 10.0,
    slack: Annotated[
        float,
        typer.Option(
            help="How many seconds longer than expected anything may take; raise it on a busy machine.", min=1
        ),
    ] = 20.0,
    only: Annotated[list[str] | None, typer.Option("--check", help="Run only this check. Repeatable.")] = None,
    list_checks: Annotated[bool, typer.Option("--list", help="List the checks and exit.")] = False,
    parallel: Annotated[int, typer.Option(help="How many checks run at the same time.", min=1, max=64)] = 4,
    output: Annotated[str, typer.Option(help="text or json, on standard output.")] = "text",
    junit: Annotated[Path | None, typer.Option(help="Write the results to this file as JUnit XML.")] = None,
    logs: Annotated[
        Path | None, typer.Option(help="Keep the output of failed checks here instead of in a temporary folder.")
    ] = None,
) -> None:
    """Examine a sensor program, in any language, against the sensor protocol.

    The exit status is 0 if the sensor conforms, 1 if it does not, 2 if the command line is wrong.
    """
    checks = all_checks()
    if list_checks:
        for check in checks.values():
            typer.echo(f"{check.name:<24} {check.level:<7} {check.title}")
        return
    try:
        chosen = _chosen(checks, only or [])
        profile = _profile(
            command or [],
            manifest=manifest,
            trigger_type=trigger_type,
            parameters=parse_object(parameters, what="--parameters"),
            bad_parameters=None if bad_parameters is None else parse_object(bad_parameters, what="--bad-parameters"),
            every=every,
            repeatable=repeatable,
            occurrence=occurrence,
            environment=environment or [],
            ports=port or [],
            stimulus=tuple(shlex.split(stimulus or "")),
            grace=grace,
            slack=slack,
        )
        if output not in ("text", "json"):
            raise ProfileError(f"--output: {output!r} is neither text nor json")
        program()
    except (ProfileError, ServerNotFoundError) as error:
        typer.echo(f"attune conformance: {error}", err=True)
        raise typer.Exit(_USAGE) from None
    folder = logs or Path(tempfile.mkdtemp(prefix="attune-conformance-"))
    folder.mkdir(parents=True, exist_ok=True)
    # Lines for people go to standard error when standard output is for a program.
    show = sys.stdout if output == "text" else sys.stderr
    results = asyncio.run(
        run_checks(
            chosen,
            profile=profile,
            folder=Path(tempfile.mkdtemp(prefix="run-", dir=folder)),
            parallel=parallel,
            on_result=lambda result: print(report.line(result), file=show, flush=True),
        )
    )
    typer.echo(report.summary(results), err=output != "text")
    if output == "json":
        typer.echo(report.as_json(results))
    if junit is not None:
        junit.write_text(report.as_junit(results), encoding="utf-8")
    if logs is None and not any(result.log for result in results):
        shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(1 if any(result.counts for result in results) else 0)


def _chosen(checks: dict[str, Check], names: list[str]) -> list[Check]:
    unknown = [name for name in names if name not in checks]
    if unknown:
        raise ProfileError(f"there is no check {', '.join(unknown)}; see attune conformance --list")
    return [checks[name] for name in names] or list(checks.values())


def _profile(
    command: list[str],
    *,
    manifest: Path | None,
    trigger_type: str | None,
    environment: list[str],
    ports: list[str],
    **rest: Any,
) -> Profile:
    config: dict[str, Any] = {}
    ref = SensorRef("conformance", "under.test")
    if manifest is not None:
        sensor = read_manifest(manifest)
        types = [declared.name for declared in sensor.spec.trigger_types]
        if trigger_type is None:
            trigger_type = types[0]
        elif trigger_type not in types:
            raise ProfileError(f"{manifest} provides {', '.join(types)}, and not {trigger_type}")
        ports = ports or [listening.name for listening in sensor.spec.ports]
        config, ref = dict(sensor.spec.config or {}), sensor.ref
        command = command or [*(sensor.spec.command or []), *(sensor.spec.args or [])]
    if not command:
        raise ProfileError(
            "which program? Write it last: attune conformance --trigger-type acme.file -- python sensor.py"
        )
    if trigger_type is None:
        raise ProfileError("which trigger type? Give --trigger-type, or --manifest with the Sensor's manifest")
    if shutil.which(command[0]) is None:
        raise ProfileError(f"there is no program {command[0]!r}")
    variables = dict(_variable(text) for text in environment)
    return Profile(
        command=tuple(command),
        trigger_type=trigger_type,
        config=config,
        environment=variables,
        ports=tuple(ports),
        sensor=ref,
        **rest,
    )


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ProfileError(f"--env: {text!r} is not NAME=VALUE")
    return name, value
