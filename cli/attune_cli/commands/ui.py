"""``attune ui``: the console in the browser, signed in."""

import contextlib
import threading
import webbrowser
from collections.abc import Iterator
from typing import Annotated

import typer

from attune_cli.errors import RejectedError, UsageError
from attune_cli.interrupting import interrupted_for_certain
from attune_cli.lazy import command_app
from attune_cli.output import say
from attune_cli.session import Session, asking
from attune_cli.targets.api import Api

app = command_app()


@asking(app)
def ui(
    session: Session,
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, help="Of this machine, for a cluster's console; 0 for a free one."),
    ] = 0,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser, or only print the link.")] = True,
) -> None:
    """Open the console in the browser, signed in with your own token. For a cluster it stays open until Ctrl-C.

    The link signs in once, within 30 seconds. The token itself is in no link and no log.
    """
    with interrupted_for_certain(), _console(session, port) as (api, stays):
        given = api.request("POST", "/console/codes")["data"]
        link = f"{api.url.rstrip('/')}/console/sign-in#code={given['code']}"
        say(f"You are signed in as {given['login']}. The link is good once, for {given['expires_in']} seconds:")
        typer.echo(link)
        if open_ and not webbrowser.open(link):
            say("There is no browser that could be opened here; open the link yourself.")
        if stays:
            say("The console is there until Ctrl-C.")
            threading.Event().wait()


@contextlib.contextmanager
def _console(session: Session, port: int) -> Iterator[tuple[Api, bool]]:
    """The API as a browser on this machine reaches it, and whether that takes this process."""
    target = session.target
    if target.forward is None or session.options.api_url is not None:
        if port:
            raise UsageError(
                "--port is for a console that is reached through the cluster; this one is reached as it is."
            )
        yield target.api, False
        return
    from attune_cli.targets.tunnel import Tunnel

    pod, secure, bearer, signed_in = target.forward()
    try:
        tunnel = Tunnel(pod, secure=secure, port=port)
    except OSError as error:
        raise RejectedError(f"Port {port} of this machine cannot be listened on: {error.strerror}.") from None
    with tunnel:
        api = Api(tunnel.url, bearer=bearer, signed_in=signed_in)
        try:
            yield api, True
        finally:
            api.close()
