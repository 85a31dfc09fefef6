"""A real chat completions endpoint on 127.0.0.1, in a thread, whose behaviour a test chooses.

`respond` decides at each request what to do: it returns a Response, or a function that misuses the connection.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response."""

    status: int = 200
    body: str = ""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


Behaviour = Callable[["Connection"], None]
Responder = Callable[[Request], "Response | Behaviour"]


def completion(text: str | None, finish: str = "stop", usage: object = None, **more: object) -> Response:
    """Builds the response with this chat completion."""
    message = {"role": "assistant", "content": text, **more}
    usage = {"prompt_tokens": 100, "completion_tokens": 20} if usage is None else usage
    return Response(body=json.dumps({"choices": [{"message": message, "finish_reason": finish}], "usage": usage}))


@dataclass
class Endpoint:
    """The requests received so far, and how to respond. Setting `release` ends everything that hangs."""

    respond: Responder
    requests: list[Request] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    received: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    hanging: int = 0
    url: str = ""

    def hangs(self, connection: Connection) -> None:
        """Sends nothing until it is released."""
        self.hanging += 1
        self.release.wait(30)
        self.hanging -= 1

    def drips(self, connection: Connection) -> None:
        """Sends its headers, then a byte from time to time."""
        connection.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")
        while not self.release.wait(0.02):
            connection.wfile.write(b" ")
            connection.wfile.flush()


def resets(connection: Connection) -> None:
    """Resets the connection."""
    connection.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.connection.close()


def breaks_off(connection: Connection) -> None:
    """Announces more bytes than it sends."""
    connection.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"choices": [')


class Connection(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    endpoint: Endpoint

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.endpoint.requests.append(request)
        self.endpoint.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.endpoint.paths.append(self.path)
        self.endpoint.received.set()
        self.close_connection = True
        response = self.endpoint.respond(request)
        if callable(response):
            response(self)
            return
        body = response.body.encode()
        self.send_response(response.status)
        for name, value in (*response.headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # one side has closed the connection
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: the tests report what went wrong."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores clients that have disconnected."""


@contextmanager
def serve_llm(respond: Responder) -> Iterator[Endpoint]:
    """Runs the endpoint until the block ends."""
    endpoint = Endpoint(respond)
    handler = type("Handler", (Connection,), {"endpoint": endpoint})
    server = _Server(("127.0.0.1", 0), handler)
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
