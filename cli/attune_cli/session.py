"""What all commands that ask a system share: the flags that choose the system, and the system itself.

@asking(app, "list")
def list_(session: Session, output: OutputOption = Format.TABLE) -> None:
    session.kube.list(...)
"""

import contextlib
import dataclasses
import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from attune_cli.errors import CliError, NotFoundError, UsageError

if TYPE_CHECKING:
    from attune_cli.targets.api import Api
    from attune_cli.targets.choose import Target, TargetOptions
    from attune_cli.targets.kube import Kube

P = ParamSpec("P")


class OptionGroup:
    """Options that several commands share: a dataclass with one field per option, annotated like a command's parameter.

    A function under :func:`asking` gets all of them in one parameter of that type.
    """

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        """The options, as keyword parameters."""
        hints = get_type_hints(cls, include_extras=True)
        return [
            inspect.Parameter(
                option.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[option.name], default=option.default
            )
            for option in dataclasses.fields(cls)  # type: ignore[arg-type]
        ]


NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="Namespace. Default: the kubeconfig context's; under `attune up`, all namespaces."
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
                help="Data directory of an `attune up`. Default: .attune in this folder or above it, if one runs there.",
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
                envvar="ATTUNE_API_URL", help="Address of the API. Default: a pod of the API, through a port-forward."
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

    def __init__(self, options: "TargetOptions") -> None:
        self.options = options
        self._target: Target | None = None

    @property
    def target(self) -> "Target":
        """The system.

        Raises:
            CliError: there is no system to ask.
        """
        if self._target is None:
            from attune_cli.targets.choose import choose, process_is_alive

            self._target = choose(self.options, folder=Path.cwd(), environment=os.environ, alive=process_is_alive)
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
        """Under ``attune up``, the namespace of Sensors that are named without one: that of the packs."""
        return self.options.system_namespace if self.target.kind == "local" else None

    def reach_api(self) -> "Api":
        """The API over a new connection."""
        self.target.drop_api()
        return self.target.api

    def scope(self, namespace: str | None, *, everywhere: bool = False) -> str | None:
        """The namespace to list; None for all.

        Raises:
            UsageError: both flags were given.
        """
        if everywhere:
            if namespace is not None:
                raise UsageError("Give --namespace or --all-namespaces, not both.")
            return None
        return namespace or self.target.namespace

    def place(self, reference: str, namespace: str | None, *, home: str | None = None) -> tuple[str, str]:
        """Namespace and name of one object, from ``NAME`` or ``NAMESPACE/NAME``.

        Args:
            reference: what the user wrote.
            namespace: of the flag.
            home: the namespace when none is named; None for the target's.

        Raises:
            UsageError: two different namespaces were named, or the reference is not a name.
        """
        inside, slash, name = reference.partition("/")
        if not slash:
            return namespace or home or self.target.namespace or "default", reference
        if not inside or not name or "/" in name:
            raise UsageError(f"{reference!r} is not a name; write NAME or NAMESPACE/NAME.")
        if namespace is not None and namespace != inside:
            raise UsageError(f"{reference!r} and --namespace {namespace} name two different namespaces.")
        return inside, name

    def read(self, plural: str, reference: str, namespace: str | None, *, home: str | None = None) -> dict[str, Any]:
        """One Sensor or Rule, named as in :meth:`place`.

        Raises:
            NotFoundError: there is none. The text names those of that name in other namespaces.
        """
        place = self.place(reference, namespace, home=home)
        try:
            return self.kube.get(plural, *place)
        except NotFoundError as error:
            others: tuple[str, ...] = ()
            if namespace is None and "/" not in reference:
                with contextlib.suppress(CliError):  # no right to list them: then without a suggestion
                    others = self.kube.namespaces_of(plural, reference)
            if not others:
                raise
            raise NotFoundError(
                f"{error} Did you mean {' or '.join(f'{other}/{reference}' for other in others)}?"
            ) from None

    def close(self) -> None:
        """Close the connections."""
        if self._target is not None:
            self._target.close()


def asking(app: typer.Typer, name: str | None = None) -> Callable[[Callable[Concatenate[Session, P], None]], Any]:
    """Turn a function whose first parameter is the session into a command.

    It adds the flags that choose the system. A parameter of an :class:`OptionGroup` becomes that group's options.
    """

    def decorate(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        _, *own = signature.parameters.values()
        groups = {parameter.name: parameter.annotation for parameter in own if _is_group(parameter.annotation)}

        @functools.wraps(function)
        def command(**given: Any) -> None:
            from attune_cli.targets.choose import TargetOptions

            flags = {flag: given.pop(flag) for flag in _FLAGS}
            for parameter, group in groups.items():
                given[parameter] = group(**{option.name: given.pop(option.name) for option in group.parameters()})
            session = Session(TargetOptions(**flags, as_plugin=Path(sys.argv[0]).stem == "kubectl-attune"))
            try:
                function(session, **given)  # type: ignore[call-arg]
            finally:
                session.close()

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters: list[inspect.Parameter] = []
        for parameter in own:
            group = groups.get(parameter.name)
            parameters += group.parameters() if group is not None else [parameter.replace(kind=keyword)]
        parameters += [
            inspect.Parameter(flag, keyword, annotation=annotation, default=default)
            for flag, (annotation, default) in _FLAGS.items()
        ]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
        app.command(name)(command)
        return command

    return decorate


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, OptionGroup)
