"""``attune sensors``: the programs that report events, and their state."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, printable, say, show
from attune_cli.session import AllNamespacesOption, NamespaceOption, Session, asking
from attune_cli.views import SENSOR_COLUMNS, as_list, sensor_page, sensor_row
from attune_contract.names import SENSORS
from attune_contract.telling import bare

app = command_app(help="Sensors: the programs that watch something and report events.")

SelectorOption = Annotated[str, typer.Option("--selector", "-l", help="Label selector, as in kubectl.")]


@asking(app, "list")
def list_(
    session: Session,
    namespace: NamespaceOption = None,
    everywhere: AllNamespacesOption = False,
    selector: SelectorOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """List Sensors: whether they are ready, how many rules they serve, when they last reported an event."""
    scope = session.scope(namespace, everywhere=everywhere)
    found = session.kube.list(SENSORS, scope, selector=selector)
    if not found and output is Format.TABLE:
        say(f"There are no Sensors in {f'namespace {scope} (-A shows all)' if scope else 'any namespace'}.")
        return
    now = datetime.now(UTC)
    show(as_list(found), output, columns=SENSOR_COLUMNS, rows=[sensor_row(body, now) for body in found])


@asking(app, "show")
def show_(
    session: Session,
    name: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    namespace: NamespaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one Sensor: its conditions with their reasons, its token, its trigger types and what they take."""
    body = session.read(SENSORS, name, namespace, home=session.home)
    text = "\n".join(printable(line) for line in sensor_page(body, datetime.now(UTC)).splitlines())
    show(bare(body), output, title=text)
