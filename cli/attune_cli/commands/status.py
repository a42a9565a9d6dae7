"""``attune status``: which system is asked, what runs there, what is wrong, and what to do."""

import typer

from attune_cli.checklist import print_checks
from attune_cli.errors import ExitCode
from attune_cli.lazy import command_app
from attune_cli.looked import Looked
from attune_cli.looking import look
from attune_cli.output import Format, OutputOption, printable, show
from attune_cli.session import AllNamespacesOption, NamespaceOption, Session, asking

app = command_app()


@asking(app)
def status(
    session: Session,
    namespace: NamespaceOption = None,
    everywhere: AllNamespacesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what runs, what is wrong and what to do. The exit status is 1 when something is wrong.

    Covers all namespaces if you may list them, otherwise one.
    """
    target = session.target
    found = list(look(Looked(session, namespace, everywhere)))
    wrong = [check for check in found if check.state == "problem"]
    data = {
        "target": {"kind": target.kind, "name": target.name, "why": target.why},
        "ok": not wrong,
        "checks": [check.plain() for check in found],
    }
    if output is Format.TABLE:
        typer.echo(f"Asked: {printable(target.name)} ({printable(target.why)})\n")
        print_checks(found)
    else:
        show(data, output)
    if wrong:
        raise typer.Exit(ExitCode.PROBLEM)
