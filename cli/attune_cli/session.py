"""What every command that asks a system has in common: the flags that choose it, and the system itself.

@asking(app, "list")
def list_(session: Session, output: OutputOption = Format.TABLE) -> None:
    session.kube.list(...)
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from attune_cli.errors import UsageError

if TYPE_CHECKING:
    from attune_cli.targets.api import Api
    from attune_cli.targets.choose import Target, Wish
    from attune_cli.targets.kube import Kube

P = ParamSpec("P")

NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="Namespace. Default: that of the kubeconfig's context; under `attune up` all of them."
    ),
]
AllNamespacesOption = Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces.")]

_FLAGS: dict[str, tuple[Any, Any]] = {
    "kubeconfig": (
        Annotated[
            Path | None, typer.Option(help="Kubeconfig of the cluster. Default: KUBECONFIG, then ~/.kube/config.")
        ],
        None,
    ),
    "context": (Annotated[str | None, typer.Option(help="Context of the kubeconfig.")], None),
    "data_dir": (
        Annotated[
            Path | None,
            typer.Option(
                envvar="ATTUNE_DATA_DIR",
                help="Data directory of an `attune up`. Default: .attune in this folder or above it, if it runs.",
            ),
        ],
        None,
    ),
    "system_namespace": (
        Annotated[str, typer.Option(envvar="ATTUNE_SYSTEM_NAMESPACE", help="Namespace that Attune is installed in.")],
        "attune-system",
    ),
    "service_account": (
        Annotated[
            str | None,
            typer.Option(
                envvar="ATTUNE_SERVICE_ACCOUNT",
                metavar="NAMESPACE/NAME",
                help="Call the API with a short-lived token of this ServiceAccount.",
            ),
        ],
        None,
    ),
    "api_url": (
        Annotated[
            str | None,
            typer.Option(
                envvar="ATTUNE_API_URL", help="Address of the API. Default: found, and reached by port-forward."
            ),
        ],
        None,
    ),
    "api_token_file": (
        Annotated[Path | None, typer.Option(envvar="ATTUNE_API_TOKEN_FILE", help="File with the token for the API.")],
        None,
    ),
}


class Session:
    """One run of a command: the system that it asks, found when it is first needed."""

    def __init__(self, wish: "Wish") -> None:
        self.wish = wish
        self._target: Target | None = None

    @property
    def target(self) -> "Target":
        """The system.

        Raises:
            CliError: there is none.
        """
        if self._target is None:
            from attune_cli.targets.choose import choose, process_is_alive

            self._target = choose(self.wish, folder=Path.cwd(), environment=os.environ, alive=process_is_alive)
        return self._target

    @property
    def kube(self) -> "Kube":
        """For Sensors and Rules."""
        return self.target.kube

    @property
    def api(self) -> "Api":
        """For events, tokens and histories."""
        return self.target.api

    @property
    def home(self) -> str | None:
        """Where Sensors are looked for when no namespace is named, under ``attune up``: where the packs' own are."""
        return self.wish.system_namespace if self.target.kind == "local" else None

    def reach_api(self) -> "Api":
        """The API over a new connection."""
        self.target.drop_api()
        return self.target.api

    def scope(self, namespace: str | None, *, everywhere: bool = False) -> str | None:
        """The namespace that a list is asked for; None for all of them.

        Raises:
            UsageError: both were asked for.
        """
        if everywhere:
            if namespace is not None:
                raise UsageError("Give --namespace or --all-namespaces, not both.")
            return None
        return namespace or self.target.namespace

    def place(self, reference: str, namespace: str | None, *, home: str | None = None) -> tuple[str, str]:
        """Namespace and name of one thing, from ``NAME`` or ``NAMESPACE/NAME``.

        Args:
            reference: what the user wrote.
            namespace: of the flag.
            home: the namespace when none is named; as given by the target when None.

        Raises:
            UsageError: two namespaces were named, or it is no name.
        """
        inside, slash, name = reference.partition("/")
        if not slash:
            return namespace or home or self.target.namespace or "default", reference
        if not inside or not name or "/" in name:
            raise UsageError(f"{reference!r} is no name: write NAME, or NAMESPACE/NAME.")
        if namespace is not None and namespace != inside:
            raise UsageError(f"{reference!r} and --namespace {namespace} name two namespaces.")
        return inside, name

    def close(self) -> None:
        """Close the connections."""
        if self._target is not None:
            self._target.close()


def asking(app: typer.Typer, name: str | None = None) -> Callable[[Callable[Concatenate[Session, P], None]], Any]:
    """Make a command of a function whose first parameter is the session; the flags that choose the system are added to it."""

    def decorate(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            from attune_cli.targets.choose import Wish

            flags = {flag: given.pop(flag) for flag in _FLAGS}
            session = Session(Wish(**flags, as_plugin=Path(sys.argv[0]).stem == "kubectl-attune"))
            try:
                function(session, **given)  # type: ignore[call-arg]
            finally:
                session.close()

        signature = inspect.signature(function)
        _, *own = signature.parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            *(parameter.replace(kind=keyword) for parameter in own),
            *(
                inspect.Parameter(flag, keyword, annotation=annotation, default=default)
                for flag, (annotation, default) in _FLAGS.items()
            ),
        ]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
        app.command(name)(command)
        return command

    return decorate
