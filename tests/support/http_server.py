"""An HTTP server of this process, in a thread, in the place of what a program asks."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """What is asked: ``path`` has the query, the ``headers`` go by their names in any case."""

    method: str
    path: str
    headers: Message
    body: bytes


@contextmanager
def served(respond: Callable[[Request], tuple[int, bytes]], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer GET and POST on loopback with what ``respond`` returns: a status and a content.

    Args:
        respond: called in a thread for each connection. These are kept.
        context: for TLS.

    Yields:
        The port.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            status, content = respond(Request(self.command, self.path, self.headers, body))
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
