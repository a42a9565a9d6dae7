"""``attune top``: a live view of rates, lateness, lag, spools and runs."""

import json
import os
import signal
import sys
import threading
from typing import Annotated, Any

import typer

from attune_cli.errors import CliError, ExitCode
from attune_cli.lazy import command_app
from attune_cli.output import COLOURS, Format, OutputOption, colours, painted, printable, show
from attune_cli.session import AllNamespacesOption, NamespaceOption, Session, asking
from attune_cli.top.picture import Line, picture
from attune_cli.top.reading import Reader
from attune_cli.top.view import View, compare

app = command_app()

#: Columns where there is no terminal.
_COLUMNS = 120


@asking(app)
def top(
    session: Session,
    namespace: NamespaceOption = None,
    everywhere: AllNamespacesOption = False,
    once: Annotated[
        bool, typer.Option("--once", help="Measure once, print, and end; so it is without a terminal.")
    ] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.2, max=60, help="Seconds between two looks.")] = 2.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what happens now: what is wrong, rates of events and runs, how late timers are, what waits. Ctrl-C ends it.

    With --output json it prints one object a line for each look; with --once one object.
    """
    # Python's own KeyboardInterrupt may be lost in a destructor or an import; this is not.
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    reader = Reader(session, namespace=namespace, everywhere=everywhere)
    asked = session.target.name
    if once or (output is Format.TABLE and not sys.stdout.isatty()):
        _once(reader, stop, asked, interval, output)
    elif output is Format.TABLE:
        _live(reader, stop, asked, interval)
    else:
        _lines(reader, stop, interval, output)
    if stop.is_set():
        _end()


def _end() -> None:
    """End at once: a page that gives no answer holds up nobody who has pressed Ctrl-C."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ExitCode.INTERRUPTED)


def _once(reader: Reader, stop: threading.Event, asked: str, interval: float, output: Format) -> None:
    before = reader.read()
    if stop.wait(interval):
        return
    view = compare(before, reader.read())
    reader.close()
    if output is not Format.TABLE:
        show(view.plain(), output)
        return
    columns = os.get_terminal_size().columns if sys.stdout.isatty() else _COLUMNS
    for line in picture(view, asked=asked, columns=columns, lines=None):
        typer.echo(painted(line.text, line.tone))


def _lines(reader: Reader, stop: threading.Event, interval: float, output: Format) -> None:
    before = reader.read()
    while not stop.wait(interval):
        now = reader.read()
        plain: dict[str, Any] = compare(before, now).plain()
        if output is Format.JSON:
            typer.echo(json.dumps(plain, ensure_ascii=False))
        else:
            typer.echo("---")
            show(plain, output)
        before = now


def _live(reader: Reader, stop: threading.Event, asked: str, interval: float) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False, no_color=not colours())

    def drawn(lines: list[Line]) -> Group:
        return Group(
            *(
                Text(line.text, style=COLOURS[line.tone] if line.tone else "bold" if line.bold else "", no_wrap=True)
                for line in lines
            )
        )

    latest: list[View] = []
    fault: list[str] = []
    fresh = threading.Event()

    def ask() -> None:
        before = None
        while not stop.is_set():
            try:
                now = reader.read()
            except CliError as error:
                fault[:] = [str(error)]
                before = None
            except Exception as error:  # said on the screen: a thread that died would leave an old picture there
                fault[:] = [f"this is a bug: {type(error).__name__}: {error}"]
                before = None
            else:
                fault.clear()
                if before is not None:
                    latest[:] = [compare(before, now)]
                before = now
            fresh.set()
            stop.wait(interval)

    # The terminal is the main thread's: it goes on when a page hangs.
    threading.Thread(target=ask, daemon=True, name="top").start()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        live.update(drawn([Line(f"{printable(asked)}: measuring for {interval:g} s …")]), refresh=True)
        size = console.size
        while not stop.wait(0.1):
            if not fresh.is_set() and console.size == size:
                continue
            fresh.clear()
            size = console.size
            lines = [Line(f"! {printable(problem)}", "bad") for problem in fault]
            if latest:
                lines += picture(latest[0], asked=asked, columns=size.width, lines=size.height - len(lines))
            if lines:
                live.update(drawn(lines), refresh=True)
