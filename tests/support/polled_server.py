"""An HTTP server that sensors poll: in this process, on a port that stays the same, with what it was asked."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from attune_local.ports import free_port


@dataclass(frozen=True)
class Page:
    """What is answered. With an ``etag``, a request that has it already is answered with 304."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = ""


class PolledServer:
    """A server with pages by path.

    Attributes:
        pages: by path, without the query; a page, or what makes one of a request's path with its query and its headers.
        asked: paths with their queries, in the order of the requests.
        headers: of the last request.
        statuses: of the answers.
        port: where it listens.
    """

    def __init__(self, **pages: Page | Callable[[str, Message], Page]) -> None:
        self.pages: dict[str, Page | Callable[[str, Message], Page]] = {
            f"/{name}": page for name, page in pages.items()
        }
        self.asked: list[str] = []
        self.statuses: list[int] = []
        self.headers = Message()
        self.port = free_port()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to listen."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        """Listen no longer: connections are refused."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()

    kill = stop

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        page = self.pages.get(request.path.partition("?")[0], Page(status=404))
        if not isinstance(page, Page):
            page = page(request.path, request.headers)
        known = bool(page.etag) and request.headers.get("If-None-Match") == page.etag
        status = 304 if known else page.status
        self.headers = request.headers
        self.statuses.append(status)
        self.asked.append(request.path)
        request.send_response(status)
        for name, value in page.headers.items():
            request.send_header(name, value)
        if page.etag:
            request.send_header("ETag", page.etag)
        if not known:
            request.send_header("Content-Length", str(len(page.body)))
        request.end_headers()
        if not known:
            request.wfile.write(page.body)
