"""Lists of things that come in pages and can be followed: events and runs."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import typer

from attune_cli.errors import UsageError
from attune_cli.interrupting import interrupted_for_certain
from attune_cli.output import Cell, Format, as_yaml, print_table, printable, say
from attune_cli.session import Session

Thing = Mapping[str, Any]
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A kind of thing that a command lists.

    Attributes:
        things: its name in sentences, in the plural.
        path: where the API has its pages; its stream is below.
        columns: heads of the table.
        widths: of the columns while following, when the width of the next line is not known.
        row: the cells of one line.
    """

    things: str
    path: str
    columns: Sequence[str]
    widths: Sequence[int]
    row: Callable[[Thing], Sequence[str | Cell]]

    def show(
        self,
        session: Session,
        query: Callable[[], Mapping[str, str]],
        *,
        limit: int,
        follow: bool,
        count: int | None,
        ended: bool,
        output: Format,
    ) -> None:
        """Print the last ``limit``, the newest at the end, and with ``follow`` what comes then.

        Args:
            session: where to ask.
            query: filters, as the API takes them.
            limit: how many; 0 for all.
            follow: whether to go on.
            count: with ``follow``, how many at most.
            ended: whether the filters have an end in time.
            output: as what.

        Raises:
            UsageError: options that contradict each other.
        """
        if count is not None and not follow:
            raise UsageError(f"--count needs --follow; use --limit to say how many {self.things} to list.")
        if follow and ended:
            raise UsageError("--follow has no end in time; leave out --until.")
        wanted = query()
        if follow:
            with interrupted_for_certain():
                self._print_each(islice(self._followed(session, wanted, limit=limit), count), output)
            return
        found = self._last(session, wanted, limit) if limit else self._pages(session, wanted, order="asc")
        if output is not Format.TABLE:
            self._print_each(found, output)
            return
        rows = [self.row(each) for each in found]
        if rows:
            print_table(self.columns, rows)
        else:
            where = f"in namespace {wanted['rule_namespace']}" if "rule_namespace" in wanted else "in any namespace"
            filtered = wanted.keys() - {"rule_namespace"}
            say(f"No {self.things} {where} match." if filtered else f"There are no {self.things} {where}.")

    def _pages(
        self, session: Session, query: Mapping[str, str], *, order: str, size: int = _PAGE
    ) -> Iterator[dict[str, Any]]:
        parameters = {**query, "order": order, "limit": str(size)}
        while True:
            page = session.api.request("GET", self.path, params=parameters)
            yield from page["data"]
            if page["next_cursor"] is None:
                return
            parameters["cursor"] = page["next_cursor"]

    def _last(self, session: Session, query: Mapping[str, str], limit: int) -> Iterator[dict[str, Any]]:
        return iter(list(islice(self._pages(session, query, order="desc"), limit))[::-1])

    def _followed(self, session: Session, query: Mapping[str, str], *, limit: int) -> Iterator[dict[str, Any]]:
        """The newest ones, then new ones, with nothing missing in between."""
        from attune_cli.following import follow

        # First the stream's position, then the list: what comes in between is in the list.
        scope = {name: value for name, value in query.items() if name == "rule_namespace"}
        head = next((each["seq"] for each in self._pages(session, scope, order="desc", size=1)), 0)
        for each in self._last(session, query, limit):
            head = max(head, each["seq"])
            yield each
        yield from follow(session.reach_api, query=query, after=head, on_notice=say, path=f"{self.path}/stream")

    def _print_each(self, found: Iterable[Thing], output: Format) -> None:
        """Print one by one, as they arrive."""
        begun = False
        for each in found:
            match output:
                case Format.JSON:
                    typer.echo(json.dumps(each, ensure_ascii=False, separators=(",", ":")))
                case Format.YAML:
                    typer.echo(f"---\n{as_yaml(each)}", nl=False)
                case Format.TABLE:
                    if not begun:
                        typer.echo(self._line([name.upper() for name in self.columns]))
                    typer.echo(self._line(self.row(each)))
            begun = True

    def _line(self, cells: Sequence[str | Cell]) -> str:
        texts = [cell.text if isinstance(cell, Cell) else cell for cell in cells]
        return "   ".join(printable(text).ljust(width) for text, width in zip(texts, self.widths, strict=True)).rstrip()
