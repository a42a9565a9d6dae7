"""A group that imports a command when it is called: ``attune --help`` imports none of them."""

import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

from attune_cli.errors import CliError, ExitCode


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that is not imported yet: its module has an ``app``, and ``help`` is its line in the list of commands.

    ``extra`` is the extra of the distribution ``attune-cli`` that brings what the command needs, if it needs more than that.
    """

    module: str
    help: str
    extra: str | None = None


def command_app(*, help: str | None = None) -> typer.Typer:  # noqa: A002 - typer's word
    """The ``app`` of a command's module.

    Args:
        help: what the group is for, when there are several commands in it (or may be); None for a single command.
    """
    made = typer.Typer(
        help=help,
        add_completion=False,
        no_args_is_help=help is not None,
        rich_markup_mode=None,  # plain help: quicker, and the same in a terminal and in a file
        pretty_exceptions_enable=False,
    )
    if help is not None:
        made.callback()(_group)  # with a callback it is a group also while it has one command only
    return made


def _group() -> None:
    pass


class LazyGroup(TyperGroup):
    """The root group. Subclasses name the commands; errors of all of them end here."""

    lazy: dict[str, Lazy]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lazy = dict(type(self).lazy)

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands' names, in the order in which help shows them."""
        return list(self.lazy)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the command; None when there is none of that name.

        Raises:
            CliError: the command's extra is not installed.
        """
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return None
        try:
            module = importlib.import_module(entry.module)
        except ModuleNotFoundError as error:
            if entry.extra is None:
                raise
            needs = f"attune {cmd_name} needs more than the command line ({error.name} is missing)"
            raise CliError(f"{needs}: pip install 'attune-cli[{entry.extra}]'.", code=ExitCode.USAGE) from None
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does; ``commands`` is what it looks up to say "Did you mean"."""
        if args and args[0] not in self.lazy:
            self.commands = dict.fromkeys(self.lazy)  # type: ignore[assignment]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.lazy.items()])

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what goes wrong becomes a sentence on stderr and an exit status."""
        try:
            return super().invoke(ctx)
        except CliError as error:
            typer.echo(f"attune: {error}", err=True)
            raise typer.Exit(int(error.code)) from None
        except BrokenPipeError:
            # The reader of our output stopped reading (`attune events list | head`).
            # What is still buffered goes nowhere, so that the interpreter's own flush does not fail (Python docs, "SIGPIPE").
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(int(ExitCode.OK)) from None
        except (typer.Exit, typer.Abort, KeyboardInterrupt):
            raise
        except Exception as error:
            if _is_usage(error):
                raise
            typer.echo(_internal(error), err=True)
            raise typer.Exit(int(ExitCode.INTERNAL)) from None


def _is_usage(error: Exception) -> bool:
    # Typer carries its own copy of click and exports no base class of its usage errors but this.
    return any(base.__name__ == "ClickException" for base in type(error).__mro__)


def _internal(error: Exception) -> str:
    text = f"attune: this is a bug: {type(error).__name__}: {error}"
    if os.environ.get("ATTUNE_DEBUG"):
        return f"{traceback.format_exc()}{text}"
    return f"{text}\nSet ATTUNE_DEBUG=1 to see where it came from, and please report it."
