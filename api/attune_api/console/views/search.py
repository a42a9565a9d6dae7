"""What people write into the fields of a search, as the API's filters have it."""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from attune_api.events.query.filters import MAX_PAYLOAD_FILTERS, InvalidFilterError, PayloadFilter
from attune_api.web.cursors import Cursor, InvalidCursorError
from attune_api.web.problems import ProblemError

_AGO: Final = re.compile(r"([0-9]{1,6})\s*(s|m|h|d)(\s+ago)?")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(text: str, now: datetime) -> datetime | None:
    """A time as people write it: ``15m``, ``2h ago``, ``2026-11-24T06:00``, in UTC where no zone is named; None for nothing.

    Raises:
        ProblemError: 422, it is none.
    """
    text = text.strip()
    if not text:
        return None
    if (ago := _AGO.fullmatch(text)) is not None:
        return now - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ProblemError(
            422, f"{text[:40]!r} is no time; write 15m, 2h, 3d, or 2026-11-24T06:00Z.", kind="invalid-request"
        ) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def payload_filters(text: str) -> tuple[PayloadFilter, ...]:
    """``user.name=ann status=500`` as filters of the payload.

    Raises:
        ProblemError: 422, it cannot be meant.
    """
    parts = text.split()
    if len(parts) > MAX_PAYLOAD_FILTERS:
        raise ProblemError(422, f"There are more than {MAX_PAYLOAD_FILTERS} payload filters.", kind="invalid-request")
    found = []
    for part in parts:
        path, equals, value = part.partition("=")
        if not equals:
            detail = f"{part[:80]!r} is no filter; write a field and its value, like user.name=ann."
            raise ProblemError(422, detail, kind="invalid-request")
        try:
            found.append(PayloadFilter.parse(path, value))
        except InvalidFilterError as error:
            raise ProblemError(422, f"{part[:80]}: {error}.", kind="invalid-request") from None
    return tuple(found)


@contextlib.contextmanager
def filters_told() -> Iterator[None]:
    """Say what is wrong with filters that the API's models refuse.

    Raises:
        ProblemError: 422, they cannot be meant.
    """
    try:
        yield
    except ValidationError as error:
        raise ProblemError(
            422, f"The filter cannot be meant: {error.errors()[0]['msg']}.", kind="invalid-request"
        ) from None


def beyond(cursor: str | None) -> int | None:
    """The place behind which the next page begins, newest first; None for the first page.

    Raises:
        ProblemError: 400, it is no cursor of such a list.
    """
    if not cursor:
        return None
    try:
        return Cursor.decode(cursor, order="desc").seq
    except InvalidCursorError as error:
        raise ProblemError(400, str(error), kind="invalid-cursor") from None
