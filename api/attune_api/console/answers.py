"""What the console answers with: pages from templates, and headers that keep everything foreign out."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi.responses import RedirectResponse, Response

from attune_contract.telling import age, until

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

#: Nothing but our own files, nothing inline, nothing evaluated; in nobody's frame.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; font-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_ASSETS: Final = Path(__file__).parent / "assets"
_TYPES: Final = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
_NAMES: Final = ("console.css", "console.js", "htmx.min.js", "icon.svg")


@cache
def assets() -> dict[str, tuple[str, bytes]]:
    """The assets by the names that they are served under, which change with their content: type and content."""
    found = {}
    for name in _NAMES:
        content = (_ASSETS / name).read_bytes()
        stem, _, ending = name.rpartition(".")
        digest = hashlib.sha256(content).hexdigest()[:16]
        found[f"{stem}.{digest}.{ending}"] = (_TYPES[ending], content)
    return found


@cache
def _served_as() -> dict[str, str]:
    return dict(zip(_NAMES, assets(), strict=True))


@cache
def environment() -> "Environment":
    """The templates, loaded when the first page is asked for: who does not open the console does without Jinja."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["asset"] = lambda name: f"assets/{_served_as()[name]}"
    made.filters["age"] = age
    made.filters["until"] = until
    made.filters["told"] = _told
    made.filters["plural"] = lambda number, one, many: f"{number:,} {one if number == 1 else many}"
    return made


def _told(sentence: str) -> "Markup":
    """A sentence as HTML, with what is between backticks as code."""
    from markupsafe import Markup, escape

    parts = [str(escape(part)) for part in sentence.split("`")]
    if len(parts) % 2 == 0:
        return escape(sentence)
    text = "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
    return Markup(text)  # noqa: S704 - every part of it was escaped


def page(
    template: str, *, root: str, status: int = 200, headers: Mapping[str, str] | None = None, **shown: Any
) -> Response:
    """A page.

    Args:
        template: its name.
        root: what a proxy has put before our paths; usually empty.
        status: of HTTP.
        headers: further headers.
        shown: what the template shows.
    """
    text = environment().get_template(template).render(base=f"{root}/console", now=datetime.now(UTC), **shown)
    return Response(
        text, status_code=status, media_type="text/html; charset=utf-8", headers={**HEADERS, **(headers or {})}
    )


def unchanged() -> Response:
    """What is shown is still so: the page keeps it."""
    return Response(status_code=204, headers=dict(HEADERS))


def redirect(path: str, *, root: str) -> Response:
    """Go on to another page of the console.

    Args:
        path: below ``/console``, from ``/`` on.
        root: what a proxy has put before our paths.
    """
    return RedirectResponse(f"{root}/console{path}", status_code=303, headers=dict(HEADERS))


def asset(name: str) -> Response | None:
    """An asset by the name that :func:`assets` gave it; None when there is none."""
    found = assets().get(name)
    if found is None:
        return None
    kind, content = found
    headers = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
    return Response(content, media_type=kind, headers=headers)
