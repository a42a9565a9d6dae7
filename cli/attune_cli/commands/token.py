"""``attune token``: tokens for sensors outside the cluster, and why a token is refused."""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from attune_cli.errors import ExitCode, NotFoundError, RefusedError, UsageError
from attune_cli.files import write_secret
from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, say, show
from attune_cli.session import Session, asking
from attune_cli.times import length
from attune_contract.names import SENSORS
from attune_contract.telling import until

app = command_app(help="Tokens with which sensors authenticate to the API.")


@asking(app, "create")
def create(
    session: Session,
    sensor: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="The sensor that the token is for.")],
    trigger_types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="A trigger type that it may report. Repeatable. Default: those of the Sensor, if it exists.",
        ),
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long it is valid, at most 72h.")] = "24h",
    out_file: Annotated[
        Path | None, typer.Option("--out-file", help="File to write it to; only you can read that file.")
    ] = None,
    print_it: Annotated[bool, typer.Option("--print", help="Print the token.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Create a token for a sensor outside the cluster. (A sensor inside has its own, which is renewed.)"""
    if out_file is None and not print_it:
        raise UsageError("Choose where the token goes: --out-file FILE or --print.")
    namespace, name = session.place(sensor, None)
    body = {
        "sensor_ref": f"{namespace}/{name}",
        "trigger_types": trigger_types or _declared(session, namespace, name),
        "ttl_seconds": int(length(ttl).total_seconds()),
    }
    made = session.api.request("POST", "/auth/sensor-token", json=body)["data"]
    token = made["token"]
    if out_file is not None:
        write_secret(out_file, token + "\n")
    shown = {key: value for key, value in made.items() if key != "token" or print_it}
    if out_file is not None:
        shown["file"] = str(out_file)
    if output is not Format.TABLE:
        show(shown, output)
        return
    if print_it:
        typer.echo(token)
    where = f" is in {out_file}" if out_file is not None else ""
    say(
        f"The token of {made['sensor_ref']}{where}: it may report {', '.join(made['trigger_types'])}, and expires "
        f"{until(made['expires_at'], datetime.now(UTC))} ({made['expires_at']})."
    )


def _declared(session: Session, namespace: str, name: str) -> list[str]:
    try:
        body = session.kube.get(SENSORS, namespace, name)
    except NotFoundError:
        raise UsageError(
            f"There is no Sensor {namespace}/{name} to take the trigger types from; name them with --type."
        ) from None
    return [declared["name"] for declared in body["spec"]["triggerTypes"]]


@asking(app, "inspect")
def inspect(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file with the token; - for stdin.")],
    jwks: Annotated[
        Path | None, typer.Option("--jwks", help="File with the public keys. Default: the API's.", dir_okay=False)
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server. The signature is not checked.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show whose a token is, what it allows, until when, and whether it is accepted. The exit status is 1 if it is not valid."""
    from attune_cli.tokens import described, open_token, signature_problem, time_problem

    token = _read(file)
    opened = open_token(token)
    now = datetime.now(UTC)
    problems = [opened.problem] if opened.problem else []
    if opened.claims is not None and (late := time_problem(opened.claims, now)) is not None:
        problems.append(late)
    signature = "not checked"
    accepted: bool | None = None
    if jwks is not None or not offline:
        keys = _keys(jwks) if jwks is not None else session.api.request("GET", "/.well-known/jwks.json")
        wrong = signature_problem(token, keys)
        signature = "good" if wrong is None else "bad"
        problems += [wrong] if wrong is not None else []
    if not offline and jwks is None:
        accepted, reason = _accepted(session, token)
        if reason and not problems:
            problems.append(reason)
    found = {**described(opened), "signature": signature, "accepted": accepted, "problems": problems}
    show(found, output, title=_page(found, now))
    if problems:
        raise typer.Exit(ExitCode.PROBLEM)


def _accepted(session: Session, token: str) -> tuple[bool, str | None]:
    """Whether the API accepts the token now: it may have been revoked, or its Sensor deleted."""
    try:
        session.api.request("GET", "/auth/whoami", token=token)
    except RefusedError as error:
        return False, f"the API refuses it: {error}"
    return True, None


def _page(found: Mapping[str, Any], now: datetime) -> str:
    accepted = found["accepted"]
    fields = [
        ("Login", found["login"] or "-"),
        ("May report", ", ".join(found["trigger_types"] or ()) or "-"),
        ("Issued", f"{found['issued_at'] or '-'}"),
        ("Expires", f"{found['expires_at'] or '-'} ({until(found['expires_at'], now)})"),
        ("Key", f"{found['key_id'] or '-'}, signature {found['signature']}"),
        ("Accepted", "not asked" if accepted is None else "yes, by the API now" if accepted else "no"),
        *(("Problem", problem) for problem in found["problems"]),
    ]
    return "\n".join(f"{name + ':':12} {text}" for name, text in fields)


def _read(file: str) -> str:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}.") from None
    return text.strip()


def _keys(path: Path) -> Mapping[str, Any]:
    try:
        keys: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a JSON Web Key Set: {error}.") from None
    return keys
